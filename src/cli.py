"""What the commands share: flags made of RunConfig's fields, error lines and exit statuses."""

import argparse
import errno
import os
import signal
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from src.config import (
    FIND,
    SEARCH,
    RunConfig,
    default_dataset_path,
    field_names,
    from_mapping,
    read_yaml,
)
from src.errors import ExitStatus, InvalidValue, Stopped, UserError
from src.options import choices_of, did_you_mean, kind_of
from src.paths import RUNS_DIR, shown
from src.paths import weights as weights_file

_WRONG_PATH = (errno.ENOENT, errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.EACCES, errno.EPERM)

if TYPE_CHECKING:
    from src.results.pruning import Halving
    from src.run import Outcome


class Parser(argparse.ArgumentParser):
    """An argument parser whose complaints are one line, and which takes - for _ in long flags."""

    def __init__(self, **settings: object) -> None:
        super().__init__(
            allow_abbrev=False,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            **settings,  # type: ignore[arg-type]
        )

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message} (see {self.prog} --help)")

    def parse(self, arguments: Sequence[str]) -> argparse.Namespace:
        """Parse all of `arguments`. Raises UserError naming what is unknown and what is near it."""
        parsed, unknown = self.parse_known_args([_underscored(word) for word in arguments])
        if unknown:
            name = unknown[0].split("=")[0]
            known = [flag for action in self._actions for flag in action.option_strings]
            raise UserError(f"unknown argument {unknown[0]!r}{did_you_mean(name, known)}")
        return parsed


def _underscored(word: str) -> str:
    """--num-epochs=3 as --num_epochs=3."""
    if not word.startswith("--"):
        return word
    flag, equals, value = word.partition("=")
    return "--" + flag[2:].replace("-", "_") + equals + value


def add_config_flags(parser: argparse.ArgumentParser, only: Sequence[str] = ()) -> None:
    """A flag for every field of RunConfig, or for those named in `only`.

    Absent ones leave no trace in the namespace.
    """
    for spec in fields(RunConfig):
        if only and spec.name not in only:
            continue
        short, long = spec.metadata["short"], f"--{spec.name}"
        names = [f"-{short}", long] if short else [long]
        default = default_dataset_path() if spec.name == "base_dataset_path" else spec.default
        text = f"{spec.metadata['help']} [{default}]".replace("%", "%%")
        if kind_of(spec) == "bool":
            parser.add_argument(
                *names, action="store_const", const=True, default=argparse.SUPPRESS, help=text
            )
            parser.add_argument(
                f"--no_{spec.name}",
                dest=spec.name,
                action="store_const",
                const=False,
                default=argparse.SUPPRESS,
                help=argparse.SUPPRESS,
            )
        else:
            parser.add_argument(
                *names,
                default=argparse.SUPPRESS,
                metavar="|".join(choices_of(spec)) or _metavar(spec.name),
                help=text,
            )


def _metavar(name: str) -> str:
    return {"base_dataset_path": "DIR"}.get(name, "N")


def config_from(parsed: argparse.Namespace) -> RunConfig:
    """The RunConfig of the given flags, over those of --config FILE, over those of a parent run.

    A learning rate that is to be found is left at its default: see `wants_rate`.
    """
    given = given_settings(parsed)
    file = {} if parsed.config is None else read_yaml(parsed.config)
    if SEARCH in file:
        command = f"python -m src.tune search --config {parsed.config}"
        raise UserError(f"{parsed.config}: this is a search; the command for it is {command}")
    for settings in (given, file):
        if settings.get("learning_rate") == FIND:
            del settings["learning_rate"]
    if file:
        from_mapping(file, str(parsed.config))  # its own mistakes, under its own name
    parent = vars(parsed).get("parent_path")  # only some commands go on from a parent
    inherited = {} if parent is None else _of_parent(parent)
    return from_flags({**inherited, **file, **given})


def given_settings(parsed: argparse.Namespace) -> dict[str, Any]:
    """The values of the flags of RunConfig's fields that were given."""
    return {name: value for name, value in vars(parsed).items() if name in field_names()}


def from_flags(values: Mapping[str, Any]) -> RunConfig:
    """A RunConfig from the values of flags. Raises UserError that names the flag."""
    try:
        return RunConfig(**{"base_dataset_path": default_dataset_path(), **values})
    except InvalidValue as error:
        raise UserError(
            f"{_flag(error.name)} {str(error.value)!r}: expected {error.expected}"
        ) from None


def _of_parent(path: Path) -> dict[str, Any]:
    """The settings of the run that `path` is the folder or a weights file of, and what it gives."""
    from src.results.store import RunFolder

    weights = path if path.suffix == ".pt" else path / weights_file("best_val_acc")
    settings = RunFolder(weights.parent).config()
    if settings is None or not weights.is_file():
        raise UserError(
            f"--continue {str(path)!r}: expected a run folder with {weights.name}, or a weights "
            "file in a run folder"
        )
    parent = from_mapping(settings, f"--continue {str(path)!r}")
    return {
        **settings,
        "parent": f"{parent.id}/{weights.stem}",
        "parent_weights": str(weights.resolve()),
    }


def wants_rate(parsed: argparse.Namespace) -> bool:
    """Whether the learning rate of `config_from` is to be found by a range test."""
    if hasattr(parsed, "learning_rate"):
        return bool(parsed.learning_rate == FIND)
    return parsed.config is not None and read_yaml(parsed.config).get("learning_rate") == FIND


def _flag(name: str) -> str:
    short = next(spec.metadata["short"] for spec in fields(RunConfig) if spec.name == name)
    return f"-{short}/--{name}" if short else f"--{name}"


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
        type=_count,
        metavar="N",
        help="do not try a run again of which more than N attempts failed [no limit]",
    )
    parser.add_argument(
        "--prune",
        action="store_true",
        help="stop hopeless runs early: successive halving among runs of the same schedule",
    )
    add_halving_options(parser)
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


def halving_of(parsed: argparse.Namespace) -> "Halving":
    """Successive halving as the options say."""
    from src.results.pruning import Halving

    return Halving(parsed.first_rung, parsed.reduction)


def positive(text: str) -> int:
    """A whole number above 0, for argparse."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r}: expected a whole number above 0")
    return int(text)


def _count(text: str) -> int:
    return 0 if text == "0" else positive(text)


def seed(text: str) -> int:
    """A seed of numpy's and scikit-learn's random streams, for argparse."""
    if not text.isdecimal() or int(text) >= 2**32:
        raise argparse.ArgumentTypeError(f"{text!r}: expected a whole number from 0 to 2^32 - 1")
    return int(text)


def _reduction(text: str) -> int:
    if positive(text) < 2:
        raise argparse.ArgumentTypeError(f"{text!r}: expected a whole number above 1")
    return int(text)


def _slots(text: str) -> int | None:
    try:
        return None if text == "auto" else positive(text)
    except argparse.ArgumentTypeError as error:
        raise argparse.ArgumentTypeError(f"{error}, or auto") from None


def train(configs: Sequence[RunConfig], parsed: argparse.Namespace) -> ExitStatus:
    """Train `configs` as the training options say, and print where each stands on stdout."""
    from src.interrupt import StopRequest

    stop = StopRequest().install()  # torch takes seconds to import: be ready before
    from src import progress
    from src.results.pruning import Pruner
    from src.results.store import State
    from src.run import run

    outcomes = run(
        configs,
        runs_dir=parsed.runs,
        slots=parsed.slots,
        stop=stop,
        progress=lambda total: progress.show(total, parsed.quiet),
        retry_failed=parsed.retry_failed,
        retries=parsed.retries,
        judge=Pruner(halving_of(parsed), parsed.runs) if parsed.prune else None,
    )
    for outcome in outcomes:
        print(_line(outcome))
    wanted = (State.DONE, State.PRUNED) if parsed.prune else (State.DONE,)
    unfinished = Counter(outcome.state.value for outcome in outcomes if outcome.state not in wanted)
    if not unfinished:
        return ExitStatus.DONE
    states = ", ".join(f"{count} {state}" for state, count in unfinished.items())
    count = sum(unfinished.values())
    print(f"{count} of {len(outcomes)} runs are not done: {states}", file=sys.stderr)
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


def door(main: Callable[[Sequence[str]], ExitStatus]) -> NoReturn:
    """Run a command's main with the process's arguments, and exit with its status."""
    status: int
    try:
        status = main(sys.argv[1:])
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        status = ExitStatus.BAD_INPUT
    except Stopped:
        print("stopped by a signal; everything is saved, the same command goes on", file=sys.stderr)
        status = ExitStatus.STOPPED
        if os.environ.get("REQUEUE_ON_STOP"):
            from src.sweep.slurm import requeue_this_job

            requeue_this_job()
    except KeyboardInterrupt:
        print("stopped at once; what was since the last checkpoint is lost", file=sys.stderr)
        status = 128 + signal.SIGINT
    except OSError as error:
        if error.errno is None:
            raise
        where = f" ({error.filename})" if error.filename else ""
        print(f"error: {error.strerror}{where}", file=sys.stderr)
        misplaced = error.errno in _WRONG_PATH
        status = ExitStatus.BAD_INPUT if misplaced else ExitStatus.SOME_RUNS_FAILED
    sys.exit(status)
