"""Read state-dict files safely, and load them into models whose parameter names differ."""

import pickle
import warnings
from collections.abc import Mapping
from itertools import zip_longest
from pathlib import Path

import torch
from torch import Tensor, nn

from src.common.errors import UserError
from src.common.file_retries import retry_read
from src.common.removed_files import why_removed

StateDict = dict[str, Tensor]

_WRAPPINGS = ("state_dict", "model_state_dict", "model")
_PREFIXES = ("module.", "_orig_mod.")  # of nn.DataParallel and of torch.compile
_COUNTER = "num_batches_tracked"  # of a batch norm: evaluation does not use it
_UNREADABLE = (
    *(pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError, IndexError),
    *(AttributeError, TypeError, UnicodeDecodeError, OverflowError, MemoryError, AssertionError),
)
"""What torch.load raises for files that are damaged, or no checkpoints at all."""


def read_state(path: Path) -> StateDict:
    """The state dict in a file, on the CPU, whatever a checkpoint wraps it in.

    Nothing in the file is executed. Raises UserError if it is damaged or no state dict.
    """
    try:
        with warnings.catch_warnings(action="ignore"):  # about formats that are refused anyway
            content = retry_read(lambda: torch.load(path, map_location="cpu", weights_only=True))
    except OSError as error:
        raise UserError(f"{path}: {why_removed(path) or error.strerror or error}") from None
    except pickle.UnpicklingError:
        raise UserError(
            f"{path}: not a state dict that torch.load(weights_only=True) reads: "
            "it is damaged, or holds more than tensors"
        ) from None
    except _UNREADABLE as error:
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise UserError(f"{path}: not a state dict, or damaged: {reason}") from None
    return _unwrapped(content, path)


def _unwrapped(content: object, path: Path) -> StateDict:
    """The mapping of names to tensors that `content` is, or has under a usual key."""
    if isinstance(content, Mapping):
        wrapped = (content[key] for key in _WRAPPINGS if isinstance(content.get(key), Mapping))
        content = next(wrapped, content)
    if not isinstance(content, Mapping) or not content:
        raise UserError(f"{path}: not a state dict: expected names and their tensors")
    for name, tensor in content.items():
        if not isinstance(name, str) or not isinstance(tensor, Tensor):
            raise UserError(f"{path}: not a state dict: {str(name)!r} is no tensor")
    state: StateDict = dict(content)
    for prefix in _PREFIXES:
        if all(name.startswith(prefix) for name in state):
            state = {name.removeprefix(prefix): tensor for name, tensor in state.items()}
    return state


def load_into(model: nn.Module, state: StateDict, source: str) -> None:
    """Load `state` into `model`: by name where the names are its own, else by order and shape.

    Published code names the same layers differently; batches counted by batch norms are left
    out. Raises UserError that begins with `source` and names the first entry that does not fit.
    """
    own, loaded = _compared(model.state_dict()), _compared(state)
    if _shapes(own) != _shapes(loaded):
        loaded = _in_order(own, loaded, source)
    model.load_state_dict({**model.state_dict(), **loaded})


def _compared(state: Mapping[str, Tensor]) -> StateDict:
    return {name: tensor for name, tensor in state.items() if not name.endswith(_COUNTER)}


def _shapes(state: StateDict) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in state.items()}


def _in_order(own: StateDict, loaded: StateDict, source: str) -> StateDict:
    """The loaded tensors under the model's own names, assigned by order and shape."""
    pairs = zip_longest(_shapes(own).items(), _shapes(loaded).items(), fillvalue=("", None))
    for place, ((name, expected), (loaded_name, shape)) in enumerate(pairs, 1):
        if expected is None:
            raise UserError(f"{source}: {loaded_name!r} {shape} is one entry too many")
        if shape is None:
            raise UserError(f"{source}: ends before entry {place}, {name!r} {expected}")
        if shape != expected:
            raise UserError(
                f"{source}: entry {place} does not fit: {loaded_name!r} is {shape}, "
                f"expected {expected} as {name!r}"
            )
    return dict(zip(own, loaded.values(), strict=True))
