"""Fixtures that run the commands of src.tune in this process."""

from collections.abc import Callable

import pytest
from _pytest.capture import CaptureResult

from src import data
from src.common.signals import StopSignal
from src.data.dataset import Dataset
from src.tune.__main__ import main

Tune = Callable[..., CaptureResult[str]]


@pytest.fixture
def no_signal_handlers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevent the installation of signal handlers, which would outlive the test."""
    monkeypatch.setattr(StopSignal, "install", lambda self, *further: self)


@pytest.fixture
def small_synthetic(monkeypatch: pytest.MonkeyPatch, small_dataset: Dataset) -> None:
    """Replace every data set by the small synthetic one."""
    monkeypatch.setattr(data, "load", lambda path, name: small_dataset)


@pytest.fixture
def tune(no_signal_handlers: None, capsys: pytest.CaptureFixture[str]) -> Tune:
    """Return a function that runs a src.tune command and returns its captured output."""

    def run(*words: object) -> CaptureResult[str]:
        main([str(word) for word in words])
        return capsys.readouterr()

    return run
