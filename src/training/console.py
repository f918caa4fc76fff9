"""Progress of training on the console: bars on a terminal, one line per epoch in a log."""

import sys
import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol, Self

from src.cli.terminal import clock
from src.config import RunConfig
from src.training.tracker import Row, RunningMetrics, Tracker

_REFRESH_SECONDS = 0.5


class ProgressDisplay(Protocol):
    """Shows the progress of many runs. A context manager."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *error: object) -> None: ...

    def run(self, config: RunConfig, number: int) -> Tracker:
        """The tracker of a run, given its number (from 1)."""

    def note(self, line: str) -> None:
        """Show a line that belongs to no epoch."""

    def ended(self, number: int, line: str) -> None:
        """Show how the run of this number ended."""


def log_line(line: str) -> None:
    """Print a line with the current time to stderr."""
    print(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {line}", file=sys.stderr, flush=True)


def make_display(total: int, quiet: bool = False) -> ProgressDisplay:
    """A display of `total` runs: bars on a terminal, lines in a log, nothing if quiet."""
    if quiet:
        return SilentDisplay()
    return BarDisplay(total) if sys.stderr.isatty() else LogDisplay(total)


class SilentDisplay:
    """Shows nothing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def run(self, config: RunConfig, number: int) -> Tracker:
        return Tracker()

    def note(self, line: str) -> None:
        pass

    def ended(self, number: int, line: str) -> None:
        pass


class LogDisplay(SilentDisplay):
    """Prints one line per epoch, with the time, to stderr."""

    def __init__(self, total: int) -> None:
        self.total = total

    def run(self, config: RunConfig, number: int) -> Tracker:
        return _LogTracker(config, self.note, f"[{number}/{self.total}]")

    def ended(self, number: int, line: str) -> None:
        self.note(f"[{number}/{self.total}] {line}")

    def note(self, line: str) -> None:
        log_line(line)


class _LogTracker(Tracker):
    def __init__(self, config: RunConfig, write: Callable[[str], None], prefix: str) -> None:
        self.config, self.write, self.prefix = config, write, prefix
        self.images = 0

    def resumed(self, epochs: int, steps: int) -> None:
        self.write(_resumed(self.config, epochs, steps))

    def note(self, line: str) -> None:
        self.write(f"{self.config.title}: {line}")

    def step(self, epoch: int, done: int, total: int, running: RunningMetrics) -> None:
        self.images = total

    def epoch(self, rows: Sequence[Row]) -> None:
        row = rows[-1]
        seconds = sum(r["seconds"] for r in rows) / len(rows)
        left = (self.config.num_epochs - len(rows)) * seconds
        parts = [
            f"{self.prefix} {self.config.title} epoch {row['epoch']}/{self.config.num_epochs}",
            f"train loss {row['train_loss']:.4f} accuracy {row['train_accuracy']:.2%}",
        ]
        if "val_loss" in row:
            parts.append(f"val loss {row['val_loss']:.4f} accuracy {row['val_accuracy']:.2%}")
        speed = self.images / max(row["seconds"], 1e-9)
        parts.append(f"{speed:,.0f} images/s, at most {clock(left)} left")
        self.write(" | ".join(parts))


class BarDisplay(SilentDisplay):
    """Shows a bar for all runs, and one for each run in training."""

    def __init__(self, total: int) -> None:
        from rich import progress
        from rich.console import Console

        self.bars = progress.Progress(
            progress.TextColumn("{task.description}"),
            progress.BarColumn(bar_width=None),
            progress.TextColumn("{task.fields[numbers]}"),
            progress.TimeRemainingColumn(compact=True),
            console=Console(stderr=True),
            expand=True,
            speed_estimate_period=20,
        )
        self.total = total
        self.all = self.bars.add_task("runs", total=total, numbers=f"0/{total}")
        self.tasks: dict[int, Any] = {}

    def __enter__(self) -> Self:
        self.bars.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.bars.stop()

    def run(self, config: RunConfig, number: int) -> Tracker:
        name = f"{config.model_name} {config.scheduler} lr {config.learning_rate:g}"
        name += " aug" if config.data_augmentation else ""
        name += f" seed {config.seed}" if config.seed else ""
        self.tasks[number] = self.bars.add_task(name, total=None, numbers="")
        return _BarTracker(config, self.bars, self.tasks[number], self.note)

    def ended(self, number: int, line: str) -> None:
        if number in self.tasks:
            self.bars.remove_task(self.tasks.pop(number))
        self.bars.advance(self.all)
        done = int(self.bars.tasks[0].completed)
        self.bars.update(self.all, numbers=f"{done}/{self.total}")
        self.note(line)

    def note(self, line: str) -> None:
        self.bars.console.print(line, markup=False, highlight=False, soft_wrap=True)


class _BarTracker(Tracker):
    def __init__(
        self, config: RunConfig, bars: Any, task: Any, write: Callable[[str], None]
    ) -> None:
        self.config, self.bars, self.task, self.write = config, bars, task, write
        self.shown_at, self.shown_images = time.monotonic(), -1
        self.speed = 0.0

    def resumed(self, epochs: int, steps: int) -> None:
        self.write(_resumed(self.config, epochs, steps))

    def note(self, line: str) -> None:
        self.write(f"{self.config.title}: {line}")

    def step(self, epoch: int, done: int, total: int, running: RunningMetrics) -> None:
        now = time.monotonic()
        if now - self.shown_at < _REFRESH_SECONDS:
            return
        images = (epoch - 1) * total + done
        if self.shown_images >= 0:
            self.speed = (images - self.shown_images) / (now - self.shown_at)
        loss, accuracy = running()  # waits for the device, so not at every step
        numbers = f"epoch {epoch}/{self.config.num_epochs} loss {loss:.3f} acc {accuracy:.1%}"
        if self.speed:
            numbers += f" {self.speed:,.0f} img/s"
        self.bars.update(
            self.task, total=self.config.num_epochs * total, completed=images, numbers=numbers
        )
        self.shown_at, self.shown_images = time.monotonic(), images


def _resumed(config: RunConfig, epochs: int, steps: int) -> str:
    return f"{config.title}: resumed after {epochs} epochs, {steps} steps"
