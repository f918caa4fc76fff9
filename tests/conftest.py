"""Shared fixtures: small data sets, commands in subprocesses, a rehearsal Slurm cluster."""

import gc
import os
import pickle
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

import numpy as np
import pytest
import torch

from src.cli.entry_point import run_main
from src.common import temporary_files
from src.common.errors import ExitStatus
from src.common.paths import ROOT
from src.config import RunConfig
from src.data import synthetic
from src.data.dataset import Dataset
from src.data.device_dataset import DeviceDataset
from src.run import run
from src.runs import damaged_files
from src.slurm import job_poller
from tests import GC_THRESHOLD, preloaded

FakeSqueue = Callable[[str], Path]
RunCommand = Callable[..., subprocess.CompletedProcess[str]]


_PAGE = "tests/report/test_page.py"


@pytest.hookimpl(tryfirst=True)  # before pytest-xdist reads the marks
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Group tests for pytest-xdist by file, all Slurm tests in one group; slowest groups first."""
    long = [
        *("slurm", "tests/test_documents.py", "tests/chaos/test_chaos.py", _PAGE),
        *("tests/training/test_fake_cuda.py", "tests/test_style.py", "tests/test_main.py"),
        *("tests/benchmarks/test_commands.py", "tests/test_bfloat16_plugin.py"),
    ]

    def group(item: pytest.Item) -> str:
        file = item.nodeid.partition("::")[0]
        one_sweep = "sweep" in getattr(item, "fixturenames", ())  # an expensive session fixture
        file = _PAGE if one_sweep else file
        return "slurm" if item.get_closest_marker("slurm") else file

    for item in items:
        item.add_marker(pytest.mark.xdist_group(group(item)))
    place = {name: number for number, name in enumerate(long)}
    items.sort(key=lambda item: place.get(group(item), len(long)))


def pytest_collection_finish() -> None:
    """Leave out of garbage collection, which follows every training, what collecting has made."""
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLD)


def pytest_sessionfinish() -> None:
    """Let bindings that look for leaks at the exit find none."""
    gc.unfreeze()


@pytest.fixture(scope="session", autouse=True)
def user_cache() -> Iterator[None]:
    """Use a temporary cache folder for tests and their commands, and disable wandb."""
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", folder)
        patch.setenv("WANDB_MODE", "disabled")
        yield


@pytest.fixture(scope="session")
def small_dataset() -> Dataset:
    """Return 600 training and 200 test images of the synthetic data set."""
    return synthetic.generate(train=600, test=200)


@pytest.fixture(scope="session")
def small_data(small_dataset: Dataset) -> DeviceDataset:
    return DeviceDataset.put(small_dataset, torch.device("cpu"))


@pytest.fixture(scope="session")
def config() -> RunConfig:
    """Return the configuration of a run that takes about two seconds."""
    return RunConfig(
        base_dataset_path="synthetic",
        model_type="cifar10net",
        num_epochs=2,
        batch_size=50,
        learning_rate=0.001,
        max_images=300,
    )


@pytest.fixture(scope="session")
def trained(config: RunConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train three tiny runs on synthetic data, two of cifar10net and one of tinyvgg.

    They run on the CPU, where the same weights give bitwise equal features. The second is trained
    in float32, the precision used to evaluate weights without a recorded compute format.
    """
    runs_dir = tmp_path_factory.mktemp("trained")
    tiny = replace(config, num_epochs=3, learning_rate=0.003, keep_checkpoints="all", device="cpu")
    measured = replace(tiny, normalization="measured", val_freq=2, seed=1, optimizer="adam")
    measured = replace(measured, precision="float32", memory_format="contiguous")
    small = replace(tiny, model_type="tinyvgg", hidden_units=4, num_epochs=1)
    run([tiny, measured, small], runs_dir=runs_dir)
    return runs_dir


@pytest.fixture
def expect_bad_input(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., str]:
    """Call a main function with bad input; check status 2 and return its one line of stderr."""

    def refuse(main: Callable[[Sequence[str]], ExitStatus], *words: object) -> str:
        monkeypatch.setattr(sys, "argv", ["command", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            run_main(main)
        assert ended.value.code == ExitStatus.BAD_INPUT
        captured = capsys.readouterr()
        assert not captured.out
        assert re.fullmatch(r"error: .+\n", captured.err)
        return captured.err

    return refuse


@pytest.fixture
def age_by_mtime(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take the age of temporary files from their mtime, which a test can set."""
    monkeypatch.setattr(temporary_files, "_last_change", lambda path: path.stat().st_mtime)


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch) -> RunCommand:
    """Run a command line of the project in the repository and return the completed process.

    fresh: start a new interpreter instead of forking one with preloaded libraries.
    """
    monkeypatch.setenv("PYTHONWARNINGS", "error")
    for name in ("REQUEUE_ON_STOP", "SLURM_JOB_ID", "SLURM_ARRAY_TASK_ID", "CIFAR10_DIR"):
        monkeypatch.delenv(name, raising=False)

    def run(
        *words: object,
        check: int | None = 0,
        cwd: Path = ROOT,
        env: Mapping[str, str] = os.environ,
        timeout: float = 300,
        fresh: bool = False,
    ) -> subprocess.CompletedProcess[str]:
        arguments = [sys.executable if word == "python" else str(word) for word in words]
        if preloaded.is_python_command(arguments) and not fresh:
            done = preloaded.run(arguments, cwd=cwd, env=env, timeout=timeout)
        else:
            done = subprocess.run(
                arguments, cwd=cwd, env=env, timeout=timeout, capture_output=True, text=True
            )
        if check is not None:
            assert done.returncode == check, done.stdout + done.stderr
        return done

    return run


def copy_repository(folder: Path) -> Path:
    """Copy all tracked files to `folder`, link this checkout's .venv there, return `folder`."""
    tracked = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True
    )
    for name in filter(None, tracked.stdout.split("\0")):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    (folder / ".venv").symlink_to(ROOT / ".venv")
    return folder


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Return the environment variables as after `. .venv/bin/activate`."""
    for name in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS"):  # set by `make test`
        monkeypatch.delenv(name, raising=False)
    return {**os.environ, "PATH": f"{ROOT}/.venv/bin:{os.environ['PATH']}"}


@pytest.fixture(scope="session")
def batches(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Create a folder in the official CIFAR-10 layout, with random images."""
    folder = tmp_path_factory.mktemp("cifar") / "cifar-10-batches-py"
    folder.mkdir()
    random = np.random.default_rng(0)
    for name in (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"):
        data = random.integers(0, 256, (10_000, 3072), dtype=np.uint8)
        labels = random.integers(0, 10, 10_000).tolist()
        (folder / name).write_bytes(pickle.dumps({b"data": data, b"labels": labels}, protocol=3))
    return folder


def wait_until(condition: Callable[[], object], seconds: float = 180) -> None:
    """Poll until `condition()` is true; fail after `seconds`."""
    give_up = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < give_up, "timed out"
        time.sleep(0.2)


def skip_or_fail(reason: str) -> NoReturn:
    """Skip the test; in CI, where only a GPU may be missing, fail it instead."""
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture(scope="session")
def private_mounts(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, ...]:
    """Return a command prefix that runs in a private mount namespace, without root."""
    words = ("unshare", "--map-root-user", "--mount")
    mount = (*words, "mount", "-t", "tmpfs", "none", str(tmp_path_factory.mktemp("mounted")))
    if not shutil.which(words[0]) or subprocess.run(mount, capture_output=True).returncode:
        skip_or_fail("needs a mount namespace: unshare and mount, with user namespaces allowed")
    return words


@pytest.fixture(scope="session")
def cifar10() -> str:
    """Return the folder of the real CIFAR-10, or skip."""
    folder = os.environ.get("CIFAR10_DIR")
    if not folder:
        skip_or_fail("needs the real CIFAR-10: set CIFAR10_DIR to the folder of its python batches")
    return folder


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Start a rehearsal cluster of four nodes and set SLURM_CONF; return its folder."""
    if not shutil.which("sbatch") or not shutil.which("slurmctld", path=SBIN):
        skip_or_fail("needs Slurm: slurmctld slurmd slurm-client slurmdbd munge mariadb-server")
    scripts = ROOT / "slurm_cluster" / "rehearsal"
    folder = Path("/tmp") / f"slurm-test-{os.getpid()}"
    subprocess.run([scripts / "up.sh", folder], check=True, timeout=120, stdout=subprocess.DEVNULL)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SLURM_CONF", str(folder / "conf" / "slurm.conf"))
        patch.setenv("OMP_NUM_THREADS", "1")  # the nodes share this machine's cores
        yield folder
    subprocess.run([scripts / "down.sh", folder], check=True, timeout=120)
    shutil.rmtree(folder)


SBIN = os.environ["PATH"] + ":/usr/sbin:/sbin"
"""Where daemons are, too."""


@pytest.fixture(autouse=True)
def fresh_job_poller(monkeypatch: pytest.MonkeyPatch) -> None:
    """Discard Slurm answers that were cached by an earlier test."""
    monkeypatch.setattr(job_poller, "shared", job_poller.JobPoller())


@pytest.fixture(autouse=True)
def no_damaged_files_named() -> None:
    """Forget which damaged files an earlier test has named."""
    damaged_files.forget()


@pytest.fixture
def squeue(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> FakeSqueue:
    """Put a fake squeue with a given body on PATH; return the file that logs its arguments."""

    def put(body: str) -> Path:
        script, call_log = tmp_path / "bin" / "squeue", tmp_path / "squeue-calls"
        script.parent.mkdir(exist_ok=True)
        script.write_text(f"#!/bin/bash\necho $* >>{call_log}\n{body}\n")
        script.chmod(0o755)
        monkeypatch.setenv("PATH", f"{script.parent}:{os.environ['PATH']}")
        return call_log

    return put
