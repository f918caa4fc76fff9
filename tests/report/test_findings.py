"""What is said of a sweep, in sentences, tables and charts of effects: no more than it shows."""

import json
import re
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex, to_rgba_array
from matplotlib.lines import Line2D
from PIL import Image
from scipy import stats

from src.report import effects, findings, numbers, table, tables
from src.report.build import Report
from src.report.importance import Importance
from src.report.parallel import axes
from tests.conftest import Run

TEST = "test_accuracy_best_val_acc"
RATES, SCHEDULES = (0.1, 0.01, 0.001), ("step", "cosine")


def grid(accuracy: Any, **columns: Any) -> pd.DataFrame:
    """The runs of a grid, with the accuracy that a function of rate, schedule, augmented gives."""
    rows = [
        {
            "Modelname": "cnn",
            "augmentation": augmented,
            "scheduler": schedule,
            "learning_rate": rate,
            "weight_decay": 0.0,
            "gamma": 0.97,
            "test_per_class_accuracy_best_val_acc": 0.5,
            **columns,
        }
        for rate, schedule, augmented in product(RATES, SCHEDULES, (False, True))
    ]
    found = pd.DataFrame(rows)
    found["best_val_accuracy"] = [
        accuracy(row["learning_rate"], row["scheduler"], row["augmentation"]) for row in rows
    ]
    return found.assign(**{TEST: found["best_val_accuracy"]})


def said(runs: pd.DataFrame, k: int = 3) -> str:
    top = numbers.top_k(runs, "cnn", k, "best_val_accuracy")
    return "\n".join(findings.findings(runs, top))


def test_effects_are_means_over_all_runs_with_a_value() -> None:
    runs = grid(lambda rate, schedule, augmented: 0.5 + rate + 0.1 * augmented)
    runs.loc[0, "best_val_accuracy"] = np.nan
    found = {e.setting.name: e for e in effects.effects(runs, "cnn", "best_val_accuracy")}
    assert sorted(found) == ["augmentation", "learning_rate", "scheduler"]
    rate = found["learning_rate"]
    assert rate.setting.labels == ["0.001", "0.01", "0.1"]
    assert rate.means[:2] == pytest.approx((0.551, 0.56))
    assert rate.best == pytest.approx((0.601, 0.61, 0.7))
    assert rate.runs == (4, 4, 3)
    lower = effects.effects(runs.assign(val_loss=runs[TEST]), "cnn", "val_loss")
    assert {e.setting.name: e.best[0] for e in lower}["learning_rate"] == pytest.approx(0.501)


def test_pairs_leave_what_nobody_tried_open() -> None:
    runs = grid(lambda rate, schedule, augmented: rate + 0.1 * augmented)
    runs = runs[(runs["learning_rate"] != 0.1) | runs["augmentation"]]
    found = effects.pairs(runs, "cnn", TEST)
    names = [(pair.down.name, pair.across.name) for pair in found]
    assert ("augmentation", "learning_rate") in names
    assert len(names) == 3
    means = found[names.index(("augmentation", "learning_rate"))].means
    assert means.isna().loc["off", "0.1"]
    assert means.loc["on", "0.1"] == pytest.approx(0.2)


def test_what_augmentation_changes_is_told_over_pairs() -> None:
    noise = iter(np.random.default_rng(0).normal(0, 0.01, 12))
    runs = grid(lambda rate, schedule, augmented: 0.5 + 0.05 * augmented + next(noise))
    # cells that are another name of the same training say nothing new
    again = runs.assign(alias_of="another", **{TEST: 0.0})
    runs = pd.concat([runs.assign(alias_of=None), again], ignore_index=True)
    found = effects.change(runs, "cnn", TEST, "augmentation")
    first = runs[runs["alias_of"].isna()]
    with_it, without = (first[first["augmentation"] == on][TEST].to_numpy() for on in (True, False))
    expected = stats.ttest_rel(with_it, without)
    assert found
    assert (found.pairs, found.higher) == (6, int((with_it > without).sum()))
    assert found.mean == pytest.approx((with_it - without).mean())
    assert (found.low, found.high) == pytest.approx(expected.confidence_interval(0.95))
    assert f"Augmentation changed the test accuracy by {100 * found.mean:+.2f} points" in said(runs)


def test_no_more_is_claimed_than_there_is() -> None:
    noise = iter(np.random.default_rng(0).normal(0, 0.01, 12))
    runs = grid(lambda rate, schedule, augmented: 0.5 + next(noise))
    assert "that may be noise." in said(runs)
    alone = runs[runs["augmentation"]]
    assert "What augmentation changes is not known" in said(alone)
    one = runs[(runs["learning_rate"] == 0.1) & (runs["scheduler"] == "step")]
    assert "What augmentation changes is not known" in said(one)
    single = said(runs.head(1), 5)
    assert single.startswith("The only run: ")
    assert "The 1 best" not in single
    pruned = said(runs.assign(stop_reason="pruned", epochs_run=1))
    assert pruned == "No run has come to its end."


def test_what_the_best_share_is_weighed_against_chance() -> None:
    runs = grid(lambda rate, schedule, augmented: 0.5 + (rate == 0.01) * 0.2 + rate / 100)
    text = said(runs, 4)
    # of 12 runs 4 have each of the three rates: 3 / C(12, 4)
    assert "chance would seldom do it: learning rate 0.01 (chance 0.6%)" in text
    assert "scheduler" not in text.partition("chance would seldom")[2]
    unsure = said(runs.assign(scheduler=["step"] * 11 + ["cosine"]), 4)
    assert "They also share what may be chance: scheduler step" in unsure
    nothing = said(grid(lambda rate, schedule, augmented: 0.5 + (rate + augmented) % 0.11), 3)
    assert "The 3 best share no value that other runs lack." in nothing


@pytest.mark.parametrize(
    ("accuracies", "words"),
    [
        ([0.7, 0.69], "the other one is within noise"),
        ([0.7, 0.5], "the other one is not within noise"),
        ([0.7, 0.699, 0.698], "all of the 2 others are within noise"),
        ([0.7, 0.6, 0.5], "none of the 2 others are within noise"),
        ([0.7, 0.699, 0.5], "1 of the 2 others are within noise"),
    ],
)
def test_the_range_says_what_is_within_noise(accuracies: list[float], words: str) -> None:
    values = iter([*accuracies, *[0.1] * 12])
    runs = grid(lambda rate, schedule, augmented: next(values))
    text = said(runs, len(accuracies))
    assert f"between {min(accuracies):.2%} and {max(accuracies):.2%} on the test images" in text
    assert words in text


def test_sentences_hold_the_numbers_of_the_table(report: Report) -> None:
    for model, sentences in report.findings.items():
        rows = table.ranked(report.runs[report.runs["Modelname"] == model], report.column)
        best = rows.iloc[0]
        assert f"validation {best['best_val_accuracy']:.2%}, test {best[TEST]:.2%}" in sentences[0]
        five = rows.head(5)[TEST]
        assert f"between {five.min():.2%} and {five.max():.2%}" in sentences[1]
        assert "Augmentation changed the test accuracy by " in sentences[-1]
    text = report.findings_text()
    assert all(f"\n## {model}\n" in text for model in report.findings)


def test_tables_hold_the_numbers_of_the_table(report: Report) -> None:
    written = {path.name: path for path in report.tables()}
    names = [f"{n}.{s}" for n in ("top_k", "overall", "effects", "importance") for s in SUFFIXES]
    assert sorted(written) == sorted(names)
    best = pd.read_csv(written["top_k.csv"])
    ranked = table.ranked(report.runs, report.column)
    for model, rows in best.groupby("model"):
        expected = ranked[ranked["Modelname"] == model].head(5)
        assert rows["best_val_accuracy"].tolist() == expected["best_val_accuracy"].tolist()
        assert rows["test_accuracy"].tolist() == expected[TEST].tolist()
    of_effects = pd.read_csv(written["effects.csv"])
    finished = report.runs[report.runs["stop_reason"] != "pruned"]
    for _, row in of_effects[of_effects["setting"] == "scheduler"].iterrows():
        same = (finished["Modelname"] == row["model"]) & (finished["scheduler"] == row["value"])
        assert row["runs"] == same.sum()
        assert row["mean_best_val_accuracy"] == pytest.approx(
            finished[same]["best_val_accuracy"].mean(), rel=1e-12
        )
    importance = pd.read_csv(written["importance.csv"])
    assert importance.groupby("model")["share"].sum().tolist() == pytest.approx([1, 1, 1])
    for name in ("top_k", "overall"):
        shares = [f"{100 * value:.2f}" for value in pd.read_csv(written[f"{name}.csv"])["low_95"]]
        for suffix in ("md", "tex"):
            text = written[f"{name}.{suffix}"].read_text()
            found = re.findall(r"\d+\.\d\d\b", text)
            assert set(shares) <= set(found), (name, suffix)


SUFFIXES = ("csv", "md", "tex")


def test_text_of_a_table_is_no_markup(tmp_path: Path) -> None:
    frame = pd.DataFrame({"model": ["50%_net & co"], "accuracy": [0.12345], "runs": [3]})
    tables.write({"t": frame, "empty": frame.head(0)}, tmp_path)
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


def test_charts_of_effects_come_of_them(few: Report, tmp_path: Path) -> None:
    report = replace(few, out=tmp_path)
    written = [*report.effects_chart(), *report.pairs_charts(), *report.importance_chart()]
    written += [*report.parallel_chart(), *report.scatter_chart()]
    models = ("resnet", "cnn", "vit")
    stems = {
        "effects",
        "importance",
        "parallel",
        "scatter",
        *(f"{model}_pairs" for model in models),
    }
    assert {path.stem for path in written} == stems
    for path in written:
        if path.suffix == ".png":
            with Image.open(path) as image:
                assert image.width > 1000
                assert len(image.convert("L").getcolors() or range(999)) > 20
        else:
            text = path.read_text()
            assert "accuracy" in text
    assert "learning rate" in (tmp_path / "importance.svg").read_text()


def test_each_run_stands_at_its_values(few: Report) -> None:
    rows = few.runs
    of_table = {axis.words: axis for axis in axes(rows, few.column)}
    rates = of_table["learning rate"]
    labels = [dict(rates.ticks)[place] for place in rates.places]
    assert labels == [f"{rate:g}" for rate in rows["learning_rate"]]
    measure = of_table["best validation accuracy"]
    values = rows["best_val_accuracy"]
    spread = values.max() - values.min()
    assert measure.places == pytest.approx(((values - values.min()) / spread).to_numpy())
    assert measure.ticks == ((0, f"{values.min():.1%}"), (1, f"{values.max():.1%}"))


def test_a_searched_rate_is_laid_out_by_its_logarithm(few: Report) -> None:
    rows = few.runs.assign(learning_rate=np.geomspace(1e-5, 1e-1, len(few.runs)))
    rates = next(axis for axis in axes(rows, few.column) if axis.words == "learning rate")
    assert rates.places == pytest.approx(np.linspace(0, 1, len(rows)))
    assert rates.ticks == ((0, "1e-05"), (1, "0.1"))
    gone = rows["learning_rate"].where(rows.index != rows.index[3])
    with_gap = next(a for a in axes(rows.assign(learning_rate=gone), few.column) if not a.shared)
    assert np.isnan(with_gap.places[3])
    assert np.isfinite(np.delete(with_gap.places, 3)).all()


def test_points_of_the_scatter_are_those_of_the_table(few: Report) -> None:
    figure = few.scatter_figure()
    assert figure
    drawn = np.concatenate([np.asarray(c.get_offsets()) for c in figure.axes[0].collections])
    told = few.runs[["best_val_accuracy", "test_accuracy_best_val_acc"]].to_numpy()
    assert sorted(map(tuple, drawn)) == sorted(map(tuple, told))


def test_the_scatter_has_the_validation_accuracy_that_there_is(few: Report) -> None:
    unknown = few.runs.assign(best_val_accuracy=np.nan)
    for runs, across in (
        (few.runs, "best validation accuracy"),
        (unknown, "validation accuracy of the last epoch"),
    ):
        figure = replace(few, runs=runs).scatter_figure()
        assert figure
        assert figure.axes[0].get_xlabel() == across
    none = unknown.assign(val_accuracy=np.nan)
    assert replace(few, runs=none).scatter_figure() is None


def test_an_architecture_has_one_colour_in_all_charts(few: Report) -> None:
    """Also where it is the only one told of."""
    of_first = few.runs["Modelname"] == few.models[0]
    levels = ("augmentation", "gamma", "learning_rate", "scheduler", "weight_decay")
    same = {name: few.runs[name].mask(of_first, few.runs[name].iloc[0]) for name in levels}
    runs = few.runs.assign(**same)
    seen: dict[str, set[str]] = {}
    for report in (replace(few, runs=runs), *(replace(few, model=model) for model in few.models)):
        for figure in (
            report.effects_figure(),
            report.importance_figure(),
            report.parallel_figure(),
            report.scatter_figure(),
        ):
            assert figure
            [legend] = [
                *figure.legends,
                *filter(None, (axes.get_legend() for axes in figure.axes)),
            ]
            for handle, text in zip(legend.legend_handles, legend.get_texts(), strict=True):
                assert handle
                drawn = handle.get_color() if isinstance(handle, Line2D) else handle.get_facecolor()  # type: ignore[attr-defined]
                [one, *_] = to_rgba_array(drawn)
                seen.setdefault(text.get_text(), set()).add(to_hex(one))
    assert {len(seen[model]) for model in few.models} == {1}
    assert len(set.union(*(seen[model] for model in few.models))) == len(few.models)


def test_what_cannot_be_compared_is_not_drawn(few: Report, tmp_path: Path) -> None:
    alone = replace(few, runs=few.runs.head(1), out=tmp_path)
    assert (alone.effects_chart(), alone.pairs_charts(), alone.importance_chart()) == ([], [], [])
    assert alone.parallel_chart() == []
    assert (
        replace(
            alone,
            runs=alone.runs.drop(columns=["best_val_accuracy", "val_accuracy"], errors="ignore"),
        ).scatter_chart()
        == []
    )
    assert alone.importances == [
        Importance(few.runs.iloc[0]["Modelname"], 1, {}, "only 1 finished runs")
    ]


def test_commands(trained: Path, command: Run, tmp_path: Path) -> None:
    words = ("python", "-m", "src.report")
    made = ("--runs", trained, "--csv", tmp_path / "runs.csv")
    command(*words, "aggregate", *made)
    text = command(*words, "findings", *made).stdout
    assert text.startswith("# What the sweep has shown\n")
    assert "\n## cifar10net\n" in text
    done = command(*words, "importance", *made, "--out", tmp_path, check=2)
    assert "nothing to draw" in done.stderr
    paths = command(*words, "tables", *made, "--out", tmp_path).stdout.split()
    assert {Path(path).name for path in paths} >= {"top_k.csv", "top_k.md", "overall.tex"}
    rows = json.loads(command(*words, "top-k", "table", *made, "--json").stdout)
    of_file = pd.read_csv(tmp_path / "tables" / "top_k.csv").to_dict("records")
    assert [row["test_accuracy"] for row in rows] == [row["test_accuracy"] for row in of_file]
