"""How far a long command is."""

import pytest

from src.common import progress


class Clock:
    """Stands where it is put."""

    now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(progress, "time", clock)
    return clock


def test_lines_in_a_log_tell_what_is_left(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    items = list(range(2000))
    seen = []
    for item in progress.show_progress(items, "runs read"):
        seen.append(item)
        clock.now += 1 / 64
    assert seen == items
    said = capsys.readouterr()
    assert not said.out
    assert said.err.splitlines() == [
        "runs read: 192 of 2,000, about 28 s left",
        "runs read: 832 of 2,000, about 18 s left",
        "runs read: 1,472 of 2,000, about 8 s left",
    ]


def test_what_is_done_at_once_needs_no_line(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    assert list(progress.show_progress([1, 2, 3], "runs read")) == [1, 2, 3]
    assert list(progress.silent([1, 2], "runs read")) == [1, 2]
    assert capsys.readouterr() == ("", "")


def test_a_terminal_has_a_bar(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    assert list(progress.show_progress([1, 2, 3], "runs read")) == [1, 2, 3]
    assert "runs read" in capsys.readouterr().err
