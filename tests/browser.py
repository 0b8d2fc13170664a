"""Debian's Chromium for tests, and pages that record what they must not do."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update",
         "--disable-sync", "--no-first-run"]  # fmt: skip
LIMIT = 30_000
"""Milliseconds that the browser has for each step."""
NEEDS_BROWSER = pytest.mark.skipif(CHROMIUM is None, reason="needs a browser: apt install chromium")


@contextmanager
def chromium() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


class Watched:
    """A page that records what it must not do: break its policy, contact another server, log an error.

    may_log_errors: for pages that ask for what is refused.
    """

    def __init__(self, context: BrowserContext, url: str, *, may_log_errors: bool = False) -> None:
        context.set_default_timeout(LIMIT)
        expect.set_options(timeout=LIMIT)
        self.page: Page = context.new_page()
        self.url = url
        self.faults: list[str] = []
        self._may_log_errors = may_log_errors
        self.page.on("console", self._heard)
        self.page.on("pageerror", lambda error: self.faults.append(str(error)))
        self.page.on("request", self._asked)
        self.page.add_init_script(
            "window.violations = [];"
            "document.addEventListener('securitypolicyviolation', (e) => window.violations.push(e.violatedDirective));"
        )

    def _heard(self, message: Any) -> None:
        is_error = message.type == "error" and not self._may_log_errors
        if is_error or "Content Security Policy" in message.text:
            self.faults.append(message.text)

    def _asked(self, request: Any) -> None:
        if not request.url.startswith((self.url + "/", "data:", "blob:")):
            self.faults.append(request.url)

    def goto(self, path: str) -> Page:
        """Open a page below /ui/."""
        self.page.goto(f"{self.url}/ui/{path}")
        return self.page

    def check(self) -> None:
        assert self.faults == []
        assert self.page.evaluate("window.violations ?? []") == []  # without scripts nothing is counted
