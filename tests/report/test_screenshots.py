"""Screenshots of the report page in the documents."""

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
def test_screenshots_are_small_and_not_blank(
    command: RunCommand, browser: "Browser", trained: Path, tmp_path: Path
) -> None:
    del browser  # the fixture skips the test without a browser
    write_csv(collect(trained).table, tmp_path / "runs.csv")
    words = ("--csv", tmp_path / "runs.csv", "--runs", trained, "--out", tmp_path)
    done = command("python", "-m", "docs.take_screenshots", *words)
    screenshots = [tmp_path / f"{shot.name}.png" for shot in SHOTS]
    assert done.stdout.split() == list(map(str, screenshots))
    lightness = {}
    for path, shot in zip(screenshots, SHOTS, strict=True):
        assert path.stat().st_size < LIMIT
        with Image.open(path) as screenshot:
            assert screenshot.size == shot.size
            pixels = np.asarray(screenshot.convert("L"), dtype=float)
        rows = pixels.std(axis=1) > 1
        assert rows.mean() > 0.3, "at least 30 % of the rows must not be blank"
        lightness[shot.name] = pixels.mean()
    assert lightness["light"] > 200
    assert lightness["dark"] < 60


def test_missing_table_gives_one_line_error(
    tmp_path: Path, expect_bad_input: Callable[..., str]
) -> None:
    assert "No such file" in expect_bad_input(
        main, "--csv", tmp_path / "none.csv", "--out", tmp_path
    )
