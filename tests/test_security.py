"""Malicious input has no effect; output has no secrets and no excess permissions."""

import ast
import hashlib
import io
import json
import os
import pickle
import re
import shutil
import stat
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from src import evaluate, models
from src.common import model_source
from src.common.errors import ExitStatus, InvalidValue, UserError
from src.common.paths import CIFAR10_FOLDER, RESUME, ROOT, file_name
from src.common.yaml_files import read_yaml
from src.config import RunConfig, from_mapping, with_digests
from src.data import cifar10
from src.data.device_dataset import DeviceDataset
from src.main import main
from src.models import source_import
from src.models.state_dicts import read_state
from src.report.__main__ import COMMANDS
from src.report.__main__ import main as report
from src.report.page.render import write_page
from src.report.report_data import TableOptions, load_report
from src.run import run
from src.runs import load
from src.runs.run_folder import RunFolder
from src.slurm import client
from src.sweep import grid, job_logs, sets
from src.sweep.__main__ import main as sweep
from src.sweep.commands import submit, work
from src.sweep.launch import sbatch
from src.training import checkpoint
from src.training.trainer import Trainer, TrainerContext
from src.tune.commands import search
from tests import own_nets
from tests.conftest import RunCommand

CPU = torch.device("cpu")
SHELL = ["$(touch${IFS}pwned)", "`touch${IFS}pwned`", ";touch${IFS}pwned;", "a&touch${IFS}pwned"]
PATHS = ["../../x", "/tmp/x", "..", "a/../../x", "~root"]


# pickles and YAML


class Evil:
    """Object whose unpickling creates a file."""

    def __init__(self, marker: Path) -> None:
        self.made = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.made,))


@pytest.fixture
def marker(tmp_path: Path) -> Iterator[Path]:
    """Return the path that an Evil pickle would create; fail if it exists after the test."""
    path = tmp_path / "pwned"
    pickle.loads(pickle.dumps(Evil(path)))  # noqa: S301  proves that Evil works
    path.unlink()
    yield path
    assert not path.exists()


def saved(content: object) -> bytes:
    """Return the bytes that torch.save writes."""
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


def test_malicious_resume_checkpoint_is_ignored(
    config: RunConfig, small_data: DeviceDataset, tmp_path: Path, marker: Path
) -> None:
    """A malicious checkpoint with a valid checksum is ignored, since checksums are not secret."""
    folder = tmp_path / "run"
    folder.mkdir()
    data = saved({"id": config.id, "format": 2, "epoch": Evil(marker)})
    mark = b"sha256 "
    (folder / RESUME).write_bytes(data + mark + hashlib.sha256(data).digest())
    assert checkpoint.load(folder, CPU) is None
    trainer = Trainer(config, small_data, TrainerContext(checkpoint_dir=folder)).start()
    assert not trainer.resumed
    for other in ([1, 2], {"epoch": 3}):
        data = saved(other)
        (folder / RESUME).write_bytes(data + mark + hashlib.sha256(data).digest())
        assert (
            not Trainer(config, small_data, TrainerContext(checkpoint_dir=folder)).start().resumed
        )
    trainer.save()
    assert checkpoint.load(folder, CPU), "a genuine checkpoint must be loaded"


@pytest.mark.parametrize("wrap", [lambda evil: evil, lambda evil: {"state_dict": {"a": evil}}])
def test_malicious_weights_file_is_rejected(
    tmp_path: Path, marker: Path, wrap: Callable[[Evil], object]
) -> None:
    for content in (saved(wrap(Evil(marker))), pickle.dumps(wrap(Evil(marker)))):
        (tmp_path / "weights.pt").write_bytes(content)
        with pytest.raises(UserError, match="not a state dict"):
            read_state(tmp_path / "weights.pt")


def test_malicious_data_batch_is_rejected(
    tmp_path: Path, batches: Path, marker: Path, expect_bad_input: Callable[..., str]
) -> None:
    folder = tmp_path / CIFAR10_FOLDER
    shutil.copytree(batches, folder)
    content = {b"data": Evil(marker), b"labels": [0] * 10_000}
    (folder / "data_batch_3").write_bytes(pickle.dumps(content, protocol=2))
    with pytest.raises(UserError, match="which is refused"):
        cifar10.read_batch(folder / "data_batch_3")
    line = expect_bad_input(main, "-d", tmp_path, "--runs", tmp_path / "runs", "-e", 1)
    assert "data_batch_3: not a CIFAR-10 batch" in line


@pytest.mark.parametrize("tag", ["object/apply:os.system", "object/new:subprocess.Popen"])
def test_yaml_with_python_tags_is_rejected(
    tmp_path: Path, expect_bad_input: Callable[..., str], monkeypatch: pytest.MonkeyPatch, tag: str
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "evil.yaml"
    path.write_text(f"model_type: !!python/{tag} ['touch pwned']\n")
    for read in (read_yaml, grid.read):
        with pytest.raises(UserError, match="not valid YAML"):
            read(path)
    assert "not valid YAML" in expect_bad_input(main, "--config", path)
    assert "not valid YAML" in expect_bad_input(search.main, "--config", path)
    assert os.listdir(tmp_path) == ["evil.yaml"]


# architectures that run folders, checkpoints and tables of others name

EVIL_NET = """
from pathlib import Path
from torch import nn

Path({marker!r}).touch()

class Net(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Flatten(), nn.Linear(3072, 10))
"""


@pytest.fixture(scope="module")
def evil_runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train a run of evil.py, whose import creates the file pwned; return the folder of both."""
    folder = tmp_path_factory.mktemp("evil")
    own_nets.write(folder, EVIL_NET.format(marker=str(folder / "pwned")), "evil.py")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        configs = [own_nets.own_run("evil.py:Net", num_epochs=1, seed=seed) for seed in range(2)]
        assert {outcome.state for outcome in run(configs, folder / "runs")} == {"done"}
        report(["aggregate", "--runs", "runs", "--csv", "table.csv"])
    return folder


@pytest.fixture
def evil_here(evil_runs: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Make that folder the current one, as for a person who has named nothing; fail if it ran."""
    monkeypatch.chdir(evil_runs)
    monkeypatch.setattr(model_source, "_trusted", {})
    for finder in list(sys.meta_path):
        if type(finder).__name__ == "_SourceFinder":
            source_import._remove(finder)  # type: ignore[arg-type]
    (evil_runs / "pwned").unlink(missing_ok=True)
    yield evil_runs
    assert not (evil_runs / "pwned").exists()


_READING = {
    "aggregate": "report aggregate --runs runs --csv out.csv",
    "table": "report top-k table --csv table.csv",
    "findings": "report findings --csv table.csv",
    "confusion": "report confusion --runs runs --out out",
    "classes": "report classes --runs runs",
    "curves": "report curves --runs runs --out out",
    "images": "report images --runs runs --out out -d synthetic",
    "tensorboard": "report tensorboard --runs runs --out out",
    "status": "sweep status --all --runs runs",
    "logs": "sweep logs RUN --runs runs",
    "clean": "sweep clean --keep-best 1 --runs runs --dry-run",
    "retry": "sweep retry --all --runs runs --dry-run",
    "sync": "sweep sync --runs runs --dry-run",
}
_RUNNING = {
    "evaluate": "evaluate --model RUN",
    "evaluate weights": "evaluate --model RUN/best_val_acc.pt",
    "export": "evaluate export RUN --out out.pt2",
    "summary": "report summary --run RUN",
    "t-SNE": "report tsne --sample train --run RUN --out out",
    "continue": "main --continue RUN -e 1 --runs more",
    "confirm": "sweep confirm --runs runs --seeds 1 -k 1 --submit --executor inline",
}


def _call(line: str, folder: Path) -> ExitStatus:
    """Call a command in this process, for a run of the folder."""
    path = next((folder / "runs" / "evil.Net").glob("*/result.json")).parent
    command, *words = line.replace("RUN", str(path)).split()
    mains = {"report": report, "sweep": sweep, "evaluate": evaluate.main, "main": main}
    return mains[command](words)


@pytest.mark.parametrize("line", _READING.values(), ids=_READING.keys())
def test_commands_that_read_runs_do_not_import_their_model(evil_here: Path, line: str) -> None:
    assert _call(line, evil_here) == ExitStatus.DONE


_PAGE = ("", "page")
_CHARTS = [name for name, one in COMMANDS.items() if "csv" in one.flags and name not in _PAGE]


@pytest.mark.parametrize("name", _CHARTS)
def test_charts_and_tables_do_not_import_the_models_of_their_runs(
    evil_here: Path, name: str
) -> None:
    with suppress(UserError):  # a chart that two runs are too few for
        report([*name.split(), "--runs", "runs", "--csv", "table.csv", "--out", "out"])


def test_every_report_command_is_tested_with_models_of_others() -> None:
    lines = [*_READING.values(), *_RUNNING.values()]
    others = [name for name in COMMANDS if name not in (*_PAGE, *_CHARTS)]
    assert [name for name in others if not any(f"report {name} " in line for line in lines)] == []
    assert len(_CHARTS) > 10


def test_report_page_does_not_import_the_models_of_its_runs(evil_here: Path) -> None:
    options = TableOptions(csv=evil_here / "table.csv", runs_dir=evil_here / "runs")
    assert "evil.Net" in write_page(load_report(options), evil_here / "out").read_text()


@pytest.mark.parametrize("line", _RUNNING.values(), ids=_RUNNING.keys())
def test_commands_that_need_the_model_of_a_run_ask_for_its_name(
    evil_here: Path, capsys: pytest.CaptureFixture[str], line: str
) -> None:
    with pytest.raises(UserError) as caught:
        _call(line, evil_here)
    told = f"{caught.value}{capsys.readouterr().err}"
    assert "evil.py:Net" in told, "it says what to name"


def test_model_of_a_run_is_imported_only_from_where_a_person_says(
    evil_here: Path, tmp_path: Path
) -> None:
    """A run folder that names another file, or another version, does not decide what is run."""
    path = next((evil_here / "runs" / "evil.Net").glob("*/result.json")).parent
    own_nets.write(tmp_path, "from torch import nn\nclass Net(nn.Module): pass\n", "evil.py")
    words = ["--model", str(path), "-m"]
    for other in ("cnn", "torchvision:resnet18"):
        with pytest.raises(UserError, match=r"-m evil\.py:Net"):
            evaluate.main([*words, other])
    with pytest.raises(UserError, match="not as it was when this run was trained"):
        evaluate.main([*words, f"{tmp_path}/evil.py:Net"])


def test_python_that_loads_runs_does_not_import_their_model(evil_here: Path) -> None:
    assert len(load(evil_here / "runs")) == 2
    path = next((evil_here / "runs" / "evil.Net").glob("*/config.json"))
    config = from_mapping(json.loads(path.read_text()), "config.json")
    [outcome] = run([config], evil_here / "runs")
    assert outcome.state == "done", "it is not imported to find that out"
    with pytest.raises(UserError, match="only if you name it yourself"):
        run([replace(config, seed=77)], evil_here / "runs")
    assert len(load(evil_here / "runs")) == 2


def test_library_names_give_no_other_attribute_and_no_download() -> None:
    for name in ("torchvision:get_model_weights", "torchvision:_api", "torchvision.os:system"):
        with pytest.raises(UserError):
            models.check(with_digests([RunConfig(model_type=name)])[0])
    for name in ("timm:hf_hub:a/b", "timm:hf-hub:a/b", "timm:local-dir:/x", "timm:/x"):
        with pytest.raises(InvalidValue):
            RunConfig(model_type=name)


# static checks of the code

_LOADERS = ("pickle", "cPickle", "dill", "cloudpickle", "marshal", "shelve", "joblib", "_pickle")
_SHELLS = ("os.system", "os.popen", "subprocess.getoutput", "subprocess.getstatusoutput")
_YAML = ("safe_load", "safe_dump", "YAMLError")


def unsafe_uses(tree: ast.AST) -> Iterator[str]:
    """Yield calls and imports of unsafe loaders, and of shells."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield from _unsafe_calls(ast.unparse(node.func), node)
        elif isinstance(node, ast.Attribute):
            name = ast.unparse(node)
            if name.startswith("yaml.") and node.attr not in _YAML:
                yield name
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            if node.module.split(".")[0] in ("yaml", *_LOADERS) or names & {*_SHELLS}:
                yield f"from {node.module} import"


def _unsafe_calls(name: str, call: ast.Call) -> Iterator[str]:
    keywords = {word.arg: ast.unparse(word.value) for word in call.keywords}
    module, _, last = name.rpartition(".")
    if name == "torch.load" and keywords.get("weights_only") != "True":
        yield "torch.load"
    if name in ("np.load", "numpy.load") and keywords.get("allow_pickle", "False") != "False":
        yield name
    if module in _LOADERS and last in ("load", "loads", "Unpickler", "open"):
        yield name
    if name in (*_SHELLS, "eval", "exec", "pd.read_pickle") or name.startswith("os.spawn"):
        yield name
    if keywords.get("shell", "False") != "False":
        yield f"{name}(shell)"


CODE = [
    path
    for folder in ("src", "benchmarks", "slurm_cluster")
    for path in ROOT.glob(f"{folder}/**/*.py")
]


@pytest.mark.parametrize("path", CODE, ids=lambda path: str(path.relative_to(ROOT)))
def test_code_has_no_unsafe_loaders_or_shells(path: Path) -> None:
    assert list(unsafe_uses(ast.parse(path.read_text()))) == []


def test_static_check_detects_unsafe_code() -> None:
    unsafe = [
        *("torch.load(x)", "torch.load(x, weights_only=False)", "np.load(x, allow_pickle=True)"),
        *(
            "yaml.load(x)",
            "yaml.unsafe_load(x)",
            "from yaml import load",
            "import os; os.system(x)",
        ),
        *("pickle.loads(x)", "subprocess.run(x, shell=True)", "eval(x)", "cloudpickle.load(x)"),
    ]
    for line in unsafe:
        assert list(unsafe_uses(ast.parse(line))), line
    for line in ("torch.load(x, weights_only=True)", "np.load(x)", "yaml.safe_load(x)"):
        assert not list(unsafe_uses(ast.parse(line))), line


def test_unpickler_rejects_globals_other_than_arrays() -> None:
    for module, name in (("os", "system"), ("builtins", "eval"), ("numpy", "load")):
        with pytest.raises(pickle.UnpicklingError, match="refused"):
            cifar10._NumpyUnpickler(io.BytesIO()).find_class(module, name)


# values that could reach a shell


@pytest.mark.parametrize("value", [*SHELL, *PATHS])
def test_shell_and_path_values_are_rejected_as_names(
    tmp_path: Path, expect_bad_input: Callable[..., str], value: str
) -> None:
    line = f"1 50 {value} step True 0.001 0.0001 0.9\n"
    (tmp_path / "sets").mkdir()
    (tmp_path / "sets" / "hyperparameters_1.txt").write_text(line)
    (tmp_path / "grid.yaml").write_text(f"model_type: ['{value}']\n")
    (tmp_path / "run.yaml").write_text(f"scheduler: '{value}'\n")
    runs = ("--runs", tmp_path / "runs")
    for command_main, arguments in (
        (work.main, ("--sets", tmp_path / "sets")),
        (submit.main, ("--sets", tmp_path / "sets", "--executor", "local")),
        (submit.main, ("--grid", tmp_path / "grid.yaml", "--executor", "local")),
        (main, ("--config", tmp_path / "run.yaml")),
        (main, ("-m", value)),
        (work.main, (value,)),
    ):
        assert value in expect_bad_input(command_main, *arguments, *runs)
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("value", [*SHELL, "x\ntouch pwned", "a b", "'"])
def test_shell_values_are_rejected_in_slurm_options(
    expect_bad_input: Callable[..., str], value: str
) -> None:
    for flag in ("partition", "account", "qos", "constraint", "gres", "mem"):
        if (flag, value) != ("constraint", SHELL[3]):
            expect_bad_input(submit.main, f"--{flag}={value}")
    expect_bad_input(search.main, "--config", "x.yaml", f"--partition={value}")
    if "$" in value or "\n" in value or "'" in value:
        expect_bad_input(submit.main, "--sbatch", f"comment={value}")


def test_local_workers_quote_paths_with_shell_commands(command: RunCommand, tmp_path: Path) -> None:
    """Submit real local workers with folder names that contain shell commands."""
    evil = "a $(touch pwned); touch pwned;`touch pwned`&"
    folder = tmp_path / evil
    folder.mkdir()
    sets.write([[RunConfig(base_dataset_path=str(SHELL[0]), num_epochs=1)]], folder / "sets")
    arguments = (
        "python",
        "-m",
        "src.sweep",
        "submit",
        "--sets",
        folder / "sets",
        "--runs",
        folder / "r",
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    (folder / SHELL[0]).mkdir()
    completed = command(*arguments, "--executor", "local", check=None, cwd=folder, env=environment)
    [log] = folder.glob("r/submissions/1/logs/*")
    assert "no data_batch_1, " in log.read_text(), log.read_text() + completed.stderr
    assert not list(tmp_path.rglob("pwned"))
    assert not (ROOT / "pwned").exists()


def test_job_script_quotes_malicious_arguments(command: RunCommand, tmp_path: Path) -> None:
    array = sbatch.JobArray("cnn", 1, 1)
    arguments = ["--sets", "/x y/$(touch pwned)", "--runs", "`touch pwned`;touch pwned"]
    text = sbatch.script(
        array, sbatch.Resources(), tmp_path / "$(touch pwned)", tmp_path, arguments
    )
    text = text.replace(f"exec {sys.executable} ", "printf '%s\\n' ")
    completed = command("bash", "-c", text, cwd=tmp_path)
    assert completed.stdout.splitlines()[-4:] == arguments
    assert os.listdir(tmp_path) == []


# names that become paths


@pytest.mark.parametrize("value", [*SHELL, *PATHS])
def test_run_folders_stay_inside_runs_folder(tmp_path: Path, value: str) -> None:
    """Any text as any setting is rejected, or gives a path directly in the runs folder."""
    for spec in fields(RunConfig):
        try:
            config = from_mapping({spec.name: value}, "test")
        except UserError:
            continue
        path = RunFolder.of(config, tmp_path).path.resolve()
        assert path.parent.parent == tmp_path.resolve()
        assert path.name == f"{config.canonical().name}-{config.id}"
        assert value not in path.name
        assert Path(config.cell).name == config.cell
    with pytest.raises(InvalidValue):
        replace(RunConfig(), model_type=value)


def test_charts_of_malicious_table_stay_in_output_folder(tmp_path: Path) -> None:
    table = pd.read_csv(ROOT / "clean_runs.csv")
    table["Modelname"] = "../../outside"
    table.to_csv(tmp_path / "table.csv", index=False)
    out = tmp_path / "a" / "b" / "out"
    report(["top-k", "charts", "--csv", str(tmp_path / "table.csv"), "--out", str(out)])
    assert len(list(out.iterdir())) == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "table.csv"]
    assert file_name("..") == "_"


@pytest.mark.parametrize("job", ["../secret", "--help", "1;x", ""])
def test_malicious_job_id_finds_no_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, job: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x-").mkdir()
    (tmp_path / "secret.out").touch()
    monkeypatch.setattr(client, "output_of", lambda *arguments, **more: pytest.fail("asked"))
    assert job_logs.find(job, Path()) is None


# secrets and permissions

SECRETS = {
    name: f"secret-of-{name.lower()}"
    for name in ("WANDB_API_KEY", "HF_TOKEN", "AWS_SECRET_ACCESS_KEY", "GITHUB_TOKEN", "MY_KEY")
}

_TINY = ("-d", "synthetic", "-m", "cifar10net", "-b", 50, "--max_images", 100)


UMASK = "027"  # the group gets some permissions, others none


@pytest.fixture(scope="module")
def sweep_output(config: RunConfig, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """Run a local sweep and its report under UMASK, with SECRETS; return folder and output."""
    import subprocess

    folder = tmp_path_factory.mktemp("everything")
    tiny = replace(config, max_images=100, keep_checkpoints="all")
    sets.write([[tiny, replace(tiny, learning_rate=1e30, precision="float32")]], folder / "sets")
    python, runs = sys.executable, folder / "out" / "runs"
    lines = [
        f"umask {UMASK}",
        f"{python} -m src.sweep submit --sets {folder}/sets --runs {runs} --executor local",
        f"{python} -m src.report aggregate --runs {runs} --csv {folder}/out/t.csv",
        f"{python} -m src.report --runs {runs} --csv {folder}/out/t.csv --out {folder}/out/report",
        f"{python} -c 'import pathlib; from src.training import checkpoint;"
        f' path = pathlib.Path("{runs}/cifar10net").iterdir().__next__();'
        " checkpoint.save(path, {}); checkpoint.save(path, {})'",
    ]
    completed = subprocess.run(
        ["bash", "-c", "\n".join(lines)],
        cwd=ROOT,
        env={**os.environ, **SECRETS},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert completed.returncode == 0, completed.stdout + completed.stderr
    return folder / "out", completed.stdout + completed.stderr


_EXPECTED_FILES = {
    *("result.json", "best_val_acc.pt", "terminal.pt", "predictions.npz", "history.jsonl"),
    *("resume.pt", "resume.before.pt", "failure.json", "1.json", "config.json", "t.csv"),
    *("submission.json", "all.sh", "trainer.py", "hyperparameters_1.txt", "report.html"),
}


def test_created_files_have_umask_permissions(
    sweep_output: tuple[Path, str],
) -> None:
    folder, _ = sweep_output
    paths = [folder, *folder.rglob("*")]
    assert {path.name for path in paths} >= _EXPECTED_FILES
    for path in paths:
        expected = (0o777 if path.is_dir() else 0o666) & ~int(UMASK, 8)
        assert oct(stat.S_IMODE(path.stat().st_mode)) == oct(expected), path


def _is_source(path: Path, text: bytes) -> bool:
    """Return whether a file is an unchanged part of the submission's copy of the code."""
    _, _, inside = str(path).partition("/code/")
    original = ROOT / inside
    return bool(inside) and original.is_file() and original.read_bytes() == text


def test_secrets_of_environment_are_not_written(sweep_output: tuple[Path, str]) -> None:
    folder, output = sweep_output
    texts = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert {path.name for path in texts} >= _EXPECTED_FILES
    texts[Path("stdout and stderr")] = output.encode()
    for path, text in texts.items():
        for name, secret in SECRETS.items():
            assert secret.encode() not in text, path
            has_name = name.encode() in text  # cheaper than a regex over megabytes of weights
            if has_name and not _is_source(path, text):
                assert not re.search(rb"\b" + name.encode() + rb"\b", text), path
    assert b"cifar10net" in texts[Path("stdout and stderr")] + b"".join(texts.values())
