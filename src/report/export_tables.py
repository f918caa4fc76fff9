"""The numbers of the charts as tables, written as CSV, Markdown and LaTeX."""

import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd

from src.common import files
from src.comparison.confirmation import Confirmation
from src.report.charts.importance import Importance, importances
from src.report.charts.main_effects import MainEffect, effects_by_model
from src.report.charts.overall import best_runs
from src.report.charts.top_k import RankedRun, rankings
from src.report.confirmed import confirmed_winner
from src.report.replicates import DEVIATION
from src.report.report_data import ReportData
from src.report.settings import HYPERPARAMETERS
from src.report.table import MODEL, column_label, is_share


def write_tables(report: ReportData, folder: Path) -> list[Path]:
    """Write the tables of a report into a folder. Raises UserError if no run has a rank."""
    column = report.rank_column
    overall = {run.row[MODEL]: [run] for run in best_runs(report)}
    tables = {
        "top_k": top_k_table(report),
        "overall": ranked_runs_table(overall, column).drop(columns="rank"),
        "effects": effects_table(effects_by_model(report), column),
        "importance": importance_table(importances(report)),
        "confirmed": confirmed_table(report.confirmations),
    }
    return write(tables, folder)


def top_k_table(report: ReportData) -> pd.DataFrame:
    """The best runs of each architecture of a report, a row for each run."""
    runs = {top.model: top.runs for top in rankings(report)}
    return ranked_runs_table(runs, report.rank_column)


def ranked_runs_table(runs: Mapping[str, Sequence[RankedRun]], column: str) -> pd.DataFrame:
    """Ranked runs by architecture: rank, hyperparameters, the ranked column and accuracies."""
    return pd.DataFrame(
        [
            {
                "model": run.row[MODEL],
                "rank": rank,
                **{name: run.row[name] for name in HYPERPARAMETERS},
                column: run.row[column],
                "test_accuracy": run.accuracy,
                "low_95": run.low,
                "high_95": run.high,
                "per_class_accuracy": run.per_class_accuracy,
                "seeds": run.seeds,
                "seed_deviation": run.row.get(DEVIATION, math.nan),
            }
            for of_model in runs.values()
            for rank, run in enumerate(of_model, 1)
        ]
    )


def effects_table(effects: Mapping[str, Sequence[MainEffect]], column: str) -> pd.DataFrame:
    """Main effects by architecture, a row for each level of a setting."""
    return pd.DataFrame(
        [
            {
                "model": model,
                "setting": effect.setting.name,
                "value": label,
                "runs": runs,
                f"mean_{column}": mean,
                f"best_{column}": best,
                f"median_{column}": median,
                **asdict(left_out),
            }
            for model, of_model in effects.items()
            for effect in of_model
            for label, runs, mean, best, median, left_out in zip(
                effect.setting.labels,
                effect.runs,
                effect.means,
                effect.best,
                effect.medians,
                effect.left_out,
                strict=True,
            )
        ]
    )


def confirmed_table(confirmations: Iterable[Confirmation]) -> pd.DataFrame:
    """Shortlisted configurations with fresh seeds; the winner's row also has its test accuracy."""
    return pd.DataFrame(
        [row for confirmation in confirmations for row in _confirmed_rows(confirmation)]
    )


def _confirmed_rows(confirmation: Confirmation) -> Iterator[dict[str, Any]]:
    winner = confirmed_winner(confirmation)
    for candidate in confirmation.candidates:
        config, interval = candidate.chosen.config, candidate.interval
        is_winner = winner is not None and candidate is winner.best
        test = winner.test if winner and is_winner else None
        yield {
            "model": config.model_name,
            "config_id": candidate.chosen.config_id,
            "augmentation": config.data_augmentation,
            **{name: getattr(config, name) for name in HYPERPARAMETERS if name != "augmentation"},
            "accuracy_when_chosen": candidate.chosen.chosen_accuracy,
            "seeds": len(candidate.replicates),
            "mean_accuracy": candidate.mean,
            "low_95": interval.low if interval else None,
            "high_95": interval.high if interval else None,
            "probability_of_best": candidate.probability,
            "verdict": str(candidate.verdict),
            "dropped_after": candidate.dropped.seeds if candidate.dropped else None,
            "test_accuracy": winner.test_mean if winner and is_winner else None,
            "test_low_95": test.low if test else None,
            "test_high_95": test.high if test else None,
            "test_seeds": len(winner.runs) if winner and is_winner else None,
            "test_seeds_are_final": winner.is_final if winner and is_winner else None,
            "selection_bias": winner.selection_bias if winner and is_winner else None,
        }


def importance_table(estimates: Iterable[Importance]) -> pd.DataFrame:
    """Shares of the variance, a row for each setting of an architecture."""
    return pd.DataFrame(
        [
            {"model": estimate.model, "setting": name, "share": share, "runs": estimate.runs}
            for estimate in estimates
            for name, share in estimate.shares.items()
        ]
    )


def write(tables: Mapping[str, pd.DataFrame], folder: Path) -> list[Path]:
    """Write each table that has rows as <folder>/<name>.csv, .md and .tex.

    CSV holds all digits. In the others shares are percentages with two digits.
    """
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for name, table in tables.items():
        if table.empty:
            continue
        for suffix, to_text in _FORMATS.items():
            path = folder / f"{name}.{suffix}"
            files.write_text(path, to_text(table))
            written.append(path)
    return written


def _csv(table: pd.DataFrame) -> str:
    return table.to_csv(index=False)


def _markdown(table: pd.DataFrame) -> str:
    """A pipe table, its columns padded to one width so that it can be read as plain text.

    What is not known is empty.
    """
    rounded = _rounded(table)
    texts = rounded.astype(object).where(rounded.notna(), "")
    rows = [list(map(str, row)) for row in (rounded, *texts.to_numpy())]
    widths = [
        max(len(rows[0][column]) + 2, *(len(row[column]) for row in rows[1:]))
        for column in range(len(rows[0]))
    ]
    lines = [
        "| " + " | ".join(c.ljust(width) for c, width in zip(row, widths, strict=True)) + " |"
        for row in rows
    ]
    lines.insert(1, "|" + "|".join(":" + "-" * (width + 1) for width in widths) + "|")
    return "\n".join(lines) + "\n"


def _latex(table: pd.DataFrame) -> str:
    numeric = [str(name) for name in table.select_dtypes("number")]
    alignment = "".join("r" if str(name) in numeric else "l" for name in table)
    styler = (
        _rounded(table)
        .style.hide(axis="index")
        .format(escape="latex", na_rep="")
        .format_index(escape="latex", axis="columns")
    )
    return styler.to_latex(hrules=True, column_format=alignment)


_SHARES = ("share", "seed_deviation", "probability_of_best", "selection_bias")
_FORMATS: dict[str, Callable[[pd.DataFrame], str]] = {
    "csv": _csv,
    "md": _markdown,
    "tex": _latex,
}


def _rounded(table: pd.DataFrame) -> pd.DataFrame:
    """Numbers as text, with few digits, shares in per cent; column names in words."""
    text = table.copy()
    for name in table.select_dtypes("number"):
        if _is_share(str(name)):
            text[name] = [_formatted(100 * value, ".2f") for value in table[name]]
        else:
            text[name] = [_formatted(value, "g") for value in table[name]]
    return text.rename(columns={name: _title(str(name)) for name in text})


def _title(column: str) -> str:
    """A column's name in words: "mean of best val accuracy (%)" of mean_best_val_accuracy."""
    words = re.sub("^(mean|best|median)_(?=best_|test_|train_)", r"\1 of ", column)
    words = words.replace("train_seconds", column_label("train_seconds"))
    return words.replace("_", " ") + (" (%)" if _is_share(column) else "")


def _formatted(value: float, number_format: str) -> str:
    return "" if pd.isna(value) else format(value, number_format)


def _is_share(name: str) -> bool:
    return is_share(name) or name.endswith("_95") or name in _SHARES
