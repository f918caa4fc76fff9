"""python -m src.sweep generate and work, and the job scripts run with bash."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from src.common.paths import ROOT
from tests.conftest import RunCommand

GRID = """
base_dataset_path: synthetic
model_type: cifar10net
scheduler: [step, cosine]
learning_rate: [0.001, 1.0e+30]
gamma: [0.9, 0.95]
num_epochs: 1
batch_size: 50
max_images: 100
precision: float32
"""
SCRIPTS = ROOT / "slurm_cluster"


@pytest.fixture
def sets(command: RunCommand, tmp_path: Path) -> Path:
    """Generate two set files with 8 cells and 6 trainings, of which 3 diverge."""
    (tmp_path / "grid.yaml").write_text(GRID)
    command(
        "python",
        "-m",
        "src.sweep",
        "generate",
        "--grid",
        tmp_path / "grid.yaml",
        "--out",
        tmp_path / "sets",
    )
    return tmp_path / "sets"


def test_generate_writes_set_files(command: RunCommand, sets: Path, tmp_path: Path) -> None:
    assert sorted(os.listdir(sets)) == ["hyperparameters_1.txt", "hyperparameters_2.txt"]
    completed = command("python", "-m", "src.sweep", "generate", "--out", tmp_path / "x")
    assert "864 runs (672 different trainings) in 18 set files" in completed.stdout
    lines = [line for path in (tmp_path / "x").iterdir() for line in path.read_text().splitlines()]
    assert len(lines) == len(set(lines)) == 864
    out = tmp_path / "y"
    command("python", "-m", "src.sweep", "generate", "--out", out, "--dry-run")
    assert not out.exists()
    command("python", "-m", "src.sweep", "generate", "--out", out, "--per-file", "100")
    assert len(os.listdir(out)) == 9


def test_work_continues_after_failed_runs_and_report_counts_them(
    command: RunCommand, sets: Path, tmp_path: Path
) -> None:
    work = ("python", "-m", "src.sweep", "work", "--sets", sets, "--runs", tmp_path / "runs")
    completed = command(*work, check=1)
    states = [line.split()[0] for line in completed.stdout.splitlines()]
    assert states == ["done", "done", "failed", "failed"] * 2
    assert "4 of 8 runs are not done: 4 failed" in completed.stderr
    assert len(list((tmp_path / "runs").glob("*/*/result.json"))) == 3
    results = sorted((tmp_path / "runs").glob("*/*/result.json"))
    before = [path.read_bytes() for path in results]
    again = command(*work, check=1)
    assert again.stdout == completed.stdout
    assert "epoch" not in again.stderr
    assert [path.read_bytes() for path in results] == before

    csv = tmp_path / "clean_runs.csv"
    aggregate = (
        "python",
        "-m",
        "src.report",
        "aggregate",
        "--runs",
        tmp_path / "runs",
        "--csv",
        csv,
    )
    completed = command(*aggregate)
    assert "4 rows" in completed.stdout
    assert "not in it: 3 failed" in completed.stderr
    first = csv.read_bytes()
    command(*aggregate)
    assert csv.read_bytes() == first
    charts = (
        "python",
        "-m",
        "src.report",
        "--csv",
        csv,
        "--runs",
        tmp_path / "runs",
        "--out",
        tmp_path,
    )
    command(*charts)
    assert "Not shown: 3 failed." in (tmp_path / "cifar10net_top_k.svg").read_text()


def test_malformed_line_stops_work_before_training(
    command: RunCommand, sets: Path, tmp_path: Path
) -> None:
    path = sets / "hyperparameters_1.txt"
    path.write_text(path.read_text() + "1 50 cifar10net step False fast 0 0.9\n")
    runs = tmp_path / "runs"
    completed = command(
        "python", "-m", "src.sweep", "work", "1", "--sets", sets, "--runs", runs, check=2
    )
    assert re.fullmatch(
        r"error: .*hyperparameters_1.txt, line 5: learning_rate 'fast': .*\n", completed.stderr
    )
    assert not runs.exists()


@pytest.mark.parametrize("number", ["x", "3", "0", "../sets/hyperparameters_1", "1;id", "$(id)"])
def test_invalid_set_number_gives_one_line_error(
    command: RunCommand, sets: Path, number: str
) -> None:
    completed = command("bash", SCRIPTS / "run_cluster_sets.sh", number, "--sets", sets, check=2)
    assert re.fullmatch(
        r"(.*job none.*\n)?error: set .*: expected a number, 1 to 2\n", completed.stderr
    )


@pytest.mark.parametrize("folder", [ROOT, SCRIPTS, Path("/")])
def test_run_cluster_script_works_in_any_directory(
    command: RunCommand, sets: Path, tmp_path: Path, folder: Path
) -> None:
    runs = tmp_path / "runs"
    words = ("1", "50", "cifar10net", "step", "True", "0.001", "0", "0.9")
    options = ("-d", "synthetic", "--max-images", "100", "--runs", runs)
    command("bash", SCRIPTS / "run_cluster.sh", *words, *options, cwd=folder)
    [path] = runs.glob("cifar10net/*/config.json")
    config = json.loads(path.read_text())
    assert config["data_augmentation"] is True
    assert (config["num_epochs"], config["weight_decay"], config["gamma"]) == (1, 0, 0.9)


def checkout(folder: Path) -> Path:
    """A repository whose `work` prints where its code is."""
    shutil.copytree(SCRIPTS, folder / "slurm_cluster")
    (folder / "src").mkdir()
    (folder / "src" / "sweep.py").write_text("print(__file__)")
    return folder


@pytest.fixture
def two_checkouts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path, Path]:
    """This project's repository, another one, and a copy of a script as slurmd makes it."""
    mine, other = checkout(tmp_path / "mine"), checkout(tmp_path / "other")
    commands, copy = tmp_path / "bin", tmp_path / "spool" / "job12" / "slurm_script"
    copy.parent.mkdir(parents=True)
    shutil.copyfile(SCRIPTS / "run_cluster_sets.sh", copy)
    commands.mkdir()
    (commands / "python").symlink_to(sys.executable)
    for name in ("scontrol", "conda"):
        (commands / name).write_text("#!/bin/sh\nexit 1\n")
        (commands / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{commands}:/usr/bin:/bin")
    monkeypatch.setenv("SLURM_JOB_ID", "12")
    monkeypatch.setenv("SLURM_SUBMIT_DIR", str(other))
    for name in ("CONDA_EXE", "PYTHONPATH", "PYTHONSAFEPATH", "SLURM_TASK_PID"):
        monkeypatch.delenv(name, raising=False)
    return mine, other, copy


def code_run_by(script: Path | str, folder: Path, **environment: str) -> str:
    completed = subprocess.run(
        ["bash", script, "1"],
        cwd=folder,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
    )
    return completed.stdout.strip() or completed.stderr


def test_script_uses_its_own_repository(two_checkouts: tuple[Path, Path, Path]) -> None:
    """Whatever the environment says of another one."""
    mine, other, _ = two_checkouts
    code = str(mine / "src" / "sweep.py")
    script = mine / "slurm_cluster" / "run_cluster_sets.sh"
    assert code_run_by(script, other) == code
    assert code_run_by(script, other, PYTHONPATH=str(other), PYTHONSAFEPATH="1") == code
    relative = script.relative_to(mine)
    assert code_run_by(relative, mine, CDPATH=str(other), SLURM_SUBMIT_DIR="") == code


def test_copy_of_script_uses_the_repository_of_the_original(
    two_checkouts: tuple[Path, Path, Path],
) -> None:
    mine, other, copy = two_checkouts
    assert code_run_by(copy, other) == str(other / "src" / "sweep.py")
    scontrol = copy.parents[2] / "bin" / "scontrol"
    command = f"{mine}/slurm_cluster/run_cluster_sets.sh 1 --sets /x/slurm_cluster/y"
    scontrol.write_text(f"#!/bin/sh\necho '   Command={command}'\n")
    assert code_run_by(copy, other) == str(mine / "src" / "sweep.py")


def test_copy_of_script_without_a_repository_gives_one_line_error(
    two_checkouts: tuple[Path, Path, Path],
) -> None:
    *_, copy = two_checkouts
    said = code_run_by(copy, copy.parent, SLURM_SUBMIT_DIR=str(copy.parent))
    assert said.startswith("error: run_cluster_sets.sh is not in a repository")
    assert said.count("\n") == 1


def test_array_task_id_is_used_as_set_number(
    command: RunCommand, sets: Path, tmp_path: Path
) -> None:
    environment = {**os.environ, "SLURM_ARRAY_TASK_ID": "7"}
    script = SCRIPTS / "run_cluster_sets.sh"
    completed = command("bash", script, "--sets", sets, check=2, env=environment)
    assert "set '7'" in completed.stderr
    completed = command("bash", script, check=2)
    assert "no set number" in completed.stderr


@pytest.mark.parametrize(
    ("words", "part"),
    [(["1", "2"], "2 arguments"), (["1", "2", "m", "s", "maybe", "1", "1", "1"], "maybe")],
)
def test_invalid_script_arguments_give_one_line_error(
    command: RunCommand, words: list[str], part: str
) -> None:
    completed = command("bash", SCRIPTS / "run_cluster.sh", *words, check=2)
    assert part in completed.stderr
    assert len(completed.stderr.splitlines()) == 1


def test_scripts_use_conda_environment_if_it_exists(command: RunCommand, tmp_path: Path) -> None:
    """A fake conda executable mimics the conda commands that the scripts use."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "python").write_text("#!/bin/bash\necho conda python: $*\n")
    conda = tmp_path / "conda"
    conda.write_text(
        "#!/bin/bash\n"
        'case "$1 $2" in\n'
        '"env list") echo "cifar10-sweep  /x" ;;\n'
        f"\"shell.bash hook\") echo 'conda() {{ PATH={tmp_path}/bin:$PATH; }}' ;;\n"
        '"env update") echo "$@" ;;\n'
        "esac\n"
    )
    for path in (conda, tmp_path / "bin" / "python"):
        path.chmod(0o755)
    environment = {**os.environ, "CONDA_EXE": str(conda)}
    completed = command("bash", SCRIPTS / "run_cluster_sets.sh", "4", env=environment)
    assert completed.stdout == "conda python: -u -m src.sweep work 4\n"
    completed = command("bash", SCRIPTS / "setup_conda.sh", env=environment)
    assert completed.stdout.split() == [
        "env",
        "update",
        "--prune",
        "--file",
        "environment.yml",
        "--name",
        "cifar10-sweep",
    ]


def test_shell_scripts_have_valid_syntax() -> None:
    for script in SCRIPTS.rglob("*.sh"):
        subprocess.run(["bash", "-n", script], check=True)
