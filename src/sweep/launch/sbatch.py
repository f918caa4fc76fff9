"""Job scripts of workers, for a Slurm job array or for plain bash."""

import math
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from src.common.errors import UserError
from src.common.paths import CODE
from src.slurm.job_queue import JOB_NAME
from src.slurm.partitions import gpus_in

_WARNING_SECONDS = 120  # before a job's time limit or, with grace time, before a preemption


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
    additional_parameters: Mapping[str, str] = field(default_factory=dict)
    """Options of sbatch by name; an empty value is a bare flag."""

    @property
    def has_gpu(self) -> bool:
        """Whether each worker asks for a GPU."""
        return bool(gpus_in(self.gres or "")) or any(
            n.startswith("gpu") for n in self.additional_parameters
        )


@dataclass(frozen=True)
class JobArray:
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


def chunks(name: str, number: int, workers: int, largest: int) -> Iterator[JobArray]:
    """Arrays of at most `largest` tasks, with `workers` tasks in total."""
    for chunk in range(1, math.ceil(workers / largest) + 1):
        yield JobArray(name, number, min(largest, workers - (chunk - 1) * largest), chunk)


def script(
    array: JobArray, resources: Resources, folder: Path, current: Path, arguments: Sequence[str]
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
            **{name: value or True for name, value in resources.additional_parameters.items()},
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


def log(folder: Path, array: JobArray) -> str:
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
