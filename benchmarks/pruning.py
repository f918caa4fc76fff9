"""What pruning saves, and how often it keeps the best run, over sweeps whose histories are known.

python -m benchmarks.pruning: replays asynchronous successive halving, and the median rule, over
simulated and real sweeps in many orders, and writes the table in docs/performance.md.
python -m benchmarks.pruning collect --runs DIR: writes the histories of an unpruned sweep as one
table, which is replayed too.
"""

import heapq
import json
import math
import zlib
from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from statistics import fmean

import numpy as np
import numpy.typing as npt
import pandas as pd

from benchmarks.record import RESULTS
from docs.sections import replace_section
from src.cli.arguments import Parser
from src.cli.entry_point import run_main
from src.common import files
from src.common.errors import ExitStatus, UserError
from src.common.paths import ROOT, RUNS_DIR, shown
from src.pruning.halving import SuccessiveHalving
from src.pruning.pruner import schedule
from src.runs.run_folder import all_runs

Floats = npt.NDArray[np.float64]

HISTORIES = RESULTS / "unpruned_histories.csv"
DOCUMENT = ROOT / "docs" / "performance.md"
BEGIN, END = "<!-- pruning: begin -->", "<!-- pruning: end -->"
FILE = "pruning.json"

RUNS, EPOCHS = 48, 80
SEED_DEVIATION = 0.01
"""Standard deviation of the final loss over seeds, in the simulated sweeps."""
ORDERS = 40
"""Replays of a family, or of the measured sweep, with each number of workers."""
WORKERS = (1, 4, 16, 48)
RUNGS, REDUCTIONS = (1, 2, 3, 5, 10), (2, 3, 4)


@dataclass(frozen=True)
class Sweep:
    """Runs that compete with each other."""

    losses: Floats
    """(runs, epochs): validation losses; a diverged run is infinite from where it diverged."""
    truth: Floats
    """(runs,): final losses without the noise of a seed, or as they were measured."""
    noise: float
    """A final loss within it of the best one is as good: a standard deviation of a seed."""


@dataclass(frozen=True)
class Score:
    """What a pruner does to sweeps: shares from 0 to 1, means over orders and workers."""

    saved: float
    """Of the epochs."""
    best_kept: float
    """Sweeps whose truly best run is trained to its end."""
    good_kept: float
    """Sweeps in which a run within noise of it is."""


class Halving:
    """Asynchronous successive halving, as src/pruning/pruner.py has it from Optuna."""

    def __init__(self, halving: SuccessiveHalving, epochs: int) -> None:
        self._rungs, self.reduction = halving.rungs(epochs), halving.reduction

    def rungs(self, run: int) -> list[int]:
        """The epochs at which a run is compared."""
        return self._rungs

    def group(self, run: int) -> int:
        """Runs of one group are compared with each other."""
        return 0

    def prunes(self, lowest: float, seen: Sequence[float]) -> bool:
        """Whether a loss is not among the best 1 / reduction of those seen, its own included."""
        passing = max(1, len(seen) // self.reduction)
        return lowest > sorted(seen)[passing - 1]


class Hyperband(Halving):
    """Brackets of successive halving with later and later first rungs (Li et al. 2018).

    Runs are spread over brackets by Optuna's budgets.
    """

    def __init__(self, halving: SuccessiveHalving, epochs: int) -> None:
        super().__init__(halving, epochs)
        first, reduction = halving.first_rung, halving.reduction
        count = int(math.log(epochs / first, reduction)) + 1
        self._brackets = [
            SuccessiveHalving(first * reduction**bracket, reduction).rungs(epochs)
            for bracket in range(count)
        ]
        self._budgets = [
            math.ceil(count * reduction**left / (left + 1)) for left in reversed(range(count))
        ]

    def rungs(self, run: int) -> list[int]:
        """The epochs at which a run of its bracket is compared."""
        return self._brackets[self.group(run)]

    def group(self, run: int) -> int:
        """The bracket of a run."""
        place = zlib.crc32(str(run).encode()) % sum(self._budgets)
        return int(np.searchsorted(np.cumsum(self._budgets), place, side="right"))


class Median(Halving):
    """Optuna's median rule: worse than the median of the others at the same epoch, every 5 epochs.

    The first five runs and the first ten epochs are never stopped.
    """

    def __init__(self, epochs: int) -> None:
        self._rungs = list(range(10, epochs, 5))

    def prunes(self, lowest: float, seen: Sequence[float]) -> bool:
        """Whether a loss is worse than the median of those seen before it."""
        return len(seen) > 5 and lowest > float(np.median(seen[:-1]))


def replay(
    sweep: Sweep, pruner: Halving, workers: int, order: Sequence[int]
) -> tuple[int, set[int]]:
    """The epochs that are trained, and the runs that come to their end.

    Workers take the runs in this order and train an epoch in the same time each.
    """
    waiting, peers = deque(order), defaultdict[tuple[int, int], list[float]](list)
    queue = [(0, place, waiting.popleft(), 0) for place in range(min(workers, len(waiting)))]
    trained, finished = 0, set[int]()
    while queue:
        time, place, run, start = heapq.heappop(queue)
        end, is_over = _next_stop(sweep, pruner, run, start)
        trained += end - start
        if is_over and np.isfinite(sweep.losses[run, -1]):
            finished.add(run)
        if not is_over:
            lowest, seen = float(sweep.losses[run, :end].min()), peers[pruner.group(run), end]
            seen.append(lowest)
            is_over = pruner.prunes(lowest, seen)
        if not is_over:
            heapq.heappush(queue, (time + end - start, place, run, end))
        elif waiting:
            heapq.heappush(queue, (time + end - start, place, waiting.popleft(), 0))
    return trained, finished


def _next_stop(sweep: Sweep, pruner: Halving, run: int, start: int) -> tuple[int, bool]:
    """The next epoch at which a run is compared or over, and whether it is over there."""
    finite = np.isfinite(sweep.losses[run])
    last = len(finite) if finite.all() else max(int(finite.argmin()), start + 1)
    rung = next((rung for rung in pruner.rungs(run) if start < rung < last), last)
    return rung, rung == last


def score(sweeps: Sequence[Sweep], make_pruner: Callable[[int], Halving]) -> Score:
    """Replay each sweep in many orders and with many workers. The same numbers each time."""
    random = np.random.default_rng(0)
    saved, best, good = [], [], []
    for sweep, workers, _ in product(sweeps, WORKERS, range(max(1, ORDERS // len(sweeps)))):
        runs, epochs = sweep.losses.shape
        pruner, order = make_pruner(epochs), random.permutation(runs).tolist()
        trained, finished = replay(sweep, pruner, workers, order)
        whole = int(np.isfinite(sweep.losses).sum())
        near = {i for i in range(runs) if sweep.truth[i] <= sweep.truth.min() + sweep.noise}
        saved.append(1 - trained / whole)
        best.append(int(sweep.truth.argmin()) in finished)
        good.append(bool(near & finished))
    return Score(fmean(saved), fmean(best), fmean(good))


def simulated() -> dict[str, list[Sweep]]:
    """Ten sweeps of each family of learning curves."""
    families: dict[str, Callable[[np.random.Generator], Floats]] = {
        "power law": _power_law,
        "slow starters win": _slow_starters,
        "annealed late": _annealed,
        "a fifth diverges": _diverging,
    }
    return {
        name: [_noisy(make, np.random.default_rng(number)) for number in range(10)]
        for name, make in families.items()
    }


def _noisy(make: Callable[[np.random.Generator], Floats], random: np.random.Generator) -> Sweep:
    """A sweep with the noise of its seeds and of each epoch."""
    curves = make(random)
    seeds = SEED_DEVIATION * random.standard_normal((len(curves), 1))
    epochs = 0.02 * random.standard_normal(curves.shape)
    final = np.where(np.isfinite(curves[:, -1]), curves[:, -1], np.inf)
    return Sweep(curves + seeds + epochs, final, SEED_DEVIATION)


def _epochs() -> Floats:
    return np.arange(1, EPOCHS + 1, dtype=float)


def _power_law(random: np.random.Generator) -> Floats:
    """floor + height * epoch ^ -decay (Domhan et al. 2015), drawn independently."""
    floor, height = random.normal(0.6, 0.05, (RUNS, 1)), random.uniform(0.8, 1.4, (RUNS, 1))
    decay = random.uniform(0.5, 1.0, (RUNS, 1))
    return floor + height * _epochs() ** -decay


def _slow_starters(random: np.random.Generator) -> Floats:
    """The same; the lower the floor, the slower the decay, so that curves cross."""
    slowness = random.uniform(0, 1, (RUNS, 1))
    floor = 0.75 - 0.3 * slowness + random.normal(0, 0.02, (RUNS, 1))
    return floor + 1.2 * _epochs() ** -(1.0 - 0.55 * slowness)


def _annealed(random: np.random.Generator) -> Floats:
    """High rates stay above their floor until the schedule anneals them, and end lowest."""
    rate = random.uniform(0, 1, (RUNS, 1))
    floor = 0.7 - 0.15 * rate + random.normal(0, 0.02, (RUNS, 1))
    schedule_share = 0.5 * (1 + np.cos(np.pi * _epochs() / EPOCHS))
    return floor + 1.0 * _epochs() ** -0.8 + 0.35 * rate * schedule_share


def _diverging(random: np.random.Generator) -> Floats:
    """Power laws, a fifth of which diverge at an epoch from 1 to 20."""
    curves = _power_law(random)
    for run in random.permutation(RUNS)[: RUNS // 5]:
        curves[run, random.integers(1, 20) :] = np.inf
    return curves


def measured(path: Path = HISTORIES) -> list[Sweep]:
    """The sweeps of a table of histories: the runs of each schedule. Empty without the table."""
    if not path.exists():
        return []
    table = pd.read_csv(path)
    columns = [name for name in table if str(name).startswith("epoch_")]
    sweeps = []
    for _, group in table.groupby("schedule"):
        losses = group[columns].to_numpy(float)
        losses = np.where(np.isnan(losses), np.inf, losses)
        sweeps.append(Sweep(losses, losses.min(axis=1), SEED_DEVIATION))
    return sweeps


def collect(runs_dir: Path, out: Path) -> int:
    """Write the validation losses of all runs with a complete history. Returns their number."""
    rows = []
    for folder in all_runs(runs_dir):
        config = folder.run_config()
        losses = {row["epoch"]: row["val_loss"] for row in folder.history() if "val_loss" in row}
        if len(losses) == config.num_epochs:
            numbers = {f"epoch_{epoch}": round(loss, 4) for epoch, loss in losses.items()}
            settings = {"run_id": config.id, "name": config.name, "schedule": schedule(config)}
            rows.append({**settings, **numbers})
    if not rows:
        raise UserError(f"--runs {str(runs_dir)!r}: no run with a complete history")
    table = pd.DataFrame(rows)
    table["schedule"] = table["schedule"].astype("category").cat.codes
    files.write_text(out, table.to_csv(index=False))
    return len(rows)


def pruners() -> Iterator[tuple[str, Callable[[int], Halving]]]:
    """Every pruner that is compared, by name."""

    def halving(first: int, reduction: int) -> Callable[[int], Halving]:
        return lambda epochs: Halving(SuccessiveHalving(first, reduction), epochs)

    def hyperband(first: int) -> Callable[[int], Halving]:
        return lambda epochs: Hyperband(SuccessiveHalving(first, 3), epochs)

    for reduction, first in product(REDUCTIONS, RUNGS):
        yield f"first rung {first}, reduction {reduction}", halving(first, reduction)
    for first in (3, 5):
        yield f"Hyperband, first rung {first}, reduction 3", hyperband(first)
    yield "median rule", Median


def tabulate(families: dict[str, list[Sweep]]) -> list[dict[str, object]]:
    """A row for each pruner, with its score in each family."""
    return [
        {"pruner": name, **{family: vars(score(of, make)) for family, of in families.items()}}
        for name, make in pruners()
    ]


def markdown(rows: Sequence[dict[str, object]]) -> str:
    """The table: epochs saved / best kept / one within noise kept, in per cent."""
    families = [name for name in rows[0] if name != "pruner"]
    head = ["pruner", *families]
    lines = [head, ["---"] * len(head)]
    for row in rows:
        cells = [" / ".join(f"{100 * value:.0f}" for value in row[f].values()) for f in families]  # type: ignore[attr-defined]
        lines.append([str(row["pruner"]), *cells])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def main(arguments: Sequence[str]) -> ExitStatus:
    """Collect histories, or replay and write the table."""
    parser = Parser(prog="python -m benchmarks.pruning", description=__doc__)
    parser.add_argument("what", nargs="?", choices=("replay", "collect"), default="replay")
    parser.add_argument("--runs", type=Path, default=RUNS_DIR, metavar="DIR", help="run folders")
    parser.add_argument("--out", type=Path, default=HISTORIES, metavar="FILE", help="of collect")
    parsed = parser.parse(arguments)
    if parsed.what == "collect":
        print(f"{collect(parsed.runs, parsed.out)} histories in {shown(parsed.out)}")
        return ExitStatus.DONE
    families = simulated()
    if real := measured():
        families["measured"] = real
    rows = tabulate(families)
    files.write_text(RESULTS / FILE, json.dumps(rows, indent=1) + "\n")
    replace_section(DOCUMENT, BEGIN, END, markdown(rows))
    print(markdown(rows))
    return ExitStatus.DONE


if __name__ == "__main__":
    run_main(main)
