"""How the threads of a process wait for each other. To be set before torch is imported."""

import os
import sys
from collections.abc import Sequence

OFF = ("--no_cpu_kernels", "--no-cpu-kernels")


def limit_spinning(arguments: Sequence[str] = sys.argv) -> None:
    """Let waiting OpenMP threads sleep after 20,000 turns, a few microseconds, instead of spinning.

    Beside other work on the same cores, spinning threads take the cores from the threads that they
    wait for. Training is as fast alone, and many times as fast beside others: benchmarks/LOG.md.
    What the environment says wins; --no_cpu_kernels leaves OpenMP's default.
    """
    if "OMP_WAIT_POLICY" not in os.environ and not set(OFF) & set(arguments):
        os.environ.setdefault("GOMP_SPINCOUNT", "20000")
