"""The first ten minutes on a GPU: does everything work, and how fast is it?

python -m benchmarks.gpu_check checks that every architecture trains alike on the CPU and the GPU,
kernel by kernel, as CUDA graphs, in slots and in every number format; that a checkpoint goes on
between the devices; that a run out of memory is put back; and then measures speeds. The result is
one table, and one JSON file to report.
"""

import subprocess
import tempfile
import time
import traceback
from argparse import Namespace
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, partial
from itertools import pairwise
from pathlib import Path

import torch

from benchmarks.gpu import Bench, release_memory
from benchmarks.measure import reason
from benchmarks.record import RESULTS, Record
from src.cli.arguments import Parser, positive_float, positive_int
from src.cli.entry_point import run_main
from src.common.errors import ExitStatus
from src.config import RunConfig, model_types
from src.data import synthetic
from src.data.device_dataset import DeviceDataset
from src.training import precision, step_timing
from src.training.compute_format import ComputeFormat
from src.training.concurrency import FixedConcurrency
from src.training.device import has_fast_bfloat16, has_fast_float16, has_tf32, pick_device
from src.training.group import TrainingGroup
from src.training.trainer import Trainer, TrainerContext

CPU = torch.device("cpu")
Losses = Callable[[], list[float]]

_STEPS = 20
_SMALL = "cifar10net"
_LARGE = {"vit": 500, "vgg6": 500, "resnet18_transfer": 500}  # training images; others have 2,000
_SLOTS = 3
_TOLERANCES = {"float32": 0.002, "tf32": 0.02, "bfloat16": 0.05, "float16": 0.05}
"""Largest difference of a step's loss, relative to it, that rounding explains in 20 steps."""
_SHARE_OF_CHECKS = 0.6
"""Of the time; the rest is kept for the speeds."""
_SPEED_MODELS = ["resnet", "cifar10net", "cnn", "vit"]
_COLUMNS = ("check", "model", "way", "finding", "verdict")
_NOTES = (
    "agreement: largest difference of a loss of the first 20 steps, relative to that of the "
    "reference in the same row, and the limit that rounding explains",
)


@dataclass(frozen=True)
class Finding:
    """What a check found, in words. A wrong one is to be reported."""

    text: str
    wrong: bool = False
    numbers: Mapping[str, object] = field(default_factory=dict)
    """What it follows from, for the file."""


def main(arguments: Sequence[str]) -> ExitStatus:
    """Run all checks that fit into the time limit; the status is 1 if one found a fault."""
    parser = Parser(prog="python -m benchmarks.gpu_check", description=__doc__)
    parser.add_argument(
        "--minutes", type=positive_float, default=10.0, metavar="M", help="time limit [10]"
    )
    parser.add_argument(
        "--models", nargs="+", choices=model_types(), metavar="NAME", help="architectures [all]"
    )
    parser.add_argument("--steps", type=positive_int, default=_STEPS, metavar="N", help="[20]")
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"), help="[cuda]")
    parser.add_argument("--out", type=Path, default=RESULTS, metavar="DIR", help="of the table")
    parsed = parser.parse(arguments)
    check = GpuCheck(pick_device(parsed.device), parsed)
    check.run()
    check.record.print_path()
    if check.skipped:
        print(f"{check.skipped} checks were skipped: more --minutes are needed")
    if not check.wrong:
        print("no check found a fault")
        return ExitStatus.DONE
    print(f"{check.wrong} checks found a fault: please report them with {check.record.path}")
    return ExitStatus.SOME_RUNS_FAILED


class GpuCheck:
    """The checks, their table, and the time that is left for them."""

    def __init__(self, device: torch.device, parsed: Namespace) -> None:
        self.device, self.parsed = device, parsed
        self.models = parsed.models or model_types()
        self.end = time.monotonic() + parsed.minutes * 60
        self.end_of_checks = self.end - (1 - _SHARE_OF_CHECKS) * parsed.minutes * 60
        settings = {name: value for name, value in vars(parsed).items() if name != "out"}
        self.record = Record("gpu-check", device, settings, parsed.out)
        self.record.machine["driver"] = driver_version()
        self.table = self.record.table("GPU check", _COLUMNS, _NOTES)
        self.wrong = self.skipped = 0

    def run(self) -> None:
        """Every check: first whether results are right, then how fast they come."""
        for model in self.models:
            self._check("number format", model, "auto", partial(self._format, check_config(model)))
            self._agreement(model)
        for optimizer in ("adamw", "adam", "sgd"):
            config = replace(check_config(_SMALL), optimizer=optimizer)
            for way in ((CPU, self.device), (self.device, CPU)):
                name = f"{optimizer}, {way[0].type} to {way[1].type}"
                self._check("checkpoint", _SMALL, name, partial(self._moved, config, *way))
        self._check("out of memory", _SMALL, "in a slot", self._out_of_memory)
        self._speed()

    def _agreement(self, model: str) -> None:
        """Losses of the CPU, of the GPU kernel by kernel, as graphs and in slots."""

        def losses_of(config: RunConfig, device: torch.device) -> Callable[[], list[float]]:
            return cache(partial(self._losses, config, device))

        float32 = replace(check_config(model), precision="float32")
        eager32 = losses_of(_eager(float32), self.device)
        limit = 5 * _TOLERANCES["float32"]
        self._compare(model, "float32, against the CPU", eager32, losses_of(float32, CPU), limit)
        for name in self._precisions():
            run, limit = replace(float32, precision=name), _TOLERANCES[name]
            eager = eager32 if name == "float32" else losses_of(_eager(run), self.device)
            captured = losses_of(run, self.device)
            slots = partial(self._losses_in_slots, run)
            if name != "float32":
                self._compare(model, f"{name}, against float32", eager, eager32, limit)
            self._compare(model, f"{name}, captured, against eager", captured, eager, limit)
            self._compare(model, f"{name}, in {_SLOTS} slots, against one", slots, captured, limit)

    def _compare(
        self, model: str, way: str, found: Losses, reference: Losses, limit: float
    ) -> None:
        self._check("agreement", model, way, lambda: _agree(found(), reference(), limit))

    def _check(self, kind: str, model: str, way: str, make: Callable[[], Finding]) -> None:
        """Add the row of a check; what it raises is a fault, with its traceback in the file."""
        if time.monotonic() > self.end_of_checks:
            self.skipped += 1
            self.record.add(self.table, (kind, model, way, "", "skipped: no time left"))
            return
        try:
            self._add(kind, model, way, make())
        except Exception as error:  # noqa: BLE001  the other checks are still made
            self._add(kind, model, way, _raised(error))
        release_memory(self.device)

    def _add(self, kind: str, model: str, way: str, finding: Finding) -> None:
        self.wrong += finding.wrong
        verdict = "WRONG" if finding.wrong else "ok"
        self.record.add(self.table, (kind, model, way, finding.text, verdict), **finding.numbers)

    def _precisions(self) -> list[str]:
        able = {
            "float32": True,
            "tf32": has_tf32(self.device),
            "bfloat16": has_fast_bfloat16(self.device),
            "float16": has_fast_float16(self.device),
        }
        return [name for name, is_able in able.items() if is_able]

    def _format(self, config: RunConfig) -> Finding:
        """What auto means here, and the seconds of a step that it was chosen by."""
        candidates = precision._candidates(config, self.device)
        if len(candidates) == 1:
            return Finding(f"{_named(candidates[0])}: the only candidate")
        seconds = step_timing.measure(config, self.device, candidates)
        times = ", ".join(f"{_named(c)} {1000 * s:.2f} ms" for c, s in seconds.items())
        return Finding(f"{_named(precision.choose(seconds))}: {times}")

    def _losses(self, config: RunConfig, device: torch.device) -> list[float]:
        return losses(Trainer(config, data_on(config.model_type, device)), self.parsed.steps)

    def _losses_in_slots(self, config: RunConfig) -> list[float]:
        """The losses of the first of several slots that train at the same time."""
        trainers = [
            Trainer(replace(config, seed=seed), data_on(config.model_type, self.device)).start()
            for seed in range(_SLOTS)
        ]
        try:
            sums = [0.0]
            while len(sums) <= self.parsed.steps:
                for trainer in trainers:
                    trainer.advance()
                if trainers[0].state.step == len(sums):
                    sums.append(_sum_of_losses(trainers[0]))
            return _differences(sums)
        finally:
            for trainer in trainers:
                trainer.stop()

    def _moved(self, config: RunConfig, first: torch.device, second: torch.device) -> Finding:
        """A run that goes on on another device trains on like one that stayed."""
        half, steps = self.parsed.steps // 2, self.parsed.steps
        config = replace(config, precision="float32")
        stayed = losses(Trainer(config, data_on(_SMALL, first)), steps)
        with tempfile.TemporaryDirectory() as folder:
            context = TrainerContext(checkpoint_dir=Path(folder))
            trainer = Trainer(config, data_on(_SMALL, first), context).start()
            while trainer.state.step < half:
                trainer.advance()
            trainer.save()
            trainer.stop()
            moved = Trainer(config, data_on(_SMALL, second), context).start()
            if not moved.resumed or moved.state.step != half:
                return Finding("the checkpoint was not read", wrong=True)
            return _agree(losses(moved, steps), stayed[half:], 5 * _TOLERANCES["float32"])

    def _out_of_memory(self) -> Finding:
        """With no memory for a second run, it is put back, and then trains as it does alone."""
        if self.device.type != "cuda":
            return Finding("not on a CPU: its memory cannot be limited")
        config = replace(check_config(_SMALL), num_epochs=2)
        data = data_on(_SMALL, self.device)
        with TrainingGroup() as group:
            alone_queue = iter([Trainer(replace(config, seed=1), data)])
            [alone] = group.train(lambda: next(alone_queue, None))
        lines: list[str] = []
        first = Trainer(config, data).start()
        for _ in range(5):
            first.advance()
        torch.cuda.synchronize(self.device)
        release_memory(self.device)
        total = torch.cuda.mem_get_info(self.device)[1]
        limit = (torch.cuda.memory_reserved(self.device) + 4 * 2**20) / total
        torch.cuda.set_per_process_memory_fraction(limit, self.device)
        try:
            queue = iter([first, Trainer(replace(config, seed=1), data)])
            with TrainingGroup(FixedConcurrency(2), lines.append) as group:
                ended = list(group.train(lambda: next(queue, None)))
        finally:
            torch.cuda.set_per_process_memory_fraction(1.0, self.device)
        failed = [one.error for one in ended if one.error]
        if failed:
            return Finding(f"a run failed: {reason(failed[0])}", wrong=True)
        if not lines:
            return Finding("no run was out of memory", wrong=True)
        [rows] = (one.trainer.state.rows for one in ended if one.trainer.config.seed == 1)
        return _agree(
            [row["train_loss"] for row in rows],
            [row["train_loss"] for row in alone.trainer.state.rows],
            _TOLERANCES["bfloat16"],
        )

    def _speed(self) -> None:
        """images/s alone, captured, in slots and in processes; a table of its own.

        An arm that fails is a fault too.
        """
        minutes = max(0.0, (self.end - time.monotonic()) / 60)
        models = [model for model in _SPEED_MODELS if model in self.models]
        options = {"slots": [4, 16], "processes": [4], "seconds": 1.5, "images": 50_000}
        parsed = Namespace(models=models, minutes=minutes, **options)
        before = len(self.record.measurements)
        try:
            Bench(self.record, self.device, parsed).run()
        except Exception as error:  # noqa: BLE001  what was measured is still written
            self._add("speed", "", "", _raised(error))
        arms = self.record.measurements[before:]
        self.wrong += sum(bool(arm.get("failure")) for arm in arms)
        self.skipped += sum("no time left" in str(arm.get("note")) for arm in arms)


def check_config(model: str) -> RunConfig:
    """A run of an architecture as the checks train it: with augmentation, 20 steps an epoch."""
    unfrozen = {"weights": "none", "freeze_backbone": False}
    return RunConfig(
        base_dataset_path="synthetic",
        model_type=model,
        batch_size=_images(model) // 25,
        data_augmentation=True,
        learning_rate=0.0005,
        num_epochs=3,
        val_freq=3,
        **(unfrozen if model == "resnet18_transfer" else {}),  # type: ignore[arg-type]
    )


@cache
def data_on(model: str, device: torch.device) -> DeviceDataset:
    """The images of the checks on a device: four fifths are trained on."""
    return DeviceDataset.put(_dataset(_images(model)), device)


@cache
def _dataset(count: int) -> "synthetic.Dataset":
    return synthetic.generate(train=count, test=200)


def _images(model: str) -> int:
    return _LARGE.get(model, 2000)


def losses(trainer: Trainer, steps: int) -> list[float]:
    """The losses of the next steps of a run, up to step `steps` of its epoch. Stops the run."""
    if not trainer.is_started:
        trainer.start()
    try:
        first = trainer.state.step
        sums = [_sum_of_losses(trainer)]
        while trainer.state.step < steps:
            trainer.advance()
            if trainer.state.step > first + len(sums) - 1:
                sums.append(_sum_of_losses(trainer))
        return _differences(sums)
    finally:
        trainer.stop()


def _sum_of_losses(trainer: Trainer) -> float:
    """The sum of the losses of the images of this epoch so far. Waits for the device."""
    with trainer._started.graph_runner.activated():
        return trainer.learner.metrics.read().totals().loss


def _differences(sums: Sequence[float]) -> list[float]:
    return [after - before for before, after in pairwise(sums)]


def _raised(error: Exception) -> Finding:
    return Finding(reason(error), wrong=True, numbers={"traceback": traceback.format_exc()})


def _agree(found: Sequence[float], reference: Sequence[float], limit: float) -> Finding:
    """Compare losses with those of a reference, step by step."""
    if len(found) != len(reference) or not found:
        return Finding(f"{len(found)} losses, expected {len(reference)}", wrong=True)
    worst = max(abs(a - b) / abs(b) for a, b in zip(found, reference, strict=True))
    numbers = {"losses": list(found), "reference_losses": list(reference)}
    return Finding(f"differs by {worst:.2g}, limit {limit:g}", not worst <= limit, numbers)


def _eager(config: RunConfig) -> RunConfig:
    return replace(config, cuda_graphs=False)


def _named(compute_format: ComputeFormat) -> str:
    return str(compute_format).replace(", ", " ")


def driver_version() -> str | None:
    """The version of NVIDIA's driver. Returns None if there is none."""
    words = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return next(iter(done.stdout.split()), None)


if __name__ == "__main__":
    run_main(main)
