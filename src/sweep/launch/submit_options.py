"""The flags of `python -m src.sweep submit`."""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from src.cli.arguments import Parser, positive_int
from src.cli.common_options import add_json_option
from src.common.gpus import ANY_GPU, visible_gpus
from src.config import RunConfig
from src.runs.run_folder import DEFAULT_RETRIES
from src.sweep.command_options import (
    add_grid_option,
    add_overrides,
    add_sets_options,
    selected_configs,
)
from src.sweep.launch.resource_options import add_resource_options, parsed_resources
from src.sweep.launch.sbatch import Resources
from src.train import TrainingOptions, add_training_options

EXECUTORS = ("slurm", "local", "inline")
_DEFAULT_WORKERS = {"slurm": 4, "inline": 1}


@dataclass(frozen=True)
class SubmitOptions:
    """What to submit, to whom, and how its workers train."""

    configs: list[RunConfig]
    executor: str
    workers: int
    """Workers per architecture; in total for `local`."""
    gpus: tuple[str, ...]
    """The GPUs of this machine, for `local`; empty if no run may use one."""
    dry_run: bool
    json: bool
    resources: Resources
    training: TrainingOptions
    arguments: tuple[str, ...]
    """The command line, for the record of the submission."""

    @property
    def on_slurm(self) -> bool:
        """Whether workers are Slurm jobs."""
        return self.executor == "slurm"


def parse(arguments: Sequence[str]) -> SubmitOptions:
    """Read the command line. Raises UserError naming what is wrong with it."""
    parsed = read_flags(arguments)
    parsed.runs = parsed.runs.resolve()
    configs = selected_configs(parsed)
    gpus = _gpus(configs) if parsed.executor == "local" else ()
    default_workers = {**_DEFAULT_WORKERS, "local": max(1, len(gpus))}
    return SubmitOptions(
        configs=configs,
        executor=parsed.executor,
        workers=parsed.workers or default_workers[parsed.executor],
        gpus=gpus,
        dry_run=parsed.dry_run,
        json=parsed.json,
        resources=parsed_resources(parsed),
        training=TrainingOptions.parsed(parsed),
        arguments=tuple(arguments),
    )


def read_flags(arguments: Sequence[str]) -> argparse.Namespace:
    """The flags alone, without reading sets. Raises UserError naming what is wrong with them."""
    return _parser().parse(arguments)


def work_arguments(options: SubmitOptions, sets_dir: Path) -> list[str]:
    """Arguments of `python -m src.sweep work` for a worker, after the number of its set."""
    training = options.training
    arguments = ["--sets", str(sets_dir), "--runs", str(training.runs_dir)]
    arguments += ["--retries", str(training.retries), "--slots", str(training.slots or "auto")]
    if training.retry_failed:
        arguments.append("--retry_failed")
    if training.mixed:
        arguments.append("--mixed")
    if training.wandb:
        arguments += ["--wandb", training.wandb]
    if training.prune:
        first, reduction = training.halving.first_rung, training.halving.reduction
        arguments += ["--prune", "--first_rung", str(first), "--reduction", str(reduction)]
    return arguments


def _gpus(configs: Sequence[RunConfig]) -> tuple[str, ...]:
    """The GPUs to give to workers one by one, unless a run names its device itself."""
    return tuple(visible_gpus()) if all(c.device in ANY_GPU for c in configs) else ()


def _parser() -> Parser:
    """A parser none of whose values can hold what a shell would run as a command."""
    parser = Parser(
        prog="python -m src.sweep submit",
        description="Submit workers for the runs that are missing, interrupted, or failed with "
        "retries left. Runs that are done or in training are left alone. Called again, it "
        "submits nothing as long as enough workers are queued or running.",
    )
    add_sets_options(parser)
    add_grid_option(parser)
    add_overrides(parser)
    parser.add_argument(
        "--executor",
        choices=EXECUTORS,
        default="slurm",
        help="slurm: a job array for each architecture; local: processes of this machine; inline: "
        "this process [slurm]",
    )
    parser.add_argument(
        "--workers",
        type=positive_int,
        metavar="COUNT",
        help="workers for each architecture, or in total with local [slurm: 4, local: one per GPU]",
    )
    parser.add_argument("--dry_run", action="store_true", help="show the scripts, submit nothing")
    add_json_option(parser)
    add_training_options(parser, retries=DEFAULT_RETRIES)
    add_resource_options(parser.add_argument_group("what each worker asks of Slurm"))
    return parser
