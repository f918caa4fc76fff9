"""How commands train: their options, and what they print of what came of it."""

import argparse
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from src.cli.arguments import count, positive
from src.common.errors import ExitStatus
from src.common.paths import RUNS_DIR, shown
from src.config import RunConfig
from src.tracking import MODES

if TYPE_CHECKING:
    from src.run import Outcome
    from src.sweep.pruner import SuccessiveHalving


def add_training_options(parser: argparse.ArgumentParser) -> None:
    """Where runs are kept and how they are trained: for commands that train."""
    parser.add_argument(
        "--runs", type=Path, default=RUNS_DIR, metavar="DIR", help="run folders [saved_models]"
    )
    add_slots_option(parser)
    parser.add_argument(
        "--retry_failed", action="store_true", help="try runs again that diverged before"
    )
    parser.add_argument(
        "--retries",
        type=count,
        metavar="N",
        help="do not try a run again of which more than N attempts failed [no limit]",
    )
    parser.add_argument(
        "--prune",
        action="store_true",
        help="stop hopeless runs early: successive halving among runs of the same schedule",
    )
    add_halving_options(parser)
    add_wandb_option(parser)
    parser.add_argument("-q", "--quiet", action="store_true", help="no progress on stderr")


def add_slots_option(parser: argparse.ArgumentParser) -> None:
    """How many runs train at a time."""
    parser.add_argument(
        "--slots",
        type=_slots,
        default=None,
        metavar="auto|K",
        help="runs at a time on the device; auto: measured on a GPU, 1 on a CPU [auto]",
    )


def add_wandb_option(parser: argparse.ArgumentParser) -> None:
    """Whether wandb is told."""
    parser.add_argument(
        "--wandb",
        choices=MODES,
        help="tell Weights & Biases how runs go, in a process that training never waits for "
        "[WANDB_MODE, or else online where there is a key and offline without one]",
    )


def add_halving_options(parser: argparse.ArgumentParser) -> None:
    """When successive halving judges, and how many go on."""
    parser.add_argument(
        "--first_rung",
        type=positive,
        default=5,
        metavar="EPOCHS",
        help="with --prune: runs are first judged after so many epochs, then after "
        "--reduction times as many, and so on [5]",
    )
    parser.add_argument(
        "--reduction",
        type=_reduction,
        default=3,
        metavar="N",
        help="with --prune: the best 1/N go on [3]",
    )


def halving_from(parsed: argparse.Namespace) -> "SuccessiveHalving":
    """Successive halving as the options say."""
    from src.sweep.pruner import SuccessiveHalving

    return SuccessiveHalving(parsed.first_rung, parsed.reduction)


def train(
    configs: Sequence[RunConfig], parsed: argparse.Namespace, sweep: str | None = None
) -> ExitStatus:
    """Train `configs` as the training options say, and print where each stands on stdout.

    sweep: what wandb calls them together; None for the name of the runs' folder.
    """
    from src.common.signals import StopSignal

    stop = StopSignal().install()  # torch takes seconds to import: be ready before
    from src.run import run
    from src.runs.run_folder import State
    from src.sweep.pruner import SuccessiveHalvingPruner
    from src.tracking.wandb_process import WandbProcess
    from src.training import console

    sweep = sweep or parsed.runs.resolve().name
    say = console.SilentDisplay().note if parsed.quiet else console.note
    with WandbProcess(parsed.wandb, parsed.runs, sweep=sweep, say=say, stop=stop) as mirror:
        outcomes = run(
            configs,
            runs_dir=parsed.runs,
            slots=parsed.slots,
            stop=stop,
            progress=lambda total: console.show(total, parsed.quiet),
            retry_failed=parsed.retry_failed,
            retries=parsed.retries,
            judge=SuccessiveHalvingPruner(halving_from(parsed), parsed.runs)
            if parsed.prune
            else None,
            mirror=mirror,
        )
    for outcome in outcomes:
        print(_line(outcome))
    wanted = (State.DONE, State.PRUNED) if parsed.prune else (State.DONE,)
    unfinished = Counter(outcome.state.value for outcome in outcomes if outcome.state not in wanted)
    if not unfinished:
        return ExitStatus.DONE
    states = ", ".join(f"{number} {state}" for state, number in unfinished.items())
    left = sum(unfinished.values())
    print(f"{left} of {len(outcomes)} runs are not done: {states}", file=sys.stderr)
    return ExitStatus.SOME_RUNS_FAILED


def _line(outcome: "Outcome") -> str:
    text = f"{outcome.state:<8} {outcome.config.name}"
    if outcome.state == "pruned" and outcome.result:
        text += f"  after {outcome.result['epochs_run']} of {outcome.config.num_epochs} epochs"
    if outcome.result:
        text += (
            f"  validation accuracy {outcome.result['best_val_accuracy']:.2%}"
            f"  test accuracy {outcome.result['test_accuracy_best_val_acc']:.2%}"
        )
    elif outcome.failure:
        text += f"  {outcome.failure.get('kind')}: {outcome.failure.get('message')}"
    return f"{text}  {shown(outcome.folder)}"


def _reduction(text: str) -> int:
    if positive(text) < 2:
        raise argparse.ArgumentTypeError(f"{text!r}: expected a whole number above 1")
    return int(text)


def _slots(text: str) -> int | None:
    try:
        return None if text == "auto" else positive(text)
    except argparse.ArgumentTypeError as error:
        raise argparse.ArgumentTypeError(f"{error}, or auto") from None
