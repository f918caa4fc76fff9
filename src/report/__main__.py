"""Reports from the command line: python -m src.report"""

from argparse import Namespace
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from src.cli.arguments import Parser, positive_int, seconds, seed
from src.cli.common_options import add_model_option
from src.cli.config_flags import add_config_flags
from src.cli.entry_point import run_main
from src.common.errors import ExitStatus, UserError
from src.common.model_source import name_model
from src.common.paths import REPORT_DIR, RUNS_DIR
from src.config import MODEL_OPTIONS
from src.report import analysis_commands, commands
from src.report.report_data import TOP_K, TableOptions
from src.report.run_analysis.run_selection import RunSelection

_WATCH_SECONDS = 30.0
_TABLE_FLAGS = ("runs", "csv", "out", "k", "model", "rank_by", "each_run", "quiet")
_PAGE_FLAGS = (*_TABLE_FLAGS, "sets", "grid", "watch")
_RUN_FLAGS = ("run", "runs", "out", "model", "rank_by", "quiet")


@dataclass(frozen=True)
class ReportCommand:
    """A command: its line of help, its function, and the flags that it accepts."""

    help: str
    act: Callable[[Namespace], ExitStatus]
    flags: Sequence[str]


def _for_table(text: str, act: Callable[[TableOptions], ExitStatus]) -> ReportCommand:
    """A command that needs the table and nothing else."""
    return ReportCommand(text, lambda parsed: act(_table_options(parsed)), _TABLE_FLAGS)


def _chart(name: str, text: str) -> ReportCommand:
    return _for_table(text, partial(commands.chart, name=name))


def _for_page(text: str) -> ReportCommand:
    def act(parsed: Namespace) -> ExitStatus:
        return commands.page(_table_options(parsed), lambda: _read_cells(parsed), parsed.watch)

    return ReportCommand(text, act, _PAGE_FLAGS)


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
    flags = (*_RUN_FLAGS, *further_flags)
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
        name_model(parsed.model_type)


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
    "top-k table": ReportCommand("the same as a table", _top_k_table, (*_TABLE_FLAGS, "json")),
    "overall": _chart("overall", "a chart of the best run of each architecture"),
    "data-sets": _chart("data-sets", "a chart of each architecture across data sets"),
    "effects": _chart("effects", "a chart of what each setting does on average"),
    "pairs": _chart("pairs", "heat maps of every two settings, for each architecture"),
    "importance": _chart("importance", "a chart of how much each setting matters"),
    "parallel": _chart("parallel", "a chart of all runs across their settings"),
    "scatter": _chart("scatter", "a chart of their validation and test accuracies"),
    "confirmed": _chart("confirmed", "a chart of each shortlist with fresh seeds, and its winner"),
    "tables": _for_table(
        "the tables behind all these, as CSV, Markdown and LaTeX", commands.tables
    ),
    "findings": _for_table("what was shown of each architecture, in sentences", commands.findings),
    "curves": _for_runs("loss and accuracy over the epochs of runs", analysis_commands.curves, "k"),
    "confusion": _for_runs("which classes are taken for which", analysis_commands.confusion),
    "classes": ReportCommand(
        "the same as a table, the worst classes first", _classes, (*_RUN_FLAGS, "k", "json")
    ),
    "images": _for_runs(
        "the most confident mistakes as pictures",
        analysis_commands.images,
        *("k", "base_dataset_path"),
    ),
    "tsne": ReportCommand(
        "t-SNE of the penultimate features of images",
        _tsne,
        (*_RUN_FLAGS, "sample", "images", "seed", "base_dataset_path", "device", "model_type"),
    ),
    "tensorboard": ReportCommand(
        "run folders as TensorBoard event files",
        _tensorboard,
        ("run", "runs", "out", "model", "quiet"),
    ),
    "summary": ReportCommand(
        "layers, shapes, parameters and multiply-adds of a model",
        _summary,
        (*_RUN_FLAGS, "json", "model_type", "model_option", *MODEL_OPTIONS),
    ),
}

_HELP = """Reports of a sweep, and analyses of its runs.

{commands}

A file given with --csv is read as it is; otherwise the run folders are aggregated first. From
curves on, runs are those of --run, or the best of each architecture by validation accuracy (curves:
the k best)."""


def main(arguments: Sequence[str]) -> ExitStatus:
    """Run a command. Raises UserError if there is no such command, or it has no such flag."""
    parser = _parser()
    parsed = parser.parse(arguments)
    name = " ".join(parsed.what)
    if name not in COMMANDS:
        known = ", ".join(filter(None, COMMANDS))
        raise UserError(f"unknown report {name!r}: expected {known} or nothing")
    command = COMMANDS[name]
    given = [key for key, value in vars(parsed).items() if value != parser.get_default(key)]
    for flag in given:
        if flag not in ("what", *command.flags):
            raise UserError(_no_such_flag(flag, name))
    return command.act(parsed)


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


def _parser() -> Parser:
    lines = "\n".join(
        f"  {name or '(nothing)':<14}{command.help}" for name, command in COMMANDS.items()
    )
    parser = Parser(prog="python -m src.report", description=_HELP.format(commands=lines))
    parser.add_argument("what", nargs="*", metavar="REPORT", help="one of the above")
    parser.add_argument("--runs", type=Path, metavar="DIR", help="run folders [saved_models]")
    parser.add_argument("--csv", type=Path, metavar="FILE", help="table [clean_runs.csv]")
    parser.add_argument(
        "--out", type=Path, default=REPORT_DIR, metavar="DIR", help="charts and page [report]"
    )
    parser.add_argument(
        "-k",
        type=positive_int,
        metavar="N",
        help=f"runs in a top-k [{TOP_K}], or of each architecture in curves "
        f"[{analysis_commands.CURVES}]; mistakes shown by images [{analysis_commands.MISTAKES}], "
        f"and of a class by classes [{analysis_commands.CONFUSIONS}]",
    )
    parser.add_argument("--model", metavar="NAME", help="this architecture alone")
    parser.add_argument(
        "--rank_by", metavar="COLUMN", help="test_accuracy or any column [best_val_accuracy]"
    )
    parser.add_argument(
        "--each_run",
        action="store_true",
        help="rank runs that differ in their seed alone one by one, not by their mean",
    )
    parser.add_argument(
        "--watch",
        nargs="?",
        type=seconds,
        const=_WATCH_SECONDS,
        metavar="SECONDS",
        help="page: write it again every so many seconds, until Ctrl-C; open in a browser, it "
        f"reads itself again [{_WATCH_SECONDS:g}]",
    )
    parser.add_argument(
        "--sets", type=Path, metavar="DIR", help="page: set files whose cells are counted"
    )
    parser.add_argument("--grid", type=Path, metavar="FILE", help="page: a YAML grid, instead")
    parser.add_argument("--json", action="store_true", help="a table as JSON on stdout")
    parser.add_argument("-q", "--quiet", action="store_true", help="no notes on stderr")
    parser.add_argument(
        "--run",
        action="append",
        metavar="RUN",
        help="a run's folder, its name, or at least 4 digits of its id; may be repeated",
    )
    parser.add_argument(
        "--sample",
        choices=("test", "train"),
        default="test",
        help="tsne: test images, or training images sent through the run's weights [test]",
    )
    parser.add_argument(
        "--images",
        type=positive_int,
        default=analysis_commands.TSNE_IMAGES,
        metavar="N",
        help=f"tsne: images, equally many of each class [{analysis_commands.TSNE_IMAGES}]",
    )
    parser.add_argument("--seed", type=seed, default=0, metavar="N", help="tsne: of its sample [0]")
    add_model_option(parser)
    add_config_flags(parser, ("base_dataset_path", "device", "model_option", *MODEL_OPTIONS))
    return parser


if __name__ == "__main__":
    run_main(main)
