"""Run command lines of the project in forked processes that have the libraries imported already.

The fork server has imported the libraries, which takes seconds, and no module of the project.
"""

import atexit
import gc
import multiprocessing
import os
import runpy
import subprocess
import sys
import tempfile
import threading
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LIBRARIES = [
    *("torchvision", "pandas", "matplotlib.pyplot", "seaborn", "optuna", "scipy.stats"),
    *("rich.progress", "yaml", "psutil", "jinja2", "sklearn.manifold", "PIL.Image"),
    *("matplotlib.backends.backend_agg", "matplotlib.backends.backend_svg"),
]

_forks = multiprocessing.get_context("forkserver")
_forks.set_forkserver_preload(LIBRARIES)


def is_python_command(words: Sequence[str]) -> bool:
    """Return whether a command line runs a Python module or script."""
    return words[0] == sys.executable and (words[1] == "-m" or words[1].endswith(".py"))


def run(
    words: Sequence[str], *, cwd: Path, env: Mapping[str, str] = os.environ, timeout: float
) -> "subprocess.CompletedProcess[str]":
    """Run a command line in a forked process, like subprocess.run with captured text."""
    with tempfile.TemporaryDirectory() as folder:
        out, err = Path(folder, "out"), Path(folder, "err")
        process = _forks.Process(target=_run_main, args=(words[1:], str(cwd), dict(env), out, err))
        process.start()
        process.join(timeout)
        if process.exitcode is None:
            process.kill()
            raise subprocess.TimeoutExpired(words, timeout, out.read_bytes(), err.read_bytes())
        done = subprocess.CompletedProcess(
            words, process.exitcode, out.read_text(), err.read_text()
        )
        process.close()
        return done


def _run_main(words: list[str], cwd: str, env: dict[str, str], out: Path, err: Path) -> None:
    """Run a command as __main__, with the start-up and exit steps of an interpreter."""
    gc.freeze()  # garbage collection would copy the pages of what the server has imported
    for number, path in ((1, out), (2, err)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT), number)
    sys.stdout = os.fdopen(1, "w", closefd=False)
    sys.stderr = os.fdopen(2, "w", 1, errors="backslashreplace", closefd=False)
    os.environ.clear()
    os.environ.update(env)
    os.chdir(cwd)
    if env.get("PYTHONWARNINGS") == "error":
        warnings.simplefilter("error")
    for name in [name for name in sys.modules if name.split(".")[0] in ("src", "tests")]:
        del sys.modules[name]
    python_path = env.get("PYTHONPATH", "").split(os.pathsep)
    others = [path for path in sys.path if path not in ("", str(ROOT), *python_path)]
    sys.path[:] = [cwd, *filter(None, python_path), *others]
    try:
        if words[0] == "-m":
            sys.argv = words[1:]
            runpy.run_module(words[1], run_name="__main__", alter_sys=True)
        else:
            sys.argv = list(words)
            sys.path[0] = str(Path(words[0]).resolve().parent)
            runpy.run_path(words[0], run_name="__main__")
    finally:
        threading._shutdown()  # type: ignore[attr-defined]
        atexit._run_exitfuncs()
