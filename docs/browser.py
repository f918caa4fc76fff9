"""Helpers to open the report page in headless Chromium."""

import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from src.common.errors import UserError

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

_SECONDS = 120  # generous for busy machines


def installed() -> str | None:
    """Return the path of Chromium, or None if it is not installed."""
    return shutil.which("chromium") or shutil.which("google-chrome")


@contextmanager
def chromium() -> Iterator["Browser"]:
    """Start the system's Chromium. Raises UserError if it is not installed."""
    from playwright.sync_api import sync_playwright

    path = installed()
    if path is None:
        raise UserError("needs a browser: chromium")
    with sync_playwright() as playwright:
        rooted = ["--no-sandbox"] if os.geteuid() == 0 else []
        chromium_ = playwright.chromium.launch(executable_path=path, args=rooted)
        yield chromium_
        chromium_.close()


def wait_until(page: "Page", condition: str, plot: str | None = None) -> None:
    """Wait for a condition; page.wait_for_function needs eval, which the page's CSP forbids.

    plot: id of a plot to keep scrolled into view, since only visible plots are drawn.
    """
    deadline = time.monotonic() + _SECONDS
    while not holds(page, condition):
        if plot:
            scroll_to(page, plot)
        if time.monotonic() > deadline:
            raise TimeoutError(f"after {_SECONDS} s this does not hold: {condition}")
        page.wait_for_timeout(20)


def holds(page: "Page", condition: str) -> bool:
    """Return whether a condition holds; False while the page reloads."""
    from playwright.sync_api import Error

    try:
        return bool(page.evaluate(f"Boolean({condition})"))
    except Error as error:
        if "context was destroyed" not in str(error):
            raise
        return False


def scroll_to(page: "Page", plot: str) -> None:
    """Scroll to an element, since only visible plots are drawn."""
    page.evaluate(f"document.getElementById('{plot}').scrollIntoView({{behavior: 'instant'}})")


def traces_of(page: "Page", plot: str) -> list[dict[str, Any]]:
    """Scroll to a plot, wait until it is drawn and up to date, and return its traces.

    The page draws one plot per frame, once an IntersectionObserver reports it as visible.
    """
    scroll_to(page, plot)
    wait_until(page, f"document.getElementById('{plot}').data", plot)
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
