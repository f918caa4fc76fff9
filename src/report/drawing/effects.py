"""What hyperparameters do: main effects, means of pairs, importance."""

import math
from collections.abc import Mapping, Sequence

import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import PercentFormatter

from src.report.charts import head, words
from src.report.drawing.marks import Places, colour, marker
from src.report.effects import Effect, Pair
from src.report.importance import Importance
from src.report.table import is_share

_ACROSS = 3  # panels in a row


def draw_effects(
    effects: Mapping[str, Sequence[Effect]], places: Places, column: str, note: str
) -> Figure:
    """Means of all runs with each value of a setting (lines), and the best of them (dashes)."""
    names = list(dict.fromkeys(e.setting.name for found in effects.values() for e in found))
    across = min(_ACROSS, len(names))
    down = math.ceil(len(names) / across)
    with sns.axes_style("whitegrid"), sns.plotting_context("notebook"):
        figure = Figure((4 * across, 3.1 * down + 0.5))
        grid = figure.subplots(down, across, squeeze=False, sharey=True)
    panels = list(grid.flat)
    for axes, name in zip(panels, names, strict=False):
        _effect(axes, name, effects, places)
        if is_share(column):
            axes.yaxis.set_major_formatter(PercentFormatter(xmax=1))
    for axes in panels[len(names) :]:
        axes.set_visible(False)
    sns.despine(figure)
    handles = [
        Line2D([], [], color=colour(places[model]), marker=marker(places[model]), label=model)
        for model in effects
    ]
    handles.append(Line2D([], [], color="0.4", ls="", marker="_", ms=12, label="the best"))
    figure.legend(handles=handles, loc="outside lower center", ncols=4, frameon=False)
    head(figure, f"Main effects on the {words(column)}", f"Means of all runs with a value. {note}")
    return figure


def draw_pairs(model: str, pairs: Sequence[Pair], column: str, note: str) -> Figure:
    """Means over the runs with each combination of the values of two settings."""
    across = min(_ACROSS, len(pairs))
    down = math.ceil(len(pairs) / across)
    share = is_share(column)
    factor = 100 if share else 1
    lowest = min(float(pair.means.min().min()) for pair in pairs) * factor
    highest = max(float(pair.means.max().max()) for pair in pairs) * factor
    with sns.axes_style("white"), sns.plotting_context("notebook", font_scale=0.9):
        figure = Figure((4.2 * across, 3.3 * down + 0.4))
        grid = figure.subplots(down, across, squeeze=False)
    panels = list(grid.flat)
    for axes, pair in zip(panels, pairs, strict=False):
        sns.heatmap(
            pair.means.astype(float) * factor,
            ax=axes,
            vmin=lowest,
            vmax=highest,
            cmap="viridis",
            annot=True,
            fmt=".1f" if share else ".3g",
            annot_kws={"size": 9},
            cbar=False,
            linewidths=1,
        )
        axes.set(xlabel=pair.across.words, ylabel=pair.down.words)
        axes.tick_params(axis="both", length=0, rotation=0)
    for axes in panels[len(pairs) :]:
        axes.set_visible(False)
    unit = " (%)" if share else ""
    head(figure, f"{model}: mean {words(column)}{unit} of every two settings", note)
    return figure


def draw_importance(found: Sequence[Importance], places: Places, column: str, note: str) -> Figure:
    """Each setting's share of the variance, by architecture."""
    rows = pd.DataFrame(
        [
            {"architecture": one.model, "setting": name.replace("_", " "), "share": share}
            for one in found
            for name, share in one.shares.items()
        ]
    )
    names, models = rows["setting"].nunique(), rows["architecture"].nunique()
    height = 1.2 + 0.16 * names * (1 + models)
    with sns.axes_style("whitegrid"), sns.plotting_context("notebook"):
        figure = Figure((9, height + 0.5))
        axes = figure.subplots()
        palette = {one.model: colour(places[one.model]) for one in found}
        sns.barplot(
            rows,
            x="share",
            y="setting",
            hue="architecture",
            palette=palette,
            saturation=1,
            ax=axes,
        )
    for container in axes.containers:
        axes.bar_label(container, fmt=lambda share: f"{share:.0%}", padding=3, size=9)  # type: ignore[arg-type]
    axes.xaxis.set_major_formatter(PercentFormatter(xmax=1))
    axes.set(
        ylabel="", xlabel="share of the variance", xlim=(0, min(1.08, rows["share"].max() * 1.15))
    )
    sns.despine(figure, left=True)
    sns.move_legend(axes, "lower right", frameon=True, title=None)
    method = "Functional ANOVA over the finished cells of an architecture."
    head(figure, f"What matters to the {words(column)}", f"{method} {note}")
    return figure


def _effect(axes: Axes, name: str, effects: Mapping[str, Sequence[Effect]], places: Places) -> None:
    """A panel: the mean with each value of a setting, and the best above it."""
    labels = list(
        dict.fromkeys(
            label
            for found in effects.values()
            for effect in found
            if effect.setting.name == name
            for label in effect.setting.labels
        )
    )
    for model, found in effects.items():
        place = places[model]
        for effect in found:
            if effect.setting.name != name:
                continue
            told = [
                (labels.index(label), mean, best)
                for label, mean, best in zip(
                    effect.setting.labels, effect.means, effect.best, strict=True
                )
                if mean is not None
            ]
            x, means, bests = zip(*told, strict=True)
            axes.plot(x, means, color=colour(place), marker=marker(place))
            axes.scatter(x, bests, color=colour(place), marker="_", s=140)
    axes.set_xticks(range(len(labels)), labels)
    axes.set(title=name.replace("_", " "), xlim=(-0.4, len(labels) - 0.6))
