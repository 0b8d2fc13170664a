"""Webhooks to chats: a whole service, and receivers that insist on their format as chats do."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx2
import pytest
import standardwebhooks
from tests.webhooks.receiver import OK, Heard, Receiver, answer, receiving

from tasker.config.settings import Settings
from tasker.rules.signing import new_secret
from tasker.wiring.app import open_app

TASKS = """
from typing import Annotated

import tasker


@tasker.task
async def explode(message: str) -> None:
    raise ValueError(message)


@tasker.task
async def leak(token: Annotated[str, tasker.secret], context: tasker.Context) -> None:
    context.log("asked with " + token)
    raise ValueError("refused: " + token)


@tasker.task
async def order(token: Annotated[str, tasker.secret], context: tasker.Context) -> bool:
    return await context.ask("approve", bool, message=f"Ship with {token}?")
"""
SECRET = new_secret()


def slack(heard: Heard) -> bytes:
    """Answer as Slack's incoming webhooks do."""
    try:
        body = json.loads(heard.body)
    except ValueError:
        body = None
    if heard.headers["content-type"] != "application/json" or not isinstance(body, dict) or body.keys() - {"text"}:
        return answer(400, body=b"invalid_payload")
    if not isinstance(body.get("text"), str) or not 0 < len(body["text"]) <= 4000:
        return answer(400, body=b"no_text")
    return OK


def plain(heard: Heard) -> bytes:
    """Answer like a service that shows the body."""
    if heard.headers["content-type"] != "text/plain; charset=utf-8" or heard.body.startswith(b"{"):
        return answer(400, body=b"invalid_payload")
    return OK


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with receiving() as receiver:
        yield receiver


@asynccontextmanager
async def service(folder: Path) -> AsyncIterator[httpx2.AsyncClient]:
    tasks = folder / "chat_tasks.py"
    tasks.write_text(TASKS, encoding="utf-8")
    settings = Settings(data_dir=folder, tasks=(str(tasks),), webhook_insecure=True)
    async with asyncio.timeout(30), open_app(settings) as app:
        transport = httpx2.ASGITransport(app.asgi)
        async with httpx2.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
            yield client


async def submit(client: httpx2.AsyncClient, type: str, *params: Any, **options: Any) -> str:
    reply = await client.post("/task", json={"type": type, "params": params, **options})
    assert reply.status_code == 202, reply.text
    return str(reply.json()["task_id"])


async def ended(client: httpx2.AsyncClient, path: str) -> dict[str, Any]:
    """Return the delivery of a webhook once it was tried."""
    while True:
        for delivery in (await client.get(f"{path}/deliveries")).json()["items"]:
            if delivery["response_code"] is not None:
                return dict(delivery)
        await asyncio.sleep(0.01)


def read(heard: Heard) -> str:
    return str(json.loads(heard.body)["text"]) if heard.body.startswith(b"{") else heard.body.decode()


@pytest.mark.parametrize("judge", [slack, plain])
async def test_a_chat_accepts_its_messages(tmp_path: Path, receiver: Receiver, judge: Callable[[Heard], bytes]) -> None:
    receiver.judge = judge
    async with service(tmp_path) as client:
        asked = {"url": receiver.url, "format": judge.__name__, "secret": SECRET, "events": ["task.failed"]}
        hook = (await client.post("/webhook", json=asked)).json()["links"]["self"]
        task_id = await submit(client, "explode", "<!channel> see https://evil.example @here")
        delivery = await ended(client, hook)
    assert (delivery["status"], delivery["attempts"]) == ("delivered", 1), delivery
    [heard] = receiver.heard
    first, second = read(heard).replace("\u200b", "").replace("`", "").split("\n")
    assert first == f"explode failed (task {task_id})"
    shown = "&lt;!channel&gt;" if judge is slack else "<!channel>"
    assert second == f"ValueError: {shown} see https://evil.example @here"
    assert "https://" not in read(heard)
    assert heard.headers["webhook-id"] == f"evt_{task_id.replace('-', '')}_3"
    check_signature(heard)


def check_signature(heard: Heard) -> None:
    """Verify a body that need not be JSON, which the package's own `verify` insists on."""
    at = datetime.fromtimestamp(int(heard.headers["webhook-timestamp"]), UTC)
    webhook = standardwebhooks.Webhook(SECRET)
    assert webhook.sign(heard.headers["webhook-id"], at, heard.body.decode()) == heard.headers["webhook-signature"]


@pytest.mark.parametrize("judge", [slack, plain])
async def test_a_chat_refuses_the_standard_format(
    tmp_path: Path, receiver: Receiver, judge: Callable[[Heard], bytes]
) -> None:
    """Else the tests above would prove nothing."""
    receiver.judge = judge
    async with service(tmp_path) as client:
        hook = (await client.post("/webhook", json={"url": receiver.url})).json()["links"]["self"]
        await submit(client, "explode", "boom")
        delivery = await ended(client, hook)
    assert (delivery["status"], delivery["response_code"]) == ("pending", 400)


async def test_a_tasks_own_webhook_notifies_a_chat(tmp_path: Path, receiver: Receiver) -> None:
    receiver.judge = slack
    async with service(tmp_path) as client:
        own = {"url": receiver.url, "format": "slack"}
        task_id = await submit(client, "explode", "boom", webhook=own)
        [heard] = await receiver.until(1)
    assert read(heard) == f"`explode` failed (task {task_id})\n`ValueError: boom`"
    assert "webhook-signature" not in heard.headers


@pytest.mark.parametrize("format", ["slack", "plain"])
async def test_secrets_of_a_task_are_not_sent(tmp_path: Path, receiver: Receiver, format: str) -> None:
    async with service(tmp_path) as client:
        own = {"url": receiver.url, "format": format, "events": ["task.failed", "task.log"]}
        await submit(client, "leak", "hunter22-hunter22", webhook=own)
        heard = await receiver.until(2)
    texts = sorted(read(one) for one in heard)
    assert not [text for text in texts if "hunter22" in text]
    assert all("***" in text for text in texts)


async def test_a_question_reaches_a_chat_and_is_answered_from_there(tmp_path: Path, receiver: Receiver) -> None:
    async with service(tmp_path) as client:
        events = ["task.input_required", "task.input_given"]
        own = {"url": receiver.url, "format": "plain", "events": events}
        task_id = await submit(client, "order", "hunter22-hunter22", webhook=own)
        [asked] = await receiver.until(1)
        lines = read(asked).splitlines()
        assert lines == [
            f"order asks for an answer (task {task_id})",
            "approve: Ship with ***?",
            f"Answer on its page, or with: tasker input {task_id} approve VALUE",
        ]
        name = lines[2].split()[-2]
        reply = await client.post(f"/task/{task_id}/input", json={"name": name, "value": True})
        assert reply.status_code == 200
        _, given = await receiver.until(2)
        assert read(given).splitlines()[1:] == ["approve"]
        ended = (await client.get(f"/task/{task_id}?wait=20")).json()
    assert (ended["status"], ended["result"]) == ("completed", True)


async def test_the_standard_message_has_the_question(tmp_path: Path, receiver: Receiver) -> None:
    async with service(tmp_path) as client:
        own = {"url": receiver.url, "events": ["task.input_required"], "secret": SECRET}
        await submit(client, "order", "hunter22-hunter22", webhook=own)
        [asked] = await receiver.until(1)
    standardwebhooks.Webhook(SECRET).verify(asked.body, asked.headers)
    body = json.loads(asked.body)
    assert body["type"] == "task.input_required"
    assert (body["event"]["data"]["name"], body["event"]["data"]["key"]) == ("approve", "approve")
    question = body["data"]["input"]
    assert (question["name"], question["message"]) == ("approve", "Ship with ***?")
    assert question["schema"]["type"] == "boolean"
    assert b"hunter22" not in asked.body
