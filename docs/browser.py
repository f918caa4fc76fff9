"""The report page in Chromium, without a window."""

import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from src.common.errors import UserError

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

_SECONDS = 120  # beside other work, on few cores


def installed() -> str | None:
    """Where Chromium is; None where it is not."""
    return shutil.which("chromium") or shutil.which("google-chrome")


@contextmanager
def chromium() -> Iterator["Browser"]:
    """The system's Chromium. Raises UserError where there is none."""
    from playwright.sync_api import sync_playwright

    path = installed()
    if path is None:
        raise UserError("needs a browser: chromium")
    with sync_playwright() as playwright:
        rooted = ["--no-sandbox"] if os.geteuid() == 0 else []
        found = playwright.chromium.launch(executable_path=path, args=rooted)
        yield found
        found.close()


def until(page: "Page", condition: str, plot: str | None = None) -> None:
    """Wait for a condition. Playwright's own way to do so is an eval that the page forbids.

    plot: is kept in sight: what is out of sight is not drawn.
    """
    deadline = time.monotonic() + _SECONDS
    while not holds(page, condition):
        if plot:
            see(page, plot)
        if time.monotonic() > deadline:
            raise TimeoutError(f"after {_SECONDS} s there is still not: {condition}")
        page.wait_for_timeout(20)


def holds(page: "Page", condition: str) -> bool:
    """Whether a condition holds now; not while the page is being read again."""
    from playwright.sync_api import Error

    try:
        return bool(page.evaluate(f"Boolean({condition})"))
    except Error as error:
        if "context was destroyed" not in str(error):
            raise
        return False


def see(page: "Page", plot: str) -> None:
    """Scroll to a plot: what is out of sight is not drawn."""
    page.evaluate(f"document.getElementById('{plot}').scrollIntoView({{behavior: 'instant'}})")


def drawn(page: "Page", plot: str) -> list[dict[str, Any]]:
    """The traces of a plot, once it is in sight and drawn, and drawn again where that is due.

    The page draws one plot after each frame, and begins when it is told what came in sight.
    """
    see(page, plot)
    until(page, f"document.getElementById('{plot}').data", plot)
    page.evaluate(
        """(async () => {
            for (let left = document.querySelectorAll(".plot").length + 2; left > 0; left -= 1)
                await new Promise(done => requestAnimationFrame(() => setTimeout(done)));
        })()"""
    )
    traces: list[dict[str, Any]] = page.evaluate(
        f"""document.getElementById('{plot}').data.map(one => ({{
            name: one.name, mode: one.mode, xaxis: one.xaxis, x: Array.from(one.x ?? []),
            y: Array.from(one.y ?? []), z: (one.z ?? []).map(line => Array.from(line))}}))"""
    )
    return traces
