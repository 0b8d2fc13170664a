"""Webhooks of a whole service: its URL rules hold for the dispatcher too, and messages hold only what is public."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import httpx2
import pytest
from tests.webhooks.receiver import Receiver, receiving

from tasker.config.settings import Settings
from tasker.model.webhooks import Delivery, Webhook
from tasker.wiring.app import App, open_app

SAMPLE_TASKS = Path(__file__).parents[1] / "sample_tasks.py"


@asynccontextmanager
async def running(folder: Path, *, insecure: bool) -> AsyncIterator[App]:
    settings = Settings(data_dir=folder, tasks=(str(SAMPLE_TASKS),), webhook_insecure=insecure)
    async with asyncio.timeout(30), open_app(settings) as app:
        yield app


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with receiving() as receiver:
        yield receiver


async def explode(app: App) -> None:
    """Have a task raise an error."""
    transport = httpx2.ASGITransport(app.asgi)
    async with httpx2.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
        reply = await client.post("/task", json={"type": "explode", "params": ["boom"]})
        assert reply.status_code == 202, reply.text


async def hook(app: App, url: str) -> Webhook:
    """Store a webhook as if its URL had been allowed then."""
    now = datetime.now(UTC)
    webhook = Webhook(webhook_id=uuid4(), url=url, events=("failed",), created_at=now)
    await app.engine.webhooks.create(webhook, most=9)
    return webhook


async def test_a_message_about_an_error_has_no_traceback(tmp_path: Path, receiver: Receiver) -> None:
    async with running(tmp_path, insecure=True) as app:
        await hook(app, receiver.url)
        await explode(app)
        [heard] = await receiver.until(1)
    error = json.loads(heard.body)["data"]["error"]
    assert (error["detail"], error["traceback"]) == ("ValueError: boom", None)
    assert b"sample_tasks.py" not in heard.body


async def test_an_address_that_is_no_longer_allowed_is_not_connected_to(tmp_path: Path, receiver: Receiver) -> None:
    async with running(tmp_path, insecure=False) as app:
        webhook = await hook(app, receiver.url)
        await explode(app)
        delivery = await ended(app, webhook)
    assert delivery.error is not None
    assert (delivery.status, delivery.error.name) == ("failed", "unsafe-url")
    assert receiver.connections == 0


async def ended(app: App, webhook: Webhook) -> Delivery:
    while True:
        found = await app.engine.webhooks.find_deliveries(webhook.webhook_id, status="failed", limit=9)
        if found.items:
            return found.items[0]
        await asyncio.sleep(0.01)
