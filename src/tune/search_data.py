"""The data of a search's charts."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING

from src.report.charts.importance import MIN_RUNS, fanova_shares
from src.tune.search_space import Choice, Dimension, SearchSpace

if TYPE_CHECKING:
    import optuna

_APART = 0.05  # the least distance of a tick to an end of its axis


@dataclass(frozen=True)
class Trial:
    """A trial that has ended: its lowest validation loss, and its place on each axis, 0 to 1."""

    number: int
    loss: float
    pruned: bool
    places: tuple[float, ...]


@dataclass(frozen=True)
class SearchAxis:
    """An axis of parallel coordinates: its ticks by their places on it, 0 to 1."""

    name: str
    ticks: dict[float, str]
    log: bool = False


@dataclass(frozen=True)
class SearchData:
    """The data of a search's charts. failed: numbers of the trials without a loss."""

    study: str
    what: str
    """Description of the training that was searched."""
    trials: tuple[Trial, ...]
    failed: tuple[int, ...]
    best_so_far: tuple[float, ...]
    """The lowest loss of a complete trial up to each of `trials`; infinite before the first."""
    axes: tuple[SearchAxis, ...]
    importances: dict[str, float] | None
    """Shares that sum to 1, highest first. None with too few trials."""

    @property
    def best(self) -> Trial:
        """The complete trial with the lowest loss."""
        return min((t for t in self.trials if not t.pruned), key=lambda t: (t.loss, t.number))


def collect(space: SearchSpace, study: "optuna.Study") -> SearchData:
    """The chart data of a study with at least one complete trial."""
    ended = []
    for trial in study.get_trials(deepcopy=False):
        pruned = trial.state.name == "PRUNED"
        if pruned or trial.state.name == "COMPLETE":
            loss = min(trial.intermediate_values.values()) if pruned else _complete_value(trial)
            places = [place(d, trial.params[name]) for name, d in space.dimensions.items()]
            ended.append(Trial(trial.number, loss, pruned, tuple(places)))
    failed = [t.number for t in study.get_trials(deepcopy=False) if t.state.name == "FAIL"]
    complete = [math.inf if trial.pruned else trial.loss for trial in ended]
    base, seeds = space.base, 1 + len(space.replicate_seeds)
    of_seeds = f", mean over {seeds} seeds" if seeds > 1 else ""
    return SearchData(
        study=space.name,
        what=f"{base.model_name} on {base.data_name}, {base.num_epochs} epochs{of_seeds}",
        trials=tuple(ended),
        failed=tuple(failed),
        best_so_far=tuple(accumulate(complete, min)),
        axes=tuple(axis(name, dimension) for name, dimension in space.dimensions.items()),
        importances=importances(study),
    )


def _complete_value(trial: "optuna.trial.FrozenTrial") -> float:
    """The objective of a complete trial."""
    assert trial.value is not None
    return trial.value


def importances(study: "optuna.Study") -> dict[str, float] | None:
    """How much of the variance between complete trials each setting explains, as in the report.

    Returns None if there are fewer than MIN_RUNS, or all are equally good.
    """
    values = [t.value for t in study.get_trials(deepcopy=False) if t.state.name == "COMPLETE"]
    is_enough = len(values) >= MIN_RUNS and len(set(values)) > 1
    return fanova_shares(study) if is_enough else None


def place(dimension: Dimension, value: object) -> float:
    """Position of a value on the axis of its setting: 0 at the lower end, 1 at the upper."""
    if isinstance(dimension, Choice):
        return _even(_ordered(dimension).index(value), len(dimension.values))
    assert isinstance(value, int | float)
    low, high, value = (
        (math.log(v) if dimension.log else v) for v in (dimension.low, dimension.high, value)
    )
    return (value - low) / (high - low) if high > low else 0.5


def axis(name: str, dimension: Dimension) -> SearchAxis:
    """The axis of a setting: every choice, powers of ten, or both ends and three between them."""
    if isinstance(dimension, Choice):
        values = _ordered(dimension)
        return SearchAxis(name, {_even(i, len(values)): str(v) for i, v in enumerate(values)})
    low, high = dimension.low, dimension.high
    inner: Sequence[float] = [low + (high - low) * part / 4 for part in (1, 2, 3)]
    if dimension.log:
        powers = range(math.ceil(math.log10(low)), math.floor(math.log10(high)) + 1)
        inner = [10.0**power for power in powers]
    apart = [value for value in inner if _APART < place(dimension, value) < 1 - _APART]
    ticks = {place(dimension, value): f"{value:.3g}" for value in (low, *apart, high)}
    return SearchAxis(name, ticks, dimension.log)


def _ordered(choice: Choice) -> list[object]:
    """The values of a choice: numbers by size, others as they were listed."""
    numbers = all(isinstance(v, int | float) and not isinstance(v, bool) for v in choice.values)
    return sorted(choice.values) if numbers else list(choice.values)


def _even(index: int, count: int) -> float:
    return index / (count - 1) if count > 1 else 0.5
