"""Detection of varying hyperparameters, and descriptions of runs."""

import numpy as np

from src.report.report_data import ReportData
from src.report.settings import describe_runs, settings_of


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
    assert settings["seed"].labels == ["3", "unknown"]
