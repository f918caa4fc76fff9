"""Train one run: the model, optimizer, schedule, random streams and epoch order of a single run."""

import math
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from torch import Tensor

from src.common.background import BackgroundThread
from src.common.errors import LeaseLost, NonFiniteLoss, one_line
from src.common.result_values import BEST_VAL_ACCURACY, StopReason
from src.config import CHECKPOINT_KINDS, RunConfig
from src.data.device_dataset import DeviceDataset
from src.training import checkpoint, run_checkpoint
from src.training.compute_format import ComputeFormat
from src.training.cuda_graphs import WAITING, GraphRunner
from src.training.evaluation import Evaluation
from src.training.learner import Learner
from src.training.metrics import MetricTotals, PendingMetrics
from src.training.model_self_test import resume_problems
from src.training.precision import allowed_precisions, select_compute_format
from src.training.run_state import EpochWeights, RunState, Weights
from src.training.tracker import Row, Tracker

T = TypeVar("T")

_REASON = 200  # characters of an error of CUDA
_pruner_thread = BackgroundThread("pruner")


@dataclass(frozen=True)
class TrainingResult:
    """What a finished run leaves: metrics by name, and weights by checkpoint kind."""

    numbers: dict[str, Any]
    weights: dict[str, Weights]
    test_labels: Tensor
    test: Evaluation
    """Of the best_val_acc checkpoint."""


@dataclass(frozen=True)
class TrainerContext:
    """What a trainer needs besides its config: checkpoint folder, tracker and callbacks."""

    checkpoint_dir: Path | None = None
    """Where the resume checkpoint is written and read. None: the run cannot be resumed."""
    tracker: Tracker = field(default_factory=Tracker)
    should_prune: Callable[[Sequence[Row]], bool] | None = None
    """Asked once after each epoch with the rows of all epochs so far, in a thread beside training.
    True ends the run as pruned."""
    decide_precision: Callable[[str], str] = lambda measured: measured
    """Maps the fastest precision on this device to the one that `auto` means in this runs folder.
    Not called if a checkpoint fixes the precision. If the device is slow in it, and --mixed allows
    that, the fastest one is used instead."""
    precision_of_sweep: Callable[[], str | None] = lambda: None
    """What precision auto means in this sweep, if that is decided."""


@dataclass
class _Session:
    """What a run holds on its device between `start` and `stop`."""

    graph_runner: GraphRunner
    compute_format: ComputeFormat
    learner: Learner
    work: Iterator[object]
    saved_at: float
    """When the last checkpoint was begun, by the monotonic clock."""


class Trainer:
    """One run on one device: `start`, `advance` until it returns False, read `trained`, `stop`.

    Between two calls `save` writes all that is needed to continue bit for bit. A Trainer of the
    same config and checkpoint folder continues from there, as does this one after `stop`.
    """

    def __init__(
        self, config: RunConfig, data: DeviceDataset, context: TrainerContext | None = None
    ) -> None:
        """Allocate nothing yet."""
        self.config, self.data, self.context = config, data, context or TrainerContext()
        folder = self.context.checkpoint_dir
        self._writer = checkpoint.CheckpointWriter(folder) if folder else None
        self._session: _Session | None = None
        self.state = RunState.start(config.early_stopping_patience)
        self.images_trained = 0  # since `start`
        self.resumed = False
        """Whether `start` continued from a checkpoint."""
        self.trained: TrainingResult | None = None
        self.waiting = False
        """Whether the last `advance` could do nothing: the device or the pruner is at work."""
        self._last_reading: PendingMetrics | None = None

    @property
    def learner(self) -> Learner:
        """The model and its training step. Only between `start` and `stop`."""
        return self._started.learner

    @property
    def compute_format(self) -> ComputeFormat:
        """Precision and memory format. Only between `start` and `stop`."""
        return self._started.compute_format

    @property
    def is_started(self) -> bool:
        """Whether it holds memory on the device: it does between `start` and `stop`."""
        return self._session is not None

    @property
    def _started(self) -> _Session:
        if self._session is None:
            raise RuntimeError("the trainer is not started")
        return self._session

    def start(self) -> "Trainer":
        """Allocate memory on the device, and continue from the checkpoint if there is one.

        Raises NotTrainedHere if that was written in training on other data.
        """
        self.images_trained, self.trained, self._last_reading = 0, None, None
        self.state = RunState.start(self.config.early_stopping_patience)
        problems = resume_problems(self.config, self.data.dataset.spec)
        graph_runner = GraphRunner(
            self.data.device,
            graphs=self.config.cuda_graphs and not problems,
            keep_memory=self.config.cpu_kernels,
            on_uncaptured=self._note_uncaptured if self.config.is_external_model else None,
        )
        with graph_runner.activated():
            folder, device = self.context.checkpoint_dir, self.data.device
            saved = run_checkpoint.read(folder, self.config, self.data) if folder else None
            kept = run_checkpoint.compute_format(saved, device) if saved else None
            compute_format = kept or self._choose_compute_format()
            learner = Learner(self.config, self.data, graph_runner, compute_format)
            if saved:
                self._resume(saved, learner)
        self._session = _Session(
            graph_runner, compute_format, learner, self._train(), time.monotonic()
        )
        self.resumed = saved is not None
        if self.resumed:
            self.context.tracker.resumed(self.state.epoch, self.state.step)
        return self

    def _note_uncaptured(self, why: str) -> None:
        """Say that an architecture of unknown code is trained without CUDA graphs."""
        self.learner.optimizer.zero_grad()  # what the attempt has left
        reason = one_line(why)[:_REASON]
        self.context.tracker.note(f"trains without CUDA graphs, which its model prevents: {reason}")

    def stop(self) -> None:
        """Free all memory once pending writes are done. `state` and `trained` stay readable.

        Does nothing if the trainer is not started. `start` continues from the last checkpoint.
        """
        if self._writer:
            with suppress(OSError):  # the checkpoint before it is then the last one
                self._writer.wait()
        with suppress(OSError, LeaseLost):  # then there is no more to do than to stop
            self.context.tracker.flush()
        self._session = None

    def advance(self) -> bool:
        """Do one unit of work: a training step or a batch of an evaluation. False at the end.

        Only between `start` and `stop`. On a GPU it may do nothing while the device is busy with
        queued steps. Raises NonFiniteLoss at the end of an epoch with such a loss.
        """
        session = self._started
        self.waiting = session.graph_runner.queue_is_full()
        if self.waiting:
            return True
        with session.graph_runner.activated():
            try:
                self.waiting = next(session.work) is WAITING
            except StopIteration:
                self.synchronize()
                self.context.tracker.flush()
                return False
        return True

    def save(self) -> None:
        """Write the resume checkpoint, if the run has a folder, and wait until it is on disk."""
        self._begin_saving()
        self.synchronize()

    def save_if_due(self) -> None:
        """Begin writing a checkpoint if the last one is `checkpoint_minutes` old."""
        if self._session is None:
            return
        due = time.monotonic() - self._session.saved_at >= self.config.checkpoint_minutes * 60
        if due and not (self._writer and self._writer.busy()):
            self._begin_saving()

    def synchronize(self) -> None:
        """Wait for the device and for pending writes. Raises OSError if a write failed."""
        if self._session:
            self._session.graph_runner.synchronize()
        if self._writer:
            self._writer.wait()

    def _begin_saving(self) -> None:
        if self._session is None:
            return
        if self._writer:
            self._writer.wait()
            self.context.tracker.before_save()
            with self._session.graph_runner.activated():
                self._writer.start(self._checkpoint(), self.context.tracker.saved)
        self._session.saved_at = time.monotonic()

    def _train(self) -> Iterator[object]:
        """The run from its current state to its end. The state is complete at every yield."""
        yield from self.learner.prepare()
        while self.state.stop_reason is None:
            if self.context.should_prune and self.state.pruner_asked < self.state.epoch:
                yield from self._ask_pruner(self.context.should_prune)
                continue
            training = yield from self._timed("train", self._train_epoch())
            _require_finite("training", training.mean_loss, self.state.epoch + 1)
            validation = (yield from self._validate()) if self._validates_now() else {}
            self._end_epoch(training, validation)
            yield None
        self.trained = yield from self._test()

    def _train_epoch(self) -> Generator[object, None, MetricTotals]:
        learner, state, count = self.learner, self.state, len(self.learner.train_indices)
        learner.start_epoch(state.epoch, state.step)
        while state.step < len(learner.bounds):
            first, last = learner.bounds[state.step]
            learner.train_batch(state.epoch, state.step)
            state.step += 1
            self.images_trained += last - first
            self.context.tracker.step(state.epoch + 1, last, count, self._running_metrics)
            yield None
        reading = learner.metrics.read()
        while not reading.ready():
            yield WAITING
        return reading.totals()

    def _running_metrics(self) -> tuple[float, float]:
        """Mean loss and accuracy of the epoch so far, from the last values already on the host."""
        fresh = self.learner.metrics.read()
        known = fresh if fresh.ready() else self._last_reading or fresh
        self._last_reading = fresh
        totals = known.totals()
        return totals.mean_loss, totals.accuracy

    def _validate(self) -> Generator[object, None, dict[str, float]]:
        totals = yield from self._timed("validation", self.learner.validate())
        _require_finite("validation", totals.mean_loss, self.state.epoch + 1)
        return totals.summary("val")

    def _end_epoch(self, training: MetricTotals, validation: dict[str, float]) -> None:
        """Do everything that changes at the end of an epoch, without a yield in between."""
        state = self.state
        lr = self.learner.lr_at(state.epoch, state.step - 1)
        self.learner.end_epoch(state.epoch)
        seconds = sum(state.seconds.values()) - sum(row["seconds"] for row in state.rows)
        state.epoch += 1
        state.step = 0
        row = {"epoch": state.epoch, "lr": lr, **training.summary("train"), **validation}
        state.rows.append({**row, "seconds": round(seconds, 3)})
        if validation:
            self._keep_best(validation)
        if state.epoch == self.config.num_epochs:
            state.stop_reason = StopReason.COMPLETED
        elif state.stopping.exhausted:
            state.stop_reason = StopReason.EARLY_STOPPING
        if state.stop_reason:
            self._keep_terminal()
        self.context.tracker.epoch(state.rows)

    def _ask_pruner(self, should_prune: Callable[[Sequence[Row]], bool]) -> Iterator[object]:
        """End the run if the pruner says so. It reads the histories of other runs meanwhile."""
        state = self.state
        answer = _pruner_thread.submit(should_prune, list(state.rows))
        while not answer.done():
            yield WAITING
        state.pruner_asked = state.epoch
        if answer.result():
            state.stop_reason = StopReason.PRUNED
            self._keep_terminal()
        yield None

    def _keep_best(self, validation: dict[str, float]) -> None:
        state = self.state
        improved = {
            "best_val_acc": validation["val_accuracy"] > state.best_val_accuracy,
            "best_val_loss": state.stopping.update(validation["val_loss"]),
        }
        if any(improved.values()):
            weights = EpochWeights(state.epoch, self.learner.weights())
            state.checkpoints |= {kind: weights for kind, better in improved.items() if better}
        state.best_val_accuracy = max(state.best_val_accuracy, validation["val_accuracy"])

    def _keep_terminal(self) -> None:
        """Keep the current weights, sharing the copy of a best epoch if that is this one."""
        state = self.state
        same = [kept for kept in state.checkpoints.values() if kept.epoch == state.epoch]
        weights = same[0] if same else EpochWeights(state.epoch, self.learner.weights())
        state.checkpoints["terminal"] = weights

    def _test(self) -> Generator[object, None, TrainingResult]:
        """Evaluate the three checkpoints on the test set, equal ones only once."""
        checkpoints = self.state.checkpoints
        by_epoch: dict[int, Evaluation] = {}
        for kept in checkpoints.values():
            if kept.epoch not in by_epoch:
                by_epoch[kept.epoch] = yield from self.learner.test(kept.weights)
        numbers = self._numbers()
        for kind in CHECKPOINT_KINDS:
            summary = by_epoch[checkpoints[kind].epoch].totals.summary("test")
            numbers |= {f"{name}_{kind}": value for name, value in summary.items()}
        return TrainingResult(
            numbers,
            {kind: kept.weights for kind, kept in checkpoints.items()},
            self.data.test.labels[self.learner.test_indices],
            by_epoch[checkpoints["best_val_acc"].epoch],
        )

    def _numbers(self) -> dict[str, Any]:
        state, compute_format = self.state, self.compute_format
        last = {k: v for k, v in state.rows[-1].items() if k.startswith(("train_", "val_"))}
        images = state.epoch * len(self.learner.train_indices)
        return {
            "epochs_run": state.epoch,
            "best_epoch": state.checkpoints["best_val_acc"].epoch,
            BEST_VAL_ACCURACY: state.best_val_accuracy,
            "stop_reason": state.stop_reason,
            "train_seconds": round(state.seconds["train"], 3),
            "images_per_second": round(images / max(state.seconds["train"], 1e-9), 1),
            "test_images": len(self.learner.test_indices),
            "parameters": self.learner.parameters,
            "precision": compute_format.precision,
            **self._precision_of_sweep(),
            "memory_format": compute_format.memory_format,
            "convolution": compute_format.convolution,
            **({"cudnn_benchmark": True} if compute_format.cudnn_benchmark else {}),
            **({"fused_norm": True} if compute_format.fused_norm else {}),
            **last,
        }

    def _precision_of_sweep(self) -> dict[str, Any]:
        """The sweep's precision, if this run was trained in another one."""
        decided = self.context.precision_of_sweep()
        differs = decided not in (None, self.compute_format.precision)
        return {"precision_of_sweep": decided} if differs else {}

    def _validates_now(self) -> bool:
        done = self.state.epoch + 1
        return done % self.config.val_freq == 0 or done == self.config.num_epochs

    def _timed(self, part: str, work: Generator[object, None, T]) -> Generator[object, None, T]:
        """Do `work` and count its seconds.

        The time between its steps counts on a GPU alone, where queued steps go on meanwhile.
        """
        ended = started = time.perf_counter()
        while True:
            if not self._started.graph_runner.concurrent:
                started = time.perf_counter()
            try:
                step = next(work)
            except StopIteration as end:
                result: T = end.value
                return result
            finally:
                ended = time.perf_counter()
                self.state.seconds[part] += ended - started
                started = ended
            yield step

    def _checkpoint(self) -> dict[str, Any]:
        return run_checkpoint.content(
            self.config, self.data, self.compute_format, self.learner, self.state
        )

    def _choose_compute_format(self) -> ComputeFormat:
        """What the config asks for; for auto, what the sweep decided if the device can do it."""
        device, spec = self.data.device, self.data.dataset.spec
        chosen = select_compute_format(self.config, device, spec)
        decided = self.context.decide_precision(chosen.precision)
        if decided == chosen.precision:
            return chosen
        if decided not in allowed_precisions(self.config, device):
            return chosen
        return select_compute_format(replace(self.config, precision=decided), device, spec)

    def _resume(self, saved: dict[str, Any], learner: Learner) -> None:
        """Continue from a checkpoint. A run that the pruner would not end now is not pruned."""
        self.state = RunState.load(saved, self.config.early_stopping_patience)
        learner.load(saved["learner"])
        asked = self.context.should_prune
        if self.state.stop_reason == StopReason.PRUNED and not (asked and asked(self.state.rows)):
            self.state.unprune()


def _require_finite(part: str, loss: float, epoch: int) -> None:
    if not math.isfinite(loss):
        raise NonFiniteLoss(f"the {part} loss became {loss} in epoch {epoch}")
