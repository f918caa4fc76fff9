"""The instructions in CONTRIBUTING.md work as written, and name what is in the code."""

import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from src.common.paths import ROOT
from tests.conftest import RunCommand, copy_repository
from tests.markdown import blocks

TEXT = (ROOT / "CONTRIBUTING.md").read_text()
SECTION = TEXT.partition("## Add an architecture")[2].partition("\n## ")[0]
_FILE = r"`((?:src|tests|benchmarks|docs)/[\w/]+\.py)`"


def names_in_files(text: str) -> Iterator[tuple[str, str]]:
    """Yield each name that instructions say to be in a file, and the file.

    That is said by "`name` in `file`" and "`name` (`file`)", and in an item that begins with
    "In `file`" by every clause that tells to add something.
    """
    for item in re.split(r"\n(?=\n| *\d+\. | *- )", text):
        beginning = re.match(rf"\s*\d+\. In {_FILE}", item)
        for clause in re.split(r"(?<=[.:;])\s+(?=(?:[^`]*`[^`]*`)*[^`]*$)", item):
            files = re.findall(rf"(?:\b[Ii]n\s+|\(){_FILE}", clause)
            if beginning and re.search(r"\badd\b", clause, re.IGNORECASE):
                files = [beginning[1]]
            for name in re.findall(r"`([A-Za-z_][\w.]*)`", clause) if files else ():
                yield name, files[-1]


def defines(path: Path, name: str) -> bool:
    """Return whether a file defines a class, function, method, constant or field."""
    last = re.escape(name.rpartition(".")[2])
    pattern = rf"^ *(?:(?:def|class) {last}\b|{last}(?::|\s*=))"
    return re.search(pattern, path.read_text(), re.MULTILINE) is not None


def test_names_are_defined_in_the_files_that_the_text_says() -> None:
    found = dict(names_in_files(TEXT))
    assert {"Classifier", "MODEL_OPTIONS", "Draws", "VALUES", "add_resource_options"} <= set(found)
    assert found["Augmentation.__init__"] == "src/data/augmentation.py"
    assert len(found) >= 14
    assert [name for name, file in found.items() if not defines(ROOT / file, name)] == []


def test_instructions_to_add_an_architecture_work(
    command: RunCommand, tmp_path: Path, environment: dict[str, str]
) -> None:
    [code] = blocks(SECTION, "python")
    [commands] = blocks(SECTION, "bash")
    named = re.search(r"Create `(src/models/(\w+)\.py)`", SECTION)
    assert named
    path, model = named.groups()
    copy = copy_repository(tmp_path / "copy")
    assert not (copy / path).exists()
    (copy / path).write_text(code)
    for words in (("check",), ("format", "--check")):
        command("python", "-m", "ruff", *words, "--no-cache", path, cwd=copy, env=environment)
    train, aggregate, show = (shlex.split(line) for line in commands.splitlines())
    trained = command(*train, cwd=copy, env=environment)
    assert trained.stdout.startswith(f"done     {model}_aug_False")
    assert "1 rows" in command(*aggregate, cwd=copy, env=environment).stdout
    table = command(*show, cwd=copy, env=environment).stdout
    assert [line.split()[0] for line in table.splitlines()[1:]] == [model]
    [folder] = (path.parent for path in copy.glob(f"{model}_runs/{model}/*/result.json"))
    parameters = json.loads((folder / "result.json").read_text())["parameters"]
    with np.load(folder / "predictions.npz") as arrays:
        features = arrays["features"].shape[1]
    assert f'`"{model}": {parameters:_}` to `PARAMETERS`' in SECTION
    assert f'`"{model}": {features}` to `FEATURES`' in SECTION
