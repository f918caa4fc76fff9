"""Reports from the command line: python -m src.report"""

from argparse import Namespace
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from src.cli.arguments import Parser, positive_int, seconds, seed
from src.cli.config_flags import add_config_flags
from src.cli.entry_point import run_main
from src.common.errors import ExitStatus, UserError
from src.common.paths import REPORT_DIR
from src.config import MODEL_OPTIONS
from src.report import analyses, commands, summary
from src.tracking import tensorboard

_WATCH_SECONDS = 30.0
_OF_TABLES = ("runs", "csv", "out", "k", "model", "rank_by", "quiet")
_OF_PAGE = (*_OF_TABLES, "sets", "grid", "watch")
_OF_RUNS = ("run", "runs", "out", "model", "rank_by", "quiet")


@dataclass(frozen=True)
class Command:
    """A report: what it is, what makes it, and the options that mean something to it."""

    help: str
    act: Callable[[Namespace], ExitStatus]
    options: Sequence[str] = _OF_TABLES


COMMANDS = {
    "": Command("the same as page", commands.everything, _OF_PAGE),
    "page": Command(
        "aggregate, then every chart and table, and the page", commands.everything, _OF_PAGE
    ),
    "aggregate": Command("merge the run folders into one CSV", commands.aggregate),
    "top-k": Command("the same as top-k charts", commands.making("top_k_charts")),
    "top-k charts": Command(
        "a chart of the k best runs of each architecture", commands.making("top_k_charts")
    ),
    "top-k table": Command("the same as a table", commands.top_k_table, (*_OF_TABLES, "json")),
    "overall": Command(
        "a chart of the best run of each architecture", commands.making("overall_chart")
    ),
    "effects": Command(
        "a chart of what each setting does on average", commands.making("effects_chart")
    ),
    "pairs": Command(
        "heat maps of every two settings, for each architecture", commands.making("pairs_charts")
    ),
    "importance": Command(
        "a chart of how much each setting matters", commands.making("importance_chart")
    ),
    "parallel": Command(
        "a chart of all runs across their settings", commands.making("parallel_chart")
    ),
    "scatter": Command(
        "a chart of their validation and test accuracies", commands.making("scatter_chart")
    ),
    "tables": Command(
        "the tables behind all these, as CSV, Markdown and LaTeX", commands.making("tables")
    ),
    "findings": Command(
        "what was shown of each architecture, in sentences", commands.print_findings
    ),
    "curves": Command(
        "loss and accuracy over the epochs of runs", analyses.draw_curves, (*_OF_RUNS, "k")
    ),
    "confusion": Command("which classes are taken for which", analyses.draw_confusion, _OF_RUNS),
    "classes": Command(
        "the same as a table, the worst classes first",
        analyses.print_classes,
        (*_OF_RUNS, "k", "json"),
    ),
    "images": Command(
        "the most confident mistakes as pictures",
        analyses.draw_images,
        (*_OF_RUNS, "k", "base_dataset_path"),
    ),
    "tsne": Command(
        "t-SNE of the penultimate features of images",
        analyses.draw_tsne,
        (*_OF_RUNS, "sample", "images", "seed", "base_dataset_path", "device"),
    ),
    "tensorboard": Command(
        "run folders as TensorBoard event files",
        tensorboard.write_events,
        ("run", "runs", "out", "model", "quiet"),
    ),
    "summary": Command(
        "layers, shapes, parameters and multiply-adds of a model",
        summary.print_summary,
        (*_OF_RUNS, "json", *MODEL_OPTIONS),
    ),
}

_HELP = """Reports of a sweep, and analyses of its runs.

{commands}

A file given with --csv is read as it is; otherwise the run folders are aggregated first. From
curves on, runs are those of --run, or the best of each architecture by validation accuracy (curves:
the k best)."""


def main(arguments: Sequence[str]) -> ExitStatus:
    """Make what was asked for."""
    parser = _parser()
    parsed = parser.parse(arguments)
    name = " ".join(parsed.what)
    if name not in COMMANDS:
        known = ", ".join(filter(None, COMMANDS))
        raise UserError(f"unknown report {name!r}: expected {known} or nothing")
    command = COMMANDS[name]
    given = [key for key, value in vars(parsed).items() if value != parser.get_default(key)]
    for option in given:
        if option not in ("what", *command.options):
            raise UserError(_refused(option, name))
    return command.act(parsed)


def _refused(option: str, name: str) -> str:
    having = [f"`{other}`" for other, command in COMMANDS.items() if option in command.options]
    having = [other for other in having if other != "``"]
    flag = option if option == "k" else f"-{option}"
    if option == "json":
        return f"--json: only {', '.join(having)} print anything that could be JSON"
    return f"-{flag}: `{name or 'page'}` has no such option, but {', '.join(having)}"


def _parser() -> Parser:
    lines = "\n".join(f"  {name or '(nothing)':<14}{one.help}" for name, one in COMMANDS.items())
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
        help=f"runs in a top-k [{commands.TOP}], or of each architecture in curves "
        f"[{analyses.CURVES}]; mistakes shown by images [{analyses.IMAGES}], and of a class by "
        f"classes [{analyses.MISTAKES}]",
    )
    parser.add_argument("--model", metavar="NAME", help="this architecture alone")
    parser.add_argument(
        "--rank_by", metavar="COLUMN", help="test_accuracy or any column [best_val_accuracy]"
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
        default=analyses.SAMPLE,
        metavar="N",
        help=f"tsne: images, equally many of each class [{analyses.SAMPLE}]",
    )
    parser.add_argument("--seed", type=seed, default=0, metavar="N", help="tsne: of its sample [0]")
    add_config_flags(parser, ("base_dataset_path", "device", *MODEL_OPTIONS))
    return parser


if __name__ == "__main__":
    run_main(main)
