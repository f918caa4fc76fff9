"""Render the status of a sweep for a terminal."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from src.cli.terminal import duration, plain_table
from src.common.paths import shown
from src.runs.snapshot import State
from src.slurm.client import queue_failure
from src.sweep.status.failures import Failures
from src.sweep.status.overview import BestRun, Overview, QueueSummary, StateCounts, Throughput

_SETS_IN_A_COLUMN = 9
_COLORS = {
    State.DONE: "green",
    State.PRUNED: "green",
    State.RUNNING: "cyan",
    State.INTERRUPTED: "yellow",
    State.FAILED: "red",
    State.PENDING: "",
}


def render(overview: Overview) -> RenderableType:
    """The whole status, as a rich renderable."""
    parts: list[RenderableType] = [
        _tallies("trainings (cells)", {**overview.models, "all": overview.all})
    ]
    if len(overview.sets) > 1:
        parts.append(_sets(overview.sets))
    if overview.best:
        parts.append(_best(overview.best))
    if overview.left:
        parts.append(_left(overview))
    return Group(*parts, *map(Text, _lines(overview)))


def _tallies(title: str, tallies: Mapping[str, StateCounts]) -> Table:
    table = plain_table(title)
    for state in State:
        table.add_column(state.value, justify="right", style=_COLORS[state])
    table.add_column("in all", justify="right")
    for name, tally in tallies.items():
        counts = [_count(tally.trainings[state], tally.cells[state]) for state in State]
        whole = _count(sum(tally.trainings.values()), sum(tally.cells.values()))
        table.add_row(name, *counts, whole)
    return table


def _count(trainings: int, cells: int) -> str:
    """The number of runs, and in parentheses of their cells if there are more."""
    if not trainings:
        return "-"
    return str(trainings) if trainings == cells else f"{trainings} ({cells})"


def _sets(tallies: Mapping[str, StateCounts]) -> RenderableType:
    """The sets in columns side by side."""
    names = list(tallies)
    grid = Table.grid(padding=(0, 3, 0, 0))
    starts = range(0, len(names), max(_SETS_IN_A_COLUMN, -(-len(names) // 2)))
    columns = [names[start : start + starts.step] for start in starts]
    grid.add_row(*(_set_column({name: tallies[name] for name in part}) for part in columns))
    return grid


def _set_column(tallies: Mapping[str, StateCounts]) -> Table:
    table = Table("set", box=None, padding=(0, 1, 0, 0))
    for state in State:
        title = "interr." if state is State.INTERRUPTED else state.value
        table.add_column(title, justify="right", style=_COLORS[state])
    for name, tally in tallies.items():
        table.add_row(
            name, *(_count(tally.trainings[state], tally.cells[state]) for state in State)
        )
    return table


def _best(runs: Sequence[BestRun]) -> Table:
    table = plain_table("best so far", "validation", "test", "run")
    for run in runs:
        of_seeds = " (one seed)"
        if run.val_deviation is not None:
            of_seeds = f" (mean of {run.seeds} seeds, validation \N{PLUS-MINUS SIGN} "
            of_seeds += f"{100 * run.val_deviation:.2f} points)"
        name = Text(f"{run.name}-{run.run_id}{of_seeds}", overflow="fold")
        table.add_row(run.model, f"{run.val_accuracy:.2%}", f"{run.test_accuracy:.2%}", name)
    return table


def _left(overview: Overview) -> Table:
    table = plain_table("left")
    for title in ("epochs", "trainings", "each", "device time"):
        table.add_column(title, justify="right")
    for group in overview.left:
        times = (group.seconds_each, group.seconds)
        table.add_row(
            group.model,
            "unknown" if group.num_epochs is None else str(group.num_epochs),
            str(group.trainings),
            *("unknown" if seconds is None else duration(seconds) for seconds in times),
        )
    return table


def _lines(overview: Overview) -> Iterator[str]:
    yield _speed(overview.speed)
    if overview.left:
        yield f"time left: {_time_left(overview)}"
    yield _queue(overview.queue)
    if overview.queue and overview.queue.stranded:
        jobs = ",".join(overview.queue.stranded)
        yield f"    held after a failed launch: scontrol release {jobs}; submit does not count them"
    yield (
        f"wasted: {overview.wasted_device_hours:,.2f} device-hours, in attempts that failed, "
        "were killed or were taken over"
    )
    if overview.left and overview.precisions:
        decided = ", ".join(
            f"{precision} for {what}" for what, precision in overview.precisions.items()
        )
        yield f"precision auto: {decided}; nodes that cannot do it leave these runs to others"
    for group in overview.failures:
        yield from _failures(group)
    if overview.outside:
        more = f"{overview.outside} more run folders belong to none of these sets"
        yield f"{more}: --outside lists them, --all counts them too"


def _speed(speed: Throughput) -> str:
    if not speed.running:
        return "speed: nothing is running"
    rate = speed.images_per_second
    rate_text = "not known before the first epoch" if rate is None else f"{rate:,.0f} images/s"
    parts = [f"speed: {rate_text}, {speed.measured} of {speed.running} running measured"]
    if speed.silent:
        parts.append(f"{speed.silent} without a heartbeat for 5 minutes: `work` takes them over")
    return "; ".join(parts)


def _time_left(overview: Overview) -> str:
    at_a_time = overview.speed.running - overview.speed.silent
    if overview.seconds_left is not None:
        return f"{duration(overview.seconds_left)}, with {at_a_time} at a time as now"
    new = [
        f"{training.model} ({training.num_epochs} epochs)"
        for training in overview.left
        if training.seconds is None
    ]
    if new:
        return f"unknown: no run is done yet of {', '.join(new)}"
    return "unknown: nothing is running"


def _queue(queue: QueueSummary | None) -> str:
    if queue is None:
        return f"Slurm: {queue_failure()}: nothing is known of its jobs"
    text = f"Slurm: {queue.active} jobs running, {queue.waiting} waiting"
    reasons = ", ".join(f"{count} {reason}" for reason, count in queue.reasons.items())
    return f"{text}: {reasons}" if reasons else text


def _failures(group: Failures) -> Iterator[str]:
    yield f"{group.trainings} failed: {group.kind}, e.g. {shown(Path(group.example))}"
    if group.message:
        yield f"    {group.message[:200]}"
    yield f"    {group.hint}"
