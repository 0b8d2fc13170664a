"""The receiver of docs/webhooks.md accepts signed messages and nothing else, and the page's figures are the code's."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import httpx2
import pytest

from tasker.chores import plan
from tasker.model.events import EVENT_TYPES
from tasker.rules.signing import new_secret, sign
from tasker.webhooks import rules, slots
from tests.docs import readme
from tests.docs.snippets import Page, Reader
from tests.server import run_server

PAGE = (Path(__file__).parents[2] / "docs" / "webhooks.md").read_text()
SECRET = new_secret()
BODY = b'{"type": "task.completed", "data": {"task_id": "7"}}'


@pytest.fixture
def receiver(tmp_path: Path, unused_tcp_port: int) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    [code] = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    environment = {**os.environ, "WEBHOOK_SECRET": SECRET, "PORT": str(unused_tcp_port)}
    process = subprocess.Popen([sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE, text=True)
    yield f"http://127.0.0.1:{unused_tcp_port}/", process
    process.kill()
    process.communicate()


def post(url: str, headers: dict[str, str]) -> int:
    deadline = time.monotonic() + 10
    while True:
        try:
            return httpx2.post(url, content=BODY, headers=headers).status_code
        except httpx2.ConnectError:
            assert time.monotonic() < deadline
            time.sleep(0.05)


def test_the_receiver_verifies(receiver: tuple[str, subprocess.Popen[str]]) -> None:
    url, process = receiver
    assert post(url, sign([new_secret()], "evt_1", datetime.now(UTC), BODY)) == 400
    assert post(url, sign([SECRET], "evt_1", datetime.now(UTC), BODY)) == 204
    assert process.stdout is not None
    assert process.stdout.readline() == "task.completed 7\n"


def test_the_commands_are_taken(tmp_path: Path) -> None:
    page = Page(readme.PROJECT / "docs" / "webhooks.md")
    commands = [example for example in page.programs if example.language == "bash"]
    with run_server(tmp_path) as server:
        reader = Reader(tmp_path, server)
        webhook_id = httpx2.post(f"{server.url}/webhook", json={"url": "https://example.com/"}).json()["webhook_id"]
        for example in commands:
            real = example._replace(text=example.text.replace("{webhook_id}", webhook_id))
            assert reader.faults_of(real) == [], example.name
    assert len(commands) == 4


def test_the_figures_are_those_of_the_code() -> None:
    def words(seconds: float) -> str:
        return (
            f"{seconds:g} s" if seconds < 60 else f"{seconds / 60:g} min" if seconds < 3600 else f"{seconds / 3600:g} h"
        )

    *pauses, last = [words(pause.total_seconds()) for pause in rules.RETRY_WITHIN]
    page = " ".join(PAGE.split())
    assert f"{rules.MAX_TRIES} tries" in page
    assert f"{', '.join(pauses)} and {last}" in page
    assert f"for {rules.PAUSE_AFTER.days} days" in page
    assert f"kept for {plan.KEEP_DELIVERIES.days} days" in page
    assert f"at most {slots.AT_ONCE} requests under way, {slots.PER_RECEIVER} to one webhook" in page
    assert f"{slots.PER_SHARE} at most are for the single tasks of one owner" in page
    assert f"{slots.SLOW_PER_OWNER} at most go to receivers" in page
    assert f"took {slots.SLOW_AFTER:g} seconds" in page
    for name in EVENT_TYPES:
        assert f"`task.{name}`" in page
