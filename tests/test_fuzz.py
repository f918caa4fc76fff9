"""Fuzz tests: any input file is read or rejected with a one-line error, without side effects.

The readers of set files, grids, recipes, tables and CIFAR-10 batches get about six thousand
inputs: valid files with replaced stretches of bytes, and random bytes.
"""

import os
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from src.common.errors import UserError
from src.common.paths import ROOT
from src.common.yaml_files import read_yaml
from src.config import from_mapping
from src.data import cifar10
from src.report import table
from src.sweep import grid, sets

EXAMPLES = {"set": 1200, "grid": 700, "blocks": 700, "recipe": 1200, "table": 400, "batch": 1500}


def batch() -> bytes:
    """Return a pickled CIFAR-10 batch with too few images."""
    content = {b"data": np.zeros((2, 3), np.uint8), b"labels": [1, 2], b"batch_label": b"x"}
    return pickle.dumps(content, protocol=3)


VALID: dict[str, Callable[[], bytes]] = {
    "set": (ROOT / "hyperparameter_sets" / "hyperparameters_1.txt").read_bytes,
    "grid": (ROOT / "run_config" / "demo_grid.yaml").read_bytes,
    "blocks": (ROOT / "run_config" / "blocks_grid.yaml").read_bytes,
    "recipe": (ROOT / "run_config" / "cifar10net.yaml").read_bytes,
    "table": (ROOT / "clean_runs.csv").read_bytes,
    "batch": batch,
}
READERS: dict[str, Callable[[Path], object]] = {
    "set": sets.read,
    "grid": lambda path: grid.expand(grid.read(path)),
    "blocks": lambda path: grid.expand(grid.read(path)),
    "recipe": lambda path: from_mapping(read_yaml(path), "recipe"),
    "table": table.read,
    "batch": cifar10.read_batch,
}
HOSTILE = [
    *[b"\x00", b"\xff", b"\xef\xbb\xbf", b"\r", b"\n", b"'", b'"', b",", b":", b"#", b"{", b"["],
    *[b"!!python/object/apply:os.system ['touch here']", b"&a [*a, *a]", b"../../x", b"$(touch x)"],
    *[b"nan", b"inf", b"-1", b"1e999", b"9" * 400, b"True", b"null", b"=", b"key=value", b"`x`"],
    pickle.dumps(os.system)[2:-1] + b"(X\x05\x00\x00\x00touchtR.",
]

pieces = st.one_of(st.sampled_from(HOSTILE), st.binary(max_size=12))
edits = st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 40), pieces), max_size=4)


def damaged(valid: bytes, changes: list[tuple[int, int, bytes]]) -> bytes:
    """Replace stretches of `valid`; each change is (offset, length, replacement)."""
    for at, length, piece in changes:
        place = at % (len(valid) + 1)
        valid = valid[:place] + piece + valid[place + length :]
    return valid


@pytest.mark.parametrize("kind", READERS)
def test_any_input_is_read_or_rejected_with_one_line_error(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    valid = VALID[kind]()[:3000]
    file = tmp_path / "given"
    monkeypatch.chdir(tmp_path)
    rejected = 0

    @settings(
        max_examples=EXAMPLES[kind],
        deadline=5000,  # milliseconds
        database=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
    )
    @given(st.one_of(edits.map(lambda changes: damaged(valid, changes)), st.binary(max_size=300)))
    def fuzz(content: bytes) -> None:
        nonlocal rejected
        line = ""
        file.write_bytes(content)
        try:
            READERS[kind](file)
        except UserError as error:
            line = str(error)
            rejected += 1
        assert len(line.splitlines()) == bool(line)
        assert os.listdir(tmp_path) == ["given"]

    fuzz()
    assert rejected > EXAMPLES[kind] / 4


def test_valid_inputs_are_accepted(tmp_path: Path) -> None:
    for kind, reader in READERS.items():
        file = tmp_path / kind
        file.write_bytes(VALID[kind]())
        if kind == "batch":
            with pytest.raises(UserError, match="images of shape"):
                reader(file)
        else:
            assert reader(file) is not None
