"""Run the steps of one slot: in turn on a CPU; on a GPU on a stream of its own, as CUDA graphs.

What a captured step may not do, because a replay repeats its kernels and nothing of its Python:

- read a Python value that changes from step to step (a learning rate, an index, an epoch): it
  would be baked in. Such values lie in tensors that are written before the step.
- ask the device for a value (.item(), .tolist(), printing, comparing): the capture would fail.
- allocate a result that is read later: results are written in place into tensors from before.
- draw from another generator than the one that is set while it is captured.
"""

from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

from src.cpu.allocator import keep_freed_memory

WAITING = object()
"""Yielded by the work of a slot while it waits for the device."""

_WARM_UP_CALLS = 2  # before a step is captured: they allocate what the graph then writes to
_MAX_QUEUED = 4  # steps that the host may be ahead of the device in one slot


class CaptureFailed(RuntimeError):
    """A step does what a captured step may not do."""


class GraphRunner:
    """A slot's share of the device: its stream, its random generator, its captured steps."""

    def __init__(
        self,
        device: torch.device,
        *,
        graphs: bool = True,
        keep_memory: bool = True,
        on_uncaptured: Callable[[str], object] | None = None,
    ) -> None:
        """graphs: capture steps on a GPU. keep_memory: keep what a step frees on a CPU.

        on_uncaptured: called with the reason if a step cannot be captured; all steps are then
        launched one kernel at a time. None: that is an error.
        """
        self.device = device
        self._on_uncaptured = on_uncaptured
        self.concurrent = device.type == "cuda"
        self._stream: torch.cuda.Stream | None = None
        if self.concurrent:
            self._stream = torch.cuda.Stream(device)
            # the data was copied to the device on the default stream
            self._stream.wait_stream(torch.cuda.default_stream(device))
            self._generator = torch.Generator(device)
            self._pool = torch.cuda.graph_pool_handle()
        elif keep_memory:
            keep_freed_memory()
        self._graphs_wanted = graphs and self.concurrent
        self._graphs: dict[tuple[str, int], torch.cuda.CUDAGraph] = {}
        self._calls: Counter[tuple[str, int]] = Counter()
        self._queued: deque[torch.cuda.Event] = deque()

    @contextmanager
    def activated(self) -> Iterator[None]:
        """Queue what follows on this slot's stream, and draw from its generator."""
        if self._stream is None:
            yield
            return
        with torch.cuda.stream(self._stream):
            default = torch.cuda.default_generators[torch.cuda.current_device()]
            before = default.graphsafe_get_state()
            default.graphsafe_set_state(self._generator)
            try:
                yield
            finally:
                default.graphsafe_set_state(before)

    def run_step(self, name: str, step: Callable[[int], None], size: int) -> None:
        """Do step(size), from its third call on as a captured graph.

        name: identifies the step; one graph is captured for each name and size.
        """
        key = (name, size)
        if key not in self._graphs and self._graphs_wanted and self._calls[key] >= _WARM_UP_CALLS:
            try:
                self._graphs[key] = self._captured(step, size)
            except CaptureFailed as failed:
                if self._on_uncaptured is None:
                    raise
                self._give_graphs_up()
                self._on_uncaptured(str(_first_of(failed)))
        if key in self._graphs:
            self._graphs[key].replay()
        else:
            self._calls[key] += 1
            step(size)
        if self.concurrent:
            self._queued.append(torch.cuda.Event())
            self._queued[-1].record()

    def queue_is_full(self) -> bool:
        """Whether so many steps are queued on the device that no more should be added now."""
        while self._queued and self._queued[0].query():
            self._queued.popleft()
        return len(self._queued) >= _MAX_QUEUED

    def synchronize(self) -> None:
        """Wait until everything that was queued is done."""
        if self._stream is not None:
            self._stream.synchronize()

    def _give_graphs_up(self) -> None:
        """Launch all further steps without graphs, with the random state that the graphs had."""
        assert self._stream is not None
        self._stream.synchronize()
        self._graphs_wanted = False
        self._graphs.clear()
        # after a failed capture, a generator cannot draw outside of captures any more
        seed = self._generator.initial_seed()
        self._generator = torch.Generator(self.device)
        default = torch.cuda.default_generators[torch.cuda.current_device()]
        default.graphsafe_set_state(self._generator)
        torch.cuda.manual_seed(seed)

    def _captured(self, step: Callable[[int], None], size: int) -> torch.cuda.CUDAGraph:
        graph = torch.cuda.CUDAGraph()
        try:
            # thread_local: other threads, such as the one that writes checkpoints, may call CUDA
            with torch.cuda.graph(
                graph, pool=self._pool, stream=self._stream, capture_error_mode="thread_local"
            ):
                step(size)
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            raise CaptureFailed(
                f"a step cannot be captured as a CUDA graph (try --no_cuda_graphs): {error}"
            ) from error
        return graph


def _first_of(error: BaseException) -> BaseException:
    """The first exception of a chain: ending a failed capture raises a second one."""
    while before := error.__cause__ or error.__context__:
        error = before
    return error
