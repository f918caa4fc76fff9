"""Train configs from the command line: its options, its output and its exit status."""

import argparse
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from src.cli.arguments import non_negative_int, positive_int
from src.cli.common_options import add_runs_option
from src.common.errors import ExitStatus
from src.common.paths import RUNS_DIR, shown
from src.common.result_values import BEST_VAL_ACCURACY, TEST_ACCURACY
from src.config import RunConfig
from src.pruning.halving import SuccessiveHalving
from src.tracking import MODES

if TYPE_CHECKING:
    from src.runs.outcome import Outcome


@dataclass(frozen=True, kw_only=True)
class TrainingOptions:
    """The options of every command that trains runs."""

    runs_dir: Path = RUNS_DIR
    slots: int | None = None
    retry_failed: bool = False
    retries: int | None = None
    prune: bool = False
    mixed: bool = False
    halving: SuccessiveHalving = field(default_factory=SuccessiveHalving)
    wandb: str | None = None
    quiet: bool = False

    @classmethod
    def parsed(cls, arguments: argparse.Namespace) -> "TrainingOptions":
        """The values of the flags that `add_training_options` added."""
        return cls(
            runs_dir=arguments.runs,
            slots=arguments.slots,
            retry_failed=arguments.retry_failed,
            retries=arguments.retries,
            prune=arguments.prune,
            mixed=arguments.mixed,
            halving=parsed_halving(arguments),
            wandb=arguments.wandb,
            quiet=arguments.quiet,
        )


def dataset_at(path: str) -> str | None:
    """The name of the data set in the folder of -d, for `config_from`: None for the default one.

    Raises UserError that suggests a name if a person's own data is there.
    """
    from src import data  # numpy takes 0.1 s

    return data.recognise(path)


def add_training_options(parser: argparse.ArgumentParser, *, retries: int | None = None) -> None:
    """Add the flags of TrainingOptions, in groups of their own. retries: the default of --retries.

    Without a default limit a person decides about each attempt; workers that Slurm starts again by
    itself need one.
    """
    group = parser.add_argument_group("how runs are trained")
    add_runs_option(group)
    add_slots_option(group)
    group.add_argument(
        "--retry_failed", action="store_true", help="train failed runs again, diverged ones too"
    )
    group.add_argument(
        "--retries",
        type=non_negative_int,
        default=retries,
        metavar="N",
        help="train a failed run again at most this many times "
        f"[{'no limit' if retries is None else retries}]",
    )
    group.add_argument(
        "--mixed",
        action="store_true",
        help="where this device is slow in the precision chosen for the sweep, train in its "
        "fastest precision instead of leaving the run to other devices; results name the precision",
    )
    add_wandb_option(group)
    group.add_argument("-q", "--quiet", action="store_true", help="no progress on stderr")
    pruning = parser.add_argument_group("pruning by successive halving")
    pruning.add_argument(
        "--prune",
        action="store_true",
        help="end unpromising runs early, among runs with the same schedule",
    )
    add_halving_options(pruning)


def add_slots_option(parser: "argparse._ActionsContainer") -> None:
    """Add --slots, the number of runs in training at a time."""
    parser.add_argument(
        "--slots",
        type=_slots,
        default=None,
        metavar="auto|RUNS",
        help="runs in training at a time; auto: measured on a GPU, 1 on a CPU [auto]",
    )


def add_wandb_option(parser: "argparse._ActionsContainer") -> None:
    """Add --wandb, whether runs are mirrored in Weights & Biases."""
    parser.add_argument(
        "--wandb",
        choices=MODES,
        help="mirror runs in Weights & Biases, from a process of its own [WANDB_MODE; else online "
        "if there is an API key, offline if not]",
    )


def add_halving_options(parser: "argparse._ActionsContainer") -> None:
    """Add the rungs of successive halving, and the share of runs that pass each."""
    parser.add_argument(
        "--first_rung",
        type=positive_int,
        default=SuccessiveHalving.first_rung,
        metavar="EPOCHS",
        help="epoch of the first comparison; each later one comes after --reduction times as many "
        f"epochs [{SuccessiveHalving.first_rung}]",
    )
    parser.add_argument(
        "--reduction",
        type=_reduction,
        default=SuccessiveHalving.reduction,
        metavar="FACTOR",
        help=f"the best 1/FACTOR of the runs pass a rung [{SuccessiveHalving.reduction}]",
    )


def parsed_halving(arguments: argparse.Namespace) -> SuccessiveHalving:
    """The values of the flags that `add_halving_options` added."""
    return SuccessiveHalving(arguments.first_rung, arguments.reduction)


def train(configs: Sequence[RunConfig], options: TrainingOptions) -> ExitStatus:
    """Train `configs`, and print one line on stdout for each.

    The exit status is DONE if nothing is left that this process could do: all runs are done, or
    the others are being trained by other processes. In Weights & Biases the sweep has the name of
    the runs folder, as for `sync`.
    """
    from src.common.signals import StopSignal

    stop = StopSignal().install()  # before torch is imported, which takes seconds
    from src.pruning.pruner import SuccessiveHalvingPruner
    from src.run import RunOptions, run
    from src.runs.model_versions import changes
    from src.tracking.wandb_process import WandbProcess
    from src.training.console import SilentDisplay, log_line, make_display
    from src.training.memory import frozen_heap

    runs_dir, quiet = options.runs_dir, options.quiet
    for line in () if quiet else changes(configs, runs_dir):
        print(line, file=sys.stderr)
    pruner = SuccessiveHalvingPruner(options.halving, runs_dir) if options.prune else None
    wandb_process = WandbProcess(
        options.wandb,
        runs_dir,
        sweep=runs_dir.resolve().name,
        log=SilentDisplay().note if quiet else log_line,
        stop=stop,
    )
    with wandb_process as tracking, frozen_heap():
        outcomes = run(
            configs,
            runs_dir,
            RunOptions(
                slots=options.slots,
                retries=options.retries,
                retry_failed=options.retry_failed,
                mixed=options.mixed,
                pruner=pruner,
                tracking=tracking,
                display=lambda total: make_display(total, quiet),
                stop=stop,
            ),
        )
    for outcome in outcomes:
        print(_line(outcome))
    return _exit_status(outcomes, prune=options.prune)


def _exit_status(outcomes: Sequence["Outcome"], *, prune: bool) -> ExitStatus:
    """The exit status of `train`; says on stderr what is not done."""
    from src.runs.run_folder import State

    complete = (State.DONE, State.PRUNED) if prune else (State.DONE,)
    unfinished = Counter(o.state for o in outcomes if o.state not in complete)
    if not unfinished:
        return ExitStatus.DONE
    states = ", ".join(f"{number} {state}" for state, number in unfinished.items())
    if set(unfinished) == {State.RUNNING}:  # a job that depends on this one may start
        print(f"nothing left to train here: {states} in other processes", file=sys.stderr)
        return ExitStatus.DONE
    print(f"{unfinished.total()} of {len(outcomes)} runs are not done: {states}", file=sys.stderr)
    return ExitStatus.SOME_RUNS_FAILED


def _line(outcome: "Outcome") -> str:
    text = f"{outcome.state:<8} {outcome.config.title}"
    if outcome.state == "pruned" and outcome.result:
        text += f"  after {outcome.result['epochs_run']} of {outcome.config.num_epochs} epochs"
    if outcome.result:
        text += (
            f"  validation accuracy {outcome.result[BEST_VAL_ACCURACY]:.2%}"
            f"  test accuracy {outcome.result[TEST_ACCURACY]:.2%}"
        )
    elif outcome.failure:
        text += f"  {outcome.failure.get('kind')}: {outcome.failure.get('message')}"
    return f"{text}  {shown(outcome.folder)}"


def _reduction(text: str) -> int:
    if positive_int(text) < 2:
        raise argparse.ArgumentTypeError(f"{text!r}: expected a whole number above 1")
    return int(text)


def _slots(text: str) -> int | None:
    try:
        return None if text == "auto" else positive_int(text)
    except argparse.ArgumentTypeError as error:
        raise argparse.ArgumentTypeError(f"{error}, or auto") from None
