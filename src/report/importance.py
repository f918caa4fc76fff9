"""How much each hyperparameter matters to the runs of an architecture."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from src.report.settings import MODEL, Setting, settings
from src.report.table import is_pruned

TREES = 24  # 64, Optuna's own number, gives the same shares within one or two per cent
_FEWEST = 8  # runs: with fewer, a forest of random trees tells of its own dice


@dataclass(frozen=True)
class Importance:
    """Shares of the variance of a measure, by setting, highest first; they sum to 1."""

    model: str
    runs: int
    shares: dict[str, float]
    """Empty where it cannot be told."""
    why_not: str = ""


def importance(table: pd.DataFrame, model: str, column: str) -> Importance:
    """Importance by functional ANOVA over the finished cells of an architecture.

    Hutter et al. 2014, in Optuna's implementation, with a fixed seed. Cells that share a training
    count one by one, so that a full grid stays balanced. Pruned runs do not count.
    """
    rows = table[(table[MODEL] == model) & ~is_pruned(table)].dropna(subset=[column])
    varied = [one for one in settings(rows) if len(one.levels) > 1 and one.name != MODEL]
    if len(rows) < _FEWEST:
        return Importance(model, len(rows), {}, f"only {len(rows)} finished runs")
    if not varied or rows[column].nunique() == 1:
        return Importance(model, len(rows), {}, "nothing varies")
    return Importance(model, len(rows), _fanova(rows, varied, column))


def _fanova(rows: pd.DataFrame, varied: Sequence[Setting], column: str) -> dict[str, float]:
    with warnings.catch_warnings(action="ignore"):  # in a notebook, tqdm misses its widgets
        import optuna
    from optuna.distributions import CategoricalDistribution, IntDistribution
    from optuna.importance import FanovaImportanceEvaluator, get_param_importances

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    of_setting = {  # of the many values that a search drew, their order is what counts
        one.name: IntDistribution(0, len(one.levels) - 1)
        if one.is_wide
        else CategoricalDistribution(tuple(range(len(one.levels))))
        for one in varied
    }
    places = zip(*(one.places(rows) for one in varied), strict=True)
    study = optuna.create_study()
    study.add_trials(
        [
            optuna.trial.create_trial(
                params=dict(zip(of_setting, cell, strict=True)),
                distributions=dict(of_setting),
                value=float(value),
            )
            for cell, value in zip(places, rows[column], strict=True)
        ]
    )
    with warnings.catch_warnings(action="ignore"):  # that of an experimental feature
        found = get_param_importances(
            study, evaluator=FanovaImportanceEvaluator(n_trees=TREES, seed=0)
        )
    shares = {name: float(share) for name, share in found.items()}
    return dict(sorted(shares.items(), key=lambda item: -item[1]))
