"""Speed, start-up and memory on a CPU: python -m benchmarks.cpu"""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import torch

from benchmarks import flags, lightning_arm
from benchmarks.conventional import Conventional, ImageDataset
from benchmarks.cost import THROUGHPUT, TITLE, cost, draw
from benchmarks.measure import (
    Arm,
    Duration,
    StepwiseArm,
    Timing,
    alternate,
    ceiling,
    fast_dtype,
    flops_per_image,
    ratio,
)
from benchmarks.ours import Ours
from benchmarks.record import RESULTS, Record
from benchmarks.workload import BATCHES, images, known_models, run_config
from src.cli.arguments import Parser, positive_float, positive_int
from src.cli.entry_point import run_main
from src.common.errors import ExitStatus, UserError
from src.common.paths import ROOT, shown
from src.data.augmentation import Augmentation
from src.data.dataset import Dataset
from src.data.device_dataset import DeviceDataset, normalization_table

CPU = torch.device("cpu")
SLOTS = 4
CONVENTIONAL = "conventional"
OURS_FLOAT32 = "ours, float32"
OURS_AUTO = "ours, auto"

_COLUMNS = ("model", "arm", "images/s", "spread", "x conventional", "share of ceiling", "note")
_NOTES = (
    "images/s: median of the rounds, with arms measured in turn; spread: fastest minus slowest, "
    "relative to the median",
    "share of ceiling: images/s x FLOPs of the published network / speed of the fastest matrix "
    "product in the arm's precision",
    "above 1 if Winograd's algorithm needs fewer multiplications than direct convolution",
    "conventional and lightning have 2 DataLoader workers, which share the cores with training",
)


def main(arguments: Sequence[str]) -> ExitStatus:
    """Measure the selected parts and write the tables."""
    parser = Parser(prog="python -m benchmarks.cpu", description=__doc__)
    parser.add_argument("--models", nargs="+", metavar="NAME", help="architectures [all]")
    parser.add_argument(
        "--parts", nargs="+", default=list(_PARTS), metavar="PART", help=_PARTS_HELP
    )
    parser.add_argument(
        "--rounds", type=positive_int, default=3, metavar="N", help="rounds over all arms [3]"
    )
    parser.add_argument(
        "--seconds",
        type=positive_float,
        default=3.0,
        metavar="S",
        help="least seconds per interval [3]",
    )
    parser.add_argument(
        "--steps", type=positive_int, default=2, metavar="N", help="least steps per interval [2]"
    )
    parser.add_argument("--images", type=flags.images, default=50_000, metavar="N", help="[50000]")
    parser.add_argument(
        "--runs", type=positive_int, default=48, metavar="N", help="runs of the memory part [48]"
    )
    parser.add_argument(
        "--out", type=Path, default=RESULTS, metavar="DIR", help="folder of the tables"
    )
    parsed = parser.parse(arguments)
    parsed.models = known_models(parsed.models)
    for part in parsed.parts:
        if part not in _PARTS:
            raise UserError(f"--parts {part!r}: expected some of {', '.join(_PARTS)}")
    settings = {name: value for name, value in vars(parsed).items() if name != "out"}
    record = Record("cpu", CPU, settings, parsed.out)
    record.machine["threads"] = torch.get_num_threads()
    try:
        for part in parsed.parts:
            _PARTS[part](record, parsed)
    except KeyboardInterrupt:
        say("interrupted: measurements so far are written")
        return ExitStatus.STOPPED
    finally:
        record.write()
        record.print_path()
    if {THROUGHPUT, TITLE} & {table.title for table in record.tables}:
        say(shown(draw(json.loads(record.path.read_text()), record.path.with_suffix(".png"))))
    failed = any(row.get("failure") for row in record.measurements)
    return ExitStatus.SOME_RUNS_FAILED if failed else ExitStatus.DONE


def say(line: str) -> None:
    """Print progress on stderr."""
    print(line, file=sys.stderr, flush=True)


def throughput(record: Record, parsed: Any) -> None:
    """Measure images/s of every arm on every model, with augmentation."""
    table = record.table(THROUGHPUT, _COLUMNS, _NOTES)
    ceilings = {dtype: ceiling(CPU, dtype) for dtype in {torch.float32, fast_dtype(CPU)}}
    for dtype, rate in ceilings.items():
        table.notes.append(f"ceiling in {_name(dtype)}: {rate:,.0f} GFLOP/s")
    dataset = images(parsed.images)
    data = DeviceDataset.put(dataset, CPU)
    for model in parsed.models:
        work = flops_per_image(run_config(model, BATCHES[model]))
        table.notes.append(f"{model}: batch {BATCHES[model]}, {work / 1e9:.3f} GFLOP an image")
        timings, compute_formats = _measure_model(model, dataset, data, parsed)
        base = timings[CONVENTIONAL].rate
        for arm, timing in timings.items():
            dtype = _dtype(arm)
            share = timing.rate and timing.rate * work / (ceilings[dtype] * 1e9)
            note = timing.failure or f"{len(timing.intervals)} x {timing.intervals[0].steps} steps"
            note += compute_formats.get(arm, "")
            row = (model, arm, timing.rate, timing.spread, ratio(timing.rate, base), share, note)
            record.add(table, row, failure=timing.failure, spells=timing.spells())
        _add_unmeasured(record, table.title, model)


def _measure_model(
    model: str, dataset: Dataset, data: DeviceDataset, parsed: Any
) -> tuple[dict[str, Timing], dict[str, str]]:
    """Measure all arms of a model; return timings, and the compute formats of our arms."""
    say(f"{model}: building the arms")
    arms = build_arms(model, dataset, data)
    compute_formats = {
        name: f", {arm.compute_format}" for name, arm in arms.items() if isinstance(arm, Ours)
    }
    try:
        timings = alternate(
            arms,
            parsed.rounds,
            Duration(parsed.seconds, parsed.steps),
            {name: SLOTS for name in arms if "slots" in name},
            lambda line: say(f"{model}, {line}"),
        )
        return timings, compute_formats
    finally:
        for arm in arms.values():
            arm.close()


def build_arms(model: str, dataset: Dataset, data: DeviceDataset) -> dict[str, Arm]:
    """Build the arms by name, except those that equal another arm on this machine."""
    batch = BATCHES[model]
    config = run_config(model, batch)
    full = run_config(model, batch, precision="float32")
    training_images = (dataset.train_images, dataset.train_labels)
    arms: dict[str, Arm] = {CONVENTIONAL: Conventional(config, *training_images, CPU)}
    if lightning_arm.installed():
        arms[lightning_arm.label(CPU)] = lightning_arm.LightningArm(config, *training_images, CPU)
    arms[OURS_FLOAT32] = Ours([full], data)
    if fast_dtype(CPU) != torch.float32:
        arms[OURS_AUTO] = Ours([config], data)
    slots = [run_config(model, batch, seed=seed) for seed in range(SLOTS)]
    arms[f"ours, auto, {SLOTS} slots"] = Ours(slots, data)
    return arms


def _add_unmeasured(record: Record, title: str, model: str) -> None:
    """Add rows for arms that cannot be measured here, or equal another arm."""
    table = next(table for table in record.tables if table.title == title)
    if not lightning_arm.installed():
        row = (model, "lightning", None, None, None, None, "not installed")
        record.add(table, row)
    if fast_dtype(CPU) == torch.float32:
        row = (model, OURS_AUTO, None, None, None, None, f"is {OURS_FLOAT32} on this machine")
        record.add(table, row)


def _dtype(arm: str) -> torch.dtype:
    """Return the precision that an arm computes in."""
    fast = "auto" in arm or "bf16" in arm
    return fast_dtype(CPU) if fast else torch.float32


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


class PerImageTransforms(StepwiseArm):
    """Per-image transforms without training, in this process."""

    def __init__(self, training_images: ImageDataset, batch: int) -> None:
        super().__init__(CPU)
        self.images, self.batch, self.next = training_images, batch, 0

    def step(self) -> int:
        """Transform the images of a batch and stack them."""
        order = range(self.next, self.next + self.batch)
        torch.stack([self.images[i % len(self.images)][0] for i in order])
        self.next += self.batch
        return self.batch

    def loss(self) -> float:
        """Return 0: nothing is trained."""
        return 0.0

    def close(self) -> None:
        """Do nothing: there are no resources."""


class BatchedAugmentation(StepwiseArm):
    """Our augmentation without training: batches gathered from resident images."""

    def __init__(self, data: DeviceDataset, batch: int) -> None:
        super().__init__(CPU)
        self.data, self.batch, self.epoch = data, batch, 0
        self.augmentation = Augmentation(run_config("cifar10net", batch), CPU)
        self.table = normalization_table("imagenet", data.dataset.train_images)

    def step(self) -> int:
        """Gather and augment a batch of random images."""
        samples = torch.randint(len(self.data.train.labels), (self.batch,))
        self.data.train.batch(samples, self.table, self.augmentation, self.epoch)
        self.epoch += 1
        return self.batch

    def loss(self) -> float:
        """Return 0: nothing is trained."""
        return 0.0

    def close(self) -> None:
        """Do nothing: there are no resources."""


def augmentation(record: Record, parsed: Any) -> None:
    """Measure augmentation and normalisation without training, on one core."""
    table = record.table("Augmentation alone, on one core", ("how", "images/s", "spread", "ratio"))
    dataset, batch = images(parsed.images), 256
    config = run_config("cifar10net", batch)
    image_dataset = ImageDataset(dataset.train_images, dataset.train_labels, config)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        arms: dict[str, Arm] = {
            "torchvision, one image at a time": PerImageTransforms(image_dataset, batch),
            "ours, a gather a batch": BatchedAugmentation(DeviceDataset.put(dataset, CPU), batch),
        }
        timings = alternate(arms, parsed.rounds, Duration(min(1.0, parsed.seconds)), {}, say)
    finally:
        torch.set_num_threads(threads)
    base = next(iter(timings.values())).rate
    for name, timing in timings.items():
        row = (name, timing.rate, timing.spread, ratio(timing.rate, base))
        record.add(table, row, failure=timing.failure, spells=timing.spells())


def startup(record: Record, parsed: Any) -> None:
    """Measure the time from process start to the end of --help, and to the first step."""
    table = record.table(
        "Start-up",
        ("what", "seconds", "fastest", "slowest"),
        ["cifar10net, batch 64; synthetic data is generated where real data would be read"],
    )
    help_seconds = [_seconds_of([sys.executable, "src/main.py", "--help"]) for _ in range(5)]
    record.add(
        table,
        ("python src/main.py --help", median(help_seconds), min(help_seconds), max(help_seconds)),
    )
    stages: list[dict[str, float]] = []
    for _ in range(parsed.rounds):
        before = time.time()
        times = probe("first-step")
        points = dict(zip(times, [before, *times.values()], strict=False))
        stages.append({name: times[name] - points[name] for name in times})
        stages[-1]["all"] = times["stepped"] - before
    for name, text in _STAGES.items():
        values = [stage[name] for stage in stages]
        record.add(table, (text, median(values), min(values), max(values)), every=values)


_STAGES = {
    "all": "from the start of the process to the end of the first step",
    "started": "of it: python and the command line",
    "imported": "of it: torch and the engine imported",
    "loaded": "of it: the data",
    "built": "of it: the trainer",
    "stepped": "of it: the step",
}


def _seconds_of(words: Sequence[str]) -> float:
    started = time.perf_counter()
    subprocess.run(words, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - started


def probe(what: str, *words: object) -> dict[str, Any]:
    """Run a probe of benchmarks.probe in a subprocess and return its result."""
    command = [sys.executable, "-m", "benchmarks.probe", what, *map(str, words)]
    done = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True)
    measured: dict[str, Any] = json.loads(done.stdout)
    return measured


def memory(record: Record, parsed: Any) -> None:
    """Measure peak memory of a large run, and memory growth over many small runs."""
    table = record.table("Memory of a process", ("what", "MiB"))
    model = "resnet" if "resnet" in parsed.models else parsed.models[0]
    batch = BATCHES[model]
    say(f"memory: {model}")
    values = probe("peak", "--model", model, "--batch", batch, "--images", parsed.images)
    what = f"{model}, batch {batch}, augmented"
    record.add(
        table, (f"{what}: before training, images included", _mib(values["before_training"]))
    )
    record.add(table, (f"{what}: peak while training", _mib(values["peak"])))
    say(f"memory: {parsed.runs} runs in one process")
    growth = probe("growth", "--runs", parsed.runs)
    early = min(8, parsed.runs)
    after, state = growth["after"], growth["state"]
    failure = f"{growth['unfinished']} runs are not done" if growth["unfinished"] else None
    small = "runs of cifar10net, one epoch of 500 images, in one process"
    record.add(table, (f"{small}: after run {early}", _mib(after[early - 1])), failure=failure)
    record.add(table, (f"{small}: after run {len(after)}", _mib(after[-1])), every=after)
    record.add(table, ("weights and optimizer state of one such run", _mib(state)))


def _mib(count: float) -> float:
    return round(count / 2**20, 1)


_PARTS: dict[str, Callable[[Record, Any], None]] = {
    "throughput": throughput,
    "augmentation": augmentation,
    "startup": startup,
    "memory": memory,
    "cost": cost,
}
_PARTS_HELP = f"{' | '.join(_PARTS)} [all]"

if __name__ == "__main__":
    run_main(main)
