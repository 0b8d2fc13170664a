"""Several engines on one database, as processes on several machines have them."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from random import Random
from typing import Any

import pytest
from msgspec import structs
from tests.contract.conftest import Changes
from tests.engines.postgres.conftest import MakeEngine

from tasker.engines.postgres import PostgresEngine
from tasker.model import Change, Status, WorkerInfo
from tasker.rules.lifecycle import Interrupted, Succeeded, decide
from tasker.testing import Driver, ManualClock, make_draft

SECOND = timedelta(seconds=1)
HOUR = timedelta(hours=1)


def worker(name: str, clock: ManualClock) -> WorkerInfo:
    return WorkerInfo(
        worker_id=name, host="here", pid=1, version="0", started_at=clock.now(), queues=None, types=("sum",),
        slots=1, processes=1,
    )  # fmt: skip


async def test_a_task_submitted_here_wakes_a_worker_there(driver: Driver, another: MakeEngine, clock) -> None:
    there = Driver(await another(), clock, worker="there")
    waiting = asyncio.create_task(there.claim(wait_for=HOUR))
    await asyncio.sleep(0)
    task_id = await driver.submit()
    async with asyncio.timeout(30):
        [claim] = await waiting
    assert claim.task_id == task_id


async def test_ends_and_cancels_are_heard_in_every_process(driver: Driver, another: MakeEngine, clock) -> None:
    there = Driver(await another(), clock, worker="there")
    here_hears, there_hears = Changes(driver.engine), Changes(there.engine)
    done, stopped = await driver.submit(make_draft(is_awaited=True)), await driver.submit()
    claims = {claim.task_id: claim for claim in await there.claim(2)}
    await driver.engine.cancel(stopped)
    await there_hears.until(Change(stopped, Status.RUNNING, cancel_requested=True))
    await there.finish(claims[done], Succeeded(b"6"))
    await here_hears.until(Change(done, Status.COMPLETED))
    assert here_hears.heard.count(Change(done, Status.COMPLETED)) == 1, "own changes come once, not also by the network"


async def test_many_ends_at_once_are_all_notified(driver: Driver, another: MakeEngine, clock: ManualClock) -> None:
    """More than one notification can hold."""
    there = Driver(await another(), clock, worker="there")
    hears = Changes(there.engine)
    await there.engine.submit([make_draft(clock.now(), is_awaited=True) for _ in range(700)])
    claims = await driver.claim(700)
    assert len(claims) == 700
    await asyncio.gather(*(driver.finish(claim, Succeeded(b"6")) for claim in claims))
    await hears.until(*(Change(claim.task_id, Status.COMPLETED) for claim in claims))


async def test_a_reconnected_listener_reports_that_changes_may_be_lost(
    driver: Driver, another: MakeEngine, clock, sql
) -> None:
    there = await another()
    hears = Changes(there)
    cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'LISTEN%' OR query = 'SELECT 1'"
    assert await sql(cut)
    async with asyncio.timeout(30):
        while hears.batches.count(()) < 2:  # at the break, and when it listens again
            hears._news.clear()
            await hears._news.wait()
    await there.submit([draft := make_draft(is_awaited=True)])
    await driver.finish(await driver.claim_one(), Succeeded(b"6"))
    await hears.until(Change(draft.task_id, Status.COMPLETED))


async def test_a_bug_while_it_reconnects_leaves_no_process_deaf(
    driver: Driver, another: MakeEngine, sql, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = await another()
    connect, faults = there._connections.connect, [ValueError("a bug")]

    async def connect_at_last(*given: Any) -> Any:
        if faults:
            raise faults.pop()
        return await connect(*given)

    monkeypatch.setattr(there._connections, "connect", connect_at_last)
    hears = Changes(there)
    await sql("SELECT pg_terminate_backend($1)", there._listener._connection.get_server_pid())
    async with asyncio.timeout(30):
        while faults or not there._listener.is_connected:
            hears._news.clear()
            await hears._news.wait()
    await there.submit([draft := make_draft(is_awaited=True)])
    await driver.finish(await driver.claim_one(), Succeeded(b"6"))
    await hears.until(Change(draft.task_id, Status.COMPLETED))


async def test_a_heartbeat_goes_over_the_listening_connection_and_shows_that_it_lives(
    another: MakeEngine, clock: ManualClock, sql, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = await another()
    listener = there._listener
    await there.workers.announce(worker("w", clock))
    assert await sql("SELECT locked FROM worker") == [(True,)]

    async def break_off(*_: Any, **__: Any) -> None:
        raise ConnectionResetError

    monkeypatch.setattr(listener._connection, "execute", break_off)
    assert await listener._is_alive(), "it has just answered, and is not asked"
    await there.workers.announce(worker("w", clock))
    assert not listener.is_connected
    assert await sql("SELECT locked FROM worker") == [(False,)], "stored all the same, without the lock"


async def test_a_listening_connection_is_used_by_one_at_a_time(another: MakeEngine, clock: ManualClock, sql) -> None:
    there = await another()
    there._listener._answered_at = float("-inf")
    names = [f"w{number}" for number in range(10)]
    announced = (there.workers.announce(worker(name, clock)) for name in names)
    first, *_, last = await asyncio.gather(there._listener._is_alive(), *announced, there._listener._is_alive())
    assert first
    assert last
    assert await sql("SELECT count(*) FROM worker WHERE locked") == [(10,)]


async def test_an_overtaken_worker_changes_neither_the_task_nor_its_job(
    driver: Driver, another: MakeEngine, clock: ManualClock, sql
) -> None:
    there = Driver(await another(), clock, worker="there")
    await driver.submit()
    late = await driver.claim_one()
    clock.advance(31 * SECOND)
    await there.reap()
    current = await there.claim_one()
    before = await sql("SELECT id, status::text, attempts FROM pgqueuer")
    assert not await driver.finish(late, Succeeded(b'"stale"'))
    assert await sql("SELECT id, status::text, attempts FROM pgqueuer") == before
    assert await there.finish(current, Succeeded(b'"fresh"'))
    assert bytes((await driver.get(late.task_id)).result or b"") == b'"fresh"'


async def test_a_worker_whose_connection_is_gone_is_noticed_before_its_lease_ends(
    driver: Driver, another: MakeEngine, clock: ManualClock
) -> None:
    there = await another()
    await there.workers.announce(worker("worker-1", clock))
    await driver.submit()
    claim = await Driver(there, clock).claim_one()
    clock.advance(5 * SECOND)
    assert await driver.engine.find_expired(limit=10) == [], "it is silent, but its process lives"
    await there.close()
    assert await driver.engine.find_expired(limit=10) == [claim]


async def test_a_worker_that_has_just_sent_a_heartbeat_is_not_gone(driver: Driver, another: MakeEngine, clock) -> None:
    there = await another()
    await driver.submit()
    await Driver(there, clock).claim_one()
    await there.workers.announce(worker("worker-1", clock))
    await there.close()
    clock.advance(3 * SECOND)
    assert await driver.engine.find_expired(limit=10) == []


async def test_a_worker_with_rare_heartbeats_is_not_gone_between_two(
    driver: Driver, another: MakeEngine, clock: ManualClock
) -> None:
    """Its listening connection is just being opened again."""
    there = await another()
    await driver.submit()
    claim = await Driver(there, clock, lease_for=60 * SECOND).claim_one()
    await there.workers.announce(structs.replace(worker("worker-1", clock), heartbeat_every=20 * SECOND))
    await there.close()
    clock.advance(29 * SECOND)
    assert await driver.engine.find_expired(limit=10) == []
    clock.advance(2 * SECOND)
    assert await driver.engine.find_expired(limit=10) == [claim]


async def test_reads_leave_connections_for_claims_and_writes(driver: Driver, engine: PostgresEngine) -> None:
    """There are more readers than connections, and none of them ever gets its answer."""
    answered = asyncio.Event()
    reads = [asyncio.create_task(engine._connections.read(lambda _: answered.wait())) for _ in range(20)]
    await asyncio.sleep(0)
    task_id = await driver.submit()
    claim = await driver.claim_one()
    assert await driver.finish(claim, Succeeded(b"6"))
    answered.set()
    await asyncio.gather(*reads)
    assert (await driver.get(task_id)).status is Status.COMPLETED


async def test_two_reapers_end_an_attempt_once(driver: Driver, another: MakeEngine, clock: ManualClock) -> None:
    there = await another()
    await driver.submit()
    claim = await driver.claim_one()
    clock.advance(31 * SECOND)
    change = decide(Interrupted(), claim, clock.now(), Random(0))
    ends = await asyncio.gather(*(engine.complete(claim.lease, change) for engine in (driver.engine, there)))
    assert sorted(ends) == [False, True]


@pytest.mark.long
async def test_sixteen_claims_at_once_share_the_queue_without_a_double(
    driver: Driver, engine: PostgresEngine, another: MakeEngine, clock: ManualClock
) -> None:
    """Row 29 of the faults."""
    await engine.submit([make_draft(clock.now()) for _ in range(5000)])
    engines = [engine, await another(), await another(), await another()]
    taken: list[str] = []

    async def work(name: int) -> None:
        mine = Driver(engines[name % 4], clock, worker=f"worker-{name}")
        while claims := await mine.claim(20):
            taken.extend(str(claim.task_id) for claim in claims)

    await asyncio.gather(*(work(name) for name in range(16)))
    while claims := await driver.claim(20):  # a row that a neighbour had just locked was passed over
        taken.extend(str(claim.task_id) for claim in claims)
    assert len(taken) == 5000
    assert len(set(taken)) == 5000
