"""The flags of `python -m src.sweep submit`, checked."""

import argparse
from argparse import Namespace

from src.cli.arguments import Parser, positive
from src.common.option_fields import did_you_mean
from src.config import model_types
from src.sweep.command_options import add_grid_option, add_overrides, add_sets_options
from src.sweep.launch.sbatch import Resources, key_value, reader
from src.train import add_training_options

EXECUTORS = ("slurm", "local", "inline")
_MINUTES = 1440
_FEWEST_MINUTES = 5  # the warning comes up to three minutes before the end


def parser() -> Parser:
    """The flags, none of which can hold what a shell would take for a command."""
    made = Parser(
        prog="python -m src.sweep submit",
        description="Submit workers for what is missing, was interrupted, or failed and may be "
        "tried again. Nothing that is done or being trained is touched; called again, it submits "
        "nothing as long as enough workers are queued or running.",
    )
    add_sets_options(made)
    add_grid_option(made)
    add_overrides(made)
    made.add_argument(
        "--executor",
        choices=EXECUTORS,
        default="slurm",
        help="where the workers are: an array of jobs for each architecture, processes of this "
        "machine, or this process [slurm]",
    )
    made.add_argument(
        "--workers",
        type=positive,
        default=None,
        metavar="K",
        help="for each architecture; of local, in all [4; local 1]",
    )
    made.add_argument("--dry_run", action="store_true", help="show it, and submit nothing")
    made.add_argument("--json", action="store_true", help="machine-readable")
    add_training_options(made)
    made.set_defaults(retries=2)
    _add_resources(made.add_argument_group("what is asked of Slurm for each worker"))
    return made


def _add_resources(group: "argparse._ArgumentGroup") -> None:
    name = reader("a name")
    for flag in ("partition", "account", "qos"):
        group.add_argument(f"--{flag}", type=name, metavar="NAME")
    group.add_argument("--constraint", type=reader("features"), metavar="FEATURES")
    group.add_argument(
        "--gres",
        type=reader("generic resources"),
        default="gpu:1",
        help="generic resources, or none [gpu:1]",
    )
    group.add_argument("--cpus", type=positive, default=4, metavar="N", help="[4]")
    group.add_argument("--mem", type=reader("memory"), metavar="SIZE", help="megabytes, or 8G")
    group.add_argument(
        "--time",
        type=_minutes,
        action="append",
        default=[],
        metavar="[MODEL=]MINUTES",
        help="after which a worker is requeued and goes on; also for single architectures [1440]",
    )
    group.add_argument(
        "--throttle", type=positive, metavar="N", help="run at most N of an array at a time"
    )
    group.add_argument(
        "--sbatch",
        type=key_value,
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="any other long option of sbatch",
    )


def resources_of(asked: Namespace) -> Resources:
    """What is asked of Slurm. Of what is given twice, the last counts."""
    minutes = dict(asked.time)
    return Resources(
        partition=asked.partition,
        account=asked.account,
        qos=asked.qos,
        constraint=asked.constraint,
        gres=None if asked.gres == "none" else asked.gres,
        cpus=asked.cpus,
        mem=asked.mem,
        minutes=minutes.pop(None, _MINUTES),
        minutes_of=minutes,
        throttle=asked.throttle,
        further=dict(asked.sbatch),
    )


def work_words(asked: Namespace) -> list[str]:
    """The training options, as words of `python -m src.sweep work`."""
    words = ["--retries", str(asked.retries), "--slots", str(asked.slots or "auto")]
    if asked.retry_failed:
        words.append("--retry-failed")
    if asked.wandb:
        words += ["--wandb", asked.wandb]
    if asked.prune:
        rungs = ["--first-rung", str(asked.first_rung), "--reduction", str(asked.reduction)]
        words += ["--prune", *rungs]
    return words


def _minutes(text: str) -> tuple[str | None, int]:
    """MINUTES, or MODEL=MINUTES."""
    model, equals, minutes = text.rpartition("=")
    if equals and model not in model_types():
        hint = did_you_mean(model, list(model_types()))
        raise argparse.ArgumentTypeError(f"{text!r}: unknown architecture {model!r}{hint}")
    if positive(minutes) < _FEWEST_MINUTES:
        raise argparse.ArgumentTypeError(f"{text!r}: expected {_FEWEST_MINUTES} minutes or more")
    return (model if equals else None), int(minutes)
