"""Tuning from the command line: python -m src.tune lr-find | search"""

import json
import math
import sys
from argparse import ArgumentTypeError, Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from src.cli import Parser, add_config_flags, config_from, door, positive
from src.config import field_names
from src.errors import ExitStatus, UserError
from src.paths import REPORT_DIR, RUNS_DIR, shown

if TYPE_CHECKING:
    from src.tune import workers

_HELP = """Tuning from the command line.

  lr-find    test a range of learning rates in some steps of training, and suggest one
  search     try settings from given ranges, each trial an ordinary run, by TPE and pruning

`python -m src.tune COMMAND --help` tells more."""


def main(arguments: Sequence[str]) -> ExitStatus:
    """Pass on to the command that the first argument names."""
    commands = {"lr-find": lr_find, "search": search}
    if not arguments or arguments[0] in ("-h", "--help"):
        print(_HELP)
        return ExitStatus.DONE if arguments else ExitStatus.BAD_INPUT
    name, *rest = arguments
    if name not in commands:
        raise UserError(f"unknown command {name!r}: expected one of {', '.join(commands)}")
    return commands[name](rest)


def lr_find(arguments: Sequence[str]) -> ExitStatus:
    """Suggest a learning rate for a run."""
    parser = Parser(
        prog="python -m src.tune lr-find",
        description="Learning-rate range test: train some steps on the run's own batches while "
        "the rate grows,\nand suggest the rate at which the loss falls fastest. Leaves no run.",
    )
    parser.add_argument("--config", type=Path, metavar="FILE", help="YAML file; flags win over it")
    parser.add_argument("--start", type=_rate, default=1e-7, metavar="RATE", help="first [1e-7]")
    parser.add_argument("--end", type=_rate, default=10.0, metavar="RATE", help="last [10]")
    parser.add_argument("--steps", type=positive, default=100, metavar="N", help="batches [100]")
    _add_out_options(parser, "the curve goes, as chart and table")
    add_config_flags(parser)
    parsed = parser.parse(arguments)
    config = config_from(parsed)
    from src.tune import lr_find as finder

    curve = finder.measure(config, finder.Sweep(parsed.start, parsed.end, parsed.steps))
    from src.tune import charts

    stem = parsed.config.stem if parsed.config else config.model_type
    path = parsed.out / f"{stem}_lr_find"
    drawn = charts.draw_curve(curve, config, path)
    finder.save_csv(curve, path.with_suffix(".csv"))
    if parsed.json:
        print(json.dumps({"learning_rate": curve.suggestion, "steps": len(curve.rates)}))
        return ExitStatus.DONE
    print(f"learning rate:  {curve.suggestion:g}")
    print(f"curve:          {shown(drawn[0])}")
    return ExitStatus.DONE


def search(arguments: Sequence[str]) -> ExitStatus:
    """Search the space of a YAML file."""
    parsed = _search_parser().parse(arguments)
    from src.tune import space

    flags = {name: value for name, value in vars(parsed).items() if name in field_names()}
    wanted = space.read(parsed.config, flags)
    from src.tune import workers

    order = workers.Order(wanted, parsed.runs, parsed.trials, parsed.pruner, parsed.quiet)
    executor = parsed.executor or ("local" if parsed.workers > 1 else None)
    if executor is None:
        why = workers.work(order)
    else:
        asked = (parsed.workers, parsed.time, parsed.gpus, parsed.partition)
        jobs = workers.submit(order, workers.Jobs(executor, *asked))
        if executor == "slurm":
            print("\n".join(job.job_id for job in jobs))
            return ExitStatus.DONE
        why = workers.wait(jobs)
    return _conclude(order, why, parsed)


def _conclude(order: "workers.Order", why: str | None, parsed: Namespace) -> ExitStatus:
    """Print and write what the search has found."""
    from src.tune import best, charts, numbers

    study = order.search()
    found = best.best(study)
    if why:
        print(f"given up: {why}", file=sys.stderr)
    if found is None:
        print(f"no trial is complete: {best.counted(best.counts(study))}", file=sys.stderr)
        return ExitStatus.SOME_RUNS_FAILED
    recipe = best.write_recipe(study, found, parsed.out)
    drawn = numbers.collect(study.space, study.study)
    if drawn.importances is None:
        print("no chart of importances: too few trials to tell", file=sys.stderr)
    charts.draw(drawn, study.space.stem, parsed.out)
    print((best.as_json if parsed.json else best.as_text)(found, recipe))
    return ExitStatus.SOME_RUNS_FAILED if why else ExitStatus.DONE


def _search_parser() -> Parser:
    parser = Parser(
        prog="python -m src.tune search",
        description="Search settings by Optuna: every trial is an ordinary run, judged by its "
        "lowest validation loss.\nThe same command goes on where it was stopped; flags win over "
        "the file's fixed settings.",
    )
    parser.add_argument(
        "--config", type=Path, required=True, metavar="FILE", help="YAML settings and 'search:'"
    )
    parser.add_argument(
        "--trials", type=positive, default=30, metavar="N", help="trials in total [30]"
    )
    parser.add_argument(
        "--pruner",
        choices=("median", "halving", "none"),
        default="median",
        help="who stops hopeless trials: the median of the others at the same epoch, successive "
        "halving, or nobody [median]",
    )
    parser.add_argument(
        "--runs", type=Path, default=RUNS_DIR, metavar="DIR", help="run folders [saved_models]"
    )
    _add_out_options(parser, "the best recipe and the charts go")
    parser.add_argument("-q", "--quiet", action="store_true", help="no progress on stderr")
    _add_worker_options(parser)
    add_config_flags(parser)
    return parser


def _add_out_options(parser: Parser, what: str) -> None:
    parser.add_argument(
        "--out", type=Path, default=REPORT_DIR, metavar="DIR", help=f"where {what} [report]"
    )
    parser.add_argument("--json", action="store_true", help="machine-readable")


def _add_worker_options(parser: Parser) -> None:
    parser.add_argument(
        "--executor",
        choices=("local", "slurm"),
        help="where workers run: here, or as jobs, of which the ids are printed [local]",
    )
    parser.add_argument(
        "--workers", type=positive, default=1, metavar="K", help="processes on the same search [1]"
    )
    parser.add_argument("--partition", metavar="NAME", help="of Slurm [its default]")
    parser.add_argument(
        "--time", type=positive, default=1440, metavar="MINUTES", help="of such a worker [1440]"
    )
    parser.add_argument(
        "--gpus", type=_count, default=1, metavar="N", help="of a worker of an executor [1]"
    )


def _rate(text: str) -> float:
    """A learning rate, for argparse."""
    try:
        rate = float(text)
    except ValueError:
        rate = math.nan
    if not 0 < rate < math.inf:
        raise ArgumentTypeError(f"{text!r}: expected a number above 0")
    return rate


def _count(text: str) -> int:
    return 0 if text == "0" else positive(text)


if __name__ == "__main__":
    door(main)
