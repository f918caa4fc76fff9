"""Every command in the documents runs in a copy of the repository; links and paths exist."""

import inspect
import os
import re
import shlex
import shutil
import signal
import subprocess
import time
from itertools import pairwise
from pathlib import Path

import pytest
import torch
import yaml
from PIL import Image

from docs import code_metrics
from src import models
from src.common import paths
from src.common.paths import ROOT
from src.data.spec import CLASSES
from src.sweep import grid
from tests.conftest import RunCommand, copy_repository
from tests.markdown import blocks, inline_code, links, slugs

_FIRST = ("README.md", "docs/using.md", "docs/slurm.md")
"""Their commands run first, since later commands use their output."""

_OTHERS = [path.relative_to(ROOT).as_posix() for path in sorted((ROOT / "docs").glob("*.md"))]
DOCUMENTS = list(dict.fromkeys([*_FIRST, *_OTHERS, "CONTRIBUTING.md", "saved_models/README.md"]))
TEXTS = {name: (ROOT / name).read_text() for name in DOCUMENTS}
README = TEXTS["README.md"]


def commands_of(*names: str) -> list[str]:
    """Return the lines of the bash blocks of some documents, without duplicates."""
    matches = [block for name in names for block in blocks(TEXTS[name], "bash")]
    return list(dict.fromkeys(line for block in matches for line in block.splitlines()))


COMMANDS = commands_of(*DOCUMENTS)
TINY = "num_epochs: 1\nbatch_size: 50\nmax_images: 100\nmodel_type: cifar10net\n"
TINY_LINE = "1 50 cifar10net step True 0.001 0 0.9 max_images=100\n"
SHORT = ("--help", "--max_images")
LONG = [
    command
    for command in COMMANDS
    if "src/main.py" in command and not any(flag in command for flag in SHORT)
]
INSTRUCTIONS_MODEL = "lenet"
"""Marks the commands of CONTRIBUTING.md that tests/test_contributing.py runs."""

CREATED_BY_INSTRUCTIONS = {"src/models/lenet.py", "my_nets.py", "my_grid.yaml"}

[OWN_MODEL] = blocks(TEXTS["docs/using.md"], "python")
[OWN_GRID] = [text for text in blocks(TEXTS["docs/using.md"], "yaml") if "my_nets.py" in text]
"""The contents of `my_nets.py` and `my_grid.yaml`."""

REPOSITORY_PATH = re.compile(
    r"(src|docs|tests|run_config|benchmarks|slurm_cluster|hyperparameter_sets|notebooks)/.*"
    r"|[\w./*-]+\.(py|md|ya?ml|ipynb|sh)"
)


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory, batches: Path) -> Path:
    """Copy the repository, with random images and with grids that train in seconds."""
    folder = copy_repository(tmp_path_factory.mktemp("copy") / "project")
    (folder / "cifar-10").symlink_to(batches)
    torch.save(models.create("tinyvgg").state_dict(), folder / "my_weights.pt")
    for name in CLASSES:
        (folder / "my_images" / name).mkdir(parents=True)
        Image.new("RGB", (60, 40)).save(folder / "my_images" / name / "1.png")
    for shade, name in ((50, "rose"), (200, "tulip")):
        (folder / "my_photos" / name).mkdir(parents=True)
        for number in range(20):
            Image.new("RGB", (60, 40), (shade, number, 0)).save(
                folder / f"my_photos/{name}/{number}.png"
            )
    (folder / "my_nets.py").write_text(OWN_MODEL)
    (folder / "my_grid.yaml").write_text(OWN_GRID.replace("500", "100"))
    for path in (folder / "hyperparameter_sets").glob("*.txt"):
        path.write_text(TINY_LINE)
    for name in ("cifar10net_grid", "resnet9_onecycle"):
        (folder / "run_config" / f"{name}.yaml").write_text(TINY)
    both = folder / "run_config" / "two_datasets_grid.yaml"
    both.write_text(f"{TINY}dataset: [cifar10, cifar100]\n")
    demo = folder / "run_config" / "demo_grid.yaml"
    demo.write_text(demo.read_text().replace("max_images: 1600", "max_images: 240"))
    search = folder / "run_config" / "cifar10net_search.yaml"
    search.write_text(search.read_text().replace("num_epochs: 5", "num_epochs: 1\nmax_images: 200"))
    return folder


def test_make_demo_and_make_test_work_in_a_fresh_copy(
    command: RunCommand, copy: Path, environment: dict[str, str]
) -> None:
    assert COMMANDS[:2] == ["make demo", "make test"]
    done = command("make", "demo", cwd=copy, env=environment, timeout=400)
    trained, pruned = (done.stdout.count(f"{state:<9}") for state in ("done", "pruned"))
    assert trained + pruned == 18
    assert trained >= 16, "one set of three runs is pruned, except for its best run"
    assert "epoch 6/6" in done.stderr
    assert [line.split(":")[0] for line in done.stdout.splitlines()[-3:]] == [
        "what it found",
        "status",
        "report",
    ]
    assert done.stdout.splitlines()[-1].split() == ["report:", "demo/report/report.html"]
    assert 1 <= pruned <= 2
    page = (copy / "demo" / "report" / "report.html").read_text()
    assert page.count(f"{trained} finished runs and {pruned} pruned ones") >= 1
    assert len((copy / "demo" / "clean_runs.csv").read_text().splitlines()) == 19
    charts = {path.name for path in (copy / "demo" / "report").glob("*.png")}
    models = ("cifar10net", "cifar10net_3", "cifar10net_7")
    of_models = {f"{model}_{what}.png" for model in models for what in ("top_k", "pairs")}
    of_all = {f"{what}.png" for what in ("overall", "effects", "parallel", "scatter")}
    assert charts == of_models | of_all

    before = {p: p.stat().st_mtime_ns for p in (copy / "demo" / "runs").rglob("*") if p.is_file()}
    steps = command("make", "-n", "demo", cwd=copy, env=environment)
    work = [line for line in steps.stdout.splitlines() if "src.sweep work" in line]
    assert len(work) == 2
    for line in work:
        again = command("python", *line.split()[1:], cwd=copy, env=environment)
        assert "epoch" not in again.stderr
    assert before == {p: p.stat().st_mtime_ns for p in before}

    words = command("make", "-n", "test", cwd=copy, env=environment).stdout
    assert "-m pytest" in words


@pytest.mark.parametrize("line", LONG)
def test_long_documented_runs_start_and_stop_on_sigterm(
    command: RunCommand, copy: Path, environment: dict[str, str], line: str
) -> None:
    """They would take hours, so they get SIGTERM once they have begun an attempt."""
    runs = copy / "saved_models"
    process = subprocess.Popen(
        line.split(), cwd=copy, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    before = len(list(runs.glob("*/*/attempts/*.json")))
    while len(list(runs.glob("*/*/attempts/*.json"))) == before:
        assert process.poll() is None, process.communicate()
        time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    _, stderr = process.communicate(timeout=120)
    assert process.returncode == 3, stderr
    for model in filter(Path.is_dir, runs.iterdir()):
        shutil.rmtree(model)


@pytest.mark.slurm
def test_documented_sbatch_commands_run(
    command: RunCommand, copy: Path, environment: dict[str, str], cluster: Path
) -> None:
    jobs = [line for line in COMMANDS if line.startswith("sbatch")]
    assert len(jobs) == 3
    small = {
        "run_cluster.sh 50 64 resnet": "run_cluster.sh 1 64 cifar10net",
        "--array=1-18": "--array=1,18",
    }
    env = {**environment, "SLURM_CONF": os.environ["SLURM_CONF"], "OMP_NUM_THREADS": "1"}
    for line in jobs:
        for long, short in small.items():
            line = line.replace(long, short)
        if "run_cluster.sh" in line:
            line += " --max_images 100"
        command(*line.replace("sbatch", "sbatch --wait").split(), cwd=copy, env=env)


def test_remaining_documented_commands_run(
    command: RunCommand, copy: Path, environment: dict[str, str]
) -> None:
    """They run in order, since some use the output of earlier ones."""
    done = []
    for line in COMMANDS:
        if line in LONG or line.split()[0] in ("make", "sbatch") or "rehearsal" in line:
            continue
        if "--executor slurm" in line:  # see tests/tune/test_slurm.py
            continue
        if INSTRUCTIONS_MODEL in line:
            continue
        if "sweep doctor" in line:  # needs a cluster; see tests/sweep/test_doctor.py
            continue
        if "--watch" in line:  # endless; see tests/sweep/test_status.py
            continue
        if "--sets my_sets" in line:
            for number, path in enumerate(sorted((copy / "my_sets").iterdir()), 1):
                path.write_text(TINY_LINE.replace(" 0.001 ", f" 0.00{number} "))
        if "--model resnet" in line:
            line = line.replace("resnet", "cifar10net")
        line = line.replace("-e 3 --max_images 500", "-e 1 --max_images 100")
        line = line.replace("--trials 30", "--trials 2")
        line = line.replace("--images 2000", "--images 200")
        line = line.replace("estimate", "estimate --seconds 1")
        if line == "python -m src.sweep generate":
            line += " --out reference"
        if "my_net_runs" in line and "src.evaluate" in line:
            [path, *_] = (copy / "my_net_runs" / "my_nets.SmallNet").glob("*/result.json")
            line = line.replace("my_net_runs/my_nets.SmallNet/NAME-ID", str(path.parent))
        if "src.evaluate" in line:
            line = line.replace("saved_models/resnet/NAME-ID", _trained_run(copy))
        # the committed table: that of the copy has only the few runs trained here
        line = line.replace("--csv clean_runs.csv", f"--csv {ROOT / 'clean_runs.csv'}")
        if " RUN " in line:
            line = line.replace("RUN", next((copy / "my_runs").glob("cifar10net/*")).name)
        completed = command(*shlex.split(line), cwd=copy, env=environment)
        assert completed.stdout
        if "confirm" in line and "--submit" in line:
            assert "The winner" in completed.stdout
        if "confirm" in line and "--submit" in line and "my_runs" in line:
            assert len(list((copy / "my_runs" / "cifar10net").iterdir())) >= 3 * (1 + 3) + 3
        done.append(line)
    assert len(done) > 12
    assert len(list((copy / "reference").iterdir())) == 18
    assert (copy / "charts" / "overall.png").stat().st_size > 10_000


def test_example_grids_make_the_stated_number_of_cells(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my_nets.py").write_text(OWN_MODEL)
    examples = [block for block in blocks(TEXTS["docs/using.md"], "yaml") if "# " in block]
    assert len(examples) >= 7
    assert (ROOT / "run_config" / "blocks_grid.yaml").read_text() in examples
    for example in examples:
        stated = re.match(r"# (\d+) cells\n", example)
        assert stated, example
        assert len(grid.expand(yaml.safe_load(example))) == int(stated[1]), example


def _trained_run(copy: Path) -> str:
    return str(next((copy / "saved_models" / "cifar10net").glob("*/result.json")).parent)


@pytest.mark.parametrize("line", [line for line in COMMANDS if line.startswith("make ")])
def test_documented_make_targets_exist(
    command: RunCommand, copy: Path, environment: dict[str, str], line: str
) -> None:
    """Dry run only (make -n): the targets install packages or take hours."""
    _, target, *variables = line.split()
    steps = command("make", "-n", target, *variables, cwd=copy, env=environment).stdout
    for variable in variables:
        assert variable.partition("=")[2] in steps


def test_every_documented_command_is_covered_by_a_test() -> None:
    """The rehearsal scripts run in fixtures and in tests/chaos, all others in the tests above."""
    of_readme = commands_of("README.md")
    assert [line for line in of_readme if line.startswith("make")] == ["make demo", "make test"]
    scripts = [line.split()[0] for line in COMMANDS if "rehearsal" in line]
    names = ("up", "down", "nfs/up", "nfs/on", "nfs/down")
    assert scripts == [f"slurm_cluster/rehearsal/{name}.sh" for name in names]
    for line in COMMANDS:
        assert line.split()[0] in ("make", "python", "sbatch", "bash", *scripts)
    of_instructions = [line for line in COMMANDS if INSTRUCTIONS_MODEL in line]
    assert set(of_instructions) < set(commands_of("CONTRIBUTING.md"))
    assert len(of_instructions) == 3


def test_daily_commands_are_prefixes_of_tested_commands() -> None:
    section = README.partition("## Daily commands")[2].partition("\n## ")[0]
    daily = re.findall(r"^\| [^|`]+ \| `([^`]+)` \|$", section, flags=re.MULTILINE)
    assert len(daily) >= 12
    for line in daily:
        assert any(f"{known} ".startswith(f"{line} ") for known in COMMANDS), line


def test_map_of_files_lists_existing_paths_and_all_of_src() -> None:
    section = README.partition("## Map of files")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| (`.*?) \|", section, flags=re.MULTILINE)
    for cell in rows:
        names = re.findall(r"`([^`]+)`", cell)
        first = (ROOT / names[0]).parent
        for name in names:
            folder = ROOT / name
            assert folder.exists() or (first / name).exists(), name
    for path in (ROOT / "src").iterdir():
        if path.name not in ("__init__.py", "__pycache__"):
            assert f"{path.name}" in section, f"{path.name} is not in the map of files"
            assert [cell.strip("`/") for cell in rows].count(f"src/{path.name}") == 1


def test_readme_has_at_most_180_lines_of_100_columns() -> None:
    lines = README.splitlines()
    assert len(lines) <= 180
    assert max(map(len, lines)) <= 100


def test_readme_results_match_linked_documents() -> None:
    section = README.partition("## Results")[2].partition("\n## ")[0]
    cells = re.findall(r"^\| [^|]+ \| (\d[^|]+) \|", section, flags=re.MULTILINE)
    assert len(cells) >= 4
    for number in re.findall(r"\d+\.?\d*", " ".join(cells)):
        assert number in TEXTS["docs/reproduction.md"] + TEXTS["docs/performance.md"], number


@pytest.mark.parametrize("name", DOCUMENTS)
def test_relative_links_resolve_to_files_and_headings(name: str) -> None:
    """Link targets are files of the repository, and anchors are headings in them."""
    for target in links(TEXTS[name]):
        if re.match(r"https?://", target):
            continue
        path, _, anchor = target.partition("#")
        file = (ROOT / name).parent / path if path else ROOT / name
        assert file.exists(), target
        assert file.resolve().is_relative_to(ROOT), target
        if anchor:
            assert anchor in slugs(file.read_text()), target


@pytest.mark.parametrize("name", DOCUMENTS)
def test_paths_in_backticks_exist(name: str) -> None:
    missing = set()
    for word in (word for code in inline_code(TEXTS[name]) for word in code.split()):
        path, _, function = word.partition("::")
        if not REPOSITORY_PATH.fullmatch(path) or "<" in path or path.startswith("/"):
            continue
        matches = list(ROOT.glob(path))
        if not matches:
            missing.add(path)
        elif function:
            assert f"def {function}(" in matches[0].read_text(), word
    assert missing <= CREATED_BY_INSTRUCTIONS


@pytest.mark.parametrize("name", DOCUMENTS)
def test_modules_and_targets_in_backticks_exist(name: str) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for code in inline_code(TEXTS[name]):
        if module := re.match(r"python -m ([\w.]+)", code):
            path = ROOT / module[1].replace(".", "/")
            assert path.with_suffix(".py").exists() or (path / "__main__.py").exists(), code
        if target := re.fullmatch(r"make ([a-z-]+)( .*)?", code):
            assert target[1] in targets, code


def test_metrics_table_has_a_row_for_each_package() -> None:
    text = code_metrics.DOCUMENT.read_text()
    table = text.partition(code_metrics.BEGIN)[2].partition(code_metrics.END)[0]
    for path in (ROOT / "src").glob("*/__init__.py"):
        assert f"| `{path.parent.name}/` |" in table
    assert f"{code_metrics.BEGIN}\n| package |" in text


def test_metrics_table_lists_the_imports_of_each_package() -> None:
    text = code_metrics.DOCUMENT.read_text()
    rows = dict(re.findall(r"^\| `(\w+)/` .*\| ([\w., ]*) \|$", text, re.MULTILINE))
    imported = code_metrics.imported_parts(code_metrics.modules())
    assert rows == {part: ", ".join(imported[part]) for part in rows}, "run `make metrics`"
    assert set(rows) == {part for part in imported if "." not in part}


def test_arrows_between_packages_are_imports() -> None:
    [graph] = blocks(TEXTS["docs/architecture.md"], "mermaid")
    imported = code_metrics.imported_parts(code_metrics.modules())
    files = {name.removesuffix(".py"): name for name in imported}
    _, *lines = re.sub(r"\[.*?\]", "", graph).splitlines()
    for line in lines:
        for sources, targets in pairwise(line.strip().split(" --> ")):
            for target in targets.split(" & "):
                drawn = {files[name] for name in sources.split(" & ")}
                assert drawn <= {*imported[files[target]]}, target
    assert {*code_metrics.CHAIN} <= {*re.findall(r"\w+", " ".join(lines))}


def test_using_names_everything_beside_the_run_folders() -> None:
    text = TEXTS["docs/using.md"].partition("Beside the run folders")[2]
    found = {"wandb"}  # its name is that of wandb
    for function in filter(inspect.isfunction, vars(paths).values()):
        names = list(inspect.signature(function).parameters)
        if names[:1] == ["runs_dir"]:
            path = function(Path(), *(f"<{name}>" for name in names[1:]))
            found.add(path.parts[0])
    assert {"searches", "precision", "speeds.json"} < found
    for name in found:
        assert f"`{name}" in text, name


def test_dependencies_table_lists_every_requirement() -> None:
    text = TEXTS["docs/architecture.md"]
    names = re.findall(r"^([\w-]+)==", (ROOT / "requirements.txt").read_text(), re.MULTILINE)
    table = text.partition("## Dependencies")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| ([\w, -]+) \| ", table, re.MULTILINE)[1:]
    assert sorted(", ".join(rows).split(", ")) == sorted(names)
