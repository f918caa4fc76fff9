"""Job scripts of workers, for a Slurm job array or for plain bash."""

import argparse
import math
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from src.common.errors import UserError
from src.common.paths import CODE
from src.slurm import client
from src.slurm.job_queue import JOB_NAME

_WARNING_SECONDS = 120  # before a job's time limit or, with grace time, before a preemption
_SBATCH_SECONDS = 60
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


@dataclass(frozen=True, kw_only=True)
class Resources:
    """Slurm resources of each worker. Times are in minutes."""

    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    constraint: str | None = None
    gres: str | None = "gpu:1"
    cpus: int = 4
    mem: str | None = None
    minutes: int = 1440
    minutes_of: Mapping[str, int] = field(default_factory=dict)
    """Time limits for single architectures."""
    is_time_auto: bool = False
    """Whether the time limits of the others are to follow from measured speeds."""
    throttle: int | None = None
    """Array tasks that may run at a time."""
    further: Mapping[str, str] = field(default_factory=dict)
    """Options of sbatch by name; an empty value is a bare flag."""

    @property
    def has_gpu(self) -> bool:
        """Whether each worker asks for a GPU."""
        return (self.gres or "").startswith("gpu") or any(n.startswith("gpu") for n in self.further)


@dataclass(frozen=True)
class Array:
    """A job array: workers that share a list of runs."""

    name: str
    number: int
    """Number of their set file in the submission."""
    workers: int
    chunk: int = 1

    @property
    def label(self) -> str:
        """Name of its script."""
        return self.name if self.chunk == 1 else f"{self.name}-{self.chunk}"


def chunks(name: str, number: int, workers: int, largest: int) -> Iterator[Array]:
    """Arrays of at most `largest` tasks, with `workers` tasks in total."""
    for chunk in range(1, math.ceil(workers / largest) + 1):
        yield Array(name, number, min(largest, workers - (chunk - 1) * largest), chunk)


def script(
    array: Array, resources: Resources, folder: Path, current: Path, arguments: Sequence[str]
) -> str:
    """The job script of an array. It also works under plain bash.

    folder: that of the submission, with code and logs. current: working directory of the workers.
    arguments: a module of this project and what it is given. All paths are absolute. Raises
    UserError if a path has characters that sbatch would interpret.
    """
    for path in (folder, current):
        if not str(path).isprintable() or set(str(path)) & set("'\"\\"):
            raise UserError(f"{str(path)!r}: sbatch takes no path with quotes or line breaks")
    from submitit.slurm.slurm import _make_sbatch_string

    name = f"{JOB_NAME}-{folder.name}-{array.name}"
    command = [sys.executable, "-u", "-m"]
    text: str = _make_sbatch_string(
        command=f"exec {shlex.join([*command, *arguments])}",
        folder=folder,
        job_name=name,
        time=resources.minutes_of.get(array.name, resources.minutes),
        cpus_per_task=resources.cpus,
        partition=resources.partition,
        account=resources.account,
        qos=resources.qos,
        constraint=resources.constraint,
        gres=resources.gres,
        mem=resources.mem,
        wckey=None,  # type: ignore[arg-type]  # none, rather than submitit's
        stderr_to_stdout=True,
        use_srun=False,
        setup=_setup(folder / CODE, current),
        additional_parameters={
            **{name: value or True for name, value in resources.further.items()},
            "array": f"0-{array.workers - 1}"
            + (f"%{resources.throttle}" if resources.throttle else ""),
            "chdir": current,
            "open-mode": "append",
            "output": log(folder, array).replace("%", "%%").replace("%%A_%%a", "%A_%a"),
            "requeue": True,
            "signal": f"B:USR1@{_WARNING_SECONDS}",
        },
    )
    return text


def log(folder: Path, array: Array) -> str:
    """Path of the workers' output, with sbatch's %A for the job and %a for the task."""
    return str(folder / "logs" / f"{array.name}-%A_%a.out")


def _setup(code: Path, current: Path) -> list[str]:
    """Shell lines like slurm_cluster/environment.sh, for the copied code and this Python."""
    return [
        "# Only as the batch script of its job: a person's session must not be requeued. Until",
        "# python listens, the warning of a preemption must not kill the shell.",
        'if [ "${SLURM_TASK_PID:-}" = "$$" ] && [ -z "${SLURM_STEP_ID:-}" ]; then',
        "  trap '' USR1 TERM",
        "  export REQUEUE_ON_STOP=1 OMP_NUM_THREADS=${OMP_NUM_THREADS:-$SLURM_CPUS_PER_TASK}",
        "fi",
        f"cd {shlex.quote(str(current))} || exit 2",
        "export PYTHONSAFEPATH=1  # not the code of the current folder",
        f"export PYTHONPATH={shlex.quote(str(code))}${{PYTHONPATH:+:$PYTHONPATH}}",
        "echo \"$(date '+%F %T') ${SLURM_ARRAY_JOB_ID:-none}_${SLURM_ARRAY_TASK_ID:-0} "
        "(restart ${SLURM_RESTART_COUNT:-0}) on $(hostname), "
        'GPUs: ${CUDA_VISIBLE_DEVICES:-all}" >&2',
    ]


def refusal(path: Path) -> str | None:
    """Why Slurm would refuse a script (sbatch --test-only). Returns None if it would not."""
    command = ["sbatch", "--test-only", str(path)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_SBATCH_SECONDS)
    except subprocess.TimeoutExpired:
        return f"no answer for {_SBATCH_SECONDS} seconds"
    return " ".join(done.stderr.split()) if done.returncode else None


def sbatch(path: Path) -> str:
    """Submit a script. Returns the job id. Raises UserError with the message of sbatch."""
    try:
        done = subprocess.run(
            ["sbatch", "--parsable", str(path)],
            capture_output=True,
            text=True,
            timeout=_SBATCH_SECONDS,
            check=True,
        )
    except subprocess.CalledProcessError as error:
        raise UserError(f"sbatch {path.name}: {' '.join(error.stderr.split())}") from None
    except subprocess.TimeoutExpired:
        raise UserError(f"sbatch {path.name}: no answer for {_SBATCH_SECONDS} seconds") from None
    return done.stdout.strip().partition(";")[0]


def largest_array() -> int | None:
    """Largest array size of this cluster. Returns None if Slurm does not answer."""
    output = client.settings().get("MaxArraySize", "")
    return max(1, int(output)) if output.isdecimal() else None


def most_jobs() -> int | None:
    """Jobs that this user may have in the queue. Returns None if Slurm reports no limit."""
    user = client.answer("id", "-un", quiet=True) or ""
    fields = ("--noheader", "--parsable2", "show", "assoc", f"user={user.strip()}")
    output = client.answer("sacctmgr", *fields, "format=MaxSubmitJobs", quiet=True) or ""
    limits = [*output.split(), client.settings().get("MaxJobCount", "")]
    return min((int(limit) for limit in limits if limit.isdecimal()), default=None)


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


def key_value(text: str) -> tuple[str, str]:
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
