"""The parts of a report over one table: rows, charts, page."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
from matplotlib.figure import Figure

from src.errors import UserError
from src.paths import file_name
from src.report import charts, numbers, table
from src.results.aggregate import unfinished
from src.results.store import State

if TYPE_CHECKING:
    from src.report.page.standing import Sets

States = dict[str, Counter[State]]


@dataclass(frozen=True)
class Report:
    """A report over `runs`, into the folder `out`.

    states: where the runs of each architecture stand, as far as run folders tell.
    runs_dir: the run folders of the table, where they are known.
    sets: what is to be trained, by set, where that is given.
    """

    runs: pd.DataFrame
    states: States
    out: Path
    k: int = 5
    model: str | None = None
    rank_by: str | None = None
    runs_dir: Path | None = None
    sets: "Sets | None" = None

    @cached_property
    def column(self) -> str:
        """The column that runs are ranked by."""
        return table.rank_column(self.runs, self.rank_by)

    def top_k(self) -> Iterator[numbers.TopK]:
        """The best runs of each architecture that has any."""
        for model in table.architectures(self.runs, self.model):
            top = numbers.top_k(self.runs, model, self.k, self.column)
            if top.bars:
                yield top

    def top_k_rows(self) -> list[dict[str, Any]]:
        """The best runs of each architecture as rows of a table."""
        return [
            {
                "model": top.model,
                "rank": place,
                **{name: bar.row[name] for name in numbers.SETTINGS},
                self.column: bar.row[self.column],
                "test_accuracy": bar.accuracy,
                "low_95": bar.low,
                "high_95": bar.high,
                "per_class_accuracy": bar.per_class_accuracy,
            }
            for top in self.top_k()
            for place, bar in enumerate(top.bars, 1)
        ]

    def overall(self) -> list[numbers.Bar]:
        """The best run of each architecture. Raises UserError where nothing ranks them."""
        bars = numbers.overall(self.runs, self.column)
        if not bars:
            raise UserError(f"--rank-by: no run has a {self.column}")
        return bars

    def top_k_figures(self) -> Iterator[tuple[numbers.TopK, Figure]]:
        """The best runs of each architecture, with a drawing of them."""
        for top in self.top_k():
            yield top, charts.top_k(top, self._note(top.model))

    def overall_figure(self) -> Figure:
        """A drawing of the best run of each architecture."""
        return charts.overall(self.overall(), self.column, self._note())

    def top_k_charts(self) -> list[Path]:
        """The best runs of each architecture as <out>/<model>_top_k.png and .svg."""
        return [
            path
            for top, figure in self.top_k_figures()
            for path in charts.save(figure, self.out / file_name(f"{top.model}_top_k"))
        ]

    def overall_chart(self) -> list[Path]:
        """The best run of each architecture as <out>/overall.png and .svg."""
        return charts.save(self.overall_figure(), self.out / "overall")

    def everything(self) -> list[Path]:
        """Every chart, and the page."""
        return [*self.overall_chart(), *self.top_k_charts(), self.page()]

    def page(self, watch: float | None = None) -> Path:
        """The page. watch: seconds until it is written again, which it then reads by itself."""
        from src.report.page import content, document

        of_page = content.content(self, watch)
        return document.write(self.out / "report.html", of_page, self.summary(), self._note())

    def summary(self) -> str:
        """What the table holds, in words."""
        trained = len(table.trainings(self.runs))
        pruned = int(table.is_pruned(self.runs).sum())
        text = f"{len(self.runs) - pruned} finished runs"
        text += f" and {pruned} pruned ones" if pruned else ""
        text += f", {trained} different trainings, ranked by {charts.words(self.column)}."
        if missing := self.missing():
            text += f" Not shown: {missing}."
        return text

    def missing(self, model: str | None = None) -> str:
        """The runs that no table shows, in words; empty where none is missing or nobody knows."""
        if model:
            return unfinished(self.states.get(model, Counter()))
        return unfinished(sum(self.states.values(), Counter[State]()))

    def _note(self, model: str | None = None) -> str:
        """What a reader of a chart must know: intervals, images, epochs, what is missing."""
        rows = self.runs if model is None else self.runs[self.runs["Modelname"] == model]
        images = _largest(rows, "test_images") or numbers.TEST_IMAGES
        parts = [f"Lines: 95 % Wilson intervals of {images:,} test images."]
        if epochs := _largest(rows, "num_epochs"):
            parts.append(f"At most {epochs} epochs.")
        if table.rank_column(self.runs, None) != table.DEFAULT_RANK:
            parts.append("The table does not tell the best validation accuracies.")
        if pruned := int(table.is_pruned(table.trainings(rows)).sum()):
            parts.append(f"{pruned} runs were pruned before their end: they rank last.")
        if missing := self.missing(model):
            parts.append(f"Not shown: {missing}.")
        return " ".join(parts)


def _largest(rows: pd.DataFrame, column: str) -> int | None:
    known: list[float] = rows[column].dropna().tolist() if column in rows else []
    return int(max(known)) if known else None
