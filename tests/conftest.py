"""What the tests share: small data, commands in processes of their own, a rehearsal cluster."""

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
from src.common.errors import ExitStatus
from src.common.paths import ROOT
from src.config import RunConfig
from src.data import synthetic
from src.data.dataset import Dataset
from src.data.device_dataset import DeviceDataset
from src.run import run
from src.slurm import job_poller
from tests import preloaded

Fake = Callable[[str], Path]
Run = Callable[..., subprocess.CompletedProcess[str]]


_PAGE = "tests/report/test_page.py"


@pytest.hookimpl(tryfirst=True)  # before pytest-xdist reads the marks
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Beside others run whole files, and all that need the one cluster; the longest begin."""
    long = [
        *("slurm", "tests/test_documents.py", "tests/chaos/test_chaos.py", _PAGE),
        *("tests/test_style.py", "tests/benchmarks/test_commands.py", "tests/test_main.py"),
        "tests/test_as_on_amx.py",
    ]

    def group(item: pytest.Item) -> str:
        file = item.nodeid.partition("::")[0]
        one_sweep = "sweep" in getattr(item, "fixturenames", ())  # it takes a while to make up
        file = _PAGE if one_sweep else file
        return "slurm" if item.get_closest_marker("slurm") else file

    for item in items:
        item.add_marker(pytest.mark.xdist_group(group(item)))
    place = {name: number for number, name in enumerate(long)}
    items.sort(key=lambda item: place.get(group(item), len(long)))


@pytest.fixture(scope="session", autouse=True)
def user_cache() -> Iterator[None]:
    """A cache folder of these tests and of the commands that they run, not the developer's.

    Nor is wandb told of them.
    """
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", folder)
        patch.setenv("WANDB_MODE", "disabled")
        yield


@pytest.fixture(scope="session")
def small_dataset() -> Dataset:
    """600 training and 200 test images of the stand-in."""
    return synthetic.generate(train=600, test=200)


@pytest.fixture(scope="session")
def small_data(small_dataset: Dataset) -> DeviceDataset:
    return DeviceDataset.put(small_dataset, torch.device("cpu"))


@pytest.fixture(scope="session")
def config() -> RunConfig:
    """A run of two seconds."""
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
    """Run folders of three tiny runs on the stand-in: two of cifar10net, one of tinyvgg.

    On the CPU, where their weights give the same features again, bit for bit. The second is
    trained in float32, in which weights are evaluated of which nobody knows how they came about.
    """
    runs_dir = tmp_path_factory.mktemp("trained")
    tiny = replace(config, num_epochs=3, learning_rate=0.003, keep_checkpoints="all", device="cpu")
    measured = replace(tiny, normalization="measured", val_freq=2, seed=1, optimizer="adam")
    measured = replace(measured, precision="float32", memory_format="contiguous")
    small = replace(tiny, model_type="tinyvgg", hidden_units=4, num_epochs=1)
    run([tiny, measured, small], runs_dir=runs_dir)
    return runs_dir


@pytest.fixture
def refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., str]:
    """Run a command's main with words that it refuses: status 2, one line on stderr, returned."""

    def refuse(main: Callable[[Sequence[str]], ExitStatus], *words: object) -> str:
        monkeypatch.setattr(sys, "argv", ["command", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            run_main(main)
        assert ended.value.code == ExitStatus.BAD_INPUT
        said = capsys.readouterr()
        assert not said.out
        assert re.fullmatch(r"error: .+\n", said.err)
        return said.err

    return refuse


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run a command line of the project from the repository, and return what it printed.

    fresh: by an interpreter of its own, not one that has the libraries already.
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
        if preloaded.is_ours(arguments) and not fresh:
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
    """Copy what git tracks into `folder`, with this checkout's environment; returns `folder`."""
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
    """As after `. .venv/bin/activate`."""
    for name in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS"):  # of the `make test` that we run under
        monkeypatch.delenv(name, raising=False)
    return {**os.environ, "PATH": f"{ROOT}/.venv/bin:{os.environ['PATH']}"}


@pytest.fixture(scope="session")
def batches(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in the official layout, with random images."""
    folder = tmp_path_factory.mktemp("cifar") / "cifar-10-batches-py"
    folder.mkdir()
    random = np.random.default_rng(0)
    for name in (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"):
        data = random.integers(0, 256, (10_000, 3072), dtype=np.uint8)
        labels = random.integers(0, 10, 10_000).tolist()
        (folder / name).write_bytes(pickle.dumps({b"data": data, b"labels": labels}, protocol=3))
    return folder


def until(condition: Callable[[], object], seconds: float = 180) -> None:
    """Wait for something that happens elsewhere."""
    give_up = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < give_up, "waited too long"
        time.sleep(0.2)


def lacking(reason: str) -> NoReturn:
    """Skip for a reason; in CI, where nothing but a GPU may be lacking, fail."""
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture(scope="session")
def own_mounts(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, ...]:
    """What to begin a command with that mounts file systems which it alone sees, as any user."""
    words = ("unshare", "--map-root-user", "--mount")
    mount = (*words, "mount", "-t", "tmpfs", "none", str(tmp_path_factory.mktemp("mounted")))
    if not shutil.which(words[0]) or subprocess.run(mount, capture_output=True).returncode:
        lacking("needs file systems of its own: unshare and mount, with user namespaces allowed")
    return words


@pytest.fixture(scope="session")
def cifar10() -> str:
    """Folder of the real CIFAR-10."""
    folder = os.environ.get("CIFAR10_DIR")
    if not folder:
        lacking("needs the real CIFAR-10: set CIFAR10_DIR to the folder of its python batches")
    return folder


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A rehearsal cluster of four nodes, and SLURM_CONF pointing to it."""
    if not shutil.which("sbatch") or not shutil.which("slurmctld", path=SBIN):
        lacking("needs Slurm: slurmctld slurmd slurm-client slurmdbd munge mariadb-server")
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
def forgotten_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    """No answer of Slurm from the test before is fresh."""
    monkeypatch.setattr(job_poller, "shared", job_poller.JobPoller())


@pytest.fixture
def squeue(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Fake:
    """Put a squeue with this body on PATH; the file that its arguments are written to."""

    def put(body: str) -> Path:
        script, asked = tmp_path / "bin" / "squeue", tmp_path / "asked"
        script.parent.mkdir(exist_ok=True)
        script.write_text(f"#!/bin/bash\necho $* >>{asked}\n{body}\n")
        script.chmod(0o755)
        monkeypatch.setenv("PATH", f"{script.parent}:{os.environ['PATH']}")
        return asked

    return put
