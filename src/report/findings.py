"""What a sweep has shown of each architecture, in a few sentences, and no more than it has."""

from collections.abc import Iterator
from dataclasses import dataclass

import pandas as pd
from scipy import stats

from src.report import effects, numbers
from src.report.charts import words
from src.report.settings import Setting
from src.report.table import is_pruned, trainings

_CHANCE = 0.05  # what a choice at random would share more often is no finding
_TEST = "test_accuracy_best_val_acc"


@dataclass(frozen=True)
class Common:
    """A value that all of the best runs have, and others have not."""

    setting: Setting
    label: str
    chance: float
    """That so many runs chosen at random would all have some one value of the setting."""


def findings(table: pd.DataFrame, top: numbers.TopK) -> list[str]:
    """Sentences about an architecture: its best run, the range of the best, what they share.

    Last what augmentation changes, over runs that differ in nothing else.
    """
    rows = trainings(table[table["Modelname"] == top.model])
    left = [bar for bar in top.bars if bar.pruned_after is None]
    if not left:
        return ["No run has come to its end."]
    return [
        _best(left[0], top.rank_column, int((~is_pruned(rows)).sum())),
        *_range(left),
        *_common(rows[~is_pruned(rows)], left),
        _augmentation(table, top.model),
    ]


def common(rows: pd.DataFrame, best: pd.DataFrame) -> Iterator[Common]:
    """What all of `best` have and not all of `rows`, with how likely chance alone does that."""
    for setting in effects.varied(rows):
        of_all, of_best = setting.places(rows), set(setting.places(best))
        if len(of_best) == 1:
            chance = sum(
                float(stats.hypergeom.pmf(len(best), len(rows), of_all.count(level), len(best)))
                for level in range(len(setting.levels))
            )
            yield Common(setting, setting.labels[of_best.pop()], chance)


def as_markdown(found: dict[str, list[str]], summary: str) -> str:
    """The sentences of all architectures, under headings."""
    parts = [f"# What the sweep has shown\n\n{summary}\n"]
    for model, sentences in found.items():
        parts.append(f"## {model}\n\n" + "\n".join(f"- {line}" for line in sentences) + "\n")
    parts.append(
        "Intervals are 95 %. Each run is one seed: how much seeds differ is not in the intervals "
        "of single runs.\n"
    )
    return "\n".join(parts)


def _best(bar: numbers.Bar, column: str, runs: int) -> str:
    where = f"Best of {runs} by {words(column)}" if runs > 1 else "The only run"
    described = numbers.describe([bar.row])[0].replace("\N{NO-BREAK SPACE}", " ")
    told = ""
    for name in ("best_val_accuracy", "val_accuracy"):
        if (value := bar.row.get(name)) is not None and not pd.isna(value):
            told = f"validation {value:.2%}, "
            break
    return (
        f"{where}: {described}. Its accuracy: {told}test {bar.accuracy:.2%} "
        f"({bar.low:.2%} to {bar.high:.2%})."
    )


def _range(bars: list[numbers.Bar]) -> Iterator[str]:
    if len(bars) < 2:
        return
    most = max(bars, key=lambda bar: bar.accuracy)
    least = min(bar.accuracy for bar in bars)
    near = sum(numbers.within_noise(most, bar) for bar in bars if bar is not most)
    others = len(bars) - 1
    counted = f"{near} of the {others} others are"
    if others == 1:
        counted = f"the other one is {'' if near else 'not '}"
    elif near in (0, others):
        counted = f"{'all' if near else 'none'} of the {others} others are"
    yield (
        f"The {len(bars)} best lie between {least:.2%} and {most.accuracy:.2%} on the test images; "
        f"{counted.strip()} within noise of the most accurate of them."
    )


def _common(rows: pd.DataFrame, bars: list[numbers.Bar]) -> Iterator[str]:
    if len(bars) < 2 or len(rows) <= len(bars):
        return
    best = pd.DataFrame([bar.row for bar in bars])
    shared = list(common(rows, best))
    sure = [one for one in shared if one.chance < _CHANCE]
    unsure = [one for one in shared if one.chance >= _CHANCE]
    if sure:
        told = ", ".join(f"{_named(one)} (chance {one.chance:.1%})" for one in sure)
        yield f"All {len(bars)} of them have in common, and chance would seldom do it: {told}."
    if unsure:
        told = ", ".join(f"{_named(one)} (chance {one.chance:.0%})" for one in unsure)
        yield f"They {'also ' if sure else ''}share what may be chance: {told}."
    if not shared:
        yield f"The {len(bars)} best share no value that other runs lack."


def _augmentation(table: pd.DataFrame, model: str) -> str:
    found = effects.change(table, model, _TEST, "augmentation")
    if found is None:
        return "What augmentation changes is not known: too few runs differ in it alone."
    text = (
        f"Augmentation changed the test accuracy by {100 * found.mean:+.2f} points on average "
        f"({100 * found.low:+.2f} to {100 * found.high:+.2f}) over {found.pairs} pairs of runs "
        f"that differ in it alone, and raised it in {found.higher} of them"
    )
    return text + (": that may be noise." if found.low <= 0 <= found.high else ".")


def _named(one: Common) -> str:
    return f"{one.setting.words} {one.label}"
