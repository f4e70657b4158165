"""A headless Chromium, driven from a thread: Playwright's objects belong to one thread, and know nothing of trio."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import trio
from playwright.sync_api import Browser, Page, expect, sync_playwright

CHROMIUM = os.environ.get("TRIOCEPT_CHROMIUM") or shutil.which("chromium")
T = TypeVar("T")
REFUSED = "Failed to load resource: the server responded with a status of 4"
"""What Chromium prints when the server refuses a decision; the page shows why."""
expect.set_options(timeout=20_000)


class Tab:
    """A tab, and what went wrong in it."""

    def __init__(self, browser: Browser, **options: Any) -> None:
        self.context = browser.new_context(viewport={"width": 1400, "height": 900}, **options)
        self.problems: list[str] = []
        self.requests: list[str] = []
        self.page = self.open()

    def open(self) -> Page:
        """Open a further tab of the same browser profile."""
        page = self.context.new_page()
        page.on("console", lambda each: self.problems.append(each.text) if each.type == "error" else None)
        page.on("pageerror", lambda each: self.problems.append(str(each)))
        page.on("request", lambda each: self.requests.append(each.url))
        return page


@contextmanager
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        try:
            yield started
        finally:
            started.close()


async def browse(act: Callable[[Tab], T], **options: Any) -> T:
    """Run a function with a new tab, in a thread; fail if the page had an error or broke its policy."""

    def run() -> T:
        with browser() as started:
            tab = Tab(started, **options)
            result = act(tab)
            assert [each for each in tab.problems if not each.startswith(REFUSED)] == []
            return result

    return await trio.to_thread.run_sync(run)
