"""Fixtures: the API over a real service and a real engine, with a manual clock and a driver in place of a worker."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import httpx2
import pytest
from pydantic import SecretStr

from tasker import Context, task
from tasker.api.app import build_app
from tasker.api.replies import ASGIApp
from tasker.builtin import builtin_registry
from tasker.config.settings import Settings
from tasker.engines.sqlite import SqliteEngine
from tasker.metrics import Metrics
from tasker.model import PartitionStats, Task, WorkerInfo
from tasker.model.keys import Scope
from tasker.rules.lifecycle import Outcome, Succeeded
from tasker.service import Service
from tasker.service.hub import Hub
from tasker.service.keys import NewKey
from tasker.testing import Driver, ManualClock
from tests.stores import open_store

TOKEN = "a-token-of-more-than-16-characters"
TYPES = ("sum", "reverse", "named", "echo")


@task
async def named(context: Context, prompt: str, *, times: int = 1) -> str:
    """Say it again."""
    return prompt * times


@task
async def echo(value: Any = None) -> Any:
    """Return what came."""
    return value


class FakeHealth:
    """The worker's health, set by the test."""

    def __init__(self) -> None:
        self.words = {"worker": "ok"}

    def __call__(self, _: list[PartitionStats]) -> dict[str, str]:
        return self.words


@dataclass
class Rig:
    """One service with its API; `client` talks to it as localhost."""

    app: ASGIApp
    client: httpx2.AsyncClient
    service: Service
    engine: SqliteEngine
    hub: Hub
    driver: Driver
    clock: ManualClock
    health: FakeHealth
    settings: Settings

    async def submit(self, type: str = "sum", params: Any = (4, 2), **options: Any) -> str:
        """Submit a task and return its id."""
        reply = await self.client.post("/task", json={"type": type, "params": params, **options})
        assert reply.status_code == 202, reply.text
        return str(reply.json()["task_id"])

    async def key(self, *scopes: Scope, owner: str = "", **fields: Any) -> dict[str, str]:
        """Make a key and return the header that authenticates with it."""
        _, shown = await self.service.keys.create(NewKey(scopes=scopes, owner=owner or None, **fields))
        return {"authorization": f"Bearer {shown}"}

    async def finish(self, outcome: Outcome | None = None) -> Task:
        """Run the next task to this outcome, by default a result of 6."""
        claim = await self.driver.claim_one(types=TYPES)
        await self.driver.finish(claim, outcome or Succeeded(b"6"))
        return await self.driver.get(claim.task_id)


async def announce(rig: Rig, *, draining: bool = False) -> None:
    """Announce a worker that takes sums, or is draining."""
    info = WorkerInfo(
        worker_id="w", host="here", pid=1, version="1", started_at=rig.clock.now(), queues=None, types=("sum",),
        slots=2, processes=1, draining=draining,
    )  # fmt: skip
    await rig.engine.workers.announce(info)


MakeRig = Callable[..., Awaitable[Rig]]


@pytest.fixture
async def make_rig(tmp_path: Path) -> AsyncIterator[MakeRig]:
    folders = count()
    async with contextlib.AsyncExitStack() as stack:

        async def make(**settings: Any) -> Rig:
            return await stack.enter_async_context(_open(Settings(data_dir=tmp_path / str(next(folders)), **settings)))

        yield make


@contextlib.asynccontextmanager
async def _open(settings: Settings) -> AsyncIterator[Rig]:
    clock, hub, health = ManualClock(), Hub(), FakeHealth()
    async with open_store(settings.database_file, clock) as engine:
        engine.watch(hub.publish)
        registry = builtin_registry(None)
        registry.add(named)
        registry.add(echo)
        service = Service(
            engine,
            registry,
            hub,
            clock,
            health=health,
            daily_budget=settings.daily_budget,
            max_pending=settings.max_pending,
            public_load=settings.public_load,
            max_queues=settings.max_queues,
            max_schedules=settings.max_schedules,
            min_interval=settings.min_interval,
            url_rules=settings.url_rules,
        )
        app = build_app(service, settings, Metrics(slots=4), clock)
        async with make_client(app) as client:
            yield Rig(app, client, service, engine, hub, Driver(engine, clock), clock, health, settings)


def make_client(app: ASGIApp, **options: Any) -> httpx2.AsyncClient:
    transport = httpx2.ASGITransport(app, raise_app_exceptions=False)
    return httpx2.AsyncClient(transport=transport, base_url="http://localhost:5000", **options)


@pytest.fixture
async def rig(make_rig: MakeRig) -> Rig:
    return await make_rig()


@pytest.fixture
async def locked(make_rig: MakeRig) -> Rig:
    """A service that needs TOKEN; the client does not send it."""
    return await make_rig(token=SecretStr(TOKEN))


def problem(reply: httpx2.Response) -> tuple[int, str]:
    """Return status and name of a problem, after checking what all problems have in common."""
    assert reply.headers["content-type"] == "application/problem+json", reply.text
    assert reply.headers["cache-control"] == "no-store"
    assert reply.headers["x-content-type-options"] == "nosniff"
    body = reply.json()
    assert body["status"] == reply.status_code
    assert body["request_id"] == reply.headers["request-id"]
    assert body["title"]
    assert body["detail"]
    assert "Traceback" not in reply.text
    return reply.status_code, body["type"].removeprefix("/problems/")
