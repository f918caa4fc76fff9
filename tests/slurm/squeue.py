"""What the real squeue prints when src.slurm.job_queue asks it."""


def line(
    job: str,
    state: str = "RUNNING",
    restarts: int = 0,
    *,
    raw: str | None = None,
    reason: str = "None",
    node: str = "n1",
    left: str = "1:00",
    folder: str = "/",
    name: str = "x",
) -> str:
    """A job's line; raw: its own id where that is not its array's."""
    raw = raw or job.partition("_")[0]
    cells = (job, raw, state, str(restarts), reason, node, left, folder, name)
    return "".join(f"{cell:<20}|" for cell in cells)
