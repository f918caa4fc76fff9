"""Training speed of single runs, slots and processes on a GPU: python -m benchmarks.gpu

Each arm is warmed up and measured in three consecutive intervals before the next one is built,
since many slots of a large model leave no memory for other arms. Results are written after each
arm, and --minutes limits the total time.
"""

import gc
import signal
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch

from benchmarks import flags
from benchmarks.measure import (
    Arm,
    Duration,
    Interval,
    Timing,
    ceiling,
    fast_dtype,
    flops_per_image,
    ratio,
    reason,
)
from benchmarks.processes import gpu_memory_in_use, mps, train_together
from benchmarks.record import RESULTS, Record, Table
from benchmarks.workload import GPU_BATCHES, images, known_models, run_config
from src.cli.arguments import Parser, positive_float, positive_int
from src.cli.entry_point import run_main
from src.common.errors import ExitStatus
from src.data.device_dataset import DeviceDataset
from src.training.device import pick_device

CONVENTIONAL = "conventional, float32"
EAGER = "ours alone, eager"
GRAPH = "ours alone, graph"
VARIANTS: dict[str, dict[str, object]] = {
    "compiled": {"compile": True},
    "TF32": {"precision": "tf32"},
    "float16": {"precision": "float16"},
    "cuDNN benchmark": {"cudnn_benchmark": True},
}
"""Settings that may change bits, and are off unless asked for: does one of them pay?"""

_INTERVALS = 3
_WARM_UP = 20  # warm-up steps of each run
_MIN_WARM_UP = 8  # if the warm-up takes long
_MIN_SECONDS = {"slots": 10.0, "processes": 40.0}  # time that must be left to start an arm
_COLUMNS = (
    "model",
    "arm",
    "runs",
    "images/s",
    "spread",
    "x conventional",
    "x eager",
    "x graph",
    "share of ceiling",
    "GPU MiB allocated",
    "GPU MiB in use",
    "note",
)
_NOTES = (
    "images/s: of all runs together, median of three intervals; spread: fastest minus slowest, "
    "relative to the median",
    "conventional: float32 with convolutions in TF32, torch's default on a GPU",
    "x eager, x graph: relative to a single run of ours, without or with CUDA graphs",
    "share of ceiling: images/s x FLOPs of the published network / speed of the fastest matrix "
    "product in the precision of our arms, also for conventional",
    "GPU MiB in use: of the whole device, including the CUDA contexts of all processes",
)


def main(arguments: Sequence[str]) -> ExitStatus:
    """Measure the selected arms within the time limit and write the table."""
    parser = Parser(prog="python -m benchmarks.gpu", description=__doc__)
    parser.add_argument("--models", nargs="+", metavar="NAME", help="architectures [all]")
    parser.add_argument(
        "--slots",
        nargs="+",
        type=positive_int,
        default=[1, 2, 4, 8, 16, 32, 48],
        metavar="K",
        help="runs at a time in one process [1 2 4 8 16 32 48]",
    )
    parser.add_argument(
        "--processes",
        nargs="*",
        type=positive_int,
        default=[4, 8, 16],
        metavar="K",
        help="runs in parallel, one per process; empty for none [4 8 16]",
    )
    parser.add_argument(
        "--seconds", type=positive_float, default=3.0, metavar="S", help="seconds per arm [3]"
    )
    parser.add_argument(
        "--minutes", type=positive_float, default=8.0, metavar="M", help="total time limit [8]"
    )
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"), help="[cuda]")
    parser.add_argument("--images", type=flags.images, default=50_000, metavar="N", help="[50000]")
    parser.add_argument(
        "--out", type=Path, default=RESULTS, metavar="DIR", help="folder of the table"
    )
    parsed = parser.parse(arguments)
    parsed.models = known_models(parsed.models)
    device = pick_device(parsed.device)
    settings = {name: value for name, value in vars(parsed).items() if name != "out"}
    bench = Bench(Record("gpu", device, settings, parsed.out), device, parsed)
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        bench.run()
    except KeyboardInterrupt:
        print("interrupted: measurements so far are written", file=sys.stderr)
        return ExitStatus.STOPPED
    finally:
        signal.signal(signal.SIGTERM, before)
        bench.record.write()
        bench.record.print_path()
    failed = any(row["failure"] for row in bench.record.measurements)
    return ExitStatus.SOME_RUNS_FAILED if failed else ExitStatus.DONE


@dataclass
class Measured:
    """The intervals of an arm, each over all of its runs, and their memory."""

    timing: Timing
    allocated: int | None = None
    in_use: int | None = None


@dataclass
class Bench:
    """State of one benchmark: table, time limit, and speeds measured so far."""

    record: Record
    device: torch.device
    parsed: Any
    rates: dict[tuple[str, str], float | None] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.end = time.monotonic() + self.parsed.minutes * 60
        self.table = self._table()
        self.work: dict[str, float] = {}

    def run(self) -> None:
        """Measure all single-process arms on all models, then parallel processes."""
        dtype = fast_dtype(self.device)
        self.ceiling = ceiling(self.device, dtype)
        name = str(dtype).removeprefix("torch.")
        self.table.notes.append(f"ceiling in {name}: {self.ceiling:,.0f} GFLOP/s")
        dataset = images(self.parsed.images)
        self.data = DeviceDataset.put(dataset, self.device)
        for model in self.parsed.models:
            self._one_process(model)
        del self.data
        release_memory(self.device)
        if self.parsed.processes:
            with mps(self.device) as environment:
                for model in self.parsed.models:
                    self._processes(model, environment)

    def _table(self) -> Table:
        return self.record.table("Training with augmentation", _COLUMNS, _NOTES)

    def _one_process(self, model: str) -> None:
        batch = GPU_BATCHES[model]
        self.work[model] = flops_per_image(run_config(model, batch))
        self.table.notes.append(
            f"{model}: batch {batch}, {self.work[model] / 1e9:.3f} GFLOP an image"
        )
        self._arm(model, CONVENTIONAL, 1, lambda: self._conventional(model))
        self._arm(model, EAGER, 1, lambda: self._ours(model, 1, cuda_graphs=False))
        if self.device.type == "cuda":
            self._arm(model, GRAPH, 1, lambda: self._ours(model, 1, cuda_graphs=True))
            for name, settings in VARIANTS.items():
                build = partial(self._ours, model, 1, **settings)
                self._arm(model, f"{GRAPH}, {name}", 1, build)
        else:
            self._add(model, GRAPH, 1, None, "no graphs here")
        for slots in self.parsed.slots:
            name = f"ours, {slots} slot{'s' * (slots > 1)}"
            self._arm(model, name, slots, partial(self._ours, model, slots))

    def _conventional(self, model: str) -> Arm:
        from benchmarks.conventional import Conventional

        dataset = self.data.dataset
        config = run_config(model, GPU_BATCHES[model])
        return Conventional(config, dataset.train_images, dataset.train_labels, self.device)

    def _ours(self, model: str, slots: int, **settings: object) -> Arm:
        from benchmarks.ours import Ours

        batch = GPU_BATCHES[model]
        configs = [run_config(model, batch, seed=seed, **settings) for seed in range(slots)]
        return Ours(configs, self.data)

    def _arm(self, model: str, name: str, runs: int, build: Callable[[], Arm]) -> None:
        """Measure an arm and add its row, also if it fails or no time is left."""
        if self._left() < _MIN_SECONDS["slots"] + self.parsed.seconds:
            self._add(model, name, runs, None, "skipped: no time left")
            return
        measured = measure(build, runs, self.parsed.seconds, self.device)
        self._add(model, name, runs, measured)
        release_memory(self.device)

    def _processes(self, model: str, environment: dict[str, str] | None) -> None:
        for count in self.parsed.processes:
            name = f"ours, {count} process{'es' * (count > 1)}" + (", MPS" if environment else "")
            if self._left() < _MIN_SECONDS["processes"] + self.parsed.seconds:
                self._add(model, name, count, None, "skipped: no time left")
                continue
            words = ["--model", model, "--batch", GPU_BATCHES[model], "--device", self.device.type]
            words += ["--seconds", self.parsed.seconds, "--images", self.parsed.images]
            self._add(model, name, count, self._together(count, words, environment))

    def _together(
        self, count: int, words: Sequence[object], environment: dict[str, str] | None
    ) -> Measured:
        try:
            finished = train_together(
                count, [str(word) for word in words], self.device, environment, self._left()
            )
        except Exception as error:  # noqa: BLE001  the other arms are still measured
            return Measured(Timing(failure=reason(error)))
        rate = sum(interval.rate for interval in finished.intervals)
        interval = Interval(round(rate * self.parsed.seconds), self.parsed.seconds, 0)
        return Measured(Timing([interval]), finished.allocated, finished.in_use)

    def _left(self) -> float:
        return self.end - time.monotonic()

    def _add(
        self, model: str, name: str, runs: int, measured: Measured | None, note: str = ""
    ) -> None:
        """Add the row of an arm, with its measurements or the reason why there are none."""
        timing = measured.timing if measured else Timing()
        rate = self.rates[model, name] = timing.rate
        bases = [self.rates.get((model, base)) for base in (CONVENTIONAL, EAGER, GRAPH)]
        row = (
            model,
            name,
            runs,
            rate,
            timing.spread if len(timing.intervals) > 1 else None,
            *(ratio(rate, base) for base in bases),
            rate and rate * self.work[model] / (self.ceiling * 1e9),
            _mib(measured.allocated if measured else None),
            _mib(measured.in_use if measured else None),
            timing.failure or note,
        )
        self.record.add(self.table, row, failure=timing.failure, spells=timing.spells())


def measure(build: Callable[[], Arm], runs: int, seconds: float, device: torch.device) -> Measured:
    """Build an arm, warm it up, and measure three intervals of `seconds` in total."""
    gpu = device.type == "cuda"
    if gpu:
        torch.cuda.reset_peak_memory_stats(device)
    timing = Timing()
    arm: Arm | None = None
    try:
        arm = build()
        _warm_up(arm, runs, seconds)
        timing.intervals = [
            arm.measure(Duration(seconds / _INTERVALS, runs)) for _ in range(_INTERVALS)
        ]
    except Exception as error:  # noqa: BLE001  the other arms are still measured
        timing = Timing(failure=reason(error))
    allocated = torch.cuda.max_memory_allocated(device) if gpu else None
    in_use = gpu_memory_in_use(device)
    if arm:
        arm.close()
    return Measured(timing, allocated, in_use)


def _warm_up(arm: Arm, runs: int, seconds: float) -> None:
    """Do 20 steps of each run, or at least 8 if they take long."""
    started = time.monotonic()
    for finished in range(_WARM_UP):
        if finished >= _MIN_WARM_UP and time.monotonic() - started > 3 * seconds:
            return
        arm.measure(Duration(0, runs))


def release_memory(device: torch.device) -> None:
    """Return freed memory to the device."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()


def _mib(count: int | None) -> int | None:
    return None if count is None else round(count / 2**20)


if __name__ == "__main__":
    run_main(main)
