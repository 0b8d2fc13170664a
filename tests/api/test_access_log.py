"""The access log: a line for each request, with the id of its reply and without secrets."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import httpx2
import pytest
from structlog.testing import capture_logs

from tests.api.conftest import TOKEN, MakeRig, Rig
from tests.server import run_server

SUM = {"type": "sum", "params": [4, 2]}


@pytest.fixture
async def logged(make_rig: MakeRig) -> Rig:
    return await make_rig(access_log=True)


def requests(logs: list[Any]) -> list[dict[str, Any]]:
    return [line for line in logs if line["event"] == "request"]


async def test_off_by_default(rig: Rig) -> None:
    with capture_logs() as logs:
        await rig.client.post("/task", json=SUM)
    assert requests(logs) == []


async def test_each_request_is_logged(logged: Rig) -> None:
    with capture_logs() as logs:
        replies = [
            await logged.client.post("/task", json=SUM),
            await logged.client.get("/nothing?token=secret-of-a-query"),
            await logged.client.post("/task", content=b"{", headers={"content-type": "application/json"}),
            await logged.client.get("/type", headers={"request-id": "mine", "host": "evil.example"}),
            await logged.client.head("/type"),
        ]
    lines = requests(logs)
    assert [(line["method"], line["path"], line["status"]) for line in lines] == [
        ("POST", "/task", 202), ("GET", "/nothing", 404), ("POST", "/task", 400), ("GET", "/type", 421),
        ("HEAD", "/type", 200),
    ]  # fmt: skip
    assert [line["request_id"] for line in lines] == [reply.headers["request-id"] for reply in replies]
    assert [line["bytes"] for line in lines] == [len(reply.content) for reply in replies]
    assert {line["log_level"] for line in lines} == {"info"}
    assert all(0 <= line["duration_ms"] < 60_000 for line in lines)
    assert "secret-of-a-query" not in str(logs)


async def test_a_key_is_named_by_its_id(logged: Rig) -> None:
    header = await logged.key("read", owner="shop")
    _, key_id, secret = header["authorization"].split("_", 2)  # a secret may have one of its own
    with capture_logs() as logs:
        await logged.client.get("/task", headers=header)
        await logged.client.get("/task", headers={"authorization": header["authorization"] + "x"})
    assert [(line["status"], line["key_id"]) for line in requests(logs)] == [(200, key_id), (401, None)]
    assert secret not in str(logs)


async def test_an_internal_error_is_logged_too(logged: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(logged.engine), "find_many", None)
    with capture_logs() as logs:
        reply = await logged.client.get("/task")
    assert [(line["status"], line["request_id"]) for line in requests(logs)] == [(500, reply.headers["request-id"])]


async def test_a_stream_is_logged_once_it_has_ended(logged: Rig) -> None:
    task_id = await logged.submit()
    with capture_logs() as logs:
        following = asyncio.create_task(logged.client.get(f"/task/{task_id}/events"))
        async with asyncio.timeout(30):
            while not logged.hub.waiting:
                await asyncio.sleep(0)
        assert requests(logs) == []
        await logged.finish()
        reply = await following
    assert [(line["status"], line["bytes"]) for line in requests(logs)] == [(200, len(reply.content))]


def test_the_setting(tmp_path: Path) -> None:
    env = {"TASKER_ACCESS_LOG": "on", "TASKER_LOG_FORMAT": "json", "TASKER_TOKEN": TOKEN}
    with run_server(tmp_path, env=env) as server:
        asked = httpx2.get(f"{server.url}/task?other=%0a", headers={"authorization": f"Bearer {TOKEN}"})
        text = server.text()
        while f'"{asked.headers["request-id"]}"' not in text:  # the test's own time limit ends this
            text = server.text()
    lines = [json.loads(line) for line in text.splitlines() if line.startswith("{")]
    [line] = [line for line in lines if line.get("request_id") == asked.headers["request-id"]]
    assert (line["event"], line["level"], line["path"], line["status"]) == ("request", "info", "/task", 422)
    assert line["address"] == "127.0.0.1"
    assert TOKEN not in text
