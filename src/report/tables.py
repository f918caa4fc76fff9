"""The tables of a report as CSV, Markdown and LaTeX."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pandas as pd

from src.common import files
from src.report import numbers
from src.report.effects import Effect
from src.report.importance import Importance
from src.report.table import is_share

Tables = Mapping[str, pd.DataFrame]


def best(bars_of: Mapping[str, list[numbers.Bar]], column: str) -> pd.DataFrame:
    """The runs of charts, a row each: its rank, settings, the measure ranked by and accuracies."""
    return pd.DataFrame(
        [
            {
                "model": bar.row["Modelname"],
                "rank": place,
                **{name: bar.row[name] for name in numbers.SETTINGS},
                column: bar.row[column],
                "test_accuracy": bar.accuracy,
                "low_95": bar.low,
                "high_95": bar.high,
                "per_class_accuracy": bar.per_class_accuracy,
            }
            for bars in bars_of.values()
            for place, bar in enumerate(bars, 1)
        ]
    )


def main_effects(found: Mapping[str, Sequence[Effect]], column: str) -> pd.DataFrame:
    """Mean and best of a measure for each value of each setting that was varied."""
    return pd.DataFrame(
        [
            {
                "model": model,
                "setting": effect.setting.name,
                "value": label,
                "runs": runs,
                f"mean_{column}": mean,
                f"best_{column}": most,
            }
            for model, of_model in found.items()
            for effect in of_model
            for label, runs, mean, most in zip(
                effect.setting.labels, effect.runs, effect.means, effect.best, strict=True
            )
        ]
    )


def importances(found: list[Importance]) -> pd.DataFrame:
    """Each setting's share of the variance, by architecture."""
    return pd.DataFrame(
        [
            {"model": one.model, "setting": name, "share": share, "runs": one.runs}
            for one in found
            for name, share in one.shares.items()
        ]
    )


def write(tables: Tables, folder: Path) -> list[Path]:
    """Write each table that has rows as <folder>/<name>.csv, .md and .tex.

    CSV holds all digits; in the others shares are per cent with two of them.
    """
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for name, table in tables.items():
        if table.empty:
            continue
        for suffix, text in _TEXTS.items():
            path = folder / f"{name}.{suffix}"
            files.write_text(path, text(table))
            written.append(path)
    return written


def _rounded(table: pd.DataFrame) -> pd.DataFrame:
    """As a person reads it: shares in per cent, other numbers as short as they are told apart."""
    shown = table.copy()
    for name in table.select_dtypes("number"):
        if _is_share(str(name)):
            shown[name] = [_text(100 * value, ".2f") for value in table[name]]
        else:
            shown[name] = [_text(value, "g") for value in table[name]]
    titles = {
        name: str(name).replace("_", " ") + (" (%)" if _is_share(str(name)) else "")
        for name in shown
    }
    return shown.rename(columns=titles)


def _text(value: float, form: str) -> str:
    return "" if pd.isna(value) else format(value, form)


def _is_share(name: str) -> bool:
    return is_share(name) or name in ("low_95", "high_95", "share")


def _csv(table: pd.DataFrame) -> str:
    return table.to_csv(index=False)


def _markdown(table: pd.DataFrame) -> str:
    return _rounded(table).to_markdown(index=False, disable_numparse=True) + "\n"


def _latex(table: pd.DataFrame) -> str:
    shown = _rounded(table)
    numeric = [str(name) for name in table.select_dtypes("number")]
    form = "".join("r" if str(name) in numeric else "l" for name in table)
    styler = (
        shown.style.hide(axis="index")
        .format(escape="latex")
        .format_index(escape="latex", axis="columns")
    )
    return styler.to_latex(hrules=True, column_format=form)


_TEXTS: dict[str, Callable[[pd.DataFrame], str]] = {
    "csv": _csv,
    "md": _markdown,
    "tex": _latex,
}
