"""The instructions to add an architecture in CONTRIBUTING.md work as written."""

import json
import re
import shlex
from pathlib import Path

import numpy as np

from src.common.paths import ROOT
from tests.conftest import RunCommand, copy_repository
from tests.markdown import blocks

TEXT = (ROOT / "CONTRIBUTING.md").read_text()
SECTION = TEXT.partition("## Add an architecture")[2].partition("\n## ")[0]


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
