"""The GPUs that this process may use, without importing torch."""

import os
import re
import subprocess

VISIBLE = "CUDA_VISIBLE_DEVICES"

ANY_GPU = ("auto", "cuda")
"""Devices of a run that leave open which GPU it trains on."""


def visible_gpus() -> list[str]:
    """The GPUs as CUDA_VISIBLE_DEVICES names them: numbers, or ids of GPUs or of MIG devices.

    Those in the variable if it is set, as Slurm does; else all that nvidia-smi lists, of a GPU in
    MIG mode its MIG devices.
    """
    given = os.environ.get(VISIBLE)
    if given is not None:
        names = [name.strip() for name in given.split(",")]
        ends = next((n for n, name in enumerate(names) if name in ("", "-1")), len(names))
        return names[:ends]  # CUDA ignores what follows an invalid one
    try:
        listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return []
    return _names(listed.stdout) if listed.returncode == 0 else []


def _names(listed: str) -> list[str]:
    """The devices in the output of `nvidia-smi -L`."""
    names: list[str] = []
    for kind, name in re.findall(r"^\s*(GPU|MIG) .*\(UUID: (\S+)\)", listed, re.MULTILINE):
        if kind == "MIG" and names and names[-1].startswith("GPU-"):
            names.pop()  # a GPU in MIG mode cannot be used as a whole
        names.append(name)
    return names
