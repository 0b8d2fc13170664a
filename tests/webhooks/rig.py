"""A dispatcher over an engine, moved by hand, and its receivers."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from random import Random
from typing import Any
from uuid import UUID, uuid4

from tasker.api.replies import encode_task
from tasker.engines.protocol import Engine
from tasker.model import Task
from tasker.model.webhooks import Delivery, Webhook, WebhookSecret
from tasker.rules.lifecycle import Succeeded
from tasker.rules.signing import new_secret
from tasker.testing import Driver, ManualClock, make_draft
from tasker.webhooks.dispatcher import Dispatcher
from tasker.webhooks.rules import Answer

SECRET = new_secret()


@dataclass
class Told:
    """One request to a receiver."""

    url: str
    headers: dict[str, str]
    text: str

    @property
    def body(self) -> dict[str, Any]:
        """The message in JSON."""
        return dict(json.loads(self.text))

    @property
    def event(self) -> tuple[UUID, str]:
        return UUID(self.body["data"]["task_id"]), self.body["type"]


@dataclass
class Receivers:
    """All receivers; answers by URL, 200 by default. held: URLs that do not answer yet.

    duration: seconds that each answer is said to have taken.
    """

    told: list[Told] = field(default_factory=list)
    answers: dict[str, int] = field(default_factory=dict)
    held: dict[str, asyncio.Event] = field(default_factory=dict)
    under_way: int = 0
    waiting: int = 0
    most: int = 0
    duration: float = 0.1

    async def post(self, url: str, headers: dict[str, str], body: bytes) -> Answer:
        self.told.append(Told(url, headers, body.decode()))
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        try:
            if url in self.held and not self.held[url].is_set():
                self.waiting += 1
                try:
                    await self.held[url].wait()
                finally:
                    self.waiting -= 1
        finally:
            self.under_way -= 1
        return Answer(duration=self.duration, status=self.answers.get(url, 200))

    @property
    def events(self) -> list[tuple[UUID, str]]:
        return [one.event for one in self.told]


def render(task: Task) -> bytes:
    return encode_task(task, tracebacks=False)


class Most(Random):
    """Always the longest pause."""

    def random(self) -> float:
        return 1.0


class Rig:
    """An engine with a dispatcher, moved by hand."""

    def __init__(self, engine: Engine, clock: ManualClock, receivers: Receivers, name: str = "one") -> None:
        self.engine = engine
        self.clock = clock
        self.receivers = receivers
        self.driver = Driver(engine, clock)
        self.has_owners = False
        self.dispatcher = Dispatcher(
            engine, clock, Most(), post=receivers.post, render=render, name=name, has_owners=lambda: self.has_owners
        )

    async def hook(self, url: str = "https://example.com/", **fields: Any) -> Webhook:
        webhook = Webhook(
            webhook_id=uuid4(),
            url=url,
            created_at=self.clock.now(),
            **{"events": ("completed", "failed", "cancelled"), "secrets": (WebhookSecret(secret=SECRET),), **fields},
        )
        await self.engine.webhooks.create(webhook, most=1000)
        return webhook

    async def complete(self, **draft: Any) -> UUID:
        task_id = await self.driver.submit(make_draft(self.clock.now(), **draft))
        await self.driver.finish(await self.driver.claim_one(), Succeeded(b"6"))
        return task_id

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Let the dispatcher run by itself, and close it at the end."""
        self.dispatcher.start()
        dispatching = asyncio.create_task(self.dispatcher.keep_dispatching())
        yield
        assert not dispatching.done()
        dispatching.cancel()
        await asyncio.wait([dispatching])
        await self.dispatcher.close()

    async def dispatch(self) -> None:
        """Go through the journal to its end."""
        while await self.dispatcher.dispatch():
            pass

    @property
    def is_quiet(self) -> bool:
        """Whether every request in flight waits for a receiver that is held."""
        return len(self.dispatcher._sending) == self.receivers.waiting

    async def deliver(self) -> None:
        """Deliver all that is due."""
        while await self.dispatcher.deliver():
            await self.dispatcher.settle()

    async def work(self) -> None:
        await self.dispatch()
        await self.deliver()

    async def deliveries(self, webhook: Webhook) -> list[Delivery]:
        return (await self.engine.webhooks.find_deliveries(webhook.webhook_id, status=None, limit=500)).items
