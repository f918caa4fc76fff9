"""The parts of a report over one table: rows, charts, page."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
from matplotlib.figure import Figure

from src.common import files
from src.common.errors import UserError
from src.common.paths import file_name
from src.common.progress import ShowProgress, silent
from src.report import charts, effects, findings, numbers, parallel, table, tables
from src.report.importance import Importance, importance
from src.report.settings import told, with_settings
from src.runs.aggregate import unfinished
from src.runs.run_folder import State

if TYPE_CHECKING:
    from src.report.chosen import Chosen
    from src.report.page.standing import Sets

States = dict[str, Counter[State]]


@dataclass(frozen=True)
class Report:
    """A report over `runs`, into the folder `out`.

    states: where the runs of each architecture stand, as far as run folders tell.
    runs_dir: the run folders of the table, where they are known.
    sets: what is to be trained, by set, where that is given. follow: tells how far the page is.
    """

    runs: pd.DataFrame
    states: States
    out: Path
    k: int = 5
    model: str | None = None
    rank_by: str | None = None
    runs_dir: Path | None = None
    sets: "Sets | None" = None
    show_progress: ShowProgress = silent

    @cached_property
    def column(self) -> str:
        """The column that runs are ranked by."""
        return table.rank_column(self.runs, self.rank_by)

    @cached_property
    def folders(self) -> dict[str, "Chosen"]:
        """The run folders of the table's runs by their ids, where they are known."""
        from src.report.page import details

        return details.folders(self.runs_dir, filter(None, told(self.runs, "run_id")))

    @cached_property
    def full(self) -> pd.DataFrame:
        """The table with every setting that run folders tell and it does not."""
        configs = {run_id: run.config.as_dict() for run_id, run in self.folders.items()}
        return with_settings(self.runs, configs)

    def top_k(self) -> Iterator[numbers.TopK]:
        """The best runs of each architecture that has any."""
        for model in self.models:
            top = numbers.top_k(self.full, model, self.k, self.column)
            if top.bars:
                yield top

    def top_k_table(self) -> pd.DataFrame:
        """The best runs of each architecture, a row each."""
        return tables.best({top.model: top.bars for top in self.top_k()}, self.column)

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

    @cached_property
    def models(self) -> list[str]:
        """The architectures that the report is about."""
        return table.architectures(self.runs, self.model)

    def effects(self) -> dict[str, list[effects.Effect]]:
        """The main effects of the settings that were varied, by architecture."""
        found = {m: effects.effects(self.full, m, self.column) for m in self.models}
        return {model: of_model for model, of_model in found.items() if of_model}

    def effects_figure(self) -> Figure | None:
        """A drawing of main effects; None where nothing varies."""
        from src.report.drawing.effects import draw_effects

        found = self.effects()
        return draw_effects(found, self._places, self.column, self._missing()) if found else None

    def effects_chart(self) -> list[Path]:
        """The same as <out>/effects.png and .svg."""
        figure = self.effects_figure()
        return charts.save(figure, self.out / "effects") if figure else []

    def effects_table(self) -> pd.DataFrame:
        """The same, a row for each value of a setting."""
        return tables.main_effects(self.effects(), self.column)

    def pairs_charts(self) -> list[Path]:
        """Heat maps of every two settings, for each architecture with more than one that varies.

        As <out>/<model>_pairs.png and .svg.
        """
        from src.report.drawing.effects import draw_pairs

        written = []
        for model in self.models:
            if found := effects.pairs(self.full, model, self.column):
                figure = draw_pairs(model, found, self.column, self._missing(model))
                written += charts.save(figure, self.out / file_name(f"{model}_pairs"))
        return written

    @cached_property
    def importances(self) -> list[Importance]:
        """What matters, by architecture."""
        return [importance(self.full, model, self.column) for model in self.models]

    def importance_figure(self) -> Figure | None:
        """A drawing of importances; None where none can be told."""
        from src.report.drawing.effects import draw_importance

        told = [one for one in self.importances if one.shares]
        if not told:
            return None
        return draw_importance(told, self._places, self.column, self._missing())

    def importance_chart(self) -> list[Path]:
        """The same as <out>/importance.png and .svg."""
        figure = self.importance_figure()
        return charts.save(figure, self.out / "importance") if figure else []

    def importance_table(self) -> pd.DataFrame:
        """The same, a row for each setting of an architecture."""
        return tables.importances(self.importances)

    def parallel_figure(self) -> Figure | None:
        """Every run across its settings; None where nothing varies."""
        from src.report.drawing.runs import draw_parallel

        rows = self._of_models.dropna(subset=[self.column])
        found = parallel.axes(rows, self.column)
        if len(found) == 1:
            return None
        title = f"{len(rows):,} runs across their settings"
        return draw_parallel(found, rows["Modelname"], self._places, title, self._missing())

    def parallel_chart(self) -> list[Path]:
        """The same as <out>/parallel.png and .svg."""
        figure = self.parallel_figure()
        return charts.save(figure, self.out / "parallel") if figure else []

    def scatter_figure(self) -> Figure | None:
        """Runs by validation and test accuracy; None where the table tells no validation's."""
        from src.report.drawing.runs import draw_scatter

        across = table.rank_column(self.runs, None)
        rows = self._of_models.dropna(subset=[across, table.TEST])
        if across == table.TEST or rows.empty:
            return None
        return draw_scatter(rows, self._places, across, table.TEST, self._missing())

    def scatter_chart(self) -> list[Path]:
        """The same as <out>/scatter.png and .svg."""
        figure = self.scatter_figure()
        return charts.save(figure, self.out / "scatter") if figure else []

    @cached_property
    def _places(self) -> dict[str, int]:
        """Of all architectures of the table, also where the report is about one."""
        return {model: place for place, model in enumerate(table.architectures(self.runs))}

    @cached_property
    def _of_models(self) -> pd.DataFrame:
        return self.full[self.full["Modelname"].isin(self.models)]

    def tables(self) -> list[Path]:
        """The tables behind the charts, as CSV, Markdown and LaTeX in <out>/tables."""
        overall = {bar.row["Modelname"]: [bar] for bar in self.overall()}
        found = {
            "top_k": self.top_k_table(),
            "overall": tables.best(overall, self.column).drop(columns="rank", errors="ignore"),
            "effects": self.effects_table(),
            "importance": self.importance_table(),
        }
        return tables.write(found, self.out / "tables")

    @cached_property
    def findings(self) -> dict[str, list[str]]:
        """What was shown of each architecture, in sentences."""
        return {top.model: findings.findings(self.full, top) for top in self.top_k()}

    def findings_text(self) -> str:
        """The same as Markdown."""
        return findings.as_markdown(self.findings, self.summary())

    def findings_file(self) -> list[Path]:
        """The same in <out>/findings.md."""
        self.out.mkdir(parents=True, exist_ok=True)
        files.write_text(self.out / "findings.md", self.findings_text())
        return [self.out / "findings.md"]

    def everything(self) -> list[Path]:
        """Every chart and table, the findings in words, and the page."""
        return [
            *self.overall_chart(),
            *self.top_k_charts(),
            *self.effects_chart(),
            *self.pairs_charts(),
            *self.importance_chart(),
            *self.parallel_chart(),
            *self.scatter_chart(),
            *self.tables(),
            *self.findings_file(),
            self.page(),
        ]

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
        parts.append(self._missing(model))
        return " ".join(filter(None, parts))

    def _missing(self, model: str | None = None) -> str:
        missing = self.missing(model)
        return f"Not shown: {missing}." if missing else ""


def _largest(rows: pd.DataFrame, column: str) -> int | None:
    known: list[float] = rows[column].dropna().tolist() if column in rows else []
    return int(max(known)) if known else None
