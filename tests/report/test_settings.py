"""Which hyperparameters vary, and runs in words."""

import numpy as np

from src.report.report_data import ReportData
from src.report.settings import describe_runs, settings_of


def test_names_tell_only_what_differs() -> None:
    base = {"Modelname": "cnn", "augmentation": True, "scheduler": "step", "gamma": 0.97}
    rows = [{**base, "learning_rate": lr, "weight_decay": 1e-5} for lr in (0.01, 0.0001)]
    shared, labels = describe_runs(rows)
    plain = shared.replace("\N{NO-BREAK SPACE}", " ")
    assert plain == "augmented, step, wd 1e-05, gamma 0.97"
    assert [label.replace("\N{NO-BREAK SPACE}", " ") for label in labels] == [
        "lr 0.01",
        "lr 0.0001",
    ]
    cosine, _ = describe_runs([{**rows[0], "scheduler": "cosine"}])
    assert "gamma" not in cosine, "it means nothing there"


def test_levels_are_in_order_and_searched_ones_are_ranges(report: ReportData) -> None:
    found = {one.name: one for one in settings_of(report.runs)}
    assert found["learning_rate"].levels == (1e-5, 1e-4, 1e-3, 1e-2)
    assert found["augmentation"].labels == ["off", "on"]
    assert not found["gamma"].is_continuous
    assert "batch_size" not in found, "the same in all"
    searched = report.runs.assign(learning_rate=np.linspace(1e-5, 1e-2, len(report.runs)))
    searched["seed"] = np.nan
    searched.loc[searched.index[0], "seed"] = 3.0
    found = {one.name: one for one in settings_of(searched)}
    assert found["learning_rate"].is_continuous
    assert found["seed"].labels == ["3", "unknown"]
