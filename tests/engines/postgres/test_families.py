"""Families in several processes: no deadlock, no lost wake-up, no end that is counted twice."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from random import Random
from typing import Any
from uuid import UUID

import pytest
from structlog.testing import capture_logs
from tests.contract.conftest import Changes
from tests.contract.steps import claim_children, new_question, new_step, one_step, park, put, start
from tests.engines.postgres.conftest import MakeEngine

from tasker.engines.postgres import PostgresEngine
from tasker.model import Change, Claim, Status, WorkerInfo
from tasker.rules.lifecycle import Cancelled, Failed, Succeeded, problem
from tasker.testing import Driver, ManualClock, make_draft

BROKEN = Failed(problem("task-failed", "broken"))
DONE = Succeeded(b"1")
SQL = Callable[..., Awaitable[list[Any]]]
PARENTS = 6
CHILDREN = 7


@pytest.fixture
async def there(another: MakeEngine, clock: ManualClock, engine: PostgresEngine) -> Driver:
    """A worker in another process."""
    return Driver(await another(), clock, worker="there")


def worker(name: str, clock: ManualClock) -> WorkerInfo:
    return WorkerInfo(
        worker_id=name, host="here", pid=1, version="0", started_at=clock.now(), queues=None, types=("sum",),
        slots=1, processes=1,
    )  # fmt: skip


async def claim_parent(driver: Driver, **options: Any) -> Claim:
    await driver.submit(make_draft(driver.clock.now(), **options))
    return await driver.claim_one()


async def is_idle(*drivers: Driver) -> None:
    """Return once nothing is left to be settled in the background."""
    async with asyncio.timeout(30):
        for driver in drivers:
            assert isinstance(driver.engine, PostgresEngine)
            while driver.engine._settler._task is not None:
                await asyncio.wait([driver.engine._settler._task])


@pytest.mark.long
async def test_children_end_in_two_processes_while_their_parents_park_are_cancelled_and_run_again(
    driver: Driver, there: Driver
) -> None:
    """Real transactions in random order: a deadlock shows in the log, a lost wake-up in the parent's reason."""
    random = Random(7)
    with capture_logs() as logs:
        for _ in range(12):
            await one_round(random, driver, there)
    assert [one for one in logs if "Deadlock" in str(one.get("reason"))] == []


async def one_round(random: Random, *drivers: Driver) -> None:
    parents: list[tuple[Driver, Claim]] = []
    for place in range(PARENTS):
        driver = drivers[place % 2]
        claim = await claim_parent(driver)
        await start(driver, claim, CHILDREN, max_in_flight=(None, 3)[place // 2 % 2])
        parents.append((driver, claim))
    (failing, cancelled), parked = parents[:2], parents[2:]
    work = [park(driver, claim, children=("map",)) for driver, claim in parked]
    work += [failing[0].finish(failing[1], BROKEN), cancelled[0].engine.cancel(cancelled[1].task_id)]
    claims = [(driver, claim) for driver in drivers for claim in await claim_children(driver, 12)]
    work += [driver.finish(claim, random.choice((DONE, BROKEN))) for driver, claim in claims]
    random.shuffle(work)
    await asyncio.gather(*work)
    await asyncio.gather(cancelled[0].finish(cancelled[1], Cancelled()), failing[0].engine.retry(failing[1].task_id))
    while rest := [(driver, claim) for driver in drivers for claim in await claim_children(driver, 9)]:
        await asyncio.gather(*(driver.finish(claim, DONE) for driver, claim in rest))
    await is_idle(*drivers)
    for driver, claim in parked:
        task = await driver.get(claim.task_id)
        assert (task.status, task.reason) == (Status.PENDING, "queued")
    ended = await all_ended(drivers[0], [claim.task_id for _, claim in parents])
    assert ended == [CHILDREN] * PARENTS
    for driver in drivers:
        for claim in await driver.claim(PARENTS):
            await driver.finish(claim, DONE)


async def all_ended(driver: Driver, parents: list[UUID]) -> list[int]:
    """Return how many children of each parent have ended: by its counts, which the children must confirm."""
    counted = []
    for task_id in parents:
        step = await one_step(driver.engine, task_id, "map")
        found = [child.status for child in await driver.engine.steps.find_children(task_id, "map")]
        assert (step.completed, step.failed, step.cancelled) == tuple(
            found.count(status) for status in (Status.COMPLETED, Status.FAILED, Status.CANCELLED)
        )
        counted.append(step.total - step.open_children)
    return counted


async def test_steps_are_locked_in_one_order(driver: Driver, sql: SQL) -> None:
    """While a transaction waits for the first of its steps, it has locked no later one."""
    parents = [await claim_parent(driver) for _ in range(2)]
    for claim, number in zip(parents, (2, 1), strict=True):
        await start(driver, claim, 1, options={"task_id": UUID(int=number)})
    first = "task_seq = (SELECT min(task_seq) FROM step)"
    await sql(f"UPDATE step SET name = '' WHERE {first}")  # so it is read last, without an order
    claims = await claim_children(driver)
    locking = "SELECT FROM step WHERE task_seq = (SELECT seq FROM task WHERE task_id = $1) FOR UPDATE"
    await sql("BEGIN")
    await sql(locking, parents[0].task_id)
    ending = asyncio.gather(*(driver.finish(claim, DONE) for claim in claims))
    async with asyncio.timeout(20):
        while not await sql("SELECT FROM pg_locks WHERE NOT granted"):
            await asyncio.sleep(0.01)
    await sql(f"{locking} NOWAIT", parents[1].task_id)
    await sql("COMMIT")
    assert await ending == [True, True]
    assert await all_ended(driver, [claim.task_id for claim in parents]) == [1, 1]


async def test_a_child_that_ends_there_is_heard_by_the_worker_of_its_parent(
    driver: Driver, there: Driver, another: MakeEngine, clock: ManualClock
) -> None:
    """Nobody has to follow the parent; a third process hears nothing of it."""
    await driver.engine.workers.announce(worker(driver.worker, clock))
    third = await another()
    heard, overheard = Changes(driver.engine), Changes(third)
    claim = await claim_parent(driver)
    await start(driver, claim, 1)
    [child] = await claim_children(there)
    await there.finish(child, DONE)
    await heard.until(Change(claim.task_id, Status.RUNNING, spoke=True))
    await put(driver.engine, claim, new_question(clock.now()))
    heard.heard.clear()
    await there.engine.steps.answer(claim.task_id, "approve", b"true", "me")
    await heard.until(Change(claim.task_id, Status.RUNNING, spoke=True))
    await driver.engine.cancel(claim.task_id)
    await overheard.until(Change(claim.task_id, Status.RUNNING, cancel_requested=True))
    assert Change(claim.task_id, Status.RUNNING, spoke=True) not in overheard.heard


async def test_a_worker_that_was_overtaken_changes_nothing(
    driver: Driver, there: Driver, engine: PostgresEngine, clock: ManualClock, sql: SQL
) -> None:
    claim = await claim_parent(driver)
    clock.advance(timedelta(seconds=31))
    await there.reap()
    current = await there.claim_one()
    assert current.attempt == claim.attempt + 1
    before = await everything(sql)
    assert not await put(engine, claim, new_step(clock.now()))
    with pytest.raises(AssertionError):  # no step
        await start(driver, claim, 2)
    assert await engine.steps.run_children_again(claim.lease, "map") is None
    assert await engine.steps.close_question(claim.lease, "approve", None) is None
    assert not await park(driver, claim, children=("map",))
    assert await everything(sql) == before
    assert await put(there.engine, current, new_step(clock.now()))


async def everything(sql: SQL) -> list[Any]:
    """Return all that is stored about tasks."""
    tables = "task", "step", "child", "task_event", "attempt", "pgqueuer"
    return [await sql(f"SELECT {table}::text FROM {table} ORDER BY 1") for table in tables]


async def test_a_wake_up_that_finds_the_parent_locked_follows(driver: Driver, engine: PostgresEngine, sql: SQL) -> None:
    """Whoever has locked it may want a step that the child's transaction has locked: it must not wait."""
    claim = await claim_parent(driver)
    await start(driver, claim, 1)
    await park(driver, claim, children=("map",))
    [child] = await claim_children(driver)
    await sql("BEGIN")
    await sql("SELECT seq FROM task WHERE task_id = $1 FOR UPDATE", claim.task_id)
    async with asyncio.timeout(3):
        assert await driver.finish(child, DONE)
    assert (await driver.get(claim.task_id)).reason == "waiting_for_children"
    await sql("COMMIT")
    await is_idle(driver)
    assert (await driver.get(claim.task_id)).reason == "queued"


async def test_a_held_child_that_is_locked_starts_later(driver: Driver, sql: SQL) -> None:
    claim = await claim_parent(driver)
    children = await start(driver, claim, 2, max_in_flight=1)
    [first] = await claim_children(driver)
    await sql("BEGIN")
    await sql("SELECT seq FROM task WHERE task_id = $1 FOR UPDATE", children[1])
    async with asyncio.timeout(3):
        assert await driver.finish(first, DONE)
    assert await claim_children(driver) == []
    await sql("COMMIT")
    await is_idle(driver)
    assert [one.task_id for one in await claim_children(driver)] == children[1:]


async def test_children_that_are_locked_are_cancelled_later(driver: Driver, sql: SQL) -> None:
    claim = await claim_parent(driver)
    children = await start(driver, claim, 2)
    await sql("BEGIN")
    await sql("SELECT seq FROM task WHERE task_id = $1 FOR UPDATE", children[0])
    async with asyncio.timeout(3):
        assert await driver.finish(claim, BROKEN)
    assert (await driver.get(children[1])).status is Status.CANCELLED
    await sql("COMMIT")
    await is_idle(driver)
    assert (await driver.get(children[0])).status is Status.CANCELLED


# sweeps: processes of earlier versions know no families


AS_OLDER = "UPDATE task SET status = $2, finished_at = now(), lined = false WHERE task_id = $1"
"""How such a process ends a task."""


async def test_a_sweep_counts_children_that_an_older_process_has_ended(
    driver: Driver, engine: PostgresEngine, sql: SQL
) -> None:
    claim = await claim_parent(driver)
    children = await start(driver, claim, 3, max_in_flight=1)
    await park(driver, claim, children=("map",))
    await sql(AS_OLDER, children[0], "cancelled")
    await sql("DELETE FROM pgqueuer")
    assert await claim_children(driver) == []
    await engine.sweep(limit=100)
    [second] = await claim_children(driver)
    assert second.task_id == children[1]
    await driver.finish(second, DONE)
    await sql(AS_OLDER, children[2], "failed")
    await engine.sweep(limit=100)
    step = await one_step(engine, claim.task_id, "map")
    assert (step.completed, step.failed, step.cancelled) == (1, 1, 1)
    assert (await driver.claim_one()).task_id == claim.task_id


async def test_a_sweep_cancels_the_children_of_a_parent_that_an_older_process_has_ended(
    driver: Driver, engine: PostgresEngine, sql: SQL
) -> None:
    claim = await claim_parent(driver)
    children = await start(driver, claim, 2)
    await park(driver, claim, children=("map",))
    await sql(AS_OLDER, claim.task_id, "failed")
    await engine.sweep(limit=100)
    assert [(await driver.get(task_id)).status for task_id in children] == [Status.CANCELLED] * 2


async def test_a_sweep_wakes_a_parent_whose_wait_is_there(driver: Driver, engine: PostgresEngine, sql: SQL) -> None:
    """Its process ended right after the child's last end, when another transaction had locked the parent."""
    claim = await claim_parent(driver)
    await start(driver, claim, 1)
    await park(driver, claim, children=("map",))
    [child] = await claim_children(driver)
    await driver.finish(child, DONE)
    await sql(
        "UPDATE task SET reason = 'waiting_for_children', due_at = '9999-01-01Z' WHERE task_id = $1", claim.task_id
    )
    await sql("DELETE FROM pgqueuer")
    await sql("UPDATE task SET lined = false")
    assert await driver.claim(1) == []
    await engine.sweep(limit=100)
    assert (await driver.claim_one()).task_id == claim.task_id


# levels


async def test_what_has_steps_waits_where_older_workers_do_not_look(
    driver: Driver, engine: PostgresEngine, clock: ManualClock, sql: SQL
) -> None:
    claim = await claim_parent(driver)
    await put(engine, claim, new_step(clock.now()))
    await start(driver, claim, 1)
    await park(driver, claim, until=clock.now())
    await driver.submit(make_draft(clock.now(), type="plain"))
    found = await sql("SELECT entrypoint FROM pgqueuer ORDER BY 1")
    assert found == [("default/@2/child",), ("default/@2/sum",), ("default/plain",)]


async def test_an_older_worker_cannot_start_what_has_steps(
    driver: Driver, engine: PostgresEngine, clock: ManualClock, sql: SQL
) -> None:
    """Its process had queued it, for it had become due; a sweep moves it."""
    claim = await claim_parent(driver)
    await put(engine, claim, new_step(clock.now()))
    await park(driver, claim, until=clock.now())
    plain = await driver.submit(make_draft(clock.now(), type="plain"))
    await sql("UPDATE pgqueuer SET entrypoint = replace(entrypoint, '@2/', '')")
    begin = "UPDATE task SET status = 'running', attempt = attempt + 1, worker = 'old' WHERE task_id = $1"
    with pytest.raises(Exception, match="does not know the steps of task"):
        await sql(begin, claim.task_id)
    await sql(begin, plain)
    await engine.sweep(limit=100)
    assert [name for (name,) in await sql("SELECT entrypoint FROM pgqueuer")] == ["default/@2/sum"]
    assert (await driver.claim_one()).task_id == claim.task_id


# statistics


async def test_parked_and_held_tasks_count_as_waiting_and_no_park_as_a_run(
    driver: Driver, engine: PostgresEngine, clock: ManualClock, sql: SQL
) -> None:
    claim = await claim_parent(driver)
    await start(driver, claim, 3, max_in_flight=1)
    clock.advance(timedelta(seconds=5))
    await park(driver, claim, children=("map",))
    counted = "SELECT sum(pending)::int, sum(waiting)::int, sum(running)::int, sum(retried)::int, sum(run_time)::int"
    assert await sql(f"{counted} FROM task_change WHERE type = 'sum'") == [(1, 1, 0, 0, 0)]
    assert await sql(f"{counted} FROM task_change WHERE type = 'child'") == [(3, 2, 0, 0, 0)]
    assert await sql("SELECT FROM task_change WHERE runs <> '{}'") == []
    while claims := await claim_children(driver):
        await driver.finish(claims[0], DONE)
    assert await sql(f"{counted} FROM task_change WHERE type = 'sum'") == [(1, 0, 0, 0, 0)]
    assert await sql("SELECT sum(pending), sum(waiting) FROM task_change WHERE type = 'child'") == [(0, 0)]


async def test_a_sweep_forgets_what_ended_tasks_awaited(driver: Driver, sql: SQL) -> None:
    """Otherwise later sweeps look at every family that ever parked."""
    claim = await claim_parent(driver)
    await start(driver, claim, 1)
    await park(driver, claim, children=("map",))
    awaited = "SELECT number FROM step WHERE is_awaited"
    await driver.engine.sweep(limit=100)
    assert await sql(awaited) == [(1,)]
    for _ in range(2):  # the child, and its parent
        await driver.finish((await driver.claim(1, types=("child", "sum")))[0], DONE)
    await driver.engine.sweep(limit=100)
    assert await sql(awaited) == []


@pytest.mark.parametrize("is_settled", [False, True])
async def test_children_go_on_if_an_older_process_has_erased_their_parent(
    driver: Driver, sql: SQL, is_settled: bool
) -> None:
    """It does not know that they are erased first. Sweeps reach the families after it."""
    erased, failed = await claim_parent(driver), await claim_parent(driver)
    children = await start(driver, erased, 3, max_in_flight=1, options={"retention": timedelta(days=1)})
    [left] = await start(driver, failed, 1)
    await driver.finish((await claim_children(driver, 1))[0], DONE)
    await driver.finish(erased, DONE)
    await sql("UPDATE child SET is_settled = $1 WHERE parent = (SELECT min(parent) FROM child)", is_settled)
    await sql("DELETE FROM task WHERE task_id = $1", erased.task_id)
    await sql("UPDATE task SET status = 'failed', lined = false WHERE task_id = $1", failed.task_id)
    for _ in range(3):
        await driver.engine.sweep(limit=1)
        await is_idle(driver)
    assert (await driver.get(left)).status is Status.CANCELLED
    while claims := await claim_children(driver):
        for claim in claims:
            await driver.finish(claim, DONE)
    ended = [await driver.get(child) for child in children]
    assert [(task.status, task.expires_at is None) for task in ended] == [(Status.COMPLETED, False)] * 3


async def test_a_child_that_ends_while_its_parent_is_retried_is_kept(
    driver: Driver, another: MakeEngine, sql: SQL, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = await another()
    claim = await claim_parent(driver)
    [child] = await start(driver, claim, 1, options={"retention": timedelta(seconds=1)})
    [running] = await claim_children(driver)
    await driver.finish(claim, BROKEN)
    await is_idle(driver)
    kept, go_on, keep = asyncio.Event(), asyncio.Event(), there._families._await_steps

    async def wait(*values: Any) -> None:
        kept.set()
        await go_on.wait()
        await keep(*values)

    monkeypatch.setattr(there._families, "_await_steps", wait)
    retrying = asyncio.create_task(there.retry(claim.task_id))
    await kept.wait()
    ending = asyncio.create_task(driver.finish(running, Cancelled()))
    async with asyncio.timeout(20):
        while not await sql("SELECT FROM pg_locks WHERE NOT granted"):
            await asyncio.sleep(0.01)
    go_on.set()
    await asyncio.gather(retrying, ending)
    await is_idle(driver)
    task = await driver.get(child)
    assert (task.status, task.expires_at) == (Status.CANCELLED, None)
    await driver.finish(await driver.claim_one(), DONE)
    await is_idle(driver)
    assert (await driver.get(child)).expires_at is not None
