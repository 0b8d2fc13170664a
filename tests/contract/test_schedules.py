"""Engine.schedules: a tick submits one task, whichever process fires it and whenever it is cut off."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from msgspec import Raw, structs
from tests.contract.conftest import Changes, MakeEngine

from tasker.engines.protocol import Engine
from tasker.errors import Conflict, Invalid, NotFound
from tasker.model import Change, Status, TaskFilter
from tasker.model.schedules import Fired, Firing, PastTick, Schedule
from tasker.rules.lifecycle import Succeeded
from tasker.rules.ticks import for_tick, next_tick, plan, tick_task_id
from tasker.testing import Driver, ManualClock, make_draft, make_key

MINUTE = timedelta(minutes=1)
SECOND = timedelta(seconds=1)


def make_schedule(now: datetime, **fields: Any) -> Schedule:
    """Return a schedule made at `now`, by default one with a tick each minute."""
    given = {
        "schedule_id": uuid4(), "name": "every minute", "type": "sum", "interval": MINUTE, "anchor": now,
        "created_at": now, "updated_at": now, "task": Raw(b'{"type": "sum",  "params": [1e2, -0]}'), **fields,
    }  # fmt: skip
    schedule = Schedule(**given)
    return structs.replace(schedule, next_fire_at=next_tick(schedule, now)) if not schedule.paused else schedule


def make_firing(schedule: Schedule, now: datetime) -> Firing:
    """Return what the firing chore makes of a schedule that is due."""
    planned = plan(schedule, now)
    drafts = tuple(for_tick(make_draft(now), schedule, tick) for tick in planned.ticks)
    past = tuple(PastTick(tick=tick, fired_at=now, skipped="missed") for tick in planned.missed)
    return Firing(
        schedule=schedule, now=now, drafts=drafts, next_fire_at=planned.next_fire_at, skip=planned.skip, past=past
    )


async def fire(engine: Engine, clock: ManualClock) -> Fired:
    """Fire the one schedule that is due."""
    [schedule] = (await engine.schedules.find_due(types=("sum",), limit=9)).schedules
    fired = await engine.schedules.fire(make_firing(schedule, clock.now()))
    assert fired is not None
    return fired


async def fire_all(engine: Engine, clock: ManualClock) -> None:
    for schedule in (await engine.schedules.find_due(types=("sum",), limit=9)).schedules:
        assert await engine.schedules.fire(make_firing(schedule, clock.now())) is not None


async def get(engine: Engine, schedule: Schedule) -> Schedule:
    found = await engine.schedules.find(schedule.schedule_id)
    assert found is not None
    return found


async def test_a_schedule_is_found_as_it_was_created(engine: Engine, clock: ManualClock) -> None:
    full = make_schedule(
        clock.now(), owner="me", cron="0 9 * * MON", interval=None, time_zone="Europe/Berlin", missed="all",
        overlap="replace", starts_at=clock.now(), ends_at=clock.now() + timedelta(days=9), recent=(uuid4(), uuid4()),
    )  # fmt: skip
    plain = make_schedule(clock.now(), name="other")
    for schedule in (full, plain):
        await engine.schedules.create(schedule)
        assert await engine.schedules.find(schedule.schedule_id) == schedule
    assert bytes((await get(engine, full)).task) == b'{"type": "sum",  "params": [1e2, -0]}', "kept as text"
    assert await engine.schedules.find(uuid4()) is None


async def test_two_schedules_of_an_owner_cannot_share_a_name(engine: Engine, clock: ManualClock) -> None:
    first, theirs = make_schedule(clock.now()), make_schedule(clock.now(), owner="them")
    other = make_schedule(clock.now(), name="other")
    for schedule in (first, theirs, other):
        await engine.schedules.create(schedule)
    with pytest.raises(Conflict, match="'every minute'"):
        await engine.schedules.create(make_schedule(clock.now()))
    with pytest.raises(Conflict, match="'every minute'"):
        await engine.schedules.update(structs.replace(other, name="every minute", version=2))
    assert await engine.schedules.update(structs.replace(first, paused=True, version=2)), "it keeps its own name"


async def test_schedules_of_an_owner_are_limited(engine: Engine, clock: ManualClock) -> None:
    for name in ("one", "two"):
        await engine.schedules.create(make_schedule(clock.now(), name=name), most=2)
    await engine.schedules.create(make_schedule(clock.now(), name="one", owner="them"), most=2)
    with pytest.raises(Conflict, match="TASKER_MAX_SCHEDULES"):
        await engine.schedules.create(make_schedule(clock.now(), name="three"), most=2)
    with pytest.raises(Conflict, match="'one'"):
        await engine.schedules.create(make_schedule(clock.now(), name="one"), most=2)
    assert len((await engine.schedules.find_many(limit=9)).items) == 3


async def test_pages_are_newest_first(engine: Engine, clock: ManualClock) -> None:
    made = [make_schedule(clock.now(), name=f"s{number}", owner="ab"[number % 2]) for number in range(5)]
    for schedule in made:
        await engine.schedules.create(schedule)
    first = await engine.schedules.find_many(limit=3)
    second = await engine.schedules.find_many(limit=3, cursor=first.next_cursor)
    assert [one.name for one in (*first.items, *second.items)] == ["s4", "s3", "s2", "s1", "s0"]
    assert second.next_cursor is None
    assert [one.name for one in (await engine.schedules.find_many(owner="a", limit=9)).items] == ["s4", "s2", "s0"]
    assert [one.name for one in (await engine.schedules.find_many(owner="b", name="s1", limit=9)).items] == ["s1"]
    assert (await engine.schedules.find_many(owner="a", name="s1", limit=9)).items == []
    with pytest.raises(Invalid):
        await engine.schedules.find_many(limit=9, cursor="x")


async def test_an_update_must_follow_the_stored_version(engine: Engine, clock: ManualClock) -> None:
    schedule = make_schedule(clock.now())
    await engine.schedules.create(schedule)
    clock.advance(MINUTE)
    await fire(engine, clock)
    assert not await engine.schedules.update(structs.replace(schedule, name="late", version=2)), "it has fired since"
    there = await get(engine, schedule)
    assert there.name == "every minute"
    assert await engine.schedules.update(structs.replace(there, name="new", version=there.version + 1))
    assert (await get(engine, schedule)).name == "new"
    assert not await engine.schedules.update(make_schedule(clock.now(), version=2)), "there is none"


async def test_a_deleted_schedule_fires_no_more_and_its_tasks_stay(engine: Engine, clock: ManualClock) -> None:
    schedule = make_schedule(clock.now())
    await engine.schedules.create(schedule)
    clock.advance(MINUTE)
    [task_id] = (await fire(engine, clock)).submitted
    clock.advance(MINUTE)
    [due] = (await engine.schedules.find_due(types=("sum",), limit=9)).schedules
    await engine.schedules.delete(schedule.schedule_id)
    assert await engine.schedules.fire(make_firing(due, clock.now())) is None
    with pytest.raises(NotFound):
        await engine.schedules.delete(schedule.schedule_id)
    assert [task.task_id for task in (await engine.find_many(TaskFilter(), limit=9)).items] == [task_id]


async def test_due_schedules_come_with_the_time_of_the_next(engine: Engine, clock: ManualClock) -> None:
    start = clock.now()
    assert (await engine.schedules.find_due(types=("sum",), limit=9)).next_at is None
    made = [
        make_schedule(start, name=name, **fields)
        for name, fields in {
            "late": {"interval": 2 * MINUTE}, "soon": {}, "other type": {"type": "gpt"}, "paused": {"paused": True},
            "next": {"interval": 9 * MINUTE},
        }.items()
    ]  # fmt: skip
    for schedule in made:
        await engine.schedules.create(schedule)
    due = await engine.schedules.find_due(types=("sum",), limit=9)
    assert (due.schedules, due.next_at) == ([], start + MINUTE)
    clock.advance(2 * MINUTE)
    due = await engine.schedules.find_due(types=("sum",), limit=9)
    assert [schedule.name for schedule in due.schedules] == ["soon", "late"], "those that wait for longest first"
    assert (due.now, due.next_at) == (clock.now(), start + 9 * MINUTE)
    assert [one.name for one in (await engine.schedules.find_due(types=("sum",), limit=1)).schedules] == ["soon"]
    assert len((await engine.schedules.find_due(types=("sum", "gpt"), limit=9)).schedules) == 3
    for skip, names in enumerate((["soon", "late"], ["late"], [])):
        due = await engine.schedules.find_due(types=("sum",), limit=9, skip=skip)
        assert ([one.name for one in due.schedules], due.next_at) == (names, start + 9 * MINUTE)


async def test_due_schedules_are_read_up_to_a_size(
    engine: Engine, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those that wait longest come first, and at least one, however large."""
    monkeypatch.setattr("tasker.engines.shared.stores.schedules.DUE_BYTES", 1_000)
    start = clock.now()
    for number, size in enumerate([2_000, 400, 400, 400]):
        task = Raw(b'{"type": "sum", "params": ["%b"]}' % (b"x" * size))
        anchor = start + number * SECOND
        await engine.schedules.create(make_schedule(anchor, name=str(number), task=task))
    clock.advance(2 * MINUTE)
    found = []
    while due := (await engine.schedules.find_due(types=("sum",), limit=9)).schedules:
        found.append([schedule.name for schedule in due])
        for schedule in due:
            await engine.schedules.delete(schedule.schedule_id)
    assert found == [["0"], ["1", "2"], ["3"]]


async def test_a_tick_submits_its_task_and_goes_on(engine: Engine, clock: ManualClock, changes: Changes) -> None:
    schedule = make_schedule(clock.now())
    tick = schedule.next_fire_at
    assert tick is not None
    await engine.schedules.create(schedule)
    now = clock.advance(MINUTE + SECOND)
    fired = await fire(engine, clock)
    [task_id] = fired.submitted
    assert task_id == tick_task_id(schedule.schedule_id, tick)
    task = await Driver(engine, clock).get(task_id)
    assert (task.schedule_id, task.scheduled_for, task.created_at) == (schedule.schedule_id, tick, now)
    there = await get(engine, schedule)
    assert there == fired.schedule
    assert (there.next_fire_at, there.last_fired_at, there.last_task_id) == (tick + MINUTE, tick, task_id)
    await changes.until(Change(task_id, Status.PENDING))
    assert (await Driver(engine, clock).claim_one()).task_id == task_id


async def test_two_that_fire_a_tick_submit_one_task(
    engine: Engine, make_engine: MakeEngine, clock: ManualClock
) -> None:
    """On a shared store two engines are two processes; on one that is not, two calls are all there can be."""
    other = engine
    if engine.is_shared:
        other = await make_engine()
    schedule = make_schedule(clock.now())
    await engine.schedules.create(schedule)
    for _ in range(3):
        clock.advance(MINUTE)
        due = [(await one.schedules.find_due(types=("sum",), limit=9)).schedules for one in (engine, other)]
        assert due[0] == due[1] != []
        firing = make_firing(due[0][0], clock.now())
        fired = await asyncio.gather(*(one.schedules.fire(firing) for one in (engine, other, engine, other)))
        assert sorted(one is not None for one in fired) == [False, False, False, True]
    tasks = (await engine.find_many(TaskFilter(), limit=99)).items
    assert len(tasks) == len({task.scheduled_for for task in tasks}) == 3


async def test_an_interrupted_firing_changes_nothing(engine: Engine, clock: ManualClock, monkeypatch) -> None:
    """Task and next tick are one commit: whatever fails between them undoes both, and the tick is fired again."""
    schedule = make_schedule(clock.now())
    await engine.schedules.create(schedule)
    clock.advance(MINUTE)

    def cut_off(*_: object) -> Schedule:
        raise RuntimeError("cut off")

    with monkeypatch.context() as patch:
        patch.setattr("tasker.engines.shared.stores.schedules.settle", cut_off)
        with pytest.raises(RuntimeError, match="cut off"):
            await fire(engine, clock)
    assert (await engine.find_many(TaskFilter(), limit=9)).items == []
    assert await get(engine, schedule) == schedule
    assert len((await fire(engine, clock)).submitted) == 1


async def test_a_repeated_tick_finds_its_task(engine: Engine, clock: ManualClock) -> None:
    """As after a restored schedule: the id of a tick's task is always the same."""
    schedule = make_schedule(clock.now())
    await engine.schedules.create(schedule)
    clock.advance(MINUTE)
    first = await fire(engine, clock)
    again = structs.replace(first.schedule, next_fire_at=schedule.next_fire_at, version=first.schedule.version + 1)
    assert await engine.schedules.update(again)
    second = await fire(engine, clock)
    assert second.submitted == first.submitted
    assert second.schedule.next_fire_at == first.schedule.next_fire_at
    assert len((await engine.find_many(TaskFilter(), limit=9)).items) == 1


@pytest.mark.parametrize(
    ("overlap", "submitted", "cancelled", "reason"),
    [("allow", 1, 0, None), ("skip", 0, 0, "overlap"), ("replace", 1, 1, None)],
)
@pytest.mark.parametrize("status", ["pending", "running"])
async def test_a_tick_while_an_earlier_task_is_open(
    engine: Engine, clock: ManualClock, overlap: str, submitted: int, cancelled: int, reason: str | None, status: str
) -> None:
    driver, schedule = Driver(engine, clock), make_schedule(clock.now(), overlap=overlap)
    await engine.schedules.create(schedule)
    clock.advance(MINUTE)
    [first] = (await fire(engine, clock)).submitted
    if status == "running":
        await driver.claim_one()
    clock.advance(MINUTE)
    fired = await fire(engine, clock)
    assert (len(fired.submitted), len(fired.cancelled)) == (submitted, cancelled)
    skip = fired.schedule.last_skip
    assert (None if skip is None else skip.reason) == reason
    assert fired.schedule.firings[-1].skipped == reason
    task = await driver.get(first)
    if cancelled and status == "running":
        assert task.cancel_requested_at is not None
    else:
        assert task.status == ("cancelled" if cancelled else status)
    last = (await get(engine, schedule)).last_task_id
    assert last == (fired.submitted[0] if submitted else first)


async def test_a_task_that_has_ended_overlaps_nothing(engine: Engine, clock: ManualClock) -> None:
    driver, schedule = Driver(engine, clock), make_schedule(clock.now(), overlap="skip")
    await engine.schedules.create(schedule)
    for _ in range(2):
        clock.advance(MINUTE)
        await fire(engine, clock)
        assert await driver.finish(await driver.claim_one(), Succeeded(b"1"))
    assert len((await engine.find_many(TaskFilter(), limit=9)).items) == 2
    await engine.schedules.trigger(schedule.schedule_id, make_draft(clock.now()))
    clock.advance(MINUTE)
    assert (await fire(engine, clock)).submitted == (), "one that was triggered does"


async def test_a_refused_tick_is_recorded_and_the_next_one_comes(engine: Engine, clock: ManualClock) -> None:
    """An open task has the key that every task of the schedule asks for."""
    schedule = make_schedule(clock.now())
    await engine.schedules.create(schedule)

    async def fire_unique() -> Fired:
        clock.advance(MINUTE)
        [due] = (await engine.schedules.find_due(types=("sum",), limit=9)).schedules
        firing = make_firing(due, clock.now())
        drafts = tuple(structs.replace(draft, unique_key="u", on_conflict="reject") for draft in firing.drafts)
        fired = await engine.schedules.fire(structs.replace(firing, drafts=drafts))
        assert fired is not None
        return fired

    first, second = await fire_unique(), await fire_unique()
    assert (len(first.submitted), len(second.submitted)) == (1, 0)
    skip = second.schedule.last_skip
    assert skip is not None
    assert (skip.reason, skip.tick) == ("refused", first.schedule.next_fire_at)
    assert second.schedule.firings == (
        PastTick(tick=schedule.next_fire_at or clock.now(), fired_at=first.schedule.firings[0].fired_at,
                 task_id=first.submitted[0]),
        PastTick(tick=skip.tick, fired_at=clock.now(), skipped="refused", detail=skip.detail),
    )  # fmt: skip
    await Driver(engine, clock).finish(await Driver(engine, clock).claim_one(), Succeeded(b"1"))
    assert len((await fire_unique()).submitted) == 1


async def test_many_missed_ticks_at_once(engine: Engine, clock: ManualClock) -> None:
    schedule = make_schedule(clock.now(), missed="all")
    await engine.schedules.create(schedule)
    clock.advance(timedelta(hours=3))
    fired = await fire(engine, clock)
    assert len(fired.submitted) == 100
    tasks = (await engine.find_many(TaskFilter(), limit=200)).items
    assert [task.scheduled_for for task in tasks] == [clock.now() - number * MINUTE for number in range(100)]
    assert fired.schedule.next_fire_at == clock.now() + MINUTE
    firings = (await get(engine, schedule)).firings
    assert [one.tick for one in firings] == [clock.now() - number * MINUTE for number in range(19, -1, -1)]
    assert [one.task_id for one in firings] == list(fired.submitted[-20:])
    assert {(one.fired_at, one.skipped) for one in firings} == {(clock.now(), None)}


async def test_a_trigger_submits_a_task_outside_the_ticks(engine: Engine, clock: ManualClock) -> None:
    schedule = make_schedule(clock.now())
    await engine.schedules.create(schedule)
    key = make_key(clock.now())
    draft = make_draft(clock.now(), idempotency=key)
    assert (await engine.schedules.trigger(schedule.schedule_id, draft)).outcome == "stored"
    there = await get(engine, schedule)
    assert (there.last_task_id, there.next_fire_at) == (draft.task_id, schedule.next_fire_at)
    again = await engine.schedules.trigger(schedule.schedule_id, make_draft(clock.now(), idempotency=key))
    assert (again.outcome, again.task_id) == ("replayed", draft.task_id)
    assert await get(engine, schedule) == there
    with pytest.raises(NotFound):
        await engine.schedules.trigger(UUID(int=1), make_draft(clock.now()))
