"""Nothing that is read can take us over, and nothing that is written tells or grants too much."""

import ast
import hashlib
import io
import os
import pickle
import re
import shutil
import stat
import sys
from collections.abc import Callable, Iterator
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from src.common.errors import InvalidValue, UserError
from src.common.paths import CIFAR10_FOLDER, RESUME, ROOT, file_name
from src.config import RunConfig, from_mapping, read_yaml
from src.data import cifar10
from src.data.device_dataset import DeviceDataset
from src.main import main
from src.models.state_dicts import read_state
from src.report.__main__ import main as report
from src.runs.run_folder import RunFolder
from src.sweep import grid, job_logs, sets
from src.sweep.commands import submit, work
from src.sweep.launch import sbatch
from src.training import checkpoint
from src.training.trainer import Trainer, TrainerContext
from src.tune.commands import search
from tests.conftest import Run

CPU = torch.device("cpu")
SHELL = ["$(touch${IFS}pwned)", "`touch${IFS}pwned`", ";touch${IFS}pwned;", "a&touch${IFS}pwned"]
PATHS = ["../../x", "/tmp/x", "..", "a/../../x", "~root"]


# what is read: pickles


class Evil:
    """A pickle that would create a file."""

    def __init__(self, made: Path) -> None:
        self.made = made

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.made,))


@pytest.fixture
def made(tmp_path: Path) -> Iterator[Path]:
    """What an evil pickle would create; the test fails where it did."""
    path = tmp_path / "pwned"
    pickle.loads(pickle.dumps(Evil(path)))  # noqa: S301  it is one
    path.unlink()
    yield path
    assert not path.exists()


def hostile(content: object) -> bytes:
    """As torch.save writes it."""
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


def test_a_resume_checkpoint_made_to_harm_is_none(
    config: RunConfig, small_data: DeviceDataset, tmp_path: Path, made: Path
) -> None:
    """With a checksum that fits: it is no secret."""
    folder = tmp_path / "run"
    folder.mkdir()
    data = hostile({"id": config.id, "format": 2, "epoch": Evil(made)})
    mark = b"sha256 "
    (folder / RESUME).write_bytes(data + mark + hashlib.sha256(data).digest())
    assert checkpoint.load(folder, CPU) is None
    trainer = Trainer(config, small_data, TrainerContext(checkpoint_dir=folder)).start()
    assert not trainer.resumed
    for other in ([1, 2], {"epoch": 3}):
        data = hostile(other)
        (folder / RESUME).write_bytes(data + mark + hashlib.sha256(data).digest())
        assert (
            not Trainer(config, small_data, TrainerContext(checkpoint_dir=folder)).start().resumed
        )
    trainer.save()
    assert checkpoint.load(folder, CPU), "what is ours is read"


@pytest.mark.parametrize("wrap", [lambda evil: evil, lambda evil: {"state_dict": {"a": evil}}])
def test_weights_made_to_harm_are_refused(
    tmp_path: Path, made: Path, wrap: Callable[[Evil], object]
) -> None:
    for content in (hostile(wrap(Evil(made))), pickle.dumps(wrap(Evil(made)))):
        (tmp_path / "weights.pt").write_bytes(content)
        with pytest.raises(UserError, match="not a state dict"):
            read_state(tmp_path / "weights.pt")


def test_batches_made_to_harm_are_refused(
    tmp_path: Path, batches: Path, made: Path, refused: Callable[..., str]
) -> None:
    folder = tmp_path / CIFAR10_FOLDER
    shutil.copytree(batches, folder)
    content = {b"data": Evil(made), b"labels": [0] * 10_000}
    (folder / "data_batch_3").write_bytes(pickle.dumps(content, protocol=2))
    with pytest.raises(UserError, match="which is refused"):
        cifar10.read_batch(folder / "data_batch_3")
    line = refused(main, "-d", tmp_path, "--runs", tmp_path / "runs", "-e", 1)
    assert "data_batch_3: not a CIFAR-10 batch" in line


@pytest.mark.parametrize("tag", ["object/apply:os.system", "object/new:subprocess.Popen"])
def test_yaml_with_tags_is_refused(
    tmp_path: Path, refused: Callable[..., str], monkeypatch: pytest.MonkeyPatch, tag: str
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "evil.yaml"
    path.write_text(f"model_type: !!python/{tag} ['touch pwned']\n")
    for read in (read_yaml, grid.read):
        with pytest.raises(UserError, match="not valid YAML"):
            read(path)
    assert "not valid YAML" in refused(main, "--config", path)
    assert "not valid YAML" in refused(search.main, "--config", path)
    assert os.listdir(tmp_path) == ["evil.yaml"]


# what is read: the code that reads

_LOADERS = ("pickle", "cPickle", "dill", "cloudpickle", "marshal", "shelve", "joblib", "_pickle")
_SHELLS = ("os.system", "os.popen", "subprocess.getoutput", "subprocess.getstatusoutput")
_YAML = ("safe_load", "safe_dump", "YAMLError")


def offences(tree: ast.AST) -> Iterator[str]:
    """Loaders that run what they read, and shells."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield from _of_call(ast.unparse(node.func), node)
        elif isinstance(node, ast.Attribute):
            name = ast.unparse(node)
            if name.startswith("yaml.") and node.attr not in _YAML:
                yield name
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            if node.module.split(".")[0] in ("yaml", *_LOADERS) or names & {*_SHELLS}:
                yield f"from {node.module} import"


def _of_call(name: str, call: ast.Call) -> Iterator[str]:
    given = {word.arg: ast.unparse(word.value) for word in call.keywords}
    module, _, last = name.rpartition(".")
    if name == "torch.load" and given.get("weights_only") != "True":
        yield "torch.load"
    if name in ("np.load", "numpy.load") and given.get("allow_pickle", "False") != "False":
        yield name
    if module in _LOADERS and last in ("load", "loads", "Unpickler", "open"):
        yield name
    if name in (*_SHELLS, "eval", "exec", "pd.read_pickle") or name.startswith("os.spawn"):
        yield name
    if given.get("shell", "False") != "False":
        yield f"{name}(shell)"


CODE = [
    path for room in ("src", "benchmarks", "slurm_cluster") for path in ROOT.glob(f"{room}/**/*.py")
]


@pytest.mark.parametrize("path", CODE, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_code_runs_what_it_reads(path: Path) -> None:
    assert list(offences(ast.parse(path.read_text()))) == []


def test_the_check_can_fail() -> None:
    bad = [
        *("torch.load(x)", "torch.load(x, weights_only=False)", "np.load(x, allow_pickle=True)"),
        *(
            "yaml.load(x)",
            "yaml.unsafe_load(x)",
            "from yaml import load",
            "import os; os.system(x)",
        ),
        *("pickle.loads(x)", "subprocess.run(x, shell=True)", "eval(x)", "cloudpickle.load(x)"),
    ]
    for line in bad:
        assert list(offences(ast.parse(line))), line
    for line in ("torch.load(x, weights_only=True)", "np.load(x)", "yaml.safe_load(x)"):
        assert not list(offences(ast.parse(line))), line


def test_the_only_unpickler_admits_numpy_alone() -> None:
    for module, name in (("os", "system"), ("builtins", "eval"), ("numpy", "load")):
        with pytest.raises(pickle.UnpicklingError, match="refused"):
            cifar10._NumpyUnpickler(io.BytesIO()).find_class(module, name)


# values and the shell


@pytest.mark.parametrize("value", [*SHELL, *PATHS])
def test_values_are_refused_where_they_are_names(
    tmp_path: Path, refused: Callable[..., str], value: str
) -> None:
    line = f"1 50 {value} step True 0.001 0.0001 0.9\n"
    (tmp_path / "sets").mkdir()
    (tmp_path / "sets" / "hyperparameters_1.txt").write_text(line)
    (tmp_path / "grid.yaml").write_text(f"model_type: ['{value}']\n")
    (tmp_path / "run.yaml").write_text(f"scheduler: '{value}'\n")
    runs = ("--runs", tmp_path / "runs")
    for main_, words in (
        (work.main, ("--sets", tmp_path / "sets")),
        (submit.main, ("--sets", tmp_path / "sets", "--executor", "local")),
        (submit.main, ("--grid", tmp_path / "grid.yaml", "--executor", "local")),
        (main, ("--config", tmp_path / "run.yaml")),
        (main, ("-m", value)),
        (work.main, (value,)),
    ):
        assert value in refused(main_, *words, *runs)
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("value", [*SHELL, "x\ntouch pwned", "a b", "'"])
def test_values_of_slurm_are_refused(refused: Callable[..., str], value: str) -> None:
    for flag in ("partition", "account", "qos", "constraint", "gres", "mem"):
        if (flag, value) != ("constraint", SHELL[3]):
            refused(submit.main, f"--{flag}={value}")
    refused(search.main, "--config", "x.yaml", f"--partition={value}")
    if "$" in value or "\n" in value or "'" in value:
        refused(submit.main, "--sbatch", f"comment={value}")


def test_paths_reach_the_shell_quoted(command: Run, tmp_path: Path) -> None:
    """Real workers, of folders whose names a shell would run."""
    evil = "a $(touch pwned); touch pwned;`touch pwned`&"
    where = tmp_path / evil
    where.mkdir()
    sets.write([[RunConfig(base_dataset_path=str(SHELL[0]), num_epochs=1)]], where / "sets")
    words = ("python", "-m", "src.sweep", "submit", "--sets", where / "sets", "--runs", where / "r")
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    (where / SHELL[0]).mkdir()
    done = command(*words, "--executor", "local", check=None, cwd=where, env=environment)
    [log] = where.glob("r/submissions/1/logs/*")
    assert "no data_batch_1, " in log.read_text(), log.read_text() + done.stderr
    assert not list(tmp_path.rglob("pwned"))
    assert not (ROOT / "pwned").exists()


def test_a_script_with_such_values_is_one_command(command: Run, tmp_path: Path) -> None:
    array = sbatch.Array("cnn", 1, 1)
    words = ["--sets", "/x y/$(touch pwned)", "--runs", "`touch pwned`;touch pwned"]
    text = sbatch.script(array, sbatch.Resources(), tmp_path / "$(touch pwned)", tmp_path, words)
    text = text.replace(f"exec {sys.executable} ", "printf '%s\\n' ")
    done = command("bash", "-c", text, cwd=tmp_path)
    assert done.stdout.splitlines()[-4:] == words
    assert os.listdir(tmp_path) == []


# names and folders


@pytest.mark.parametrize("value", [*SHELL, *PATHS])
def test_run_names_stay_in_their_folder(tmp_path: Path, value: str) -> None:
    """Whatever text a setting has, it is refused or leads nowhere else."""
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


def test_charts_of_a_table_from_elsewhere_stay_in_their_folder(tmp_path: Path) -> None:
    table = pd.read_csv(ROOT / "clean_runs.csv")
    table["Modelname"] = "../../outside"
    table.to_csv(tmp_path / "table.csv", index=False)
    out = tmp_path / "a" / "b" / "out"
    report(["top-k", "charts", "--csv", str(tmp_path / "table.csv"), "--out", str(out)])
    assert len(list(out.iterdir())) == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "table.csv"]
    assert file_name("..") == "_"


@pytest.mark.parametrize("job", ["../secret", "--help", "1;x", ""])
def test_a_job_id_from_a_run_folder_is_no_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, job: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x-").mkdir()
    (tmp_path / "secret.out").touch()
    monkeypatch.setattr(job_logs.client, "answer", lambda *words, **more: pytest.fail("asked"))
    assert job_logs.find(job) is None


# secrets and permissions

SECRETS = {
    name: f"secret-of-{name.lower()}"
    for name in ("WANDB_API_KEY", "HF_TOKEN", "AWS_SECRET_ACCESS_KEY", "GITHUB_TOKEN", "MY_KEY")
}

_TINY = ("-d", "synthetic", "-m", "cifar10net", "-b", 50, "--max_images", 100)


UMASK = "027"  # which leaves a group less than all, and more than nothing


@pytest.fixture(scope="module")
def everything(config: RunConfig, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A sweep under a umask: a run done, one diverged, submitted locally; a table and charts."""
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
    done = subprocess.run(
        ["bash", "-c", "\n".join(lines)],
        cwd=ROOT,
        env={**os.environ, **SECRETS},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / "out", done.stdout + done.stderr


_MADE = {
    *("result.json", "best_val_acc.pt", "terminal.pt", "predictions.npz", "history.jsonl"),
    *("resume.pt", "resume.before.pt", "failure.json", "1.json", "config.json", "t.csv"),
    *("submission.json", "all.sh", "trainer.py", "hyperparameters_1.txt", "report.html"),
}


def test_files_have_the_permissions_of_the_umask_and_no_more(
    everything: tuple[Path, str],
) -> None:
    folder, _ = everything
    paths = [folder, *folder.rglob("*")]
    assert {path.name for path in paths} >= _MADE
    for path in paths:
        wanted = (0o777 if path.is_dir() else 0o666) & ~int(UMASK, 8)
        assert oct(stat.S_IMODE(path.stat().st_mode)) == oct(wanted), path


def _is_source(path: Path, text: bytes) -> bool:
    """Whether a file is of the copy of the code, as it is in the repository."""
    _, _, inside = str(path).partition("/code/")
    ours = ROOT / inside
    return bool(inside) and ours.is_file() and ours.read_bytes() == text


def test_secrets_of_the_environment_are_written_nowhere(everything: tuple[Path, str]) -> None:
    folder, said = everything
    texts = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert {path.name for path in texts} >= _MADE
    texts[Path("stdout and stderr")] = said.encode()
    for path, text in texts.items():
        for name, secret in SECRETS.items():
            assert secret.encode() not in text, path
            named = name.encode() in text  # without looking for words in megabytes of weights
            if named and not _is_source(path, text):
                assert not re.search(rb"\b" + name.encode() + rb"\b", text), path
    assert b"cifar10net" in texts[Path("stdout and stderr")] + b"".join(texts.values())
