"""Where a slot works: in turn with the others on a CPU, on a stream of its own on a GPU."""

from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

from src.cpu.allocator import keep_freed_memory

_WARM_UP = 2  # calls before a step is captured: they allocate what the graph then writes to
_AHEAD = 4  # steps that the host may be ahead of the device in one lane


class GraphRunner:
    """A slot's share of the device.

    On a GPU: its stream, its random generator, and the CUDA graphs of its steps. A step that is
    `repeat`ed is run twice as it is and then captured: it must read whatever changes from
    tensors, and write its results in place.
    """

    def __init__(
        self, device: torch.device, *, graphs: bool = True, keep_memory: bool = True
    ) -> None:
        self.device = device
        self.concurrent = device.type == "cuda"
        self._stream: torch.cuda.Stream | None = None
        if self.concurrent:
            self._stream = torch.cuda.Stream(device)
            self._stream.wait_stream(torch.cuda.default_stream(device))  # the data comes by that
            self._generator = torch.Generator(device)
            self._pool = torch.cuda.graph_pool_handle()
        else:
            if keep_memory:
                keep_freed_memory()
        self._graphs_wanted = graphs and self.concurrent
        self._graphs: dict[tuple[str, int], torch.cuda.CUDAGraph] = {}
        self._calls: Counter[tuple[str, int]] = Counter()
        self._queued: deque[torch.cuda.Event] = deque()

    @contextmanager
    def activated(self) -> Iterator[None]:
        """Work in this lane: what follows is queued on its stream, drawn from its generator."""
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

    def repeat(self, name: str, step: Callable[[int], None], size: int) -> None:
        """Do step(size), as a graph once it has been done often enough."""
        key = (name, size)
        if key not in self._graphs and self._graphs_wanted and self._calls[key] >= _WARM_UP:
            self._graphs[key] = self._captured(step, size)
        if key in self._graphs:
            self._graphs[key].replay()
        else:
            self._calls[key] += 1
            step(size)
        if self.concurrent:
            self._queued.append(torch.cuda.Event())
            self._queued[-1].record()

    def queue_is_full(self) -> bool:
        """Whether the device is so far behind that nothing more should be queued now."""
        while self._queued and self._queued[0].query():
            self._queued.popleft()
        return len(self._queued) >= _AHEAD

    def synchronize(self) -> None:
        """Until everything queued is done."""
        if self._stream is not None:
            self._stream.synchronize()

    def _captured(self, step: Callable[[int], None], size: int) -> torch.cuda.CUDAGraph:
        graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(
                graph, pool=self._pool, stream=self._stream, capture_error_mode="thread_local"
            ):
                step(size)
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            raise RuntimeError(
                f"a step cannot be captured as a CUDA graph (try --no_cuda_graphs): {error}"
            ) from error
        return graph
