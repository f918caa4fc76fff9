"""Compile a C++ file of this folder for the processor at hand, with the system's compiler."""

import ctypes
import hashlib
import os
import platform
import shutil
import subprocess
from contextlib import suppress
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from src.common.paths import cache_dir, compiled_file

_FLAGS = (
    *("-std=c++14", "-O3", "-march=native", "-fopenmp", "-shared", "-fPIC"),
    # what a loop has to keep otherwise, and cannot be vectorised for; not -ffast-math, which
    # loses NaN and, in a shared library, denormal numbers of the whole process
    *("-fno-math-errno", "-fno-trapping-math"),
    *(("-mprefer-vector-width=512",) if platform.machine() == "x86_64" else ()),
)
_SECONDS = 120
_CPU_INFO = Path("/proc/cpuinfo")


def compiler() -> str | None:
    """The C++ compiler: that of the environment variable CXX, or c++. None if there is none."""
    return shutil.which(os.environ.get("CXX") or "c++")


@cache
def load(name: str) -> ctypes.CDLL | None:
    """The library made of `name`.cpp in this folder. None if it cannot be compiled or loaded here.

    It is compiled once for a processor, in about three seconds, and kept in the user's cache
    folder.
    """
    source = Path(__file__).with_name(f"{name}.cpp")
    try:
        kept = compiled_file(cache_dir(), f"{name}-{_key(source)}")
        if not _is_private(kept):
            _compile(source, kept)
        return ctypes.CDLL(str(kept))
    except (OSError, subprocess.SubprocessError):
        return None


def _key(source: Path) -> str:
    """A digest of the source, how it is compiled, and for which processor."""
    parts = [source.read_bytes(), " ".join(_FLAGS).encode(), platform.machine().encode()]
    if _CPU_INFO.exists():
        lines = _CPU_INFO.read_bytes().splitlines()
        parts += sorted({line for line in lines if line.startswith((b"model name", b"flags"))})
    return hashlib.sha256(b"\0".join(parts)).hexdigest()[:20]


@cache
def kernels_digest() -> str:
    """A digest of the code in this folder: what was measured with other kernels may not hold."""
    folder = Path(__file__).parent
    sources = sorted([*folder.glob("*.py"), *folder.glob("*.cpp")])
    return hashlib.sha256(b"\0".join(path.read_bytes() for path in sources)).hexdigest()[:20]


def _is_private(library: Path) -> bool:
    """Whether a file is there and nobody else may write it: it is about to be run."""
    try:
        status = library.stat()
    except FileNotFoundError:
        return False
    return status.st_uid == os.geteuid() and not status.st_mode & 0o022


def _compile(source: Path, target: Path) -> None:
    """Write `target` in one piece, unless it is there. Raises OSError or SubprocessError."""
    command = compiler()
    if command is None:
        raise FileNotFoundError("no C++ compiler")
    target.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=target.parent) as folder:
        made = Path(folder) / target.name
        arguments = [command, *_FLAGS, str(source), "-o", str(made)]
        subprocess.run(arguments, check=True, capture_output=True, timeout=_SECONDS)
        made.chmod(0o600)
        # not replaced if another process was first: over NFS, that takes it from those that run it
        with suppress(FileExistsError):
            os.link(made, target)
        if not _is_private(target):
            made.replace(target)
