"""python -m src.sweep, and the job scripts under plain bash."""

import json
import os
import re
import subprocess
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
    """Two set files: 8 cells, 6 trainings, of which 3 diverge."""
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


def test_generate(command: RunCommand, sets: Path, tmp_path: Path) -> None:
    assert sorted(os.listdir(sets)) == ["hyperparameters_1.txt", "hyperparameters_2.txt"]
    done = command("python", "-m", "src.sweep", "generate", "--out", tmp_path / "x")
    assert "864 runs (672 different trainings) in 18 set files" in done.stdout
    lines = [line for path in (tmp_path / "x").iterdir() for line in path.read_text().splitlines()]
    assert len(lines) == len(set(lines)) == 864
    out = tmp_path / "y"
    command("python", "-m", "src.sweep", "generate", "--out", out, "--dry-run")
    assert not out.exists()
    command("python", "-m", "src.sweep", "generate", "--out", out, "--per-file", "100")
    assert len(os.listdir(out)) == 9


def test_a_set_goes_on_after_a_failed_run_and_says_so(
    command: RunCommand, sets: Path, tmp_path: Path
) -> None:
    work = ("python", "-m", "src.sweep", "work", "--sets", sets, "--runs", tmp_path / "runs")
    done = command(*work, check=1)
    states = [line.split()[0] for line in done.stdout.splitlines()]
    assert states == ["done", "done", "failed", "failed"] * 2
    assert "4 of 8 runs are not done: 4 failed" in done.stderr
    assert len(list((tmp_path / "runs").glob("*/*/result.json"))) == 3
    results = sorted((tmp_path / "runs").glob("*/*/result.json"))
    before = [path.read_bytes() for path in results]
    again = command(*work, check=1)
    assert again.stdout == done.stdout
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
    done = command(*aggregate)
    assert "4 rows" in done.stdout
    assert "not in it: 3 failed" in done.stderr
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


def test_a_malformed_line_stops_the_set_before_anything(
    command: RunCommand, sets: Path, tmp_path: Path
) -> None:
    path = sets / "hyperparameters_1.txt"
    path.write_text(path.read_text() + "1 50 cifar10net step False fast 0 0.9\n")
    runs = tmp_path / "runs"
    done = command(
        "python", "-m", "src.sweep", "work", "1", "--sets", sets, "--runs", runs, check=2
    )
    assert re.fullmatch(
        r"error: .*hyperparameters_1.txt, line 5: learning_rate 'fast': .*\n", done.stderr
    )
    assert not runs.exists()


@pytest.mark.parametrize("number", ["x", "3", "0", "../sets/hyperparameters_1", "1;id", "$(id)"])
def test_a_wrong_set_number_is_one_line(command: RunCommand, sets: Path, number: str) -> None:
    done = command("bash", SCRIPTS / "run_cluster_sets.sh", number, "--sets", sets, check=2)
    assert re.fullmatch(r"(.*job none.*\n)?error: set .*: expected a number, 1 to 2\n", done.stderr)


@pytest.mark.parametrize("folder", [ROOT, SCRIPTS, Path("/")])
def test_the_scripts_run_under_bash_from_anywhere(
    command: RunCommand, sets: Path, tmp_path: Path, folder: Path
) -> None:
    runs = tmp_path / "runs"
    words = ("1", "50", "cifar10net", "step", "True", "0.001", "0", "0.9")
    small = ("-d", "synthetic", "--max-images", "100", "--runs", runs)
    command("bash", SCRIPTS / "run_cluster.sh", *words, *small, cwd=folder)
    [path] = runs.glob("cifar10net/*/config.json")
    config = json.loads(path.read_text())
    assert config["data_augmentation"] is True
    assert (config["num_epochs"], config["weight_decay"], config["gamma"]) == (1, 0, 0.9)


def test_the_array_task_is_the_set_number(command: RunCommand, sets: Path, tmp_path: Path) -> None:
    environment = {**os.environ, "SLURM_ARRAY_TASK_ID": "7"}
    script = SCRIPTS / "run_cluster_sets.sh"
    done = command("bash", script, "--sets", sets, check=2, env=environment)
    assert "set '7'" in done.stderr
    done = command("bash", script, check=2)
    assert "no set number" in done.stderr


@pytest.mark.parametrize(
    ("words", "part"),
    [(["1", "2"], "2 arguments"), (["1", "2", "m", "s", "maybe", "1", "1", "1"], "maybe")],
)
def test_wrong_arguments_are_one_line(command: RunCommand, words: list[str], part: str) -> None:
    done = command("bash", SCRIPTS / "run_cluster.sh", *words, check=2)
    assert part in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_conda_is_used_where_its_environment_is_there(command: RunCommand, tmp_path: Path) -> None:
    """A stand-in for conda: the scripts see an executable that behaves as conda does."""
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
    done = command("bash", SCRIPTS / "run_cluster_sets.sh", "4", env=environment)
    assert done.stdout == "conda python: -u -m src.sweep work 4\n"
    done = command("bash", SCRIPTS / "setup_conda.sh", env=environment)
    assert done.stdout.split() == [
        "env",
        "update",
        "--prune",
        "--file",
        "environment.yml",
        "--name",
        "cifar10-sweep",
    ]


def test_the_scripts_are_clean() -> None:
    for script in SCRIPTS.rglob("*.sh"):
        subprocess.run(["bash", "-n", script], check=True)
