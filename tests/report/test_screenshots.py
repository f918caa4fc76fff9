"""The documents' pictures of the report page."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

from docs.take_screenshots import SHOTS, main
from src.runs.aggregate import collect, write_csv
from tests.conftest import RunCommand

if TYPE_CHECKING:
    from playwright.sync_api import Browser

LIMIT = 400_000


@pytest.mark.browser
def test_pictures_are_small_and_not_blank(
    command: RunCommand, browser: "Browser", trained: Path, tmp_path: Path
) -> None:
    del browser  # where there is none, this skips
    write_csv(collect(trained).table, tmp_path / "runs.csv")
    words = ("--csv", tmp_path / "runs.csv", "--runs", trained, "--out", tmp_path)
    done = command("python", "-m", "docs.take_screenshots", *words)
    pictures = [tmp_path / f"{shot.name}.png" for shot in SHOTS]
    assert done.stdout.split() == list(map(str, pictures))
    lightness = {}
    for path, shot in zip(pictures, SHOTS, strict=True):
        assert path.stat().st_size < LIMIT
        with Image.open(path) as picture:
            assert picture.size == shot.size
            pixels = np.asarray(picture.convert("L"), dtype=float)
        rows = pixels.std(axis=1) > 1
        assert rows.mean() > 0.3, "most of it is not empty"
        lightness[shot.name] = pixels.mean()
    assert lightness["light"] > 200
    assert lightness["dark"] < 60


def test_bad_input_is_one_line(tmp_path: Path, expect_bad_input: Callable[..., str]) -> None:
    assert "No such file" in expect_bad_input(
        main, "--csv", tmp_path / "none.csv", "--out", tmp_path
    )
