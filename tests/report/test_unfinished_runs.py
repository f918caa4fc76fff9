"""Runs that diverged, were pruned or failed stand beside the means that leave them out."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.text import Text

from src.common.result_values import TEST_ACCURACY
from src.faults.failure_classes import FailureClass
from src.report import export_tables, replicates
from src.report.charts import importance, main_effects, pairs
from src.report.report_data import ReportData, TableOptions, load_report
from src.report.unfinished_runs import with_unfinished
from src.runs.aggregate import collect, write_csv
from tests.sweep import folders
from tests.sweep.test_confirm import make, put_sweep

BEST = "best_val_accuracy"


def table_of(rates: list[float], values: list[float], **columns: object) -> pd.DataFrame:
    fixed = {"Modelname": "cnn", "augmentation": False, "gamma": 0.9, "weight_decay": 0.1}
    more: dict[str, object] = {"learning_rate": rates, BEST: values, "scheduler": "step", **columns}
    return pd.DataFrame({**fixed, TEST_ACCURACY: values, **more})


@pytest.fixture
def sweep() -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return a table in which the higher rate looks better, since most of its runs diverged."""
    finished = table_of([0.1, 0.01, 0.01, 0.01], [0.9, 0.7, 0.72, 0.74])
    pruned = table_of([0.01], [0.3], stop_reason="pruned")
    settings = ["Modelname", "augmentation", "gamma", "weight_decay", "learning_rate", "scheduler"]
    failed = table_of([0.1, 0.1, 0.1, 0.001], [0.0] * 4)[settings]
    failed["failure"] = ["non-finite loss"] * 3 + ["out of memory"]
    return pd.concat([finished, pruned], ignore_index=True), failed


def test_diverged_runs_rank_last_and_are_counted(
    sweep: tuple[pd.DataFrame, pd.DataFrame],
) -> None:
    table, failed = sweep
    [effect] = main_effects.main_effects(table, "cnn", BEST, failed)
    assert effect.setting.levels == (0.001, 0.01, 0.1)
    assert list(effect.means) == [None, pytest.approx(0.72), 0.9]  # of finished runs, as ever
    # the median of 0.1 is that of a diverged run; 0.001 only ran out of memory: nothing is known
    assert list(effect.medians) == [None, pytest.approx(0.70), None]
    assert [str(one) for one in effect.left_out] == ["1 failed", "1 pruned", "3 diverged"]
    note = main_effects.left_out_note({"cnn": [effect]}, failures_known=True)
    assert note == "Left out of the means: 3 diverged, 1 pruned, 1 failed."


def test_lower_losses_are_better_for_the_median_too(
    sweep: tuple[pd.DataFrame, pd.DataFrame],
) -> None:
    table, failed = sweep
    losses = table.assign(val_loss=1 - table[BEST])
    [effect] = main_effects.main_effects(losses, "cnn", "val_loss", failed)
    assert effect.medians[2] is None


def test_importance_takes_diverged_runs_as_the_worst() -> None:
    random = np.random.default_rng(1)
    rates = [0.1, 0.01] * 12
    values = (0.7 + 0.001 * random.standard_normal(24)).tolist()
    schedules = ["step"] * 12 + ["cosine"] * 12
    table = table_of(rates, values, scheduler=schedules)
    table.loc[table["scheduler"] == "cosine", BEST] += 0.01
    lost = table[table["learning_rate"] == 0.1].head(10)
    left = table.drop(lost.index)
    failed = lost.assign(failure="non-finite loss").drop(columns=[BEST, TEST_ACCURACY])
    before = importance.importance(left, "cnn", BEST)
    after = importance.importance(left, "cnn", BEST, failed)
    assert (before.runs, after.runs) == (14, 24)
    assert after.shares["learning_rate"] > before.shares["learning_rate"]


def test_pairs_count_diverged_runs_of_each_combination(
    sweep: tuple[pd.DataFrame, pd.DataFrame],
) -> None:
    table, failed = sweep
    table.loc[0, "scheduler"] = "cosine"
    [pair] = pairs.pair_means(table, "cnn", BEST, failed)
    by_rate = pair.diverged if "0.1" in pair.diverged.index else pair.diverged.T
    assert by_rate.loc["0.1"].to_dict() == {"cosine": 0, "step": 3}
    assert int(pair.pruned.to_numpy().sum()) == 1
    texts = pairs._annotations(pair, 100, ".1f").to_numpy().ravel().tolist()
    assert "3 div." in texts
    assert "90.0" in texts
    assert "72.0\n1 pruned" in texts
    words = [text.get_text() for text in pairs.draw("cnn", [pair], BEST, "").findobj(Text)]
    caption = "how many diverged (div.) or were pruned and are left out."
    assert any(caption in " ".join(text.split()) for text in words)


def test_report_of_folders_knows_failures_and_a_csv_does_not(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    put_sweep(runs)
    failure = {"kind": "NonFiniteLoss", "message": "non-finite loss"}
    tries = [folders.attempt(60, "failed")]
    folders.put(runs, make(1.0), tries=tries, failure=failure)
    folders.put(runs, make(2.0), tries=[folders.attempt(60, "stopped")], resumable=True)
    csv = tmp_path / "runs.csv"
    complete = collect(runs).table.fillna({TEST_ACCURACY: 0.5})
    complete["test_per_class_accuracy_best_val_acc"] = 0.5
    write_csv(complete, csv)
    known = load_report(TableOptions(csv=csv, runs_dir=runs, quiet=True))
    unknown = load_report(TableOptions(csv=csv, quiet=True))
    effects = export_tables.effects_table(main_effects.effects_by_model(known), BEST)
    assert effects.set_index("value").loc["1", "diverged"] == 1
    assert "Failed runs are not known." in main_effects.left_out_note(
        main_effects.effects_by_model(unknown), failures_known=unknown.failed is not None
    )
    assert unknown.missing_note() == "Failures unknown."
    assert unknown.summary().endswith("Failures unknown.")
    of_csv = export_tables.effects_table(main_effects.effects_by_model(unknown), BEST)
    assert of_csv[["diverged", "failed"]].isna().all(axis=None), "not 0"
    assert isinstance(known, ReportData)
    assert known.missing_note() == "Not shown: 1 interrupted, 1 failed."
    assert known.missing("cifar10net") == known.missing()
    assert _subtitle(known).endswith("Left out of the means: 1 diverged. Not shown: 1 interrupted.")
    assert _subtitle(unknown).endswith("Failed runs are not known.")


def test_failed_seeds_of_a_configuration_count_once(tmp_path: Path) -> None:
    """As finished seeds do; those of other architectures than the chosen one do not count."""
    runs = tmp_path / "runs"
    put_sweep(runs)
    done = [folders.attempt(60, "done")]
    folders.put(runs, make(1.0, seed=9), tries=done, accuracy=0.3)
    put_sweep(runs, model_type="resnet")
    tries = [folders.attempt(60, "failed")]
    diverged = {"kind": "non-finite loss", "message": "in epoch 3"}
    no_memory = {"kind": "OutOfMemoryError", "message": "CUDA out of memory"}
    for seed in (0, 1, 2):
        folders.put(runs, make(2.0, seed), tries=tries, failure=diverged)
        folders.put(runs, make(1.0, seed), tries=tries, failure=no_memory)  # seed 9 has finished
        folders.put(runs, make(4.0, seed), tries=tries, failure=no_memory)
        folders.put(runs, make(2.0, seed, model_type="resnet"), tries=tries, failure=diverged)
    collected = collect(runs)
    complete = collected.table.fillna({TEST_ACCURACY: 0.5})
    every = ReportData(complete, collected.states, runs, failed=collected.failed)
    one = replace(every, model="cifar10net")
    each = replace(one, each_run=True)
    assert (every.missing(), one.missing(), each.missing()) == ("3 failed", "2 failed", "9 failed")
    assert every.missing(of_single_runs=True) == "12 failed"
    assert one.missing(without=[FailureClass.DIVERGED]) == "1 failed"
    assert "Left out of the means: 1 diverged, 1 failed." in _subtitle(one)
    assert "Left out of the means: 3 diverged, 6 failed." in _subtitle(each)
    of_page = main_effects.left_out_note(main_effects.effects_of_runs(one), failures_known=True)
    assert of_page == "Left out of the means: 3 diverged, 6 failed."


def _subtitle(report: ReportData) -> str:
    figure = main_effects.figure(report)
    assert figure
    words = (text.get_text() for text in figure.findobj(Text))
    return " ".join(
        next(one for one in words if one.startswith("Mean over the finished runs")).split()
    )


def test_many_settings_of_several_seeds_cause_no_warning() -> None:
    """Pandas warns of a table whose columns are in more than a hundred blocks of memory."""
    runs = table_of([0.1, 0.1, 0.01], [0.5, 0.6, 0.7], config_id=["a", "a", "b"])
    runs = runs.assign(seed=[0, 1, 0], stop_reason="completed")
    settings = {f"setting_{number}": [0.5, 0.5, 0.25] for number in range(120)}
    wide = pd.concat([runs, pd.DataFrame(settings, dtype=object)], axis=1)
    configurations = replicates.configurations(wide)
    assert len(with_unfinished(configurations, "cnn", BEST, None)) == 2
