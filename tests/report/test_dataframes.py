"""src.report.dataframes: DataFrames for notebooks."""

import itertools
from pathlib import Path

import pytest

from src.common.errors import UserError
from src.config import RunConfig
from src.report import dataframes, table
from src.report.charts import (
    overall,
    top_k,
)
from src.report.report_data import ReportData
from src.report.run_analysis.run_selection import SelectedRun
from src.runs.run_folder import RunFolder


def test_dataframes_of_published_table(published: Path, tmp_path: Path) -> None:
    """A published table has no run ids, devices or times."""
    runs = table.read(published)
    report = ReportData(runs, k=2)
    best = dataframes.overall(overall.best_runs(report))
    assert best["test"].tolist() == [bar.accuracy for bar in overall.best_runs(report)]
    assert best["run"].isna().all()
    differences = dataframes.differences(overall.best_runs(report))
    assert list(zip(differences["better"], differences["other"], strict=True)) == list(
        itertools.combinations(best.sort_values("test", ascending=False).index, 2)
    )
    assert (differences["low 95 %"] < differences["difference"]).all()
    assert ((differences["low 95 %"] <= 0) == differences["within noise"]).all()
    for top in top_k.rankings(report):
        verdicts = dataframes.top_k(top)["which is"]
        assert set(verdicts) <= {"the most accurate", "within noise", "beyond noise"}
        assert (verdicts == "the most accurate").sum() == 1
    origin = dataframes.origin(runs)
    assert list(origin.loc["rows"]) == [288] * 3
    assert set(origin.loc["device"]) == set(origin.loc["training time (h)"]) == {""}
    config = RunConfig(base_dataset_path="synthetic")
    run = SelectedRun(RunFolder(tmp_path), config)
    with pytest.raises(UserError, match="not in the table"):
        dataframes.side_by_side([run], runs, report.rank_column)
