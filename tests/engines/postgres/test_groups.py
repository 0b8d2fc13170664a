"""Groups whose tasks several processes end at the same time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from tests.engines.postgres.conftest import MakeEngine

from tasker.builtin import builtin_registry
from tasker.engines.postgres import PostgresEngine
from tasker.engines.protocol import Engine
from tasker.model import AfterGroup, Draft, Extra, Status, TaskFilter
from tasker.model.events import GROUP_ENDED
from tasker.model.keys import ANYBODY
from tasker.model.webhooks import Webhook
from tasker.rules.lifecycle import Succeeded
from tasker.service import Service
from tasker.service.hub import Hub
from tasker.testing import Driver, ManualClock, make_draft

SQL = Callable[..., Awaitable[list[Any]]]
MANY = 120
DONE = Succeeded(b"6")


def members(clock: ManualClock, number: int) -> list[Draft]:
    return [make_draft(clock.now(), extra=Extra(group="g")) for _ in range(number)]


def waiting(clock: ManualClock) -> Draft:
    return make_draft(clock.now(), extra=Extra(depends_on_group=AfterGroup("g")))


async def count(engine: Engine, where: TaskFilter) -> int:
    """Count tasks look by look: one look ends after a while."""
    found = await engine.control.count(where)
    number = found.count
    while found.next_cursor is not None:
        found = await engine.control.count(where, cursor=found.next_cursor)
        number += found.count
    return number


async def test_processes_that_end_tasks_together_count_each_once(
    driver: Driver, another: MakeEngine, clock: ManualClock
) -> None:
    engine, others = driver.engine, [await another(), await another()]
    webhook = Webhook(webhook_id=uuid4(), url="https://example.com/", events=(GROUP_ENDED,), created_at=clock.now())
    await engine.webhooks.create(webhook, most=10)
    await asyncio.gather(*(one.submit(members(clock, MANY)) for one in (engine, *others)))
    [after] = [receipt.task_id for receipt in await engine.submit([waiting(clock)])]
    drivers = [driver, *(Driver(one, clock, worker=f"w{place}") for place, one in enumerate(others))]
    claims = await asyncio.gather(*(one.claim(MANY) for one in drivers))
    assert sum(map(len, claims)) == 3 * MANY
    await asyncio.gather(*(one.finish(claim, DONE) for one, own in zip(drivers, claims, strict=True) for claim in own))
    group = await engine.groups.find("", "g")
    assert group is not None
    assert (group.tasks.completed, group.tasks.pending, group.tasks.running) == (3 * MANY, 0, 0)
    assert await count(engine, TaskFilter(group="g", status=(Status.COMPLETED,))) == 3 * MANY
    page = await engine.webhooks.find_deliveries(webhook.webhook_id, status=None, limit=10)
    assert len(page.items) == 1, "it has ended once"
    async with asyncio.timeout(30):
        [claim] = await driver.claim(1, wait_for=timedelta(hours=1))
    assert claim.task_id == after


async def test_a_wait_for_a_group_ends_in_every_process(
    driver: Driver, another: MakeEngine, clock: ManualClock
) -> None:
    there, hub = await another(), Hub()
    there.watch(hub.publish)
    service = Service(there, builtin_registry(None), hub, clock, health=None)
    await driver.engine.submit(members(clock, 2))
    waits = asyncio.create_task(service.groups.wait(ANYBODY, "g", None, timedelta(seconds=60)))
    while not hub.waiting:
        await asyncio.sleep(0.001)
    for claim in await driver.claim(2):
        await driver.finish(claim, DONE)
    async with asyncio.timeout(5):  # less than the pause after which a wait looks by itself
        group = await waits
    assert group.tasks.completed == 2


async def test_a_sweep_settles_what_a_process_that_ended_has_left(
    driver: Driver, another: MakeEngine, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = driver.engine
    assert isinstance(engine, PostgresEngine)
    await engine.submit(members(clock, 1))
    [after] = [receipt.task_id for receipt in await engine.submit([waiting(clock)])]
    monkeypatch.setattr(engine._settler, "add", lambda *_: None)  # it is killed right after its commit
    await driver.finish(await driver.claim_one(), DONE)
    assert (await driver.get(after)).reason == "dependencies"
    other = await another()
    await other.sweep(limit=100)
    assert [claim.task_id for claim in await Driver(other, clock, worker="w").claim(2)] == [after]


async def test_an_end_that_waited_for_a_new_dependant_finds_it(
    driver: Driver, another: MakeEngine, clock: ManualClock, sql: SQL, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The dependant's transaction has locked the group, and commits while the end waits for it."""
    there = await another()
    await driver.engine.submit(members(clock, 1))
    claim = await driver.claim_one()
    locked, go_on, wait_for = asyncio.Event(), asyncio.Event(), there._groups.wait_for

    async def wait(*values: Any) -> None:
        await wait_for(*values)
        locked.set()
        await go_on.wait()

    monkeypatch.setattr(there._groups, "wait_for", wait)
    submitting = asyncio.create_task(there.submit([waiting(clock)]))
    await locked.wait()
    ending = asyncio.create_task(driver.finish(claim, DONE))
    async with asyncio.timeout(20):
        while not await sql("SELECT FROM pg_locks WHERE NOT granted"):
            await asyncio.sleep(0.01)
    go_on.set()
    [receipt] = await submitting
    await ending
    [after] = await driver.claim(1, wait_for=timedelta(seconds=5))
    assert after.task_id == receipt.task_id


async def test_a_sweep_counts_what_processes_of_earlier_versions_have_ended_and_erased(
    driver: Driver, clock: ManualClock, sql: SQL, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = driver.engine
    assert isinstance(engine, PostgresEngine)
    await engine.submit(members(clock, 3))
    [receipt] = await engine.submit([waiting(clock)])
    first, *_ = [one.task_id for one in (await engine.find_many(TaskFilter(group="g"), limit=9)).items]
    with monkeypatch.context() as older:
        older.setattr(engine._ties, "settle_dependants", nothing)
        for claim in await driver.claim(3):
            await driver.finish(claim, DONE)
    await sql("DELETE FROM task WHERE task_id = $1", first)
    await engine.sweep(limit=100)
    group = await engine.groups.find("", "g")
    assert group is not None
    assert group.ended_at is not None
    assert (group.tasks.completed, group.tasks.pending) == (2, 0)
    [claim] = await driver.claim(1, wait_for=timedelta(seconds=5))
    assert claim.task_id == receipt.task_id


async def nothing(*_: Any) -> None:
    """Know nothing of groups."""
