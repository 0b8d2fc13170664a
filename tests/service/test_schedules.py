"""The chore that fires schedules: it wakes for what was changed here, and goes on whatever happens."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import msgspec
import pytest
from msgspec import Raw, structs
from tests.passers import Passers

from tasker import task
from tasker.chores import fire
from tasker.engines.sqlite import SqliteEngine
from tasker.errors import Unavailable
from tasker.model import TaskFilter
from tasker.model.keys import ANYBODY, Caller
from tasker.model.schedules import Due, Schedule
from tasker.requests.schedules import MAX_TASK
from tasker.service import Service, pauses, schedules
from tasker.testing import ManualClock

MINUTE = timedelta(minutes=1)
YEARS = timedelta(days=3653)
ADD = {"type": "add", "params": [1]}


@pytest.fixture
async def firing(service: Service, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[asyncio.Task[None]]:
    """The chore as it runs, but looking at the clock very often."""
    for name in ("_LOOK_AGAIN", "_AT_LEAST", "_AFTER_A_FAULT"):
        monkeypatch.setattr(fire, name, 0.001)
    monkeypatch.setattr(schedules, "_AFTER_A_FAULT", timedelta(milliseconds=1))
    chore = asyncio.create_task(fire.fire_schedules(service.schedules, service.schedules._clock))
    yield chore
    assert not chore.done()
    chore.cancel()
    await asyncio.wait([chore])


async def create(service: Service, **fields: Any) -> Schedule:
    return await service.schedules.create(ANYBODY, schedule_body(**fields))


def schedule_body(**fields: Any) -> bytes:
    return msgspec.json.encode({"name": "s", "task": ADD, "interval": MINUTE, **fields})


async def until_fired(engine: SqliteEngine, times: int) -> None:
    async with asyncio.timeout(30):
        while len((await engine.find_many(TaskFilter(), limit=100)).items) < times:
            await asyncio.sleep(0.001)


async def test_it_wakes_for_a_new_schedule_and_then_for_each_tick(
    service: Service, engine: SqliteEngine, clock: ManualClock, firing: asyncio.Task[None]
) -> None:
    await asyncio.sleep(0.01)
    await create(service, starts_at=clock.now() + timedelta(microseconds=1))
    for tick in range(3):
        clock.advance(MINUTE)
        await until_fired(engine, tick + 1)


async def test_without_schedules_it_looks_about_once_a_second(
    service: Service, engine: SqliteEngine, monkeypatch: pytest.MonkeyPatch, firing: asyncio.Task[None]
) -> None:
    asked = 0
    find_due = engine.schedules.find_due

    async def counted(**asked_for: Any) -> Due:
        nonlocal asked
        asked += 1
        return await find_due(**asked_for)

    monkeypatch.undo()  # also what lets it look more often
    monkeypatch.setattr(engine.schedules, "find_due", counted)
    await asyncio.sleep(0.1)
    assert asked <= 1
    assert not firing.done()


async def test_a_fault_ends_nothing(
    service: Service, engine: SqliteEngine, clock: ManualClock, monkeypatch: pytest.MonkeyPatch,
    firing: asyncio.Task[None],
) -> None:  # fmt: skip
    faults = [Unavailable("away"), ValueError("odd row"), Unavailable("away")]
    store_fire = engine.schedules.fire

    async def broken(given: Any) -> Any:
        if faults:
            raise faults.pop()
        return await store_fire(given)

    monkeypatch.setattr(engine.schedules, "fire", broken)
    await create(service)
    clock.advance(MINUTE)
    async with asyncio.timeout(30):
        while faults or not (await engine.find_many(TaskFilter(), limit=1)).items:
            clock.advance(timedelta(milliseconds=1))
            await asyncio.sleep(0.001)


async def test_one_that_cannot_be_fired_keeps_no_other_from_being_fired(
    service: Service, engine: SqliteEngine, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    await create(service)
    bad = await create(service, name="bad", cron="* * * * *", interval=None, paused=True)
    odd = structs.replace(bad, time_zone="Mars/Olympus", paused=False, next_fire_at=clock.now(), version=2)
    await engine.schedules.update(odd)
    clock.advance(MINUTE)
    assert await service.schedules.run_once() == clock.now() + timedelta(seconds=1)
    assert len((await engine.find_many(TaskFilter(), limit=9)).items) == 1


@pytest.mark.parametrize("reason", ["slow", pytest.param("broken", marks=pytest.mark.long)])
async def test_many_that_cannot_be_fired_keep_no_other_from_being_fired(
    service: Service, engine: SqliteEngine, clock: ManualClock, monkeypatch: pytest.MonkeyPatch, reason: str
) -> None:
    """More than are read together, and all of them have waited for longer."""
    go, began = asyncio.Event(), 0
    read = service.schedules._reading.submission

    async def submission(owner: str, body: bytes, **options: Any) -> Any:
        nonlocal began
        if b"slow" in body:
            began += 1
            await go.wait()
        return await read(owner, body.replace(b"slow", b"add"), **options)

    @task(name="slow", check=lambda a: ())
    async def slow(a: int) -> int:
        return a

    service.registry.add(slow)
    monkeypatch.setattr(schedules, "AT_ONCE", 12)
    many = 27
    for number in range(many):
        await create(service, name=f"s{number}")
    if reason == "broken":
        for one in await all_of(engine):
            bad = structs.replace(one, cron="* * * * *", interval=None, time_zone="Mars/Olympus", version=2)
            await engine.schedules.update(bad)
    else:
        for one in await all_of(engine):
            text = Raw(b'{"type":"slow","params":[1]}')
            await engine.schedules.update(structs.replace(one, type="slow", task=text, version=2))
    late = clock.now() + MINUTE + timedelta(seconds=1)
    await create(service, name="quick", starts_at=late, interval=9 * MINUTE)
    clock.advance(2 * MINUTE)
    monkeypatch.setattr(service.schedules._reading, "submission", submission)
    monkeypatch.setattr(schedules, "_PATIENCE", 0.05)
    assert await service.schedules.run_once() == clock.now() + timedelta(seconds=1)
    assert len((await engine.find_many(TaskFilter(), limit=9)).items) == 1
    if reason == "slow":
        assert began == schedules.AT_ONCE, "no more are begun while so many of one owner are under way"
        await service.schedules.run_once()
        assert began == schedules.AT_ONCE, "none is read twice"
        go.set()
        monkeypatch.setattr(schedules, "_PATIENCE", 30.0)
        await asyncio.sleep(0)
        async with asyncio.timeout(60):
            while len((await engine.find_many(TaskFilter(), limit=999)).items) <= many:
                await service.schedules.run_once()


async def all_of(engine: SqliteEngine) -> list[Schedule]:
    return (await engine.schedules.find_many(limit=999)).items


async def test_many_that_are_due_at_once(service: Service, engine: SqliteEngine, clock: ManualClock) -> None:
    for number in range(schedules.AT_ONCE + 5):
        await create(service, name=f"s{number}")
    clock.advance(MINUTE)
    assert await service.schedules.run_once() == clock.now() + MINUTE
    assert len((await engine.find_many(TaskFilter(), limit=999)).items) == schedules.AT_ONCE + 5


async def test_others_have_their_turn_while_many_are_fired(
    service: Service, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(20):
        await create(service, name=f"s{number}")
    clock.advance(MINUTE)
    monkeypatch.setattr(pauses, "AT_MOST", 0.0)  # as if reading one task took longer than that
    read = service.schedules._reading.submission
    async with Passers() as passers:

        def noted(owner: str, body: bytes) -> Any:
            passers.begin()
            return read(owner, body)

        monkeypatch.setattr(service.schedules._reading, "submission", noted)
        await service.schedules.run_once()
    assert (len(passers.begun), passers.most_at_once) == (20, 1)


async def test_a_stored_schedule_beyond_the_size_limit_still_fires(
    service: Service, engine: SqliteEngine, clock: ManualClock
) -> None:
    """Large ones may be there, of an earlier release."""
    text = Raw(b'{"type":"add","params":[1],"metadata":{}%b}' % (b" " * MAX_TASK))
    made = await create(service)
    assert await engine.schedules.update(structs.replace(made, task=text, version=2))
    clock.advance(MINUTE)
    await service.schedules.run_once()
    assert len((await engine.find_many(TaskFilter(), limit=9)).items) == 1
    changed = (await service.schedules.change(ANYBODY, made.schedule_id, b'{"paused":true}')).schedule
    assert (changed.paused, bytes(changed.task)) == (True, bytes(text))


async def test_tasks_belong_to_the_owner_of_the_schedule(
    service: Service, engine: SqliteEngine, clock: ManualClock
) -> None:
    alice = Caller("alice", "k", frozenset(["submit"]))
    await create(service)
    theirs = await service.schedules.create(alice, schedule_body())
    assert [one.schedule_id for one in (await service.schedules.find_many(alice, limit=9)).items] == [
        theirs.schedule_id
    ]
    assert len((await service.schedules.find_many(ANYBODY, limit=9)).items) == 2
    clock.advance(MINUTE)
    await service.schedules.run_once()
    triggered = await service.submissions.trigger(ANYBODY, theirs.schedule_id)
    assert triggered.task.owner == "alice"
    tasks = (await engine.find_many(TaskFilter(), limit=9)).items
    assert sorted((task.owner or "", task.schedule_id == theirs.schedule_id) for task in tasks) == [
        ("", False), ("alice", True), ("alice", True),
    ]  # fmt: skip


async def test_a_clock_that_was_ten_years_ahead_and_is_put_right_stops_no_schedule(
    service: Service, engine: SqliteEngine, clock: ManualClock
) -> None:
    await service.schedules.run_once()
    schedule = await create(service, starts_at=clock.now() + MINUTE)
    clock.advance(MINUTE)
    await service.schedules.run_once()
    clock.set(clock.now() + YEARS)
    await service.schedules.run_once()
    assert len((await engine.find_many(TaskFilter(), limit=100)).items) == 2, "one task for all ticks that were missed"
    clock.set(clock.now() - YEARS)
    await service.schedules.run_once()
    clock.advance(MINUTE)
    await service.schedules.run_once()
    tasks = (await engine.find_many(TaskFilter(), limit=100)).items
    assert [task.scheduled_for for task in tasks[::2]] == [clock.now(), clock.now() - MINUTE]
    found = await service.schedules.get(ANYBODY, schedule.schedule_id)
    assert found.next_fire_at == clock.now() + MINUTE


async def test_a_clock_that_goes_back_by_an_hour_repeats_no_tick(
    service: Service, engine: SqliteEngine, clock: ManualClock
) -> None:
    await service.schedules.run_once()
    await create(service, starts_at=clock.now() + MINUTE)
    clock.advance(MINUTE)
    await service.schedules.run_once()
    clock.set(clock.now() - 60 * MINUTE)
    for _ in range(60):
        await service.schedules.run_once()
        clock.advance(MINUTE)
    assert len((await engine.find_many(TaskFilter(), limit=100)).items) == 1
    clock.advance(MINUTE)
    await service.schedules.run_once()
    assert len((await engine.find_many(TaskFilter(), limit=100)).items) == 2
