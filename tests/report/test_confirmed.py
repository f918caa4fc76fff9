"""Configurations and confirmed winners in tables, charts, sentences and the page."""

import json
import math
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from src.common.paths import RESULT
from src.common.result_values import TEST_ACCURACY
from src.comparison import confirmation_plan as plans
from src.comparison.configurations import read_configurations
from src.config import RunConfig
from src.data import synthetic
from src.report import export_tables, text_summary
from src.report.charts import overall, shortlist, top_k
from src.report.confirmed import confirmed_winner
from src.report.page.render import write_page
from src.report.page.view_model import page_data
from src.report.replicates import configurations
from src.report.report_data import ReportData
from src.runs.aggregate import collect
from src.runs.run_folder import RunFolder
from tests.report import synthetic_sweep
from tests.report.page_data import core_of

RATES = (0.01, 0.001, 0.0001)
FRESH, FINAL = (1000, 1001, 1002), (2000, 2001)


def make(rate: float, seed: int) -> RunConfig:
    return RunConfig(
        model_type="resnet", learning_rate=rate, seed=seed, base_dataset_path="synthetic"
    )


def put_accuracy(runs: Path, config: RunConfig, accuracy: float) -> None:
    """Replace a run's accuracies; its test accuracy is 0.01 below its validation accuracy."""
    path = RunFolder.of(config, runs).path / RESULT
    result = json.loads(path.read_text())
    result |= {"best_val_accuracy": accuracy, TEST_ACCURACY: accuracy - 0.01}
    path.write_text(json.dumps(result))


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a sweep of three rates, fresh seeds of all, and final seeds of the best."""
    folder = tmp_path_factory.mktemp("confirmed") / "runs"
    truth = {0.01: 0.60, 0.001: 0.80, 0.0001: 0.70}
    noise = {0: 0.02, 1000: 0.001, 1001: -0.001, 1002: 0.0, 2000: 0.0, 2001: 0.002}
    cells = [make(rate, seed) for rate in RATES for seed in (0, *FRESH)]
    cells += [make(0.001, seed) for seed in FINAL]
    synthetic_sweep.make(folder, synthetic.generate().test_labels, cells)
    for config in cells:
        put_accuracy(folder, config, truth[config.learning_rate] + noise[config.seed])
    chosen = plans.shortlist(
        list(read_configurations(folder).values()),
        3,
        plans.ConfirmationPlan(model="resnet", shortlist=(), seeds=3, final_seeds=2),
    )
    plan = plans.ConfirmationPlan(model="resnet", shortlist=tuple(chosen), seeds=3, final_seeds=2)
    assert plans.write_plan(folder, plan, None)
    return folder


@pytest.fixture(scope="module")
def report(runs: Path) -> ReportData:
    collected = collect(runs)
    return ReportData(collected.table, collected.states, runs)


def test_configuration_is_the_mean_of_its_seeds(report: ReportData) -> None:
    rows = configurations(report.runs).set_index("learning_rate")
    assert len(rows) == 3
    assert rows["seeds"].to_dict() == {0.01: 4, 0.001: 6, 0.0001: 4}
    best = rows.loc[0.001]
    expected = 0.80 + np.mean([0.02, 0.001, -0.001, 0.0, 0.0, 0.002])
    assert best["best_val_accuracy"] == pytest.approx(expected)
    assert best["seed_deviation"] == pytest.approx(
        np.std([0.02, 0.001, -0.001, 0.0, 0.0, 0.002], ddof=1)
    )
    assert best["test_low"] < best[TEST_ACCURACY] < best["test_high"]


def test_means_of_the_page_are_not_of_confirming_runs(report: ReportData, tmp_path: Path) -> None:
    """They would count the best cells many times. Charts average configurations instead."""
    core = core_of(write_page(report, tmp_path).read_text())
    seeds = report.runs["seed"]
    fresh = (seeds >= 1000).tolist()
    assert sum(fresh) > 3
    assert report.is_confirming.tolist() == fresh
    assert core["columns"]["in_sweep"] == [not is_fresh for is_fresh in fresh]
    assert core["apart"] == f"The {sum(fresh)} runs that confirm a choice are not averaged."
    assert not ReportData(report.runs).is_confirming.any()
    of_before = replace(report, runs=report.runs.drop(columns="config_id"))
    assert not of_before.is_confirming.any()
    without_shortlist = replace(report, runs=report.runs.assign(config_id="none", seed=0.0))
    assert not without_shortlist.is_confirming.any()


def test_table_of_one_seed_stays_as_it_is(report: ReportData) -> None:
    one_seed = report.runs[report.runs["seed"] == 0]
    rows = configurations(one_seed)
    pd.testing.assert_frame_equal(rows[one_seed.columns], one_seed)
    assert set(rows["seeds"]) == {1}
    old = one_seed.drop(columns="config_id")  # a table of before
    pd.testing.assert_frame_equal(configurations(old)[old.columns], old)


def test_aliases_and_pruned_runs_are_not_merged() -> None:
    rows = pd.DataFrame(
        {
            "Modelname": "vit", "augmentation": False, "scheduler": "cosine",
            "learning_rate": 0.1, "weight_decay": 0.0, "config_id": "c",
            "gamma": [0.9, 0.8, 0.9, 0.8, 0.9], "seed": [0, 0, 1, 1, 2],
            "alias_of": [None, "a", None, "a", None],
            "stop_reason": [None, None, None, None, "pruned"],
            TEST_ACCURACY: [0.5, 0.5, 0.7, 0.7, 0.1],
        }
    )  # fmt: skip
    merged = configurations(rows)
    assert merged["seeds"].tolist() == [2, 2, 1]
    assert merged[TEST_ACCURACY].tolist() == pytest.approx([0.6, 0.6, 0.1])
    assert merged["gamma"].tolist() == [0.9, 0.8, 0.9]


def test_fresh_seeds_join_the_cell_that_was_confirmed() -> None:
    """Gamma has no effect under cosine: `confirm` trains with its default."""
    rows = pd.DataFrame(
        {
            "Modelname": "vit", "augmentation": False, "scheduler": "cosine",
            "learning_rate": 0.1, "weight_decay": 0.0, "config_id": "c",
            "Full_Modelname": ["a", "b", "c", "c"], "alias_of": [None, "a", None, None],
            "gamma": [0.9, 0.8, 0.99, 0.99], "seed": [0, 0, 1000, 1001],
            TEST_ACCURACY: [0.6, 0.6, 0.4, 0.5],
        }
    )  # fmt: skip
    merged = configurations(rows)
    assert merged["gamma"].tolist() == [0.9, 0.8]
    assert merged["Full_Modelname"].tolist() == ["a", "b"]
    assert merged["alias_of"].fillna("").tolist() == ["", "a"]
    assert merged["seeds"].tolist() == [3, 3]
    assert merged[TEST_ACCURACY].tolist() == pytest.approx([0.5, 0.5])


def test_ranking_says_how_many_seeds_there_are(report: ReportData) -> None:
    [top] = top_k.rankings(report)
    assert [run.seeds for run in top.runs] == [6, 4, 4]
    assert "mean of 6 seeds, deviation 0.81 points" in top.runs[0].label
    assert top.noun == "configurations"
    about = text_summary.sentences(report.configurations, top)[0]
    assert "mean of 6 seeds that deviate by 0.81 points" in about
    assert "Several seeds" in report.accuracy_note()
    [best] = overall.best_runs(report)
    assert best.seeds == 6
    each = replace(report, each_run=True)
    [top] = top_k.rankings(each)
    assert [run.seeds for run in top.runs] == [1] * 5
    assert top.runs[0].row["best_val_accuracy"] == pytest.approx(0.82)
    assert top.noun == "runs"


def test_report_of_one_seed_says_so(report: ReportData) -> None:
    one_seed = ReportData(report.runs[report.runs["seed"] == 0])
    assert "One seed each." in one_seed.accuracy_note()
    assert "Several seeds" not in one_seed.accuracy_note()


def test_table_that_mixes_precisions_or_data_is_named(report: ReportData) -> None:
    assert report.mixture_notes() == []
    count = len(report.runs)
    mixed = report.runs.assign(
        precision=["bfloat16"] * (count - 3) + ["float32"] * 3,
        data_digest=["a"] * (count - 1) + [math.nan],  # unknown is no other data
    )
    [note] = ReportData(mixed).mixture_notes()
    assert note == f"resnet mixes runs: {count - 3} in bfloat16, 3 in float32."
    assert note in ReportData(mixed).summary()
    other = report.runs.assign(data_digest=["a"] * (count - 1) + ["b"])
    assert ReportData(other).mixture_notes() == [
        f"resnet mixes runs: {count - 1} on data a, 1 on data b."
    ]


def test_winner_is_reported_from_its_final_seeds(report: ReportData) -> None:
    [confirmation] = report.confirmations
    winner = confirmed_winner(confirmation)
    assert winner
    assert [run.config.seed for run in winner.runs] == list(FINAL)
    assert winner.test_mean == pytest.approx(0.791)
    assert winner.selection_bias == pytest.approx(0.82 - 0.801)
    assert winner.indistinguishable == ()
    sentences = " ".join(winner.sentences())
    assert "reaches 79.10% (" in sentences
    assert "over 2 final seeds" in sentences
    assert "1.90 points higher than it is since" in sentences
    assert "all others are significantly behind it" in sentences


def test_summary_begins_with_the_confirmed_winner(report: ReportData) -> None:
    lines = text_summary.sentences_by_model(report)["resnet"]
    assert lines[0].startswith("Confirmed with fresh seeds: not augmented, exponential, lr 0.001")
    assert lines[1].startswith("The winner, lr 0.001 (")


def test_unfinished_confirmation_is_said(runs: Path, report: ReportData) -> None:
    [plan] = plans.read_plans(runs).values()
    unfinished = ReportData(report.runs, report.states, runs)
    [confirmation] = unfinished.confirmations
    longer = type(confirmation)(replace(plan, seeds=5), read_configurations(runs))
    unfinished.__dict__["confirmations"] = [longer]
    assert text_summary.sentences_by_model(unfinished)["resnet"][0] == (
        "The shortlist is being confirmed: 6 trainings with fresh seeds are missing."
    )
    assert "Not all seeds are trained yet." in shortlist._note(longer)


def test_chart_has_a_point_for_each_seed(report: ReportData) -> None:
    [confirmation] = report.confirmations
    rows = shortlist.seed_rows(confirmation)
    assert [len(row.points) for row in rows] == [3, 3, 3, 2, 2]
    assert [row.label.replace("\N{NO-BREAK SPACE}", " ") for row in rows[:3]] == [
        "lr 0.001",
        "lr 0.0001",
        "lr 0.01",
    ]
    assert rows[0].chosen == pytest.approx(0.82)
    assert rows[4].points == pytest.approx((0.79, 0.792))
    assert [row.can_win for row in rows] == [True, False, False, True, True]
    [(name, figure)] = shortlist.figures(report)
    assert name == "resnet_confirmed"
    [axes] = figure.axes
    drawn = [np.asarray(points.get_offsets()) for points in axes.collections]
    assert sum(map(len, drawn)) == 3 * 3 + 2 * 2 + 3


def test_table_of_confirmed_winners(report: ReportData) -> None:
    rows = export_tables.confirmed_table(report.confirmations)
    assert rows["verdict"].tolist() == ["best", "behind", "behind"]
    assert rows["test_accuracy"].tolist()[0] == pytest.approx(0.791)
    assert rows["test_accuracy"].isna().tolist() == [False, True, True]
    assert rows["probability_of_best"].sum() == pytest.approx(1)
    ranked = export_tables.top_k_table(report)
    assert ranked["seeds"].tolist() == [6, 4, 4]


def test_page_has_winners_and_single_seeds(report: ReportData) -> None:
    core: dict[str, Any] = page_data(report).core
    [confirmed] = core["confirmed"]
    low, high = confirmed["scale"]
    for row in confirmed["rows"]:
        assert all(low <= point <= high for point in row["points"])
    [several] = core["several_seeds"]
    assert [one["seeds"] for one in several["configurations"]] == [6, 4, 4]
    keys = {run["key"] for one in several["configurations"] for run in one["runs"]}
    assert keys == set(core["columns"]["key"])
    assert re.fullmatch("[0-9a-f]{10}", next(iter(keys)))


def test_page_writes_a_loss_of_several_seeds_as_a_number(
    report: ReportData, tmp_path: Path
) -> None:
    runs = report.runs.assign(val_loss=0.827)
    page = write_page(ReportData(runs, rank_by="val_loss"), tmp_path).read_text()
    assert "<td>0.8270</td><td><b>" in page
    assert ": 0.8270, test " in page
    assert "82.70%" not in page
