"""The documents' pictures of the report page: python -m docs.take_screenshots"""

import io
import tempfile
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from PIL import Image

from docs import browser
from src.cli.arguments import Parser
from src.cli.entry_point import run_main
from src.common.errors import ExitStatus
from src.common.paths import CSV_FILE, ROOT, shown
from src.report import table
from src.report.page.render import write_page
from src.report.report_data import ReportData
from src.runs.aggregate import collect
from src.sweep.status.page_state import state_of_folders

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

FOLDER = ROOT / "docs" / "screenshots"
WIDE, TALL, PHONE = (1400, 1000), (1400, 1400), (390, 844)
_COLOURS = 256  # of a picture: a third of the bytes of one with all of them


@dataclass(frozen=True)
class Shot:
    """A picture <name>.png of the page: the screen's pixels, its colours, what is in sight."""

    name: str
    size: tuple[int, int] = WIDE
    scheme: Literal["light", "dark"] = "light"
    section: str = ""
    """The id of the section at the top of the screen; the page's beginning where it is empty."""
    opens_a_run: bool = False
    """Whether the run at the top of the table is opened first."""


SHOTS = (
    Shot("light"),
    Shot("dark", scheme="dark", section="effects"),
    Shot("phone", PHONE),
    Shot("run", TALL, section="run", opens_a_run=True),
)


def main(arguments: Sequence[str]) -> ExitStatus:
    """Write the page, open it, take the pictures."""
    parsed = _parser().parse(arguments)
    with tempfile.TemporaryDirectory() as folder:
        page = _write_page(parsed, Path(folder))
        with browser.chromium() as chromium:
            for path in take(chromium, page, parsed.out):
                print(shown(path))
    return ExitStatus.DONE


def take(chromium: "Browser", page: Path, folder: Path) -> list[Path]:
    """Open the page as each shot says, and write what is on the screen into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    return [_save(_screen(chromium, page, shot), folder / f"{shot.name}.png") for shot in SHOTS]


def _screen(chromium: "Browser", path: Path, shot: Shot) -> bytes:
    """The screen as PNG."""
    width, height = shot.size
    context = chromium.new_context(
        viewport={"width": width, "height": height},
        color_scheme=shot.scheme,
        reduced_motion="reduce",
        device_scale_factor=1,
    )
    with context:
        page = context.new_page()
        page.goto(path.as_uri())
        browser.until(page, "window.Plotly")
        if shot.opens_a_run:
            page.locator("#table tbody th button").first.click()
            browser.until(page, "document.getElementById('command')")
            page.mouse.move(0, 0)  # a plot under it would show its buttons
        for _ in range(2):  # plots that were not drawn yet have moved it
            if shot.section:
                browser.see(page, shot.section)
            _wait_for_plots(page)
        picture: bytes = page.screenshot()
    return picture


def _wait_for_plots(page: "Page") -> None:
    """Until every plot in sight is drawn, or found to have nothing to draw."""
    browser.until(
        page,
        """[...document.querySelectorAll('.plot')].every(one => {
            const box = one.getBoundingClientRect();
            return box.top > innerHeight || box.bottom < 0 || one.childElementCount;
        })""",
    )
    page.evaluate("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")


def _save(picture: bytes, path: Path) -> Path:
    """Write a PNG again in few colours."""
    with Image.open(io.BytesIO(picture)) as screen:
        few = screen.convert("RGB").quantize(_COLOURS, dither=Image.Dither.NONE)
    few.save(path, optimize=True)
    return path


def _write_page(parsed: Namespace, folder: Path) -> Path:
    """The page that `python -m src.report page` writes of the same table and run folders."""
    runs, states, state = table.read(parsed.csv), {}, None
    if parsed.runs:
        states, state = collect(parsed.runs).states, state_of_folders(parsed.runs)
    return write_page(ReportData(runs, states, parsed.runs), folder, state)


def _parser() -> Parser:
    parser = Parser(prog="python -m docs.take_screenshots", description=__doc__)
    parser.add_argument(
        "--csv", type=Path, default=CSV_FILE, metavar="FILE", help="table [clean_runs.csv]"
    )
    parser.add_argument(
        "--runs", type=Path, metavar="DIR", help="its run folders: curves, mistakes, failures"
    )
    parser.add_argument(
        "--out", type=Path, default=FOLDER, metavar="DIR", help="pictures [docs/screenshots]"
    )
    return parser


if __name__ == "__main__":
    run_main(main)
