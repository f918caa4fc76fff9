"""Progress display of long commands: log lines or a bar."""

import pytest

from src.common import progress


class Clock:
    """Fake `time` module whose clock the test sets."""

    now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(progress, "time", clock)
    return clock


def test_progress_lines_in_log_show_time_left(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    items = list(range(2000))
    yielded = []
    for item in progress.show_progress(items, "runs read"):
        yielded.append(item)
        clock.now += 1 / 64
    assert yielded == items
    captured = capsys.readouterr()
    assert not captured.out
    assert captured.err.splitlines() == [
        "runs read: 192 of 2,000, about 28 s left",
        "runs read: 832 of 2,000, about 18 s left",
        "runs read: 1,472 of 2,000, about 8 s left",
    ]


def test_fast_iteration_prints_nothing(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    assert list(progress.show_progress([1, 2, 3], "runs read")) == [1, 2, 3]
    assert list(progress.silent([1, 2], "runs read")) == [1, 2]
    assert capsys.readouterr() == ("", "")


def test_progress_bar_is_shown_on_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    assert list(progress.show_progress([1, 2, 3], "runs read")) == [1, 2, 3]
    assert "runs read" in capsys.readouterr().err
