"""The flags of python -m src.report, and the parser of each of its commands."""

import argparse
from collections.abc import Collection
from pathlib import Path
from typing import Any

from src.cli.arguments import Parser, positive_int, seconds, seed
from src.cli.common_options import add_model_option
from src.cli.config_flags import add_flags_of
from src.common.paths import REPORT_DIR
from src.config import MODEL_OPTIONS
from src.report.analysis_commands import CONFUSIONS, CURVES, MISTAKES, TSNE_IMAGES
from src.report.report_data import TOP_K

TABLE_FLAGS = ("runs", "csv", "out", "k", "model", "rank_by", "each_run", "quiet")
"""Flags of the commands that read the table."""
PAGE_FLAGS = (*TABLE_FLAGS, "sets", "grid", "watch")
RUN_FLAGS = ("run", "runs", "out", "model", "rank_by", "quiet")
"""Flags of the commands that analyse single runs."""
TSNE_FLAGS = (*RUN_FLAGS, "sample", "images", "seed", "base_dataset_path", "device", "model_type")
SUMMARY_FLAGS = (*RUN_FLAGS, "json", "model_type", "model_option", *MODEL_OPTIONS)

EVERY_FLAG = tuple(dict.fromkeys([*PAGE_FLAGS, *TSNE_FLAGS, *SUMMARY_FLAGS]))
_COUNTED = {
    "curves": f"best runs of each architecture [{CURVES}]",
    "images": f"mistakes to show [{MISTAKES}]",
    "classes": f"classes to list that a class is taken for [{CONFUSIONS}]",
}
"""What -k counts, by command, where it is not the runs of a top-k."""
_CHOSEN = {"curves": "the k best", "tensorboard": "all"}
"""The runs that a command analyses without --run, where it is not the best."""
_WATCH_SECONDS = 30.0


def parser_of_all() -> Parser:
    """The parser that reads the words of a command, and the flags of every command."""
    parser = Parser(prog="python -m src.report", add_help=False)
    parser.add_argument("what", nargs="*")
    _add_flags(parser, EVERY_FLAG, "")
    return parser


def parser_of(command: str, flags: Collection[str], description: str) -> Parser:
    """The parser of one command, whose help shows the flags that it accepts."""
    parser = Parser(prog=f"python -m src.report {command}", description=description)
    _add_flags(parser, flags, command)
    return parser


class _Group:
    """A titled group of a parser's flags: those of them that a command accepts."""

    def __init__(self, parser: Parser, title: str, accepted: Collection[str]) -> None:
        self.group: argparse._ActionsContainer = parser.add_argument_group(title)
        self.accepted = accepted

    def add(self, *names: str, **settings: Any) -> None:
        """Add a flag as `add_argument` does."""
        if names[-1].lstrip("-") in self.accepted:
            self.group.add_argument(*names, **settings)

    def add_of_config(self, *names: str, **texts: str) -> None:
        """Add flags of fields of RunConfig. texts: help that is not as in training, by name."""
        names = tuple(name for name in names if name in self.accepted)
        add_flags_of(names, self.group, texts, without_default=["base_dataset_path"])


def _add_flags(parser: Parser, accepted: Collection[str], command: str) -> None:
    _add_choice_of_runs(_Group(parser, "runs", accepted), command)
    _add_choice_of_images(_Group(parser, "images", accepted))
    architecture = _Group(parser, "architecture", accepted)
    if "model_type" in accepted:
        add_model_option(architecture.group)
    architecture.add_of_config("model_option", *MODEL_OPTIONS)
    _add_progress(_Group(parser, "progress of the sweep", accepted))
    output = _Group(parser, "output", accepted)
    output.add("--out", type=Path, default=REPORT_DIR, metavar="DIR", help="output folder [report]")
    output.add("--json", action="store_true", help="JSON on stdout")
    output.add("-q", "--quiet", action="store_true", help="no notes on stderr")


_HELP_OF_CSV = {
    "aggregate": "where to write the table [clean_runs.csv]",
    **dict.fromkeys(
        ("", "page"),
        "table, read as it is [made of the run folders, and written to clean_runs.csv]",
    ),
}


def _add_choice_of_runs(group: _Group, command: str) -> None:
    group.add("--runs", type=Path, metavar="DIR", help="run folders [saved_models]")
    group.add(
        "--csv",
        type=Path,
        metavar="FILE",
        help=_HELP_OF_CSV.get(command, "table, read as it is [made of the run folders]"),
    )
    group.add(
        "--run",
        action="append",
        metavar="RUN",
        help="a run's folder, its name, or at least 4 digits of its id; may be repeated "
        f"[{_CHOSEN.get(command, 'the best')} of each architecture]",
    )
    group.add("--model", metavar="NAME", help="this architecture alone")
    group.add("--rank_by", metavar="COLUMN", help="test_accuracy or any column [best_val_accuracy]")
    group.add(
        "--each_run",
        action="store_true",
        help="rank runs that differ in their seed alone one by one, not by their mean",
    )
    of_top_k = f"runs of each architecture in a top-k [{TOP_K}]"
    group.add("-k", type=positive_int, metavar="N", help=_COUNTED.get(command, of_top_k))


def _add_choice_of_images(group: _Group) -> None:
    group.add(
        "--sample",
        choices=("test", "train"),
        default="test",
        help="test images, or training images sent through the run's weights [test]",
    )
    group.add(
        "--images",
        type=positive_int,
        default=TSNE_IMAGES,
        metavar="N",
        help=f"number of images, equally many of each class [{TSNE_IMAGES}]",
    )
    group.add("--seed", type=seed, default=0, metavar="N", help="seed of the sample [0]")
    group.add_of_config(
        "base_dataset_path",
        "device",
        base_dataset_path="folder of the data, if not where the run was trained",
        device="where to compute; auto: a GPU if there is one",
    )


def _add_progress(group: _Group) -> None:
    group.add("--sets", type=Path, metavar="DIR", help="set files whose cells are counted")
    group.add("--grid", type=Path, metavar="FILE", help="or a YAML grid, in place of set files")
    group.add(
        "--watch",
        nargs="?",
        type=seconds,
        const=_WATCH_SECONDS,
        metavar="SECONDS",
        help="rewrite the page at this interval, until Ctrl-C; a browser that shows it reloads "
        f"it [{_WATCH_SECONDS:g}]",
    )
