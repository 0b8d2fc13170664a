"""A store with everything that an archive can have, and a service on what was imported."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote
from uuid import UUID

import httpx2
from pydantic import SecretStr
from tests.contract.test_archive import fill
from tests.webhooks.rig import Receivers
from tests.webhooks.rig import Rig as Couriers

from tasker.api.app import build_app
from tasker.archive import files as archive
from tasker.builtin import builtin_registry
from tasker.config.settings import Settings
from tasker.engines.protocol import Engine
from tasker.errors import TaskerError
from tasker.metrics import Metrics
from tasker.model import TaskFilter
from tasker.rules.lifecycle import Succeeded
from tasker.rules.urls import UrlRules
from tasker.service import Service
from tasker.service.hub import Hub
from tasker.testing import Driver, ManualClock, make_draft

TOKEN = "a-token-of-more-than-16-characters"
STATUSES = ("pending", "running", "completed", "failed", "cancelled")
MOST_STEPS = 60


class House:
    """A service on an engine, driven by hand; `get` sends requests as an admin."""

    def __init__(self, engine: Engine, clock: ManualClock) -> None:
        self.engine = engine
        self.clock = clock
        self.driver = Driver(engine, clock)
        registry, hub = builtin_registry(None), Hub()
        self.service = Service(engine, registry, hub, clock, health=lambda _: {"worker": "ok"})
        settings = Settings(data_dir=Path("/nowhere"), token=SecretStr(TOKEN))
        self.client = httpx2.AsyncClient(
            transport=httpx2.ASGITransport(build_app(self.service, settings, Metrics(slots=4), clock)),
            base_url="http://localhost:5000", headers={"authorization": f"Bearer {TOKEN}"},
        )  # fmt: skip

    async def get(self, path: str) -> Any:
        """Return the answer to a request. Fail on an internal error of the service."""
        reply = await self.client.get(path)
        assert reply.status_code < 500, f"GET {path}: {reply.status_code} {reply.text}"
        return reply.json() if reply.headers["content-type"].startswith("application/json") else reply.text

    async def post(self, path: str, body: dict[str, Any], method: str = "POST", **headers: str) -> dict[str, Any]:
        reply = await self.client.request(method, path, json=body, headers=headers)
        assert reply.status_code < 300, reply.text
        return dict(reply.json())

    async def look_at_all(self, *, ended: bool) -> None:
        """Request everything that exists. ended: also the event streams of all tasks, which end with them."""
        await self.get("/readyz")  # 503 while it is not ready
        tasks = (await self.get("/task?limit=100"))["items"]
        for word in STATUSES:
            await self.get(f"/task?status={word}")
        seen = {(name, str(task[name])) for task in tasks for name in ("type", "queue")}
        seen |= {("tag", tag) for task in tasks for tag in task["tags"]}
        seen |= {("created_after", task["created_at"]) for task in tasks}
        for name, value in seen:
            await self.get(f"/task?{name}={quote(value, safe='')}")
        for task in tasks:
            await self.get(f"/task/{task['task_id']}?include=attempts")
            await self.get(f"/task/{task['task_id']}/result")
            assert await self.engine.find_events(UUID(task["task_id"]))
            if ended and task["status"] in STATUSES[2:]:
                await self.get(f"/task/{task['task_id']}/events")
        for schedule in (await self.get("/schedule?limit=100"))["items"]:
            await self.get(f"/schedule/{schedule['schedule_id']}")
            await self.get(f"/schedule/{schedule['schedule_id']}/next?count=5")
        for webhook in (await self.get("/webhook?limit=100"))["items"]:
            await self.get(f"/webhook/{webhook['webhook_id']}/deliveries")
        for queue in (await self.get("/queue"))["items"]:
            await self.get(f"/queue/{queue['name']}")
        for key in (await self.get("/key"))["items"]:
            await self.get(f"/key/{key['key_id']}")
        for path in ("/usage", "/usage?group=owner,type", "/worker", "/audit", "/metrics", "/type"):
            await self.get(path)
        await self.engine.journal.read(None, limit=500)

    async def run_all(self) -> None:
        """Do what the chores, a worker and a dispatcher do, until nothing is due."""
        await self.engine.sweep(limit=1000)
        await self.engine.fail_overdue(limit=1000)
        await self.service.schedules.run_once()
        await self.driver.reap()
        types = {task.type for task in (await self.engine.find_many(TaskFilter(), limit=100)).items}
        for _ in range(MOST_STEPS):
            claims = [*await self.driver.claim(20, types=types), *await self.driver.claim(0, types=types, suspects=1)]
            if not claims:
                break
            for claim in claims:
                assert await self.driver.finish(claim, Succeeded(b'"done"'))
        dispatcher = Couriers(self.engine, self.clock, Receivers())
        await dispatcher.work()

    async def close(self) -> None:
        await self.client.aclose()


async def furnish(engine: Engine, clock: ManualClock) -> None:
    """Store something of each kind that an archive has, and tasks in each stage of life."""
    await fill(engine, clock)
    house = House(engine, clock)
    first = await house.post(
        "/task", {"type": "sum", "params": [1, 1], "delay": 60, "tags": ["x"], "metadata": {"a": 1}}
    )
    after = {"depends_on": [first["task_id"]], "retention": 3600}
    await house.post("/task", {"type": "sum", "params": [1, 2], **after})
    only = {"unique_key": "u", "concurrency_key": "c", "weight": 3}
    await house.post("/task", {"type": "sum", "params": [2, 2], **only}, **{"idempotency-key": "k1"})
    soon = {"deadline": _later(clock, 900), "cache": 60}
    await house.post("/task", {"type": "reverse", "params": ["x"], **soon}, **{"idempotency-key": "k2"})
    hook = {"url": "https://example.com/a", "events": ["task.completed"]}
    await house.post("/task", {"type": "reverse", "params": ["y"], "webhook": hook, "run_at": _later(clock, 30)})
    for name, rule in (("every", {"interval": 60}), ("at", {"cron": "*/5 * * * *", "time_zone": "Europe/Berlin"})):
        task = {"type": "sum", "params": [4, 2], "tags": ["t"], "timeout": 5, "retry": {"max_attempts": 2}}
        await house.post("/schedule", {"name": name, "task": task, "overlap": "skip", **rule})
    clock.advance(timedelta(minutes=1))
    await house.service.schedules.run_once()
    about = {"tag": "t", "type": "sum", "description": "d", "queue": "default"}
    await house.post("/webhook", {"url": "https://example.com/b", **about})
    couriers = Couriers(engine, clock, Receivers())
    await couriers.hook(tag="w", events=("created", "completed"))
    await couriers.dispatch()
    await house.driver.submit(make_draft(clock.now(), type="told", tags=("w",)))
    await couriers.dispatch()
    limits = {"concurrency": 100, "rate": {"limit": 1000, "per": 1, "burst": 100}}
    await house.post("/queue/default", limits, "PATCH")
    await house.post("/queue/q.2", {"paused": True, "concurrency_per_key": 2}, "PATCH")
    await house.post("/key", {"scopes": ["submit", "read"], "owner": "alice", "rate": 2.5, "daily_budget": 1.25})
    await house.post("/key", {"scopes": ["admin"], "expires_at": _later(clock, 86400)})
    await house.close()


def _later(clock: ManualClock, seconds: float) -> str:
    return (clock.now() + timedelta(seconds=seconds)).isoformat()


async def exported(engine: Engine) -> list[bytes]:
    return [line async for line in archive.write(engine.archive)]


async def bring(engine: Engine, lines: Sequence[bytes], clock: ManualClock) -> TaskerError | None:
    """Import as the command does; return its refusal, or None."""
    try:
        archive.check(lines, clock=clock, rules=UrlRules())
        await archive.rehearse(engine.archive, lines, clock=clock, rules=UrlRules())
    except TaskerError as error:
        return error
    await archive.read(engine.archive, lines, clock=clock, rules=UrlRules())
    return None


def sealed(lines: Sequence[bytes]) -> list[bytes]:
    """Return an archive of these lines (header, items) with a matching last line."""
    tally = archive._Tally()
    for line in lines[1:]:
        try:
            text = line.rstrip(b"\n")
            reading = archive._decode_record if text.startswith(archive._RECORD) else archive._decode_task
            item: Any = reading(text)
        except Exception:  # it is found by itself
            continue
        tally.add(text, item)
    return [*lines, archive._encode(tally.trailer) + b"\n"]
