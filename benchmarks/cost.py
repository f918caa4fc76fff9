"""How cost grows with batch, model size and runs in a process, and the picture of a benchmark.

python -m benchmarks.cost FILE.json draws the picture of a result of `make bench` again.
"""

import json
from argparse import Namespace
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator

from benchmarks.measure import Arm, Duration, alternate, flops_per_image
from benchmarks.ours import Ours
from benchmarks.record import Record
from benchmarks.workload import BATCHES, images, run_config
from src.cli.arguments import Parser
from src.cli.entry_point import run_main
from src.common.errors import ExitStatus, UserError
from src.common.paths import shown
from src.config import RunConfig
from src.data.device_dataset import DeviceDataset
from src.report.charts.figure import add_heading, line_color, line_marker

TITLE = "How cost grows"
THROUGHPUT = "Training with augmentation"
_BATCH, _SIZE, _RUNS = "batch", "GFLOP an image", "runs in a process"
_COLUMNS = ("model", "with", "value", "images/s", "spread")
_NOTES = (
    "ours, auto; images/s of all runs of the process together, medians, measured in turn",
    "GFLOP an image: tinyvgg with batch norm and 8 to 128 channels, batch 64",
)
_SECONDS = 1.0
_BATCHES = (16, 32, 64, 128, 256, 512)
_CHANNELS = (8, 16, 32, 64, 128)
_COUNTS = (1, 2, 4, 8, 16)
_Series = tuple[str, str, dict[float, list[RunConfig]]]


def cost(record: Record, parsed: Namespace) -> None:
    """Measure images/s over batches, model sizes and numbers of runs."""
    table = record.table(TITLE, _COLUMNS, _NOTES)
    data = DeviceDataset.put(images(parsed.images), torch.device("cpu"))
    duration = Duration(min(_SECONDS, parsed.seconds), 1)
    for model, what, runs in _series(parsed.models):
        arms: dict[str, Arm] = {str(value): Ours(configs, data) for value, configs in runs.items()}
        turns = {str(value): len(configs) for value, configs in runs.items()}
        try:
            timings = alternate(arms, parsed.rounds, duration, turns, lambda line: None)
        finally:
            for arm in arms.values():
                arm.close()
        for value, timing in zip(runs, timings.values(), strict=True):
            row = (model, what, value, timing.rate, timing.spread)
            record.add(table, row, failure=timing.failure)


def _series(names: Sequence[str]) -> Iterable[_Series]:
    for model in ("cifar10net", "resnet"):
        if model in names:
            yield model, _BATCH, {batch: [run_config(model, batch)] for batch in _BATCHES}
    if "tinyvgg" in names:
        sizes = [run_config("tinyvgg", 64, hidden_units=channels) for channels in _CHANNELS]
        yield "tinyvgg", _SIZE, {round(flops_per_image(one) / 1e9, 4): [one] for one in sizes}
    if "cifar10net" in names:
        batch = BATCHES["cifar10net"]
        seeds = [run_config("cifar10net", batch, seed=seed) for seed in range(max(_COUNTS))]
        yield "cifar10net", _RUNS, {count: seeds[:count] for count in _COUNTS}


def main(arguments: Sequence[str]) -> ExitStatus:
    """Draw the picture of a result again."""
    parser = Parser(prog="python -m benchmarks.cost", description=__doc__)
    parser.add_argument("file", type=Path, help="a JSON file that make bench has written")
    path = parser.parse(arguments).file
    try:
        result = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: expected a JSON file of make bench ({error})") from None
    if not isinstance(result, dict) or not result.get("measurements"):
        raise UserError(f"{path}: expected a JSON file of make bench")
    print(shown(draw(result, path.with_suffix(".png"))))
    return ExitStatus.DONE


def draw(result: Mapping[str, Any], path: Path) -> Path:
    """Write the picture of a result: the arms of each model, and how cost grows."""
    rows = [row for row in result["measurements"] if row.get("images/s")]
    arms = [row for row in rows if row["table"] == THROUGHPUT]
    growth = [row for row in rows if row["table"] == TITLE]
    figure = Figure(figsize=(11, 3.4 * (bool(arms) + bool(growth))))
    grid = figure.add_gridspec(bool(arms) + bool(growth), 3)
    machine = result["machine"]
    if arms:
        _draw_arms(figure.add_subplot(grid[0, :]), arms)
    if growth:
        below = int(bool(arms))
        panels: list[tuple[str, str, Callable[[Any], float]]] = [
            (_BATCH, "images/s", lambda row: row["images/s"]),
            (_SIZE, "ms an image", lambda row: 1000 / row["images/s"]),
            (_RUNS, "images/s, all runs", lambda row: row["images/s"]),
        ]
        for column, (what, unit, of) in enumerate(panels):
            axes = figure.add_subplot(grid[below, column])
            _draw_growth(axes, [row for row in growth if row["with"] == what], what, unit, of)
    about = f"{machine['device']}, torch {machine['torch']}, {machine['date']}. Bars and points: "
    about += "medians of the rounds; lines: from the slowest to the fastest round."
    add_heading(figure, "Training speed and what it costs", about, h_pad=0.1, w_pad=0.1)
    figure.savefig(path, dpi=110)
    return path


def _draw_arms(axes: Axes, rows: Sequence[Mapping[str, Any]]) -> None:
    models = list(dict.fromkeys(row["model"] for row in rows))
    arms = list(dict.fromkeys(row["arm"] for row in rows))
    width = 0.8 / len(arms)
    for place, arm in enumerate(arms):
        mine = [row for row in rows if row["arm"] == arm]
        at = [models.index(row["model"]) + (place - (len(arms) - 1) / 2) * width for row in mine]
        rates = [row["images/s"] for row in mine]
        axes.bar(at, rates, width * 0.92, label=arm, color=line_color(place))
        for x, row in zip(at, mine, strict=True):
            spells = [one["images"] / one["seconds"] for one in row.get("spells", [])]
            if spells:
                axes.plot([x, x], [min(spells), max(spells)], color="0.2", linewidth=1.2)
            axes.annotate(
                f"{row['images/s']:,.0f}" if row["images/s"] >= 10 else f"{row['images/s']:.1f}",
                (x, max([row["images/s"], *spells])),
                xytext=(0, 2),
                textcoords="offset points",
                ha="center",
                fontsize=7,
            )
    axes.set_yscale("log")
    axes.margins(y=0.12)
    axes.set_ylabel("images/s")
    axes.set_xticks(range(len(models)), models)
    axes.legend(ncols=len(arms), loc="lower center", bbox_to_anchor=(0.5, 1), frameon=False)
    axes.spines[["top", "right"]].set_visible(False)


def _draw_growth(
    axes: Axes,
    rows: Sequence[Mapping[str, Any]],
    what: str,
    unit: str,
    of: Callable[[Any], float],
) -> None:
    for place, model in enumerate(dict.fromkeys(row["model"] for row in rows)):
        mine = [row for row in rows if row["model"] == model]
        values, costs = [row["value"] for row in mine], [of(row) for row in mine]
        color, marker = line_color(place), line_marker(place)
        axes.plot(values, costs, color=color, marker=marker, label=model)
        for row, x, y in zip(mine, values, costs, strict=True):
            half = row["spread"] / 2
            axes.plot([x, x], [y * (1 - half), y * (1 + half)], color=color, linewidth=1.2)
    axes.set_xscale("log", base=2)
    ticks = sorted({row["value"] for row in rows})
    axes.set_xticks(ticks, [f"{tick:.2g}" if what == _SIZE else str(tick) for tick in ticks])
    axes.set_xlabel(what)
    axes.set_ylabel(unit)
    if what == _RUNS:  # nearly the same for all, which no other scale shows
        axes.set_ylim(0, 1.25 * max((of(row) for row in rows), default=1))
    else:
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter("{x:,g}")
    if rows:
        axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)


if __name__ == "__main__":
    run_main(main)
