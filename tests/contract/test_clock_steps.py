"""Stores when the wall clock is set: the service's own, or the database's."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from datetime import timedelta

import pytest
from msgspec import structs
from tests.contract.conftest import MakeEngine
from tests.contract.webhooks import make_delivery, make_webhook

from tasker.engines.postgres import PostgresEngine
from tasker.engines.postgres import clock_steps as postgres_steps
from tasker.engines.postgres.clock_steps import DatabaseSteps
from tasker.engines.protocol import Engine
from tasker.engines.sqlite import SqliteEngine
from tasker.engines.sqlite import clock_steps as sqlite_steps
from tasker.model import Status
from tasker.model.queues import QueueChange, Rate
from tasker.rules.lifecycle import Snoozed, Succeeded
from tasker.testing import Driver, ManualClock, make_draft

SECOND = timedelta(seconds=1)
HOUR = timedelta(hours=1)
YEARS = timedelta(days=3653)
STEPS = [
    pytest.param(sign * step, id=f"{name}{'+' if sign > 0 else '-'}")
    for name, step in {"15s": 15 * SECOND, "10min": HOUR / 6, "1h": HOUR, "10years": YEARS}.items()
    for sign in (1, -1)
]
every_step = pytest.mark.parametrize("step", STEPS)


async def set_clock(engine: Engine, clock: ManualClock, step: timedelta) -> None:
    """Set the wall clock alone, and let the chores come round."""
    clock.set(clock.now() + step)
    await engine.find_expired(limit=10)
    await engine.check()


@every_step
async def test_no_running_attempt_is_given_away(
    driver: Driver, engine: Engine, clock: ManualClock, step: timedelta
) -> None:
    await driver.submit()
    claim = await driver.claim_one()
    clock.advance(20 * SECOND)
    await set_clock(engine, clock, step)
    assert await engine.find_expired(limit=10) == []
    clock.advance(5 * SECOND)
    assert await engine.find_expired(limit=10) == []
    assert await driver.finish(claim, Succeeded(b"6"))


@every_step
async def test_the_lease_of_a_dead_worker_ends_all_the_same(
    driver: Driver, engine: Engine, clock: ManualClock, step: timedelta
) -> None:
    await driver.submit()
    claim = await driver.claim_one()
    await set_clock(engine, clock, step)
    clock.advance(61 * SECOND)
    assert [lost.lease for lost in await engine.find_expired(limit=10)] == [claim.lease]


@every_step
async def test_lengths_of_time_stay_as_long(
    driver: Driver, engine: Engine, clock: ManualClock, step: timedelta
) -> None:
    await driver.submit()
    snoozed = await driver.claim_one()
    await driver.finish(snoozed, Snoozed(60 * SECOND))
    delayed = await driver.submit(make_draft(clock.now(), delay=60 * SECOND))
    clock.advance(20 * SECOND)
    await set_clock(engine, clock, step)
    clock.advance(39 * SECOND)
    assert await driver.claim(10) == [], "started early"
    clock.advance(2 * SECOND)
    assert {claim.task_id for claim in await driver.claim(10)} == {snoozed.task_id, delayed}


@every_step
async def test_a_delay_behind_another_task_stays_as_long(
    driver: Driver, engine: Engine, clock: ManualClock, step: timedelta
) -> None:
    first = await driver.submit()
    draft = make_draft(clock.now(), delay=60 * SECOND)
    assert draft.extra is not None
    second = await driver.submit(structs.replace(draft, extra=structs.replace(draft.extra, depends_on=(first,))))
    await set_clock(engine, clock, step)
    assert await driver.finish(await driver.claim_one(), Succeeded(b"6"))
    clock.advance(59 * SECOND)
    assert await driver.claim(10) == [], "started early"
    clock.advance(2 * SECOND)
    assert [claim.task_id for claim in await driver.claim(10)] == [second]


@every_step
async def test_what_was_due_stays_due(driver: Driver, engine: Engine, clock: ManualClock, step: timedelta) -> None:
    now = clock.now()
    moment = structs.replace(make_draft(now), run_at=now + SECOND)
    ids = {await driver.submit(), await driver.submit(make_draft(now, delay=SECOND)), await driver.submit(moment)}
    clock.advance(2 * SECOND)
    await set_clock(engine, clock, step)
    assert {claim.task_id for claim in await driver.claim(10)} == ids


async def test_a_moment_waits_for_the_clock_to_show_it(driver: Driver, engine: Engine, clock: ManualClock) -> None:
    moment = structs.replace(make_draft(clock.now()), run_at=clock.now() + 2 * HOUR)
    task_id = await driver.submit(moment)
    await set_clock(engine, clock, -HOUR)
    clock.advance(2 * HOUR)
    assert await driver.claim(10) == []
    await set_clock(engine, clock, HOUR)
    assert [claim.task_id for claim in await driver.claim(10)] == [task_id]


async def test_a_clock_set_back_while_no_process_runs_stops_nothing(
    driver: Driver, engine: Engine, make_engine: MakeEngine, clock: ManualClock
) -> None:
    await engine.sweep(limit=10)
    await engine.prune(limit=10)
    await driver.submit()
    snoozed = await driver.claim_one()
    await driver.finish(snoozed, Snoozed(60 * SECOND))
    delayed, queued = await driver.submit(make_draft(clock.now(), delay=60 * SECOND)), await driver.submit()
    await engine.close()
    clock.set(clock.now() - YEARS)
    again = Driver(await make_engine(), clock)
    assert [claim.task_id for claim in await again.claim(10)] == [queued]
    clock.advance(59 * SECOND)
    assert await again.claim(10) == [], "started early"
    clock.advance(2 * SECOND)
    assert {claim.task_id for claim in await again.claim(10)} == {snoozed.task_id, delayed}


@contextlib.contextmanager
def halting() -> Iterator[None]:
    """Have a row moved at a time, on SQLite one with each transaction, and on PostgreSQL one a look."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sqlite_steps, "BATCH", 1)
        patch.setattr(postgres_steps, "BATCH", 1)
        patch.setattr(SqliteEngine, "_move_on", lambda _: None)
        patch.setattr(DatabaseSteps, "_move_all", _move_one)
        yield


async def _move_one(steps: DatabaseSteps) -> None:
    await steps._move("move_tasks")


async def is_moving(engine: Engine) -> bool:
    if isinstance(engine, SqliteEngine):
        return engine._clock_steps.is_moving
    assert isinstance(engine, PostgresEngine)
    row = await engine._connections.look(lambda connection: connection.fetchrow(engine._queries["clock"]))
    return bool(row["is_moving"])


async def move_all(engine: Engine) -> None:
    """Let the chores come round until nothing is left to be moved."""
    for _ in range(100):
        await engine.find_expired(limit=10)
        await engine.check()
        if not await is_moving(engine):
            return
    raise AssertionError("there is always something left to be moved")


@every_step
@pytest.mark.parametrize("ends", [True, False], ids=["killed", "alive"])
async def test_a_step_that_is_half_followed_moves_all_once_and_starts_nothing_early(
    driver: Driver, engine: Engine, make_engine: MakeEngine, clock: ManualClock, step: timedelta, ends: bool
) -> None:
    """Whatever is submitted, ends or is delayed meanwhile, and even if the process is killed midway."""
    first = await driver.submit()
    [claim] = await driver.claim(1)
    put_off = await driver.submit()
    [running] = await driver.claim(1)
    extra = make_draft(clock.now(), delay=60 * SECOND).extra
    assert extra is not None
    behind = structs.replace(extra, depends_on=(first,))
    waiting = {await driver.submit(make_draft(clock.now(), delay=60 * SECOND)) for _ in range(15)}
    waiting |= {
        await driver.submit(structs.replace(make_draft(clock.now(), delay=60 * SECOND), extra=behind)) for _ in range(4)
    }
    queued = await driver.submit()
    with halting():
        await set_clock(engine, clock, step)
        assert await driver.finish(claim, Succeeded(b"6"))
        assert await driver.finish(running, Snoozed(60 * SECOND))
        waiting |= {put_off, await driver.submit(make_draft(clock.now(), delay=60 * SECOND))}
        assert [one.task_id for one in await driver.claim(30)] == [queued]
        assert await is_moving(engine), "nothing was left to be moved: this run proves nothing"
        if ends:
            await engine.close()
    if ends:
        engine = await make_engine()
        driver = Driver(engine, clock)
    await move_all(engine)
    clock.advance(59 * SECOND)
    assert await driver.claim(30) == [], "started early"
    clock.advance(2 * SECOND)
    await engine.sweep(limit=100)
    assert {one.task_id for one in await driver.claim(30)} >= waiting


@every_step
async def test_a_step_while_another_is_half_followed(
    driver: Driver, engine: Engine, clock: ManualClock, step: timedelta
) -> None:
    waiting = {await driver.submit(make_draft(clock.now(), delay=60 * SECOND)) for _ in range(8)}
    with halting():
        await set_clock(engine, clock, HOUR)
        assert await is_moving(engine)
        await set_clock(engine, clock, step)
        assert await driver.claim(30) == [], "started early"
    await move_all(engine)
    await move_all(engine)
    clock.advance(59 * SECOND)
    assert await driver.claim(30) == [], "started early"
    clock.advance(2 * SECOND)
    assert {one.task_id for one in await driver.claim(30)} == waiting


async def test_a_step_that_cannot_be_followed_stops_no_claim_of_what_is_due(
    driver: Driver, engine: Engine, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not isinstance(engine, PostgresEngine):
        pytest.skip("no time-out ends what SQLite does")
    waiting = await driver.submit(make_draft(clock.now(), delay=60 * SECOND))
    queued = [await driver.submit(), await driver.submit()]
    with monkeypatch.context() as patch:
        patch.setattr(postgres_steps, "_RECORDED_WITHIN", 0.05)
        patch.setitem(engine._queries, "note_moves", "SELECT pg_catalog.pg_sleep(30), $1::interval")
        clock.set(clock.now() + HOUR)
        assert [one.task_id for one in [*await driver.claim(1), *await driver.claim(1)]] == queued
        assert await driver.claim(1) == [], "started early"
    assert await driver.claim(1) == [], "started early"
    clock.advance(61 * SECOND)
    assert [one.task_id for one in await driver.claim(1)] == [waiting]


@every_step
async def test_a_rate_is_not_exceeded(driver: Driver, engine: Engine, clock: ManualClock, step: timedelta) -> None:
    await engine.queues.change("default", QueueChange(rate=Rate(limit=2, per=60 * SECOND, burst=2)))
    for _ in range(4):
        await driver.submit()
    assert len(await driver.claim(10)) == 2
    await set_clock(engine, clock, step)
    assert await driver.claim(10) == []
    clock.advance(31 * SECOND)
    assert len(await driver.claim(10)) == 1


@every_step
async def test_a_delivery_under_way_is_not_made_twice_and_one_that_waits_comes_in_time(
    engine: Engine, clock: ManualClock, step: timedelta
) -> None:
    webhook = make_webhook(clock.now())
    await engine.webhooks.create(webhook, most=10)
    await engine.webhooks.dispatch([make_delivery(webhook, clock.now())], after=None, to="1")
    [due] = await engine.webhooks.find_due(full=(), each=10, limit=10)
    [taken] = await engine.webhooks.take([due])
    clock.advance(10 * SECOND)
    await set_clock(engine, clock, step)
    assert await engine.webhooks.find_due(full=(), each=10, limit=10) == []
    clock.advance(21 * SECOND)
    assert [one.delivery.delivery_id for one in await engine.webhooks.find_due(full=(), each=10, limit=10)] == [
        taken.delivery.delivery_id
    ]


async def test_a_process_whose_machine_stood_still_moves_nothing(
    driver: Driver, engine: Engine, make_engine: MakeEngine, clock: ManualClock
) -> None:
    """For this process the database's clock jumped ahead, but another process has seen the times in between."""
    if not engine.is_shared:
        pytest.skip("one process has the store")
    its_clock = ManualClock(clock.now())
    other = await make_engine(its_clock)
    delayed = await driver.submit(make_draft(clock.now(), delay=100 * SECOND))
    clock.advance(60 * SECOND)
    await engine.sweep(limit=10)
    its_clock.set(clock.now())
    await other.find_expired(limit=10)
    clock.advance(41 * SECOND)
    assert [claim.task_id for claim in await driver.claim(10)] == [delayed]


async def test_a_jump_ahead_erases_nothing_before_it_has_lasted(
    driver: Driver, engine: Engine, make_engine: MakeEngine, clock: ManualClock
) -> None:
    """Nor does a new process, which has not seen it."""
    draft = make_draft(clock.now(), retention=30 * 24 * HOUR)
    task_id = await driver.submit(draft)
    assert await driver.finish(await driver.claim_one(), Succeeded(b"6"))
    await engine.prune(limit=10)
    clock.set(clock.now() + YEARS)
    assert not await engine.prune(limit=10)
    await engine.close()
    again = await make_engine()
    clock.advance(HOUR / 2)
    assert not await again.prune(limit=10)
    clock.set(clock.now() - YEARS)
    task = await again.find(task_id)
    assert task is not None
    assert task.status is Status.COMPLETED, "the clock was put right, and nothing is lost"
    clock.set(clock.now() + YEARS)
    assert not await again.prune(limit=10)
    clock.advance(HOUR + SECOND)
    assert await again.prune(limit=10)
