"""New tasks are told to a few workers that are chosen for them, and to everybody if those do not take them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable
from contextlib import suppress
from datetime import timedelta
from typing import Any
from uuid import UUID

import msgspec
import pytest
from structlog.testing import capture_logs
from tests.engines.postgres.conftest import MakeEngine

from tasker.engines.postgres import PostgresEngine, claim, pacing, waiters
from tasker.engines.postgres.stores import workers as worker_rows
from tasker.engines.postgres.transaction import Told
from tasker.engines.protocol import ClaimRequest
from tasker.errors import Unavailable
from tasker.model import Claim, RetryPolicy, WorkerInfo
from tasker.model.queues import QueueChange
from tasker.rules.lifecycle import Failed, problem
from tasker.testing import Driver, ManualClock, make_draft

Sql = Callable[..., Awaitable[list[Any]]]

SECOND = timedelta(seconds=1)
HOUR = timedelta(hours=1)
LIMIT = 20
"""Seconds within which what is told must be heard."""


@pytest.fixture(autouse=True)
def no_polling(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let claims look only when they are told to: otherwise they find every task in the end."""
    monkeypatch.setattr(waiters, "POLL_EVERY", 3600.0)


class Worker:
    """A worker in an engine of its own. heard: the partitions it was told of, and whether it was chosen."""

    def __init__(self, engine: PostgresEngine, clock: ManualClock, name: str, types: Collection[str]) -> None:
        self.engine, self.clock, self.name, self.types = engine, clock, name, tuple(types)
        self.driver = Driver(engine, clock, worker=name)
        self.heard: list[tuple[list[str], bool]] = []
        self._news = asyncio.Event()
        self.claims: list[Claim] = []
        self.claiming: list[asyncio.Task[None]] = []
        self._hear, engine._listener._on_heard = engine._listener._on_heard, self._on_heard
        self._look, engine._claims._look_and_claim = engine._claims._look_and_claim, self._look_and_claim
        self._looks = 0

    def _on_heard(self, partitions: Iterable[str], changes: list[Any], is_chosen: bool) -> None:
        self.heard.append((list(partitions), is_chosen))
        self._hear(partitions, changes, is_chosen)
        self._news.set()

    async def wait(self, limit: int = 5, types: Collection[str] | None = None) -> None:
        """Wait for tasks, and take those that come; return once the claim has looked."""
        before = self._looks
        self.begin(limit, types)
        await self.until(lambda: self._looks > before)

    def begin(self, limit: int = 5, types: Collection[str] | None = None) -> None:
        """Begin to wait for tasks, and to take those that come."""
        self.claiming.append(asyncio.create_task(self._claim(limit, types or self.types)))

    async def _look_and_claim(self, *values: Any) -> Any:
        try:
            return await self._look(*values)
        finally:
            self._looks += 1
            self._news.set()

    async def _claim(self, limit: int, types: Collection[str]) -> None:
        request = ClaimRequest(worker=self.name, types=types, limit=limit, lease_for=30 * SECOND)
        self.claims += await self.engine.claim(request, wait_for=HOUR)
        self._news.set()

    async def freeze(self) -> None:
        """Claim no more, and say nothing of it."""
        for claiming in self.claiming:
            claiming.cancel()
            with suppress(asyncio.CancelledError):
                await claiming

    async def announce(self, **changes: Any) -> None:
        info = WorkerInfo(
            worker_id=self.name, host="here", pid=1, version="0", started_at=self.clock.now(), queues=None,
            types=self.types, slots=5, processes=2, heartbeat_every=3 * SECOND, level=1,
        )  # fmt: skip
        await self.engine.workers.announce(msgspec.structs.replace(info, **changes))

    async def until(self, condition: Callable[[], object]) -> None:
        async with asyncio.timeout(LIMIT):
            while not condition():
                self._news.clear()
                await self._news.wait()

    async def takes(self, *task_ids: UUID) -> None:
        await self.until(lambda: {claim.task_id for claim in self.claims} >= set(task_ids))

    def told(self, partition: str = "default/sum") -> list[bool]:
        """Return of each time that it was told of a partition whether it was chosen."""
        return [is_chosen for partitions, is_chosen in self.heard if partition in partitions]


class Workers:
    """Makes workers, and lets the submitting engine know of them."""

    def __init__(self, submitter: PostgresEngine, another: MakeEngine, clock: ManualClock) -> None:
        self.submitter, self._another, self._clock = submitter, another, clock
        self.all: list[Worker] = []

    async def add(self, name: str, *types: str, waits: bool = True, **changes: Any) -> Worker:
        worker = Worker(await self._another(), self._clock, name, types or ("sum",))
        self.all.append(worker)
        if waits:
            await worker.wait()
        await worker.announce(**changes)
        return worker

    async def known(self) -> None:
        await self.submitter._wakeups.read_workers()

    async def have_heard(self) -> None:
        """Wait until all have heard what was told so far."""
        await self.submitter.queues.change("last", QueueChange(paused=True))
        for worker in self.all:
            await worker.until(lambda worker=worker: worker.told("last/*"))

    async def told_of_one_task(self) -> list[bool]:
        """Return of each time that a worker was told whether it was chosen, once one has taken the task."""
        async with asyncio.timeout(LIMIT):
            while not any(worker.claims for worker in self.all):
                await asyncio.sleep(0)
        await self.have_heard()
        return [is_chosen for worker in self.all for is_chosen in worker.told()]

    async def close(self) -> None:
        for worker in self.all:
            await worker.freeze()


async def eventually(condition: Callable[[], object]) -> None:
    """Wait until what a process does by itself has happened."""
    async with asyncio.timeout(LIMIT):
        while not condition():
            await asyncio.sleep(0.001)


@pytest.fixture
async def fleet(engine: PostgresEngine, another: MakeEngine, clock: ManualClock) -> AsyncIterator[Workers]:
    workers = Workers(engine, another, clock)
    yield workers
    await workers.close()


async def test_one_worker_is_told_of_one_task(fleet: Workers, driver: Driver) -> None:
    a, b, c = [await fleet.add(name) for name in "abc"]
    await fleet.known()
    task_id = await driver.submit()
    await a.takes(task_id)
    await fleet.have_heard()
    assert [worker.told() for worker in (a, b, c)] == [[True], [], []]


async def test_as_many_are_told_as_have_slots_for_the_tasks(fleet: Workers, driver: Driver, clock: ManualClock) -> None:
    a, b, c = [await fleet.add(name) for name in "abc"]
    await fleet.known()
    await driver.engine.submit([make_draft(clock.now()) for _ in range(6)])
    await a.until(lambda: a.claims)
    await fleet.have_heard()
    assert [worker.told() for worker in (a, b, c)] == [[True], [True], []]


async def test_child_processes_count_for_their_own_types(fleet: Workers, driver: Driver, clock: ManualClock) -> None:
    for name in "abc":
        worker = await fleet.add(name, "sum", "crunch", waits=False)
        await worker.wait(5, ["sum"])
        await worker.wait(2, ["crunch"])
        await worker.announce()
    await fleet.known()
    await driver.engine.submit([make_draft(clock.now(), type="crunch") for _ in range(3)])
    await fleet.have_heard()
    assert [worker.told("default/crunch") for worker in fleet.all] == [[True], [True], []]


async def test_a_worker_that_died_is_made_up_for(fleet: Workers, driver: Driver, clock: ManualClock) -> None:
    a, b = await fleet.add("a"), await fleet.add("b")
    await fleet.known()
    await a.freeze()
    await a.engine.close()
    fleet.all.remove(a)
    task_id = await driver.submit()
    clock.advance(SECOND)
    await b.takes(task_id)
    assert b.told()[0] is True, "it is one of a few that are told next"


async def test_a_frozen_worker_is_passed_over_until_it_speaks(
    fleet: Workers, driver: Driver, engine: PostgresEngine, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pacing, "LONGEST_PAUSE", 0.1)
    wakeups = engine._wakeups
    a = await fleet.add("a")
    await fleet.known()
    await a.freeze()
    first = await driver.submit()
    clock.advance(SECOND)
    await eventually(lambda: wakeups._passed_over)
    b = await fleet.add("b")
    await b.takes(first)
    await eventually(lambda: wakeups._watch.next_at() is None)  # nobody is told of the first one any more
    await fleet.have_heard()
    told_a, told_b = len(a.told()), len(b.told())
    for number in range(1, 4):  # the clock stands still: of each, workers are told once
        b.begin()
        await asyncio.sleep(0)
        await b.announce()
        await fleet.known()
        await b.takes(await driver.submit())
        await b.until(lambda number=number: len(b.told()) == told_b + number)
    assert b.told()[told_b:] == [True] * 3
    await engine.queues.change("end", QueueChange(paused=True))
    await a.until(lambda: a.told("end/*"))
    assert len(a.told()) == told_a
    assert list(wakeups._passed_over) == ["a"]
    await a.announce()
    await fleet.known()
    assert wakeups._passed_over == {}


async def test_full_and_draining_workers_are_not_chosen(fleet: Workers, driver: Driver) -> None:
    await fleet.add("a", waits=False)
    await fleet.add("b", draining=True)
    c = await fleet.add("c")
    await fleet.known()
    await c.takes(await driver.submit())
    await fleet.have_heard()
    assert [worker.told() for worker in fleet.all] == [[], [], [True]]


async def test_workers_of_other_types_and_queues_are_not_chosen(fleet: Workers, driver: Driver) -> None:
    await fleet.add("a", "other")
    await fleet.add("b", queues=("elsewhere",))
    c = await fleet.add("c")
    await fleet.known()
    await c.takes(await driver.submit())
    await fleet.have_heard()
    assert [worker.told() for worker in fleet.all] == [[], [], [True]]


async def test_without_a_known_worker_everybody_is_told(fleet: Workers, driver: Driver) -> None:
    worker = Worker(await fleet._another(), fleet._clock, "silent", ["sum"])
    fleet.all.append(worker)
    await worker.wait()
    await fleet.known()
    await worker.takes(await driver.submit())
    assert worker.told() == [False]


async def test_workers_that_were_read_long_ago_are_not_chosen_from(
    fleet: Workers, driver: Driver, engine: PostgresEngine
) -> None:
    a, b = await fleet.add("a"), await fleet.add("b")
    await fleet.known()
    engine._wakeups._read_at -= 11
    await driver.submit()
    await fleet.have_heard()
    assert [a.told(), b.told()] == [[False], [False]]


async def test_a_worker_hears_its_channel_again_once_it_has_reconnected(
    fleet: Workers, driver: Driver, engine: PostgresEngine, sql: Sql
) -> None:
    a = await fleet.add("a")
    b = await fleet.add("b")
    pid = await a.engine._listener._connection.fetchval("SELECT pg_backend_pid()")
    await sql("SELECT pg_terminate_backend($1)", pid)
    await a.until(lambda: a.heard.count(([], False)) >= 2)
    await fleet.known()
    await a.takes(await driver.submit())
    await fleet.have_heard()
    assert [a.told(), b.told()] == [[True], []]


async def test_a_worker_without_a_listening_connection_is_not_chosen(
    fleet: Workers, driver: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    a, b = await fleet.add("a"), await fleet.add("b")
    monkeypatch.setattr(type(a.engine._listener), "is_connected", property(lambda self: self is not a.engine._listener))
    await a.announce()
    await fleet.known()
    await b.takes(await driver.submit())
    assert b.told() == [True]


async def test_a_worker_of_the_last_release_is_told_by_the_common_channel(
    fleet: Workers, driver: Driver, sql: Sql
) -> None:
    older, b = await fleet.add("a"), await fleet.add("b")
    [(info,)] = await sql("SELECT info FROM worker WHERE worker_id = 'a'")
    plain = msgspec.json.encode(msgspec.json.decode(info, type=WorkerInfo))
    await sql("UPDATE worker SET info = $1 WHERE worker_id = 'a'", plain)
    await fleet.known()
    await b.freeze()
    await older.takes(await driver.submit())
    assert older.told() == [False]


async def test_what_a_process_of_the_last_release_submits_is_heard(
    fleet: Workers, driver: Driver, engine: PostgresEngine, sql: Sql
) -> None:
    a = await fleet.add("a")
    engine._connections.route = lambda tasks: Told()
    task_id = await driver.submit()
    await sql("""NOTIFY tasker, '["abcdefabcdef",["default/sum"],""]'""")
    await a.takes(task_id)


async def test_two_workers_with_one_channel_both_take_tasks(
    fleet: Workers, driver: Driver, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_rows, "channel_of", lambda worker_id, schema: f"tasker_same_{schema}")
    for name in "abc":
        await fleet.add(name)
    await fleet.known()
    ids = [receipt.task_id for receipt in await driver.engine.submit([make_draft(clock.now()) for _ in range(7)])]
    async with asyncio.timeout(LIMIT):
        while len(taken := [claim.task_id for worker in fleet.all for claim in worker.claims]) < 7:
            await asyncio.sleep(0)
    assert sorted(taken) == sorted(ids)


async def test_tasks_of_a_submitter_that_dies_before_its_check_are_found_by_polling(
    fleet: Workers, driver: Driver, engine: PostgresEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    a = await fleet.add("a")
    await fleet.known()
    await a.freeze()
    monkeypatch.setattr(waiters, "POLL_EVERY", 0.2)
    b = await fleet.add("b")
    engine._wakeups._closed = True
    task_id = await driver.submit()
    await b.takes(task_id)
    await fleet.have_heard()
    assert (a.told(), b.told()) == ([True], [])


async def test_claims_of_the_own_process_come_first(fleet: Workers, driver: Driver, engine: PostgresEngine) -> None:
    for name in "ab":
        await fleet.add(name)
    own = Worker(engine, fleet._clock, "own", ["sum"])
    await own.wait()
    await own.announce()
    await fleet.known()
    fleet.all.append(own)
    await own.takes(await driver.submit())
    fleet.all.remove(own)
    await fleet.have_heard()
    assert [worker.told() for worker in fleet.all] == [[], []]


async def test_what_the_own_claims_have_no_slots_for_goes_to_others(
    fleet: Workers, driver: Driver, engine: PostgresEngine, clock: ManualClock
) -> None:
    a, b = await fleet.add("a"), await fleet.add("b")
    own = Worker(engine, clock, "own", ["sum"])
    await own.wait(limit=2)
    await fleet.known()
    await engine.submit([make_draft(clock.now()) for _ in range(4)])
    async with asyncio.timeout(LIMIT):
        while len(own.claims) + len(a.claims) < 4:  # which of the two takes how many is left to chance
            await asyncio.sleep(0)
    await fleet.have_heard()
    assert [a.told(), b.told()] == [[True], []]
    await own.freeze()


async def test_a_retry_is_told_to_one_worker(fleet: Workers, driver: Driver, engine: PostgresEngine, clock) -> None:
    await driver.submit(make_draft(clock.now(), retry=RetryPolicy(max_attempts=2, initial=timedelta(0))))
    first = await driver.claim_one()
    for name in "abc":
        await fleet.add(name)
    await fleet.known()
    await driver.finish(first, Failed(problem("task-failed", "again", retryable=True)))
    assert await fleet.told_of_one_task() == [True]


async def test_promoted_tasks_are_told_to_one_worker(fleet: Workers, driver: Driver, engine, clock) -> None:
    await driver.submit(make_draft(clock.now(), delay=SECOND))
    for name in "ab":
        await fleet.add(name)
    await fleet.known()
    clock.advance(2 * SECOND)
    await engine._connections.transact(engine._jobs.promote)
    assert await fleet.told_of_one_task() == [True]


async def test_everybody_is_told_of_the_settings_of_a_queue(fleet: Workers, driver: Driver, engine, clock) -> None:
    await engine.queues.change("default", QueueChange(paused=True))
    a, b = await fleet.add("a"), await fleet.add("b")
    await fleet.known()
    task_id = await driver.submit()
    await fleet.have_heard()
    await engine.queues.change("default", QueueChange(paused=False))
    async with asyncio.timeout(LIMIT):
        while not (taken := [claim.task_id for worker in (a, b) for claim in worker.claims]):
            await asyncio.sleep(0)
    assert taken == [task_id]
    assert a.told("default/*") == b.told("default/*")


async def test_tasks_of_a_paused_queue_are_told_of_once(fleet: Workers, driver: Driver, engine, clock) -> None:
    await engine.queues.change("default", QueueChange(paused=True))
    a = await fleet.add("a")
    await fleet.add("b")
    await fleet.known()
    await driver.submit()
    clock.advance(SECOND)
    assert engine._wakeups._watch.next_at() is not None
    async with asyncio.timeout(LIMIT):
        while engine._wakeups._watch.next_at() is not None:
            await asyncio.sleep(0.01)
    await fleet.have_heard()
    assert a.told("default/@1/sum") == [True]


async def test_what_a_gap_holds_is_told_after_it(
    fleet: Workers, driver: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pacing, "GAP", 0.5)
    a, b = await fleet.add("a"), await fleet.add("b")
    await fleet.known()
    await a.takes(await driver.submit())
    await b.takes(await driver.submit())
    assert (a.told(), b.told()) == ([True], [True])


async def test_held_tasks_are_told_of_only_once_they_are_stored_and_at_the_end(
    fleet: Workers, driver: Driver, engine: PostgresEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pacing, "GAP", 3600.0)
    a = await fleet.add("a", waits=False)
    await fleet.known()
    told = [engine._wakeups.route({"default/sum": 1}) for _ in range(2)]
    assert [list(one.channels.values()) for one in told] == [[["default/sum"]], []]
    assert told[1].held == {"default/sum": 1}
    assert engine._wakeups._gap.next_at() is None, "this transaction was never committed"
    await driver.submit()
    assert engine._wakeups._gap.next_at() is not None
    assert a.told() == []
    await engine.close()
    await a.until(a.told)


@pytest.mark.parametrize("is_known", [True, False])
async def test_a_held_notification_that_fails_is_made_up_for(
    fleet: Workers,
    driver: Driver,
    engine: PostgresEngine,
    clock: ManualClock,
    monkeypatch: pytest.MonkeyPatch,
    is_known: bool,
) -> None:
    a = await fleet.add("a")
    engine._wakeups._asked_at = float("inf")
    if is_known:
        await fleet.known()
    monkeypatch.setattr(pacing, "GAP", 0.5)
    engine._wakeups._gap.let_through({"default/sum": 1}, asyncio.get_running_loop().time())
    send, sent = engine._wakeups._send, 0

    async def fail_once(statement: str) -> None:
        nonlocal sent
        sent += 1
        if sent == 1:
            raise ConnectionError
        await send(statement)

    monkeypatch.setattr(engine._wakeups, "_send", fail_once)
    task_id = await driver.submit()
    clock.advance(SECOND)
    await a.takes(task_id)
    assert sent > 1
    assert a.told()[0] is is_known


class Looks:
    """Counts the looks of a worker's claims."""

    def __init__(self, worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        look = worker.engine._claims.look

        async def counted(*given: Any, **options: Any) -> Any:
            self.count += 1
            return await look(*given, **options)

        monkeypatch.setattr(worker.engine._claims, "look", counted)


async def test_a_claim_that_took_all_there_was_looks_again_only_when_it_hears_something(
    fleet: Workers, driver: Driver, engine: PostgresEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(claim, "soon", lambda *_: HOUR)
    a = await fleet.add("a", waits=False)
    await driver.submit()
    await fleet.have_heard()
    await a.wait()
    await a.until(lambda: a.claims)
    looks = Looks(a, monkeypatch)
    a.begin()
    await a.engine.check()
    assert looks.count == 0
    a.engine._claims._windows.clear()  # else it may take what it is chosen for without a look
    await a.takes(await driver.submit())
    assert looks.count == 1
    third = await driver.submit()  # no claim waits now
    await fleet.have_heard()
    await a.wait()
    await a.takes(third)


async def test_a_chosen_worker_takes_the_tasks_without_a_look(
    fleet: Workers, driver: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    a = await fleet.add("a")
    await fleet.known()
    looks = Looks(a, monkeypatch)
    await a.takes(await driver.submit())
    assert looks.count == 0


async def test_it_looks_if_its_last_look_is_old(
    fleet: Workers, driver: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else it would never see tasks of other partitions while it is chosen again and again."""
    a = await fleet.add("a", "sum", "reverse")
    [window] = a.engine._claims._windows.values()
    monkeypatch.setattr(waiters, "POLL_EVERY", 0.0)
    window.looked(None, asyncio.get_running_loop().time())
    await fleet.known()
    looks = Looks(a, monkeypatch)
    await a.takes(await driver.submit())
    assert looks.count == 1


async def test_it_looks_if_the_queue_has_settings(
    fleet: Workers, driver: Driver, engine: PostgresEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    await engine.queues.change("default", QueueChange(concurrency=5))
    a = await fleet.add("a")
    await fleet.known()
    looks = Looks(a, monkeypatch)
    await a.takes(await driver.submit())
    assert looks.count == 1


async def test_one_that_was_chosen_in_vain_waits_on(
    fleet: Workers, driver: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    a = await fleet.add("a")
    await fleet.known()
    looks = Looks(a, monkeypatch)
    a.engine._waiters.wake(["default/sum"], is_chosen=True)
    await a.until(lambda: a._looks == 2)
    await a.takes(await driver.submit())
    assert looks.count == 0


async def test_a_task_behind_a_newer_one_of_higher_priority_is_noticed(
    fleet: Workers, driver: Driver, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody takes either of them; the newer one had no time to be taken yet."""
    a = await fleet.add("a")
    await fleet.known()
    await a.freeze()
    b = await fleet.add("b")
    monkeypatch.setattr(pacing, "CHECK_AFTER", 0.2)
    low = await driver.submit()
    clock.advance(SECOND)
    await driver.submit(make_draft(priority=9))
    await b.takes(low)


async def test_a_worker_that_is_not_known_yet_takes_what_the_only_known_one_does_not(
    fleet: Workers, driver: Driver, clock: ManualClock
) -> None:
    a = await fleet.add("a")
    await fleet.known()
    await a.freeze()
    b = await fleet.add("b")
    task_id = await driver.submit()
    clock.advance(SECOND)
    await b.takes(task_id)
    await fleet.have_heard()
    assert a.told()[0] is True


@pytest.mark.parametrize("fault", [Unavailable("away"), ValueError("a bug")])
async def test_a_look_that_fails_is_repeated_later_and_not_at_once(
    engine: PostgresEngine, monkeypatch: pytest.MonkeyPatch, fault: Exception
) -> None:
    async def fail(_: object) -> None:
        raise fault

    wakeups, now = engine._wakeups, asyncio.get_running_loop().time()
    monkeypatch.setattr(engine._connections, "look", fail)
    wakeups._watch.add("default/sum", (), now)
    with capture_logs() as logs:
        await wakeups._survive(wakeups._check, ["default/sum"])
    assert [entry["event"] for entry in logs] == ["store.not_told"]
    next_at = wakeups._watch.next_at()
    assert next_at is not None
    assert next_at >= now + pacing.LONGEST_PAUSE
