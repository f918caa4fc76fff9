"""Reports from the command line: python -m src.report"""

from argparse import Namespace
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from src.cli.entry_point import run_main
from src.common.errors import ExitStatus, UserError
from src.common.model_source import trust_model
from src.common.paths import RUNS_DIR
from src.config import MODEL_OPTIONS
from src.report import analysis_commands, commands
from src.report.report_data import TableOptions
from src.report.report_options import (
    PAGE_FLAGS,
    RUN_FLAGS,
    SUMMARY_FLAGS,
    TABLE_FLAGS,
    TSNE_FLAGS,
    parser_of,
    parser_of_all,
)
from src.report.run_analysis.run_selection import RunSelection


@dataclass(frozen=True)
class ReportCommand:
    """A command: its line of help, its function, and the flags that it accepts."""

    help: str
    act: Callable[[Namespace], ExitStatus]
    flags: Sequence[str]


def _for_table(text: str, act: Callable[[TableOptions], ExitStatus]) -> ReportCommand:
    """A command that needs the table and nothing else."""
    return ReportCommand(text, lambda parsed: act(_table_options(parsed)), TABLE_FLAGS)


def _chart(name: str, text: str) -> ReportCommand:
    return _for_table(text, partial(commands.chart, name=name))


def _for_page(text: str) -> ReportCommand:
    def act(parsed: Namespace) -> ExitStatus:
        return commands.page(_table_options(parsed), lambda: _read_cells(parsed), parsed.watch)

    return ReportCommand(text, act, PAGE_FLAGS)


def _read_cells(parsed: Namespace) -> commands.StateOf:
    """What gives the state of the cells of --sets or --grid, or else of the run folders.

    Raises UserError if these cannot be compared to run folders.
    """
    from src.sweep.status.page_state import read_sets, state_of_folders

    if parsed.sets and parsed.grid:
        raise UserError("--sets, --grid: expected one of them")
    if (parsed.sets or parsed.grid) and parsed.csv and not parsed.runs:
        raise UserError("--sets, --grid: with --csv, --runs must name the run folders too")
    sets = read_sets(parsed.sets, parsed.grid)
    return lambda runs_dir: state_of_folders(runs_dir, sets)


def _for_runs(
    text: str,
    act: Callable[[analysis_commands.AnalysisOptions], ExitStatus],
    *further_flags: str,
) -> ReportCommand:
    """A command that analyses single runs."""
    flags = (*RUN_FLAGS, *further_flags)
    return ReportCommand(text, lambda parsed: act(_analysis_options(parsed)), flags)


def _top_k_table(parsed: Namespace) -> ExitStatus:
    return commands.top_k_table(_table_options(parsed), as_json=parsed.json)


def _classes(parsed: Namespace) -> ExitStatus:
    return analysis_commands.classes(_analysis_options(parsed), as_json=parsed.json)


def _tsne(parsed: Namespace) -> ExitStatus:
    of_tsne = analysis_commands.TSNEOptions(
        training=parsed.sample == "train",
        images=parsed.images,
        seed=parsed.seed,
        device=getattr(parsed, "device", "auto"),
    )
    _name_model(parsed)
    return analysis_commands.tsne(_analysis_options(parsed), of_tsne)


def _name_model(parsed: Namespace) -> None:
    """Allow the code of the architecture that --model_type names to be run."""
    if "model_type" in parsed:
        trust_model(parsed.model_type)


def _tensorboard(parsed: Namespace) -> ExitStatus:
    from src.tracking import tensorboard

    return tensorboard.write_events(_selection(parsed), parsed.out, quiet=parsed.quiet)


def _summary(parsed: Namespace) -> ExitStatus:
    _name_model(parsed)
    names = (*MODEL_OPTIONS, "model_option")
    options = {name: getattr(parsed, name) for name in names if hasattr(parsed, name)}
    return analysis_commands.summary(_selection(parsed), options, as_json=parsed.json)


COMMANDS = {
    "": _for_page("the same as page"),
    "page": _for_page("aggregate, then every chart and table, and the page"),
    "aggregate": _for_table("merge the run folders into one CSV", commands.aggregate),
    "top-k": _chart("top-k", "the same as top-k charts"),
    "top-k charts": _chart("top-k", "a chart of the k best runs of each architecture"),
    "top-k table": ReportCommand(
        "the k best runs as a table", _top_k_table, (*TABLE_FLAGS, "json")
    ),
    "overall": _chart("overall", "a chart of the best run of each architecture"),
    "data-sets": _chart("data-sets", "a chart of each architecture across data sets"),
    "effects": _chart("effects", "a chart of what each setting does on average"),
    "pairs": _chart("pairs", "heat maps for each pair of settings and each architecture"),
    "importance": _chart("importance", "a chart of how much each setting matters"),
    "parallel": _chart("parallel", "a chart of all runs across their settings"),
    "scatter": _chart("scatter", "a chart of validation against test accuracy"),
    "confirmed": _chart("confirmed", "a chart of each shortlist with fresh seeds, and its winner"),
    "tables": _for_table(
        "the tables behind all these, as CSV, Markdown and LaTeX", commands.tables
    ),
    "findings": _for_table(
        "a text summary of what was found on each architecture", commands.findings
    ),
    "curves": _for_runs("loss and accuracy over the epochs of runs", analysis_commands.curves, "k"),
    "confusion": _for_runs("which classes are taken for which", analysis_commands.confusion),
    "classes": ReportCommand(
        "the accuracy of each class as a table, worst first", _classes, (*RUN_FLAGS, "k", "json")
    ),
    "images": _for_runs(
        "the most confident mistakes as pictures",
        analysis_commands.images,
        *("k", "base_dataset_path"),
    ),
    "tsne": ReportCommand(
        "the penultimate features of images in a plane (t-SNE)", _tsne, TSNE_FLAGS
    ),
    "tensorboard": ReportCommand(
        "run folders as TensorBoard event files",
        _tensorboard,
        ("run", "runs", "out", "model", "quiet"),
    ),
    "summary": ReportCommand(
        "layers, shapes, parameters and multiply-adds of a model",
        _summary,
        SUMMARY_FLAGS,
    ),
}

_HELP = """Reports of a sweep, and analyses of its runs.

{commands}

`python -m src.report REPORT --help` shows the options of each. Without REPORT it is page:"""


def main(arguments: Sequence[str]) -> ExitStatus:
    """Run a command. Raises UserError if there is no such command, or it has no such flag."""
    if asks_for_help := {"-h", "--help"}.intersection(arguments):
        arguments = [word for word in arguments if word not in asks_for_help]
    parser = parser_of_all()
    parsed = parser.parse(arguments)
    name = " ".join(parsed.what)
    if name not in COMMANDS:
        known = ", ".join(filter(None, COMMANDS))
        raise UserError(f"unknown report {name!r}: expected {known} or nothing")
    command = COMMANDS[name]
    if asks_for_help:
        print(_help(name, command), end="")
        return ExitStatus.DONE
    given = [key for key, value in vars(parsed).items() if value != parser.get_default(key)]
    for flag in given:
        if flag not in ("what", *command.flags):
            raise UserError(_no_such_flag(flag, name))
    return command.act(parsed)


def _help(name: str, command: ReportCommand) -> str:
    if name:
        description = f"{command.help[0].upper()}{command.help[1:]}."
        return parser_of(name, command.flags, description).format_help()
    lines = "\n".join(f"  {name:<14}{command.help}" for name, command in COMMANDS.items() if name)
    return parser_of("[REPORT]", command.flags, _HELP.format(commands=lines)).format_help()


def _no_such_flag(flag: str, name: str) -> str:
    accepting = [f"`{n}`" for n, command in COMMANDS.items() if n and flag in command.flags]
    if flag == "json":
        return f"--json: only {', '.join(accepting)} print anything that could be JSON"
    dashes = "-" if flag == "k" else "--"
    return f"{dashes}{flag}: `{name or 'page'}` has no such option, but {', '.join(accepting)}"


def _table_options(parsed: Namespace) -> TableOptions:
    return TableOptions(
        csv=parsed.csv,
        runs_dir=parsed.runs,
        out=parsed.out,
        k=parsed.k,
        model=parsed.model,
        rank_by=parsed.rank_by,
        each_run=parsed.each_run,
        quiet=parsed.quiet,
    )


def _selection(parsed: Namespace) -> RunSelection:
    return RunSelection(
        runs_dir=parsed.runs or RUNS_DIR,
        names=parsed.run or (),
        model=parsed.model,
        rank_by=parsed.rank_by,
    )


def _analysis_options(parsed: Namespace) -> analysis_commands.AnalysisOptions:
    return analysis_commands.AnalysisOptions(
        selection=_selection(parsed),
        out=parsed.out,
        k=parsed.k,
        data_path=getattr(parsed, "base_dataset_path", None),
        quiet=parsed.quiet,
    )


if __name__ == "__main__":
    run_main(main)
