"""Text summary of a sweep: statements must be supported by the runs."""

import re

import numpy as np
import pandas as pd
import pytest

from src.common.result_values import TEST_ACCURACY
from src.report import table, text_summary
from src.report.charts import (
    top_k,
)
from src.report.report_data import ReportData
from tests.report.synthetic_sweep import table_of_grid


def summary_of(runs: pd.DataFrame, k: int = 3) -> str:
    top = top_k.top_k(runs, "cnn", k, "best_val_accuracy")
    return "\n".join(text_summary.sentences(runs, top))


def test_summary_makes_no_unsupported_claims() -> None:
    noise = iter(np.random.default_rng(0).normal(0, 0.01, 12))
    runs = table_of_grid(lambda rate, schedule, augmented: 0.5 + next(noise))
    assert "that may be noise." in summary_of(runs)
    augmented_only = runs[runs["augmentation"]]
    assert "What augmentation changes is not known" in summary_of(augmented_only)
    one_pair = runs[(runs["learning_rate"] == 0.1) & (runs["scheduler"] == "step")]
    assert "What augmentation changes is not known" in summary_of(one_pair)
    single_run = summary_of(runs.head(1), 5)
    assert single_run.startswith("The only run: ")
    assert "The 1 best" not in single_run
    pruned = summary_of(runs.assign(stop_reason="pruned", epochs_run=1))
    assert pruned == "No run has come to its end."


def test_shared_settings_of_best_runs_have_chance_probability() -> None:
    runs = table_of_grid(lambda rate, schedule, augmented: 0.5 + (rate == 0.01) * 0.2 + rate / 100)
    text = summary_of(runs, 4)
    # of 12 runs 4 have each of the three rates: 3 / C(12, 4), times the three settings that vary
    assert "settings looked at: learning rate 0.01 (chance 1.8%)" in text
    assert "scheduler" not in text.partition("chance would seldom")[2]
    is_best = runs["learning_rate"] == 0.01
    with_step = [*runs.index[is_best], *runs.index[~is_best][:3]]
    schedules = pd.Series("cosine", runs.index).where(~runs.index.isin(with_step), "step")
    # C(7, 4) and C(5, 4) of C(12, 4), times the three settings
    shared_by_some = summary_of(runs.assign(scheduler=schedules), 4)
    assert "They also share these, which may be chance: scheduler step (chance 24%)" in (
        shared_by_some
    )
    shared_by_most = summary_of(runs.assign(scheduler=["step"] * 11 + ["cosine"]), 4)
    assert "learning rate 0.01" in shared_by_most
    assert "They also share" not in shared_by_most
    without_shared_value = summary_of(
        table_of_grid(lambda rate, schedule, augmented: 0.5 + (rate + augmented) % 0.11), 3
    )
    assert "The 3 best share no value that is rare among the others." in without_shared_value


def test_a_recipe_beside_a_grid_is_no_level_of_it() -> None:
    grid = table_of_grid(lambda rate, schedule, augmented: 0.5 + augmented * 0.2 + rate / 100)
    grid = grid.assign(num_epochs=20, batch_size=256)
    recipe = grid.head(1).assign(num_epochs=100, batch_size=64, best_val_accuracy=0.4)
    text = summary_of(pd.concat([grid, recipe], ignore_index=True), 4)
    assert text.startswith("Best of 13 ")
    assert "augmentation on" in text
    assert not re.search("num epochs|batch", text)
    best_recipe = recipe.assign(best_val_accuracy=0.9)
    with_best_recipe = summary_of(pd.concat([grid, best_recipe], ignore_index=True), 4)
    assert with_best_recipe.startswith("Best of 13 ")


def test_epochs_are_told_where_they_differ_and_are_known() -> None:
    runs = table_of_grid(lambda rate, schedule, augmented: 0.5 + rate / 100)
    longer = runs.assign(num_epochs=[20.0] * 11 + [50.0])
    assert ", 20 epochs. Its accuracy" in summary_of(longer)
    assert "epochs" not in summary_of(runs.assign(num_epochs=20.0)).splitlines()[0]
    partly_known = runs.assign(num_epochs=[20.0, 50.0] + [np.nan] * 10)
    assert "nan" not in summary_of(partly_known)
    labels = [run.label for run in top_k.top_k(partly_known, "cnn", 12, "best_val_accuracy").runs]
    assert not any("nan" in label for label in labels)


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
def test_summary_counts_runs_within_noise_of_best(accuracies: list[float], words: str) -> None:
    values = iter([*accuracies, *[0.1] * 12])
    runs = table_of_grid(lambda rate, schedule, augmented: next(values))
    text = summary_of(runs, len(accuracies))
    assert f"between {min(accuracies):.2%} and {max(accuracies):.2%} on the test images" in text
    assert words in text


def test_summary_numbers_match_table(report: ReportData) -> None:
    for model, sentences in text_summary.sentences_by_model(report).items():
        rows = table.rank(report.runs[report.runs["Modelname"] == model], report.rank_column)
        best = rows.iloc[0]
        assert (
            f"validation {best['best_val_accuracy']:.2%}, test {best[TEST_ACCURACY]:.2%}"
            in sentences[0]
        )
        five = rows.head(5)[TEST_ACCURACY]
        assert f"between {five.min():.2%} and {five.max():.2%}" in sentences[1]
        assert "Augmentation changed the test accuracy by " in sentences[-1]
    text = text_summary.markdown(report)
    assert all(f"\n## {model}\n" in text for model in text_summary.sentences_by_model(report))
