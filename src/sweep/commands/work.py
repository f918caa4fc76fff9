"""Train the runs of sets."""

import os
from collections.abc import Sequence

from src.cli.arguments import Parser
from src.common.errors import ExitStatus
from src.common.gpus import ANY_GPU, visible_gpus
from src.common.signals import StopSignal
from src.faults.job_restarts import WORKER
from src.runs.run_folder import DEFAULT_RETRIES
from src.slurm.client import this_job
from src.sweep.command_options import add_overrides, add_sets_options, selected_configs
from src.sweep.launch.local_workers import run_one_per_gpu
from src.train import TrainingOptions, add_training_options, train


def main(arguments: Sequence[str]) -> ExitStatus:
    """Train the unfinished runs of the sets."""
    parsed = _parser().parse(arguments)
    options = TrainingOptions.parsed(parsed)
    configs = selected_configs(parsed)
    gpus = _gpus_of_job() if all(config.device in ANY_GPU for config in configs) else []
    if len(gpus) > 1:
        command = ["src.sweep", "work", *arguments]
        return run_one_per_gpu(command, gpus, options.runs_dir, StopSignal().install())
    return train(configs, options)


def _gpus_of_job() -> list[str]:
    """The GPUs that Slurm gave this job. Empty outside of Slurm, and in a worker for one GPU."""
    return visible_gpus() if this_job() and WORKER not in os.environ else []


def _parser() -> Parser:
    parser = Parser(
        prog="python -m src.sweep work",
        description="Train the runs of sets in one process; in a Slurm job with several GPUs, in "
        "one for each. What is done is not trained again.",
    )
    add_sets_options(parser)
    add_overrides(parser)
    add_training_options(parser, retries=DEFAULT_RETRIES)
    return parser
