"""Take the screenshots of the report page for the documents: python -m docs.take_screenshots"""

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


@dataclass(frozen=True)
class Shot:
    """A screenshot <name>.png of the page: viewport size, colour scheme, visible section."""

    name: str
    size: tuple[int, int] = WIDE
    scheme: Literal["light", "dark"] = "light"
    section: str = ""
    """Id of the section to scroll to; empty for the top of the page."""
    opens_a_run: bool = False
    """Whether to open the first run of the table."""


SHOTS = (
    Shot("light"),
    Shot("dark", scheme="dark", section="effects"),
    Shot("phone", PHONE),
    Shot("run", TALL, section="run", opens_a_run=True),
)


def main(arguments: Sequence[str]) -> ExitStatus:
    """Write the page, open it and take the screenshots."""
    parsed = _parser().parse(arguments)
    with tempfile.TemporaryDirectory() as folder:
        page = _write_page(parsed, Path(folder))
        with browser.chromium() as chromium:
            for path in take(chromium, page, parsed.out):
                print(shown(path))
    return ExitStatus.DONE


def take(chromium: "Browser", page: Path, folder: Path) -> list[Path]:
    """Take all screenshots and return their files."""
    folder.mkdir(parents=True, exist_ok=True)
    return [_save(_screen(chromium, page, shot), folder / f"{shot.name}.png") for shot in SHOTS]


def _screen(chromium: "Browser", path: Path, shot: Shot) -> bytes:
    """Take one screenshot and return its PNG data."""
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
        browser.wait_until(page, "window.Plotly")
        if shot.opens_a_run:
            page.locator("#table tbody th button").first.click()
            browser.wait_until(page, "document.getElementById('command')")
            page.mouse.move(0, 0)  # otherwise the plot under the pointer shows its buttons
        for _ in range(2):  # the position changes when plots are drawn
            if shot.section:
                browser.scroll_to(page, shot.section)
            _wait_for_plots(page)
        screenshot: bytes = page.screenshot()
    return screenshot


def _wait_for_plots(page: "Page") -> None:
    """Wait until every visible plot is drawn or empty."""
    browser.wait_until(
        page,
        """[...document.querySelectorAll('.plot')].every(one => {
            const box = one.getBoundingClientRect();
            return box.top > innerHeight || box.bottom < 0 || one.childElementCount;
        })""",
    )
    page.evaluate("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")


def _save(screenshot: bytes, path: Path) -> Path:
    """Save a PNG in few bytes. A palette would mix up the colours of architectures."""
    with Image.open(io.BytesIO(screenshot)) as screen:
        screen.convert("RGB").save(path, optimize=True)
    return path


def _write_page(parsed: Namespace, folder: Path) -> Path:
    """Write the page as `python -m src.report page` does."""
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
        "--out", type=Path, default=FOLDER, metavar="DIR", help="screenshots [docs/screenshots]"
    )
    return parser


if __name__ == "__main__":
    run_main(main)
