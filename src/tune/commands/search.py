"""Search the space of a YAML file."""

import sys
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from src.cli.arguments import Parser, non_negative_int, positive_int
from src.cli.common_options import add_runs_option
from src.cli.config_flags import add_config_flags, given_settings
from src.common.errors import ExitStatus
from src.common.paths import shown
from src.sweep.launch.resource_options import reader
from src.sweep.launch.sbatch import Resources
from src.train import add_wandb_option
from src.tune.output_options import add_out_options

if TYPE_CHECKING:
    from src.tune.search_workers import SearchJob


def main(arguments: Sequence[str]) -> ExitStatus:
    """Search, or start the workers that do, and print the best trial."""
    parsed = _search_parser().parse(arguments)
    from src.tune import search_space

    wanted = search_space.read(parsed.config, given_settings(parsed))
    from src.tune import search_workers

    job = search_workers.SearchJob(
        wanted, parsed.runs, parsed.trials, parsed.pruner, parsed.wandb, parsed.quiet
    )
    executor = parsed.executor or ("local" if parsed.workers > 1 else None)
    if executor is None:
        why = search_workers.work(job)
    else:
        script = search_workers.prepare(job, parsed.workers, _resources(parsed), _arguments(parsed))
        if executor == "slurm":
            print(search_workers.submit(script))
            print(f"logs: {shown(script.parent)}/logs", file=sys.stderr)
            return ExitStatus.DONE
        why = search_workers.run_here(script, parsed.workers, wanted.base.device)
    return _conclude(job, why, parsed)


def _resources(parsed: Namespace) -> Resources:
    gres = f"gpu:{parsed.gpus}" if parsed.gpus else None
    return Resources(partition=parsed.partition, gres=gres, minutes=parsed.time)


def _arguments(parsed: Namespace) -> list[str]:
    """Arguments of one worker: those of this command without the options of workers."""
    options = {
        name: getattr(parsed, name) for name in ("config", "runs", "out", "trials", "pruner")
    }
    arguments = [f"--{name}={value}" for name, value in options.items()]
    if parsed.wandb:
        arguments.append(f"--wandb={parsed.wandb}")
    for name, value in given_settings(parsed).items():
        flags = {True: f"--{name}", False: f"--no_{name}"}
        arguments.append(flags[value] if isinstance(value, bool) else f"--{name}={value}")
    return ["search", *arguments]


def _conclude(job: "SearchJob", why: str | None, parsed: Namespace) -> ExitStatus:
    """Print the best trial, and write its recipe and the charts."""
    from src.report.charts.importance import MIN_RUNS
    from src.tune import best_trial, search_charts, search_data

    study = job.search()
    best_found = best_trial.best(study)
    if why:
        print(f"given up: {why}", file=sys.stderr)
    if best_found is None:
        print(
            f"no trial is complete: {best_trial.counted(best_trial.counts(study))}", file=sys.stderr
        )
        return ExitStatus.SOME_RUNS_FAILED
    recipe = best_trial.write_recipe(study, best_found, parsed.out)
    drawn = search_data.collect(study.space, study.study)
    if drawn.importances is None:
        print(
            f"no importance chart: it needs {MIN_RUNS} complete trials that differ",
            file=sys.stderr,
        )
    search_charts.draw(drawn, study.space.stem, parsed.out)
    print((best_trial.as_json if parsed.json else best_trial.as_text)(best_found, recipe))
    return ExitStatus.SOME_RUNS_FAILED if why else ExitStatus.DONE


def _search_parser() -> Parser:
    parser = Parser(
        prog="python -m src.tune search",
        description="Search settings by Optuna: every trial is an ordinary run, and the "
        "objective is its lowest validation loss. The same command continues an interrupted "
        "search; flags override the fixed settings of the file.",
    )
    parser.add_argument(
        "--config", type=Path, required=True, metavar="FILE", help="YAML settings and 'search:'"
    )
    parser.add_argument(
        "--trials", type=positive_int, default=30, metavar="N", help="trials in total [30]"
    )
    parser.add_argument(
        "--pruner",
        choices=("median", "halving", "none"),
        default="median",
        help="end a trial that is worse than the median of the others at the same epoch, by "
        "successive halving, or never [median]",
    )
    add_runs_option(parser)
    add_out_options(parser, "the best recipe and the charts go")
    add_wandb_option(parser)
    parser.add_argument("-q", "--quiet", action="store_true", help="no progress on stderr")
    _add_worker_options(parser)
    add_config_flags(parser)
    return parser


def _add_worker_options(parser: Parser) -> None:
    parser.add_argument(
        "--executor",
        choices=("local", "slurm"),
        help="local: processes of this machine; slurm: a job array, whose id is printed [this "
        "process; local if --workers is above 1]",
    )
    parser.add_argument(
        "--workers",
        type=positive_int,
        default=1,
        metavar="K",
        help="processes on the same search [1]",
    )
    parser.add_argument(
        "--partition",
        type=reader("a name"),
        metavar="NAME",
        help="Slurm partition [Slurm's default]",
    )
    parser.add_argument(
        "--time",
        type=positive_int,
        default=1440,
        metavar="MINUTES",
        help="time limit of a Slurm job [1440]",
    )
    parser.add_argument(
        "--gpus",
        type=non_negative_int,
        default=1,
        metavar="N",
        help="GPUs for each Slurm worker [1]",
    )
