"""Training one run: a slot that owns its model, optimizer, schedule, random streams and order."""

import math
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import suppress
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any, TypeVar

from torch import Tensor

from src.common.errors import NonFiniteLoss
from src.config import CHECKPOINT_KINDS, RunConfig
from src.data.device_dataset import DeviceDataset
from src.training import checkpoint
from src.training.cuda_graphs import GraphRunner
from src.training.device import device_name
from src.training.early_stopping import EarlyStopping
from src.training.evaluation import Evaluation
from src.training.learner import Learner, Weights
from src.training.metrics import MetricTotals, PendingMetrics
from src.training.precision import ComputeFormat, select_compute_format
from src.training.tracker import Row, Tracker, Trackers

T = TypeVar("T")

_STATE_FORMAT = 2  # of a resume checkpoint


@dataclass(frozen=True)
class BestWeights:
    """Weights worth keeping, and the epoch (from 1) that they are of."""

    epoch: int
    weights: Weights


@dataclass(frozen=True)
class Trained:
    """What a finished run leaves: numbers by name, weights and test-set evaluation by kind."""

    numbers: dict[str, Any]
    weights: dict[str, Weights]
    test_labels: Tensor
    test: Evaluation
    """Of the best_val_acc checkpoint."""


class Trainer:
    """One run on one device. Call `advance` until it returns False, then read `trained`.

    Between two calls `save` stores everything needed to go on bit for bit, and a Trainer of the
    same config and folder goes on from there. is_hopeless is asked after each epoch, with the
    rows of all epochs so far; its yes ends the run as "pruned". on_resume hears after how many
    epochs and steps the run goes on. opened: False to take no memory before the first `advance`.
    """

    graph_runner: GraphRunner
    learner: Learner
    compute_format: ComputeFormat

    def __init__(
        self,
        config: RunConfig,
        data: DeviceDataset,
        *,
        folder: Path | None = None,
        tracker: Tracker | None = None,
        should_prune: Callable[[Sequence[Row]], bool] = lambda rows: False,
        on_resume: Callable[[int, int], object] = lambda epochs, steps: None,
        opened: bool = True,
    ) -> None:
        self.should_prune, self.on_resume = should_prune, on_resume
        self.config, self.data, self.folder = config, data, folder
        self.tracker = tracker or Trackers()
        self.is_open = False
        self._writer = checkpoint.Writer(folder) if folder else None
        self._forget()
        if opened:
            self.open()

    def _forget(self) -> None:
        """Be at the run's beginning."""
        self.stopping = EarlyStopping(self.config.early_stopping_patience)
        self.epoch = 0  # from 0; the epoch in progress, or the number of epochs done
        self.step = 0  # the next step of it
        self.images_trained = 0  # here, since it was opened
        self.rows: list[Row] = []
        self.best: dict[str, BestWeights] = {}
        self.best_val_accuracy = -math.inf
        self.stop_reason: str | None = None
        self.seconds = {"train": 0.0, "validation": 0.0}
        self.trained: Trained | None = None
        self.resumed = False
        self._running: PendingMetrics | None = None
        self._work: Iterator[None] = iter(())

    def open(self) -> None:
        """Take the device's memory, and go on from the folder's checkpoint where there is one."""
        self.graph_runner = GraphRunner(self.data.device, graphs=self.config.cuda_graphs)
        with self.graph_runner.activated():
            state = self._saved_state()
            self.compute_format = self._compute_format(state)
            self.learner = Learner(self.config, self.data, self.graph_runner, self.compute_format)
            if state:
                self._resume(state)
        self.resumed = state is not None
        self._saved_at = time.monotonic()
        self._work = self._train()
        self.is_open = True
        if self.resumed:
            self.on_resume(self.epoch, self.step)

    def close(self) -> None:
        """Give the model's memory back, once what is being written is. `trained` stays."""
        if self._writer:
            with suppress(OSError):  # then the checkpoint before it is the last
                self._writer.wait()
        self.is_open = False
        self._work = iter(())
        for name in ("learner", "lane"):
            self.__dict__.pop(name, None)

    def release(self) -> None:
        """Give all memory back; the next `advance` opens the run again, from its checkpoint."""
        self.close()
        self._forget()

    def advance(self) -> bool:
        """Do one unit of work: a training step, a batch of an evaluation. False when all is done.

        On a GPU, where the device works on what was queued before, that may be nothing. Raises
        NonFiniteLoss at the end of an epoch whose loss is not a finite number.
        """
        if not self.is_open:
            self.open()
            return True
        if self.graph_runner.queue_is_full():
            return True
        with self.graph_runner.activated():
            try:
                next(self._work)
            except StopIteration:
                self.settle()
                return False
        return True

    def save(self) -> None:
        """Write the resume checkpoint, where the run has a folder, and wait until it is there."""
        self._start_saving()
        self.settle()

    def save_if_due(self) -> None:
        """Begin to write it if the last one is `checkpoint_minutes` old."""
        if not self.is_open:
            return
        due = time.monotonic() - self._saved_at >= self.config.checkpoint_minutes * 60
        if due and not (self._writer and self._writer.busy()):
            self._start_saving()

    def settle(self) -> None:
        """Wait for the device and for what is being written. Raises OSError where it was not."""
        if self.is_open:
            self.graph_runner.wait()
        if self._writer:
            self._writer.wait()

    def _start_saving(self) -> None:
        if self._writer and self.is_open:
            self.tracker.before_save()
            with self.graph_runner.activated():
                self._writer.start(self._state())
        self._saved_at = time.monotonic()

    def _train(self) -> Iterator[None]:
        """The run from where it stands to its end. State is whole at every yield."""
        yield from self.learner.prepare()
        while self.stop_reason is None:
            training = yield from self._timed("train", self._train_epoch())
            _require_finite("training", training.mean_loss, self.epoch + 1)
            validation = (yield from self._validate()) if self._validates() else {}
            self._end_epoch(training, validation)
            yield
        self.trained = yield from self._test()

    def _train_epoch(self) -> Generator[None, None, MetricTotals]:
        learner, count = self.learner, len(self.learner.train_samples)
        learner.start_epoch(self.epoch, self.step)
        while self.step < len(learner.bounds):
            first, last = learner.bounds[self.step]
            learner.train_batch(self.epoch, self.step)
            self.step += 1
            self.images_trained += last - first
            self.tracker.step(self.epoch + 1, last, count, self._running_numbers)
            yield
        reading = learner.metrics.read()
        while not reading.ready():
            yield
        return reading.sums()

    def _running_numbers(self) -> tuple[float, float]:
        """Mean loss and accuracy of the epoch so far, as far as they are known without waiting."""
        fresh = self.learner.metrics.read()
        known = fresh if fresh.ready() else self._running or fresh
        self._running = fresh
        sums = known.sums()
        return sums.mean_loss, sums.accuracy

    def _validate(self) -> Generator[None, None, dict[str, float]]:
        sums = yield from self._timed("validation", self.learner.validate())
        _require_finite("validation", sums.mean_loss, self.epoch + 1)
        return sums.summary("val")

    def _end_epoch(self, training: MetricTotals, validation: dict[str, float]) -> None:
        """Everything that changes at the end of an epoch, between two yields."""
        rate = self.learner.rate_of(self.epoch, self.step - 1)
        self.learner.end_epoch(self.epoch)
        seconds = sum(self.seconds.values()) - sum(row["seconds"] for row in self.rows)
        self.epoch += 1
        self.step = 0
        row = {"epoch": self.epoch, "lr": rate, **training.summary("train"), **validation}
        self.rows.append({**row, "seconds": round(seconds, 3)})
        if validation:
            self._keep_best(validation)
        if self.epoch == self.config.num_epochs:
            self.stop_reason = "completed"
        elif self.stopping.exhausted:
            self.stop_reason = "early stopping"
        elif self.should_prune(self.rows):
            self.stop_reason = "pruned"
        if self.stop_reason:
            self.best["terminal"] = BestWeights(self.epoch, self.learner.weights())
        self.tracker.epoch(self.rows)

    def _keep_best(self, validation: dict[str, float]) -> None:
        improved = {
            "best_val_acc": validation["val_accuracy"] > self.best_val_accuracy,
            "best_val_loss": self.stopping.update(validation["val_loss"]),
        }
        if any(improved.values()):
            now = BestWeights(self.epoch, self.learner.weights())
            self.best |= {kind: now for kind, better in improved.items() if better}
        self.best_val_accuracy = max(self.best_val_accuracy, validation["val_accuracy"])

    def _test(self) -> Generator[None, None, Trained]:
        """Test-set metrics of the three checkpoints; equal ones are evaluated once."""
        by_epoch: dict[int, Evaluation] = {}
        for best in self.best.values():
            if best.epoch not in by_epoch:
                by_epoch[best.epoch] = yield from self.learner.test(best.weights)
        numbers = self._numbers()
        for kind in CHECKPOINT_KINDS:
            summary = by_epoch[self.best[kind].epoch].sums.summary("test")
            numbers |= {f"{name}_{kind}": value for name, value in summary.items()}
        return Trained(
            numbers,
            {kind: best.weights for kind, best in self.best.items()},
            self.data.test.labels[self.learner.test_samples],
            by_epoch[self.best["best_val_acc"].epoch],
        )

    def _numbers(self) -> dict[str, Any]:
        last = {k: v for k, v in self.rows[-1].items() if k.startswith(("train_", "val_"))}
        images = self.epoch * len(self.learner.train_samples)
        return {
            "epochs_run": self.epoch,
            "best_epoch": self.best["best_val_acc"].epoch,
            "best_val_accuracy": self.best_val_accuracy,
            "stop_reason": self.stop_reason,
            "train_seconds": round(self.seconds["train"], 3),
            "images_per_second": round(images / max(self.seconds["train"], 1e-9), 1),
            "test_images": len(self.learner.test_samples),
            "parameters": self.learner.parameters,
            "precision": self.compute_format.precision,
            "memory_format": self.compute_format.memory_format,
            "convolution": self.compute_format.convolution,
            **last,
        }

    def _validates(self) -> bool:
        done = self.epoch + 1
        return done % self.config.val_freq == 0 or done == self.config.num_epochs

    def _timed(self, part: str, work: Generator[None, None, T]) -> Generator[None, None, T]:
        """Do `work`, counting its seconds; those between its steps only if it goes on in them."""
        ended = started = time.perf_counter()
        while True:
            if not self.graph_runner.concurrent:
                started = time.perf_counter()
            try:
                next(work)
            except StopIteration as end:
                result: T = end.value
                return result
            finally:
                ended = time.perf_counter()
                self.seconds[part] += ended - started
                started = ended
            yield

    def _state(self) -> dict[str, Any]:
        ended = self.best.get("terminal")  # then the model is only a vessel for evaluations
        learner = self.learner.state()
        return {
            "format": _STATE_FORMAT,
            "id": self.config.id,
            "device": device_name(self.data.device),
            "arithmetic": list(astuple(self.compute_format)),
            "epoch": self.epoch,
            "step": self.step,
            "learner": {**learner, "model": ended.weights} if ended else learner,
            "rows": self.rows,
            "best": {kind: [best.epoch, best.weights] for kind, best in self.best.items()},
            "best_val_accuracy": self.best_val_accuracy,
            "lowest_loss": self.stopping.lowest,
            "without_gain": self.stopping.without_gain,
            "stop_reason": self.stop_reason,
            "seconds": self.seconds,
        }

    def _saved_state(self) -> dict[str, Any] | None:
        """The folder's checkpoint, if there is one of this run and this format."""
        state = checkpoint.load(self.folder, self.data.device) if self.folder else None
        if not state or state.get("id") != self.config.id or state.get("format") != _STATE_FORMAT:
            return None
        return state

    def _compute_format(self, state: dict[str, Any] | None) -> ComputeFormat:
        """What a run was begun with on such a device it goes on with."""
        if state and state["device"] == device_name(self.data.device):
            return ComputeFormat(*state["arithmetic"])
        return select_compute_format(self.config, self.data.device)

    def _resume(self, state: dict[str, Any]) -> None:
        self.epoch, self.step, self.rows = state["epoch"], state["step"], state["rows"]
        self.learner.load(state["learner"])
        self.best = {
            kind: BestWeights(epoch, weights) for kind, (epoch, weights) in state["best"].items()
        }
        self.best_val_accuracy = state["best_val_accuracy"]
        self.stopping.lowest = state["lowest_loss"]
        self.stopping.without_gain = state["without_gain"]
        self.stop_reason = state["stop_reason"]
        self.seconds = state["seconds"]
        if self.stop_reason == "pruned" and not self.should_prune(self.rows):
            self.stop_reason = None  # nobody prunes now, or by other rungs
            del self.best["terminal"]


def _require_finite(part: str, loss: float, epoch: int) -> None:
    if not math.isfinite(loss):
        raise NonFiniteLoss(f"the {part} loss became {loss} in epoch {epoch}")
