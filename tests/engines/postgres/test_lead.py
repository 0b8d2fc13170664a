"""The lead among several processes: one has it, and another takes it soon after that one fell silent."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from random import Random
from typing import Any

import pytest
from asyncpg import LockNotAvailableError
from tests.engines.postgres.conftest import MakeEngine

from tasker.chores.plan import engine_chores
from tasker.engines.postgres import PostgresEngine, connections
from tasker.engines.postgres.waiters import Window
from tasker.engines.protocol import Lead
from tasker.errors import Unavailable
from tasker.model import Status
from tasker.testing import Driver, ManualClock, make_draft

SECOND = timedelta(seconds=1)
HOUR = timedelta(hours=1)


@pytest.fixture
async def other(another: MakeEngine) -> PostgresEngine:
    return await another()


async def test_a_live_leader_keeps_the_lead(engine: PostgresEngine, other: PostgresEngine, clock: ManualClock) -> None:
    assert await engine.lead.hold()
    for _ in range(20):
        clock.advance(SECOND)
        assert not await other.lead.hold()
        assert await engine.lead.hold()


async def test_another_takes_over_from_a_silent_leader_within_five_seconds(
    engine: PostgresEngine, other: PostgresEngine, clock: ManualClock
) -> None:
    assert await engine.lead.hold()
    answers = []
    for _ in range(4):  # each looks once a second
        clock.advance(SECOND)
        answers.append(await other.lead.hold())
    assert answers == [False, False, False, True]
    assert not await engine.lead.hold(), "it was only frozen: it learns of the other"
    assert await other.lead.hold()


async def test_what_is_given_up_can_be_taken_at_once_and_only_by_its_holder(
    engine: PostgresEngine, other: PostgresEngine
) -> None:
    assert await engine.lead.hold()
    await other.lead.give_up()
    assert not await other.lead.hold()
    await engine.lead.give_up()
    async with asyncio.timeout(20):
        while not await other.lead.hold():  # it is told
            await asyncio.sleep(0.001)
    assert not await engine.lead.hold()


async def test_a_clock_that_was_set_back_keeps_nobody_from_the_lead(
    engine: PostgresEngine, other: PostgresEngine, clock: ManualClock
) -> None:
    assert await engine.lead.hold()
    clock.set(clock.now() - HOUR)
    assert await other.lead.hold()
    assert not await engine.lead.hold()


async def test_a_process_without_the_lead_follows_the_clock_of_the_database(
    engine: PostgresEngine, other: PostgresEngine, clock: ManualClock, sql: Callable[..., Awaitable[list[Any]]]
) -> None:
    assert await engine.lead.hold()
    clock.set(clock.now() + HOUR)
    await other.peers.follow_clock()
    assert abs(other.clock.now() - clock.now()) > HOUR / 2, "it looked a moment ago"
    clock.advance(10 * SECOND)
    await other.peers.follow_clock()
    assert abs(other.clock.now() - clock.now()) < HOUR / 2
    assert await sql("SELECT steps FROM clock") == [(1,)]


async def test_a_leader_whose_sessions_break_has_the_lead_on_new_ones(
    engine: PostgresEngine, other: PostgresEngine, clock: ManualClock, sql
) -> None:
    assert await engine.lead.hold()
    assert not await other.lead.hold()
    clock.advance(10 * SECOND)
    await sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'tasker'")
    assert await engine.lead.hold()
    assert not await other.lead.hold()


class Asking:
    """Counts the statements that a process runs for the lead."""

    def __init__(self, engine: PostgresEngine, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        repeat = engine._connections.repeat

        async def counted(*given: Any, **options: Any) -> Any:
            self.count += 1
            return await repeat(*given, **options)

        monkeypatch.setattr(engine._connections, "repeat", counted)


async def test_who_knows_for_how_long_another_leads_asks_nothing_until_then(
    engine: PostgresEngine, other: PostgresEngine, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert await engine.lead.hold()
    assert not await other.lead.hold()
    asking = Asking(other, monkeypatch)
    clock.advance(2 * SECOND)
    assert await engine.lead.hold()
    assert not await other.lead.hold()
    assert asking.count == 0
    clock.advance(SECOND)
    assert not await other.lead.hold()
    assert asking.count == 1
    clock.advance(2.1 * SECOND)
    assert await other.lead.hold()


async def test_the_looks_of_waiting_claims_tell_who_leads(
    engine: PostgresEngine, other: PostgresEngine, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An idle worker looks every two seconds anyway."""
    assert await engine.lead.hold()
    assert not await other.lead.hold()
    for _ in range(10):
        clock.advance(2 * SECOND)
        assert await engine.lead.hold()
        await other._claims.look(Window())
        asking = Asking(other, monkeypatch)
        assert not await other.lead.hold()
        assert asking.count == 0
    for _ in range(2):
        clock.advance(2 * SECOND)
        await other._claims.look(Window())
    assert await other.lead.hold()


async def test_a_process_that_starts_takes_the_lead_of_a_dead_one_at_once(
    engine: PostgresEngine, another: MakeEngine, sql: Callable[..., Awaitable[list[Any]]]
) -> None:
    """After kill -9 of the only process nobody waits until its lead is over."""
    assert await engine.lead.hold()
    beside = await another()
    assert not await beside.lead.hold(), "the leader lives"
    await engine._listener.close()
    name = engine._connections.sender
    async with asyncio.timeout(20):
        while await sql(f"SELECT FROM pg_locks WHERE objid::bigint = hashtext('{name}')::bigint & 4294967295"):
            await asyncio.sleep(0.01)
    assert not await beside.lead.hold(), "it has been here for longer, and goes by the time"
    assert await (await another()).lead.hold()


async def test_a_slow_answer_counts_as_a_break_in_the_contact(
    engine: PostgresEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the database stood still no worker could extend its lease: the next leader gives them time for that."""
    await engine.lead.hold()
    assert engine._connections.contact.lasts(HOUR)
    monkeypatch.setattr(connections, "_SLOW", -1)
    await engine.lead.hold()
    assert not engine._connections.contact.lasts(HOUR)


async def test_a_conflict_of_a_repeatable_statement_is_an_outage(engine: PostgresEngine) -> None:
    async def refuse(_: object) -> None:
        raise LockNotAvailableError

    with pytest.raises(Unavailable):
        await engine._connections.repeat(refuse)


@pytest.mark.parametrize("seed", range(3))
async def test_of_many_at_most_one_has_it_whatever_happens(another: MakeEngine, clock: ManualClock, seed: int) -> None:
    """Some are frozen for a while, some end, the clock is set: nobody takes the lead from one that is heard."""
    random = Random(seed)
    leads = [(await another()).lead for _ in range(4)]
    frozen: set[Lead] = set()
    for _ in range(30):
        frozen = frozen ^ {random.choice(leads)} if random.random() < 0.3 else frozen
        live = [lead for lead in leads if lead not in frozen]
        answers = await asyncio.gather(*(lead.hold() for lead in live))
        assert sum(answers) <= 1
        if random.random() < 0.2:
            await asyncio.gather(*(lead.give_up() for lead in live))
        if random.random() < 0.1:
            clock.set(clock.now() + random.choice((-1, 1)) * HOUR)
        for _ in range(4 if live else 0):
            clock.advance(SECOND)
            answers = await asyncio.gather(*(lead.hold() for lead in live))
        assert sum(answers) == bool(live), "after four seconds one of the live ones leads"


async def test_an_older_process_that_does_every_chore_beside_the_leader_does_no_harm(
    driver: Driver, other: PostgresEngine, clock: ManualClock
) -> None:
    """It knows no lead. All that is due is done once, and nothing else is done."""
    tasks = [await driver.submit() for _ in range(10)]
    late = await driver.submit(make_draft(clock.now(), type="later", deadline=clock.now() + SECOND))
    assert len(await driver.claim(10)) == 10
    clock.advance(60 * SECOND)
    chores = [chore for engine in (driver.engine, other) for chore in engine_chores(engine, clock, Random())]
    await asyncio.gather(*(chore.run_once() for chore in chores))
    attempts = await asyncio.gather(*(driver.engine.find_attempts(task_id) for task_id in tasks))
    assert [[one.ending for one in of_task] for of_task in attempts] == [["interrupted"]] * 10
    assert (await driver.get(late)).status is Status.FAILED
    assert {claim.task_id for claim in await driver.claim(20)} == set(tasks)
