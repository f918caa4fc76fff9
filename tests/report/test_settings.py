"""Detection of varying hyperparameters, and descriptions of runs."""

from typing import Any

import numpy as np
import pandas as pd
import pytest

from src.config import RunConfig
from src.report.report_data import ReportData
from src.report.settings import (
    HYPERPARAMETERS,
    Setting,
    add_settings,
    describe_runs,
    merged,
    settings_of,
    varied_fields,
)
from src.report.table import MODEL


def test_describe_runs_separates_shared_and_differing_settings() -> None:
    base = {"Modelname": "cnn", "augmentation": True, "scheduler": "step", "gamma": 0.97}
    rows = [{**base, "learning_rate": lr, "weight_decay": 1e-5} for lr in (0.01, 0.0001)]
    shared, labels = describe_runs(rows)
    shared_text = shared.replace("\N{NO-BREAK SPACE}", " ")
    assert shared_text == "augmented, step, wd 1e-05, gamma 0.97"
    assert [label.replace("\N{NO-BREAK SPACE}", " ") for label in labels] == [
        "lr 0.01",
        "lr 0.0001",
    ]
    cosine, _ = describe_runs([{**rows[0], "scheduler": "cosine"}])
    assert "gamma" not in cosine, "gamma has no effect with the cosine schedule"


def test_settings_of_sorts_levels_and_detects_continuous_ones(report: ReportData) -> None:
    settings = {setting.name: setting for setting in settings_of(report.runs)}
    assert settings["learning_rate"].levels == (1e-5, 1e-4, 1e-3, 1e-2)
    assert settings["augmentation"].labels == ["off", "on"]
    assert not settings["gamma"].is_continuous
    assert "batch_size" not in settings, "constant settings are left out"
    searched = report.runs.assign(learning_rate=np.linspace(1e-5, 1e-2, len(report.runs)))
    searched["seed"] = np.nan
    searched.loc[searched.index[0], "seed"] = 3.0
    settings = {setting.name: setting for setting in settings_of(searched)}
    assert settings["learning_rate"].is_continuous
    assert settings["seed"].labels == ["3", "not set"]


@pytest.mark.parametrize(
    ("of_one", "of_other", "levels"),
    [
        ((0.01, 1.0), (0.001, 0.1, 1), (0.001, 0.01, 0.1, 1.0)),
        ((128, None), (32, 1024), (32, 128, 1024, None)),
        ((True,), (False, True), (False, True)),
        (("step", None), ("cosine", "step"), ("step", "cosine", None)),
    ],
)
def test_merged_levels_are_in_order(
    of_one: tuple[Any, ...], of_other: tuple[Any, ...], levels: tuple[Any, ...]
) -> None:
    assert merged([Setting("x", of_one), Setting("x", of_other)]).levels == levels
    assert settings_of_column([*of_one, *of_other]).levels == levels


def settings_of_column(values: list[Any]) -> Setting:
    """The setting `batch_size` of a table with these values."""
    fixed = dict.fromkeys((MODEL, *HYPERPARAMETERS), "a")
    table = pd.DataFrame([{**fixed, "batch_size": value} for value in values])
    return settings_of(table.astype({"batch_size": object}))[-1]


def test_settings_that_a_run_does_not_use_do_not_count() -> None:
    cosine = RunConfig(scheduler="cosine", t_max=20, device="cpu")
    step = RunConfig(scheduler="step", step_size=7)
    assert varied_fields([cosine, step]) == ["scheduler"]
    longer = RunConfig(scheduler="cosine", t_max=30)
    assert varied_fields([cosine, longer, step]) == ["scheduler", "t_max"]
    of_another = RunConfig(model_type="cnn", scheduler="cosine", t_max=30)
    assert varied_fields([cosine, of_another]) == []
    runs = pd.DataFrame({"run_id": ["a", "b", "c"], "scheduler": ["cosine", "step", "step"]})
    table = add_settings(runs, {"a": cosine, "b": step})
    assert table["t_max"].tolist() == [20, None, None]
    assert table["step_size"].tolist() == [None, 7, None]
    assert "device" not in table
