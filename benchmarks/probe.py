"""Measurements that need a separate process: python -m benchmarks.probe WHAT ...

Used by benchmarks.cpu and benchmarks.gpu; prints one JSON object on stdout.
"""

import json
import sys
import time
from collections.abc import Sequence
from typing import Any

from src.cli.arguments import Parser, positive_int
from src.cli.entry_point import run_main
from src.common.errors import ExitStatus, UserError

_WARM_UP = 20  # steps of a run before it is measured in parallel with others


def main(arguments: Sequence[str]) -> ExitStatus:
    """Run one probe."""
    parser = Parser(prog="python -m benchmarks.probe")
    parser.add_argument("what", help=" | ".join(_PROBES))
    parser.add_argument("--model", default="cifar10net")
    parser.add_argument("--batch", type=positive_int, default=64)
    parser.add_argument("--steps", type=positive_int, default=4)
    parser.add_argument("--runs", type=positive_int, default=48)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--images", type=positive_int, default=50_000)
    parsed = parser.parse(arguments)
    if parsed.what not in _PROBES:
        raise UserError(f"{parsed.what!r}: expected one of {', '.join(_PROBES)}")
    print(json.dumps(_PROBES[parsed.what](parsed)), flush=True)
    return ExitStatus.DONE


def first_step(parsed: Any) -> dict[str, float]:
    """Return the times at which imports, data, trainer and first step of a run are ready."""
    times = {"started": time.time()}
    from benchmarks.workload import run_config
    from src import data
    from src.data.device_dataset import DeviceDataset
    from src.training.device import pick_device
    from src.training.trainer import Trainer

    times["imported"] = time.time()
    config = run_config(parsed.model, parsed.batch)
    device = pick_device(parsed.device)
    resident = DeviceDataset.put(data.load("synthetic"), device)
    times["loaded"] = time.time()
    trainer = Trainer(config, resident).start()
    times["built"] = time.time()
    trainer.advance()
    trainer.synchronize()
    times["stepped"] = time.time()
    return times


def peak(parsed: Any) -> dict[str, float]:
    """Return the peak memory of a process that trains a few steps."""
    from benchmarks.measure import Duration, peak_memory, reset_peak_memory, resident_memory

    arm = _ours(parsed, parsed.images)
    before = resident_memory()
    reset_peak_memory()  # generating the images has a higher peak
    arm.measure(Duration(0, parsed.steps))
    return {"before_training": before, "peak": peak_memory()}


def growth(parsed: Any) -> dict[str, Any]:
    """Return the memory after each of many runs in one process, and the size of a run's state."""
    import tempfile
    from pathlib import Path

    from benchmarks.measure import resident_memory
    from src.config import RunConfig
    from src.run import RunOptions, run
    from src.training.console import SilentDisplay

    after: list[int] = []

    class Memory(SilentDisplay):
        def ended(self, number: int, line: str) -> None:
            after.append(resident_memory())

    configs = [
        RunConfig(
            base_dataset_path="synthetic",
            model_type=parsed.model,
            batch_size=parsed.batch,
            data_augmentation=True,
            num_epochs=1,
            max_images=500,
            seed=seed,
        )
        for seed in range(parsed.runs)
    ]
    with tempfile.TemporaryDirectory() as folder:
        outcomes = run(
            configs, runs_dir=Path(folder), options=RunOptions(display=lambda total: Memory())
        )
    unfinished = sum(outcome.result is None for outcome in outcomes)
    return {"after": after, "unfinished": unfinished, "state": _state_bytes(parsed)}


def train(parsed: Any) -> dict[str, float]:
    """Train one run; print 'ready' after the warm-up and start at the next line of stdin."""
    import torch

    from benchmarks.measure import Duration

    arm = _ours(parsed, parsed.images)
    arm.measure(Duration(0, _WARM_UP))
    print("ready", flush=True)
    sys.stdin.readline()
    interval = arm.measure(Duration(parsed.seconds))
    print("done", flush=True)
    sys.stdin.readline()  # keep the process until all others are done
    gpu = parsed.device == "cuda"
    memory = torch.cuda.max_memory_allocated() if gpu else 0
    return {"images": interval.images, "seconds": interval.seconds, "memory": memory}


def _ours(parsed: Any, train_images: int) -> Any:
    from benchmarks.ours import Ours
    from benchmarks.workload import images, run_config
    from src.data.device_dataset import DeviceDataset
    from src.training.device import pick_device

    data = DeviceDataset.put(images(train_images), pick_device(parsed.device))
    return Ours([run_config(parsed.model, parsed.batch, seed=parsed.seed)], data)


def _state_bytes(parsed: Any) -> int:
    """Return the size of weights and optimizer state of a run in bytes."""
    import torch

    from benchmarks.workload import run_config
    from src.training.model_setup import build_model
    from src.training.optimizers import build_optimizer

    config = run_config(parsed.model, parsed.batch)
    model = build_model(config, torch.device("cpu"))
    optimizer = build_optimizer(config, model, torch.tensor(config.learning_rate))
    model(torch.zeros(2, 3, 32, 32)).sum().backward()
    optimizer.step()
    optimizer_tensors = [value for state in optimizer.state.values() for value in state.values()]
    return sum(
        t.numel() * t.element_size() for t in [*model.state_dict().values(), *optimizer_tensors]
    )


_PROBES = {"first-step": first_step, "peak": peak, "growth": growth, "train": train}

if __name__ == "__main__":
    run_main(main)
