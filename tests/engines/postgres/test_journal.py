"""The journal where commits overtake each other: readers miss nothing, and unrelated transactions do not delay them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import asyncpg
import pytest
from tests.contract.journal import by_task, read_all
from tests.postgres import cluster

from tasker.engines.postgres import PostgresEngine
from tasker.engines.postgres.transaction import Transaction
from tasker.model import NewEvent, Report
from tasker.model.journal import JournalEntry
from tasker.rules.lifecycle import Succeeded
from tasker.testing import Driver, ManualClock

_GATE = 4711


class Gate:
    """Holds the commits of one engine: behind their last statement, before COMMIT."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self.sender = ""

    async def close(self) -> None:
        await self._connection.execute("SELECT pg_advisory_lock($1)", _GATE)

    async def open(self) -> None:
        await self._connection.execute("SELECT pg_advisory_unlock($1)", _GATE)

    async def until_held(self, count: int = 1) -> list[int]:
        """Return the waiting backends once there are this many."""
        async with asyncio.timeout(30):
            while True:
                rows = await self._connection.fetch(
                    "SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND objid = $1 AND NOT granted", _GATE
                )
                if len(rows) == count:
                    return [row["pid"] for row in rows]
                await asyncio.sleep(0.005)

    async def end(self, pid: int) -> None:
        await self._connection.execute("SELECT pg_terminate_backend($1)", pid)


@pytest.fixture
async def gate(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Gate]:
    connection = await asyncpg.connect(cluster().url)
    gate = Gate(connection)
    last = Transaction.last_statements

    def held(tx: Transaction) -> str:
        return last(tx) + f"SELECT pg_advisory_xact_lock_shared({_GATE});" * (tx.sender == gate.sender)

    monkeypatch.setattr(Transaction, "last_statements", held)
    yield gate
    await connection.close()


def kinds(entries: list[JournalEntry]) -> list[tuple[Any, str]]:
    return [(entry.event.task_id, entry.event.type) for entry in entries]


async def test_a_commit_that_is_overtaken_is_waited_for(
    engine: PostgresEngine, another: Callable[[], Awaitable[PostgresEngine]], clock: ManualClock, gate: Gate
) -> None:
    slow = await another()
    start = await engine.journal.tail()
    gate.sender = slow._connections.sender
    await gate.close()
    overtaken = asyncio.create_task(Driver(slow, clock).submit())
    await gate.until_held()
    quick = await Driver(engine, clock).submit()
    page = await engine.journal.read(start)
    assert page.entries == [], "the event before it is on its way"
    reading = asyncio.create_task(read_all(engine, page.cursor))
    await asyncio.sleep(0.02)
    await gate.open()
    first = await overtaken
    assert kinds(await reading + await read_all(engine, page.cursor))[:2] == [(first, "created"), (quick, "created")]
    assert kinds(await read_all(slow, start)) == [(first, "created"), (quick, "created")]


async def test_a_transaction_that_is_rolled_back_is_not_waited_for(
    engine: PostgresEngine, another: Callable[[], Awaitable[PostgresEngine]], clock: ManualClock, gate: Gate
) -> None:
    """Its number stays missing for ever; the engine does its work again under another."""
    slow = await another()
    start = await engine.journal.tail()
    gate.sender = slow._connections.sender
    await gate.close()
    undone = asyncio.create_task(Driver(slow, clock).submit())
    [pid] = await gate.until_held()
    quick = await Driver(engine, clock).submit()
    assert (await engine.journal.read(start)).entries == []
    await gate.end(pid)
    async with asyncio.timeout(30):
        assert kinds((await engine.journal.read(start)).entries) == [(quick, "created")]
        await gate.open()
        again = await undone
    assert kinds(await read_all(engine, start)) == [(quick, "created"), (again, "created")]
    assert kinds(await read_all(slow, start)) == [(quick, "created"), (again, "created")]


async def test_a_long_unrelated_transaction_delays_no_reader(
    engine: PostgresEngine, driver: Driver
) -> None:  # fmt: skip
    other = await asyncpg.connect(cluster().url)
    try:
        await other.execute("BEGIN")
        await other.execute("SELECT pg_current_xact_id()")
        start = await engine.journal.tail()
        task_id = await driver.submit()
        await driver.finish(await driver.claim_one(), Succeeded(b"6"))
        entries = (await engine.journal.read(start)).entries
        assert kinds(entries) == [(task_id, "created"), (task_id, "started"), (task_id, "completed")]
    finally:
        await other.close()


async def test_readers_see_each_event_once_while_many_write(
    engine: PostgresEngine, another: Callable[[], Awaitable[PostgresEngine]], clock: ManualClock
) -> None:
    """Three processes submit, claim, speak and end at once while two others read, each from a cursor of its own."""
    writers = [engine, await another(), await another()]
    readers = [await another(), engine]
    start, done = await engine.journal.tail(), asyncio.Event()

    async def work(on: PostgresEngine, name: str) -> None:
        driver = Driver(on, clock, worker=name)
        for _ in range(6):
            await asyncio.gather(*(driver.submit() for _ in range(10)))
            await asyncio.gather(*(speak_and_end(driver, claim) for claim in await driver.claim(10)))

    async def speak_and_end(driver: Driver, claim: Any) -> None:
        event = NewEvent(type="output", time=clock.now(), data=b'{"chunk":"a"}')
        await driver.engine.record(claim.lease, Report(events=(event,)))
        await driver.finish(claim, Succeeded(b"6"))

    async def read(on: PostgresEngine) -> list[JournalEntry]:
        found: list[JournalEntry] = []
        while True:
            was_done = done.is_set()
            new = await read_all(on, found[-1].cursor if found else start, limit=17)
            found += new
            if was_done and not new:
                return found
            await asyncio.sleep(0.001)

    reading = [asyncio.create_task(read(on)) for on in readers]
    await asyncio.gather(*(work(on, f"w{number}") for number, on in enumerate(writers)))
    done.set()
    for found in await asyncio.gather(*reading):
        logs = by_task(found)
        assert len(logs) == 180
        for task_id, events in logs.items():
            assert events == await engine.find_events(task_id)
