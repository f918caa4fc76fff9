"""Pytest plugin (`-p tests.fake_cuda`): an imitation of a GPU, with which CUDA code runs on a CPU.

Tensors that are created on `cuda`, or computed from such, say that they are there. As on a GPU it
is an error to combine them with tensors of the host, to read them while a graph is captured, or to
turn them into numpy arrays. Graphs record the operations of a step and repeat them on the same
memory. Events are done at their second query. What the imitation does not know raises
AttributeError or RuntimeError, and so fails the test that needs it.
"""

import itertools
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_leaves, tree_unflatten

from src.cpu import allocator

CUDA, CPU = torch.device("cuda", 0), torch.device("cpu")
NAME = "imitation of a GPU"
OLD, NEW = (6, 1), (9, 0)
"""Compute capabilities: neither bfloat16 nor float16 nor TF32 is fast, as on most CPUs; all are."""
_TOTAL_BYTES = 16 * 2**30
_BIG = 10_000  # elements of a tensor that does not fit where memory is limited

_session = ExitStack()
_state = SimpleNamespace(capturing=False, fraction=1.0)


def pytest_configure() -> None:
    """Begin before any test, and so before session fixtures."""
    allocator.keep_freed_memory()  # as training on a CPU does
    _session.enter_context(imitated())


def pytest_unconfigure() -> None:
    """Restore what was patched."""
    _session.close()


class RecordedGraph(TorchDispatchMode):
    """A captured step: its operations with their tensors, repeated on the same memory.

    A replay runs nothing of the Python code of the step. While it is recorded the step is executed
    once, which a real capture does not do: the first replay is left out for that.
    """

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[Any, Any, Any, Any]] = []
        self.replays = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten._local_scalar_dense.default:
            raise AssertionError("a captured step waits for the device")
        with torch._C.DisableTorchFunction():
            out = func(*args, **(kwargs or {}))
        self.calls.append((func, args, kwargs or {}, out))
        return out

    @torch.no_grad()
    def replay(self) -> None:
        self.replays += 1
        if self.replays == 1:
            return
        with torch._C.DisableTorchFunction():
            for func, args, kwargs, out in self.calls:
                results = tree_leaves(func(*args, **kwargs))
                for old, new in zip(tree_leaves(out), results, strict=True):
                    if isinstance(old, Tensor) and old.data_ptr() != new.data_ptr():
                        old.copy_(new)


class FakeCuda(TorchFunctionMode):
    """Keeps book of which tensors are on the GPU."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if func is torch.device or getattr(func, "__name__", "") == "_parse_to":
            return func(*args, **kwargs)
        if func == Tensor.device.__get__:
            return CUDA if _is_fake(args[0]) else CPU
        if func == Tensor.is_cuda.__get__:  # type: ignore[attr-defined]
            return _is_fake(args[0])
        if getattr(func, "__name__", "") == "__deepcopy__":
            copy = func(*args, **kwargs)
            _mark(copy, _is_fake(args[0]))
            return copy
        leaves, spec = tree_flatten((args, kwargs))
        devices = {leaf.type for leaf in map(_as_device, leaves) if leaf}
        tensors = [leaf for leaf in leaves if isinstance(leaf, Tensor)]
        fake = [tensor for tensor in tensors if _is_fake(tensor)]
        _refuse(func, tensors, fake)
        kwargs.pop("pin_memory", None)
        on_host = [CPU if _as_device(leaf) else leaf for leaf in leaves]
        args, kwargs = tree_unflatten(on_host, spec)
        kwargs.pop("pin_memory", None)
        out = func(*args, **kwargs)
        moved = "cuda" in devices or func == Tensor.cuda
        home = func == Tensor.cpu or "cpu" in devices
        is_same = bool(args) and out is args[0]
        if (moved or home) and isinstance(out, Tensor) and is_same:
            out = torch.clone(out.detach())  # a copy, where a CPU's `to` returns the tensor itself
        if moved:
            _limit_memory(out)
        if func == Tensor.data.__set__:  # type: ignore[attr-defined]
            _mark(args[0], _is_fake(args[1]))
        elif moved or (fake and not home):
            for leaf in tree_leaves(out):
                _mark(leaf, True)
        return out


def _is_fake(tensor: Tensor) -> bool:
    return "_fake_cuda" in vars(tensor) and vars(tensor)["_fake_cuda"]


def _mark(leaf: object, is_fake: bool) -> None:
    if isinstance(leaf, Tensor):
        vars(leaf)["_fake_cuda"] = is_fake


def _as_device(leaf: object) -> torch.device | None:
    """The device that an argument names. Returns None if it names none."""
    if isinstance(leaf, torch.device):
        return leaf
    if isinstance(leaf, str) and leaf.partition(":")[0] in ("cuda", "cpu"):
        return torch.device(leaf)
    return None


_MAY_MIX = (
    *("_has_compatible_shallow_copy_type", "copy_", "to", "set_", "type_as"),
    *("__set__", "index", "__getitem__", "__setitem__"),
)


def _refuse(func: Any, tensors: list[Tensor], fake: list[Tensor]) -> None:
    """Raise what a GPU raises."""
    name = getattr(func, "__name__", "")
    if fake and name in ("numpy", "__array__"):
        raise TypeError("can't convert cuda:0 device type tensor to numpy")
    if fake and _state.capturing and name in ("item", "tolist", "cpu", "__bool__", "__float__"):
        raise RuntimeError("operation not permitted when stream is capturing")
    host = [tensor for tensor in tensors if not _is_fake(tensor) and tensor.dim()]
    if fake and host and name not in _MAY_MIX:
        raise RuntimeError(f"Expected all tensors to be on the same device ({name})")


def _limit_memory(out: object) -> None:
    big = any(isinstance(leaf, Tensor) and leaf.numel() > _BIG for leaf in tree_leaves(out))
    if big and _state.fraction < 1:
        _state.fraction = 1.0  # the run beside it has ended by the next time
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 MiB")


class Event:
    """An event that is done when it is looked at for the second time, or waited for."""

    def __init__(self, **_: object) -> None:
        self._looks = itertools.count()

    def record(self, stream: object = None) -> None:
        pass

    def query(self) -> bool:
        return next(self._looks) > 0

    def synchronize(self) -> None:
        pass


class Stream:
    """A stream, whose work is done at once."""

    device = CUDA

    def __init__(self, device: object = None) -> None:
        pass

    def wait_stream(self, other: "Stream") -> None:
        pass

    def synchronize(self) -> None:
        pass


class _ByDevice(type):
    """Makes a generator of torch's for the host, and one of ours for the GPU."""

    def __call__(cls, device: object = "cpu") -> Any:
        named = _as_device(device)
        return _Generator() if named and named.type == "cuda" else _TORCH_GENERATOR(device)  # type: ignore[arg-type]


_TORCH_GENERATOR = torch.Generator


class GeneratorOfDevice(metaclass=_ByDevice):
    """Stands for torch.Generator, also in annotations."""


class _Generator:
    """A random generator. Steps draw from that of the CPU, which is seeded before each of them."""

    def graphsafe_get_state(self) -> "_Generator":
        return self

    def graphsafe_set_state(self, other: "_Generator") -> None:
        pass

    def initial_seed(self) -> int:
        return torch.initial_seed()


@contextmanager
def graph(
    recorded: RecordedGraph, pool: object, stream: Stream, capture_error_mode: str
) -> Iterator[None]:
    """As torch.cuda.graph: what is done within is captured."""
    _state.capturing = True
    try:
        with recorded:
            yield
    finally:
        _state.capturing = False


@contextmanager
def imitated(capability: tuple[int, int] = OLD) -> Iterator[None]:
    """Patch this process so that it has one GPU of a compute capability."""
    stream = Stream()
    with pytest.MonkeyPatch.context() as patch:
        functions: dict[str, Any] = {
            "is_available": lambda: True,
            "is_initialized": lambda: True,
            "device_count": lambda: 1,
            "current_device": lambda: 0,
            "set_device": lambda device: None,
            "get_device_name": lambda device=None: NAME,
            "get_device_capability": lambda device=None: capability,
            "is_bf16_supported": lambda including_emulation=True: capability >= (8, 0),
            "mem_get_info": lambda device=None: (_TOTAL_BYTES // 2, _TOTAL_BYTES),
            "memory_allocated": lambda device=None: 2**20,
            "memory_reserved": lambda device=None: 2**20,
            "max_memory_allocated": lambda device=None: 2**20,
            "reset_peak_memory_stats": lambda device=None: None,
            "empty_cache": lambda: None,
            "synchronize": lambda device=None: None,
            "graph_pool_handle": lambda: (0, 0),
            "default_stream": lambda device=None: stream,
            "current_stream": lambda device=None: stream,
            "stream": lambda stream: ExitStack(),
            "manual_seed": lambda seed: None,
            "manual_seed_all": lambda seed: None,
            "get_rng_state": lambda device=None: torch.get_rng_state(),
            "set_rng_state": lambda state, device=None: None,
            "set_per_process_memory_fraction": lambda fraction, device=None: vars(_state).update(
                fraction=fraction
            ),
            "default_generators": (_Generator(),),
            "Stream": Stream,
            "Event": Event,
            "CUDAGraph": RecordedGraph,
            "graph": graph,
        }
        for name, value in functions.items():
            patch.setattr(torch.cuda, name, value)
        patch.setattr(torch, "Generator", GeneratorOfDevice)
        patch.setattr(torch, "autocast", _on_cpu(torch.autocast))
        patch.setattr(torch.amp, "GradScaler", _on_cpu(torch.amp.GradScaler))
        for name in ("is_autocast_enabled", "get_autocast_dtype"):
            patch.setattr(torch, name, _on_cpu(getattr(torch, name)))
        patch.setattr(torch, "load", _loading(torch.load))
        copy = torch.nn.Parameter.__deepcopy__
        patch.setattr(torch.nn.Parameter, "__deepcopy__", _copying(copy))
        accelerator = SimpleNamespace(is_capturing=lambda: _state.capturing)
        patch.setattr(torch.accelerator, "current_accelerator", lambda check_available=False: CUDA)
        patch.setattr(torch.accelerator, "current_stream", lambda: accelerator)
        with FakeCuda():
            yield


def _on_cpu(call: Callable[..., Any]) -> Callable[..., Any]:
    """The same for the CPU, where the first argument is the type of a device."""

    def on_cpu(device_type: str = "cuda", *args: Any, **kwargs: Any) -> Any:
        return call("cpu", *args, **kwargs)

    return on_cpu


def _copying(copy: Callable[..., Any]) -> Callable[..., Any]:
    """Parameter.__deepcopy__, which is not passed to a TorchFunctionMode."""

    def copying(parameter: Tensor, memo: Any) -> Any:
        copied = copy(parameter, memo)
        _mark(copied, _is_fake(parameter))
        return copied

    return copying


def _loading(load: Callable[..., Any]) -> Callable[..., Any]:
    """torch.load, whose map_location may be the GPU."""

    def loading(file: Any, map_location: Any = None, **kwargs: Any) -> Any:
        with torch._C.DisableTorchFunction():
            value = load(file, map_location="cpu", **kwargs)
        wanted = _as_device(map_location)
        for leaf in tree_leaves(value):
            _mark(leaf, wanted is not None and wanted.type == "cuda")
        return value

    return loading
