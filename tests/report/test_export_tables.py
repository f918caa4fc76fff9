"""Export of tables as CSV, Markdown and LaTeX."""

import re
from pathlib import Path

import pandas as pd
import pytest

from src.common.paths import CSV_FILE, ROOT
from src.common.result_values import TEST_ACCURACY
from src.report import export_tables, table
from src.report.__main__ import main
from src.report.report_data import ReportData

SUFFIXES = ("csv", "md", "tex")


def test_exported_tables_match_table_of_runs(report: ReportData, tmp_path: Path) -> None:
    written = {path.name: path for path in export_tables.write_tables(report, tmp_path)}
    names = [f"{n}.{s}" for n in ("top_k", "overall", "effects", "importance") for s in SUFFIXES]
    assert sorted(written) == sorted(names)
    best = pd.read_csv(written["top_k.csv"])
    ranked = table.rank(report.runs, report.rank_column)
    for model, rows in best.groupby("model"):
        expected = ranked[ranked["Modelname"] == model].head(5)
        assert rows["best_val_accuracy"].tolist() == expected["best_val_accuracy"].tolist()
        assert rows["test_accuracy"].tolist() == expected[TEST_ACCURACY].tolist()
    effects = pd.read_csv(written["effects.csv"])
    finished = report.runs[report.runs["stop_reason"] != "pruned"]
    for _, row in effects[effects["setting"] == "scheduler"].iterrows():
        same = (finished["Modelname"] == row["model"]) & (finished["scheduler"] == row["value"])
        assert row["runs"] == same.sum()
        assert row["mean_best_val_accuracy"] == pytest.approx(
            finished[same]["best_val_accuracy"].mean(), rel=1e-12
        )
    titles = written["effects.md"].read_text().splitlines()[0]
    assert "mean of best val accuracy (%)" in titles
    assert "| best val accuracy (%)" in written["top_k.md"].read_text()
    importance = pd.read_csv(written["importance.csv"])
    assert importance.groupby("model")["share"].sum().tolist() == pytest.approx([1, 1, 1])
    for name in ("top_k", "overall"):
        shares = [f"{100 * value:.2f}" for value in pd.read_csv(written[f"{name}.csv"])["low_95"]]
        for suffix in ("md", "tex"):
            text = written[f"{name}.{suffix}"].read_text()
            numbers = re.findall(r"\d+\.\d\d\b", text)
            assert set(shares) <= set(numbers), (name, suffix)


def test_exported_text_is_escaped(tmp_path: Path) -> None:
    frame = pd.DataFrame({"model": ["50%_net & co"], "accuracy": [0.12345], "runs": [3]})
    export_tables.write({"t": frame, "empty": frame.head(0)}, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"t.{s}" for s in SUFFIXES]
    latex = (tmp_path / "t.tex").read_text()
    assert r"50\%\_net \& co & 12.35 & 3 \\" in latex
    assert latex.startswith(r"\begin{tabular}{lrr}")
    markdown = (tmp_path / "t.md").read_text().splitlines()
    assert [cell.strip() for cell in markdown[2].split("|")] == [
        "",
        "50%_net & co",
        "12.35",
        "3",
        "",
    ]


def test_published_tables_follow_from_clean_runs_csv_alone(tmp_path: Path) -> None:
    """Anyone can make them again without the run folders, which also tell how many runs failed."""
    main(["tables", "--csv", str(CSV_FILE), "--out", str(tmp_path)])
    for name in ("top_k", "overall", "effects", "importance"):
        published = pd.read_csv(ROOT / "docs" / "charts" / "tables" / f"{name}.csv")
        made = pd.read_csv(next(tmp_path.rglob(f"{name}.csv")))
        columns = [column for column in published if column not in ("diverged", "failed")]
        pd.testing.assert_frame_equal(made[columns], published[columns])
