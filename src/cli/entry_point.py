"""Entry point of every command: error lines, exit statuses and subcommands."""

import errno
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import NoReturn

from src.common import signals
from src.common.errors import (
    DiskFull,
    ExitStatus,
    RestartNeeded,
    Stopped,
    SweepStopped,
    UserError,
)

_WRONG_PATH = (errno.ENOENT, errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.EACCES, errno.EPERM)


def run_main(main: Callable[[Sequence[str]], ExitStatus]) -> NoReturn:
    """Call `main` with the arguments of the process, and exit with the status of the command."""
    status: int
    try:
        try:
            status = main(sys.argv[1:])
        finally:
            sys.stdout.flush()  # of --help too, which exits
    except BrokenPipeError:  # whoever read the output has ended, such as `head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = 128 + signal.SIGPIPE
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        status = ExitStatus.BAD_INPUT
    except Stopped as stopped:
        print(_how_stopped(stopped), file=sys.stderr)
        status = ExitStatus.STOPPED
        if os.environ.get("REQUEUE_ON_STOP") and not signals.interrupted_from_keyboard():
            from src.slurm.requeue import requeue_this_job

            requeue_this_job(stopped.restart)
    except SweepStopped as error:
        print(f"error: {error}", file=sys.stderr)
        status = ExitStatus.SOME_RUNS_FAILED
    except KeyboardInterrupt:
        print("stopped at once; progress since the last checkpoint is lost", file=sys.stderr)
        status = 128 + signal.SIGINT
    except OSError as error:
        if error.errno is None:
            raise
        print(f"error: {_reason(error)}", file=sys.stderr)
        misplaced = error.errno in _WRONG_PATH
        status = ExitStatus.BAD_INPUT if misplaced else ExitStatus.SOME_RUNS_FAILED
    sys.exit(status)


def _how_stopped(stopped: Stopped) -> str:
    if isinstance(stopped, RestartNeeded):
        return f"{stopped}; the same command continues its runs from their last checkpoints"
    return str(stopped) or "stopped by a signal; everything is saved; the same command continues"


def _reason(error: OSError) -> str:
    if isinstance(error, DiskFull):
        return f"{error}; free some space, then run the same command again"
    return f"{error.strerror} ({error.filename})" if error.filename else f"{error.strerror}"


def run_subcommand(
    package: str, title: str, commands: Mapping[str, str], arguments: Sequence[str]
) -> ExitStatus:
    """Call the subcommand that the first argument names, or list all of them.

    commands: the description of each, by name. `main` of the module <package>.commands.<name> is
    called, with _ for - in the name of the module.
    """
    if not arguments or arguments[0] in ("-h", "--help"):
        lines = "\n".join(f"  {name:<11}{what}" for name, what in commands.items())
        more = f"`python -m {package} COMMAND --help` describes each."
        print(f"{title}\n\n{lines}\n\n{more}")
        return ExitStatus.DONE if arguments else ExitStatus.BAD_INPUT
    name, *rest = arguments
    if name not in commands:
        raise UserError(f"unknown command {name!r}: expected one of {', '.join(commands)}")
    module = import_module(f"{package}.commands.{name.replace('-', '_')}")
    status: ExitStatus = module.main(rest)
    return status
