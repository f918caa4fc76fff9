"""The flags of what each worker asks of Slurm. Values cannot hold what a shell interprets."""

import argparse
import re
from collections.abc import Callable

from src.cli.arguments import positive_int
from src.common.model_source import model_name
from src.common.option_fields import did_you_mean
from src.config import model_types
from src.sweep.launch.sbatch import Resources

_DEFAULT_MINUTES = 1440
_AUTO = "auto"
_AUTO_MINUTES = 30  # least of --time auto
_MIN_MINUTES = 5  # Slurm warns a worker up to three minutes before its time limit
_OURS = (
    *("array", "chdir", "error", "export", "export-file", "job-name", "no-requeue", "open-mode"),
    *("output", "parsable", "requeue", "signal", "wait", "wrap"),
)
_OWN_FLAGS = {
    **{"partition": "--partition", "account": "--account", "qos": "--qos", "gres": "--gres"},
    **{"constraint": "--constraint", "cpus-per-task": "--cpus", "mem": "--mem", "time": "--time"},
}

VALUES = {
    "a name": r"[\w.,@+-]+",
    "generic resources": r"[\w.,:/=-]+",
    "features": r"[\w.,:+*&|!()\[\]-]+",
    "memory": r"\d+[KMGTkmgt]?",
}
"""Regular expressions for the values of sbatch options."""


def add_resource_options(group: "argparse._ArgumentGroup") -> None:
    """Add the options of Resources, as far as they are flags of their own."""
    name = reader("a name")
    for flag in ("partition", "account", "qos"):
        group.add_argument(f"--{flag}", type=name, metavar="NAME", help="as for sbatch")
    group.add_argument(
        "--constraint", type=reader("features"), metavar="FEATURES", help="as for sbatch"
    )
    group.add_argument(
        "--gres",
        type=reader("generic resources"),
        default="gpu:1",
        metavar="LIST",
        help="generic resources, or none [gpu:1]",
    )
    group.add_argument(
        "--cpus", type=positive_int, default=4, metavar="CORES", help="CPU cores per worker [4]"
    )
    group.add_argument(
        "--mem",
        type=reader("memory"),
        metavar="SIZE",
        help="memory in megabytes, or with a unit (8G)",
    )
    group.add_argument(
        "--time",
        type=_minutes,
        action="append",
        default=[],
        metavar="[MODEL=]MINUTES",
        help="time limit, after which a worker is requeued; may be given per architecture; auto: "
        "from the speeds that estimate has measured [1440]",
    )
    group.add_argument(
        "--throttle",
        type=positive_int,
        metavar="TASKS",
        help="tasks of each job array that run at the same time",
    )
    group.add_argument(
        "--sbatch",
        type=_key_value,
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="any other long option of sbatch; may be repeated",
    )


def parsed_resources(parsed: argparse.Namespace) -> Resources:
    """The resources that were asked for. Of an option given twice, the last counts."""
    minutes = dict(parsed.time)
    is_time_auto = minutes.get(None) == _AUTO
    if is_time_auto:
        minutes[None] = _AUTO_MINUTES
    return Resources(
        partition=parsed.partition,
        account=parsed.account,
        qos=parsed.qos,
        constraint=parsed.constraint,
        gres=None if parsed.gres == "none" else parsed.gres,
        cpus=parsed.cpus,
        mem=parsed.mem,
        minutes=minutes.pop(None, _DEFAULT_MINUTES),
        minutes_of=minutes,
        is_time_auto=is_time_auto,
        throttle=parsed.throttle,
        additional_parameters=dict(parsed.sbatch),
    )


def _minutes(text: str) -> tuple[str | None, int | str]:
    """Read MINUTES, MODEL=MINUTES, or auto."""
    if text == _AUTO:
        return None, text
    model, equals, minutes = text.rpartition("=")
    if equals and model not in model_types() and not re.search(r"[.:]", model):
        hint = did_you_mean(model, list(model_types()))
        raise argparse.ArgumentTypeError(f"{text!r}: unknown architecture {model!r}{hint}")
    if positive_int(minutes) < _MIN_MINUTES:
        raise argparse.ArgumentTypeError(f"{text!r}: expected {_MIN_MINUTES} minutes or more")
    return (model_name(model) if equals else None), int(minutes)


def reader(what: str) -> Callable[[str], str]:
    """An argparse type for the value of an sbatch option; what: a key of VALUES.

    It accepts nothing that a shell or sbatch could interpret.
    """
    allowed = VALUES[what]

    def read(text: str) -> str:
        if not re.fullmatch(allowed, text, re.ASCII):
            raise argparse.ArgumentTypeError(f"{text!r}: expected {what}, as {allowed}")
        return text

    return read


def _key_value(text: str) -> tuple[str, str]:
    """argparse type: KEY=VALUE of --sbatch; KEY alone is a bare flag."""
    key, _, value = text.partition("=")
    key = key.replace("_", "-")
    if not re.fullmatch(r"[a-z][a-z-]+", key):
        raise argparse.ArgumentTypeError(f"{text!r}: expected KEY=VALUE, a long option of sbatch")
    if key in _OWN_FLAGS:
        raise argparse.ArgumentTypeError(f"{text!r}: give it as {_OWN_FLAGS[key]}")
    if key in _OURS:
        raise argparse.ArgumentTypeError(f"{text!r}: workers need their own --{key}")
    if not (value.isprintable() and value.isascii()) or set(value) & set("'\"\\`$"):
        raise argparse.ArgumentTypeError(f"{text!r}: expected a value without quotes, \\, ` and $")
    return key, value
