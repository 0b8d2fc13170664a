"""Write a picture of every page, in light, dark and on a phone: python -m tests.web.browser.screenshots FOLDER."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from playwright.sync_api import Browser

from tests.browser import CHROMIUM, chromium
from tests.server import run_server
from tests.web.browser.pages import paths_of
from tests.web.browser.stage import TYPES, Stage

LOOKS = (("light", "desk", 1280, 900), ("dark", "desk", 1280, 900), ("light", "phone", 390, 844))
TOKEN = "a-token-of-more-than-16-characters"


def main(folder: Path) -> None:
    """Start services, fill them, and take the pictures."""
    if CHROMIUM is None:
        raise SystemExit("needs a browser: apt install chromium")
    folder.mkdir(parents=True, exist_ok=True)
    with chromium() as browser, tempfile.TemporaryDirectory() as data:
        for name in ("empty", "locked", "full"):
            (Path(data) / name).mkdir()
        with run_server(Path(data) / "empty") as server:
            _take(browser, server.url, {"empty": ""}, folder)
        with run_server(Path(data) / "locked", env={"TASKER_TOKEN": TOKEN}) as server:
            _take(browser, server.url, {"signin": "signin"}, folder)
        with run_server(Path(data) / "full", str(TYPES), env={"TASKER_DRAIN": "0.2"}) as server:
            stage = Stage(server.url)
            _take(browser, server.url, paths_of(stage.fill()), folder)
            stage.client.close()


def _take(browser: Browser, url: str, paths: dict[str, str], folder: Path) -> None:
    for scheme, device, width, height in LOOKS:
        context = browser.new_context(color_scheme=scheme, viewport={"width": width, "height": height})  # type: ignore[arg-type]
        page = context.new_page()
        for name, path in paths.items():
            page.goto(f"{url}/ui/{path}")
            page.screenshot(path=folder / f"{name}-{scheme}-{device}.png", full_page=device == "desk")
        context.close()


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "screenshots"))
