"""Lines in the format that src.slurm.job_queue requests from squeue."""


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
    """Format the line of a job; raw: its job id if it differs from the array's id."""
    raw = raw or job.partition("_")[0]
    cells = (job, raw, state, str(restarts), reason, node, left, folder, name)
    return "".join(f"{cell:<20}|" for cell in cells)
