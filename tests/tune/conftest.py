"""The commands of src.tune, run in this process."""

from collections.abc import Callable

import pytest
from _pytest.capture import CaptureResult

from src import data
from src.common.signals import StopSignal
from src.data.dataset import Dataset
from src.tune.__main__ import main

Tune = Callable[..., CaptureResult[str]]


@pytest.fixture
def deaf(monkeypatch: pytest.MonkeyPatch) -> None:
    """No signal handlers, which would outlive a test."""
    monkeypatch.setattr(StopSignal, "install", lambda self, *further: self)


@pytest.fixture
def small_synthetic(monkeypatch: pytest.MonkeyPatch, small_dataset: Dataset) -> None:
    """Every data set is the small stand-in."""
    monkeypatch.setattr(data, "load", lambda path: small_dataset)


@pytest.fixture
def tune(deaf: None, capsys: pytest.CaptureFixture[str]) -> Tune:
    """Run a command, and return what it printed."""

    def run(*words: object) -> CaptureResult[str]:
        main([str(word) for word in words])
        return capsys.readouterr()

    return run
