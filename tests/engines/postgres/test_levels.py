"""Workers of an earlier version in the middle of an upgrade leave tasks that they cannot handle to ours."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from datetime import timedelta
from typing import Any

import asyncpg
import pytest
from tests.engines.postgres.conftest import MakeEngine

from tasker.engines.postgres import PostgresEngine
from tasker.engines.postgres.limits import PARKED
from tasker.engines.postgres.partitions import QueuedTask, at_level, level_of, wanted
from tasker.engines.postgres.transaction import Transaction
from tasker.engines.postgres.waiters import Window
from tasker.engines.protocol import ClaimRequest
from tasker.model import Claim, RetryPolicy
from tasker.model.queues import QueueChange
from tasker.release import LEVEL
from tasker.rules.lifecycle import Failed, Succeeded, problem
from tasker.testing import Driver, ManualClock, make_draft

Sql = Callable[..., Awaitable[list[Any]]]


def make_older(engine: PostgresEngine) -> None:
    """Make an engine what a process of before levels and limits is.

    It knows only partitions without a level, queues tasks there, and starts whatever it finds there.
    """
    start = engine._queries["start_attempts"]
    start, levels = re.subn(
        r"\(task\.attempt \+ 1\) \* 256::bigint \+ \$6", "task.worker_level + 0 * $6::bigint", start
    )
    start, gates = re.subn(r"AND NOT EXISTS \(SELECT FROM \S+queue WHERE .*\)\n", "AND $5::text[] IS NOT NULL\n", start)
    assert (levels, gates) == (1, 1)
    engine._starts._queries = {**engine._queries, "start_attempts": start}
    engine._limits.load = lambda text: None  # type: ignore[method-assign]
    look, enqueue = engine._claims.look, engine._jobs.enqueue

    async def look_without_levels(window: Window) -> tuple[list[str], timedelta | None]:
        partitions, next_in = await look(window)
        return [partition for partition in partitions if "/@" not in partition], next_in

    async def enqueue_without_levels(tx: Transaction, tasks: Sequence[QueuedTask]) -> None:
        await enqueue(tx, [task._replace(level=0) for task in tasks])

    engine._claims.look = look_without_levels  # type: ignore[method-assign, assignment]
    engine._jobs.enqueue = enqueue_without_levels  # type: ignore[method-assign]


@pytest.fixture
async def older(another: MakeEngine, clock: ManualClock) -> Driver:
    engine = await another()
    make_older(engine)
    return Driver(engine, clock)


async def submit(driver: Driver, clock: ManualClock, queue: str, count: int) -> None:
    await driver.engine.submit([make_draft(clock.now(), queue=queue) for _ in range(count)])


async def test_an_older_worker_takes_what_it_knows_and_leaves_the_rest(
    engine: PostgresEngine, driver: Driver, older: Driver, clock: ManualClock
) -> None:
    await submit(driver, clock, "narrow", 3)  # queued when the limit comes
    await engine.queues.change("narrow", QueueChange(concurrency=2))
    await submit(driver, clock, "narrow", 3)
    await submit(driver, clock, "free", 2)
    assert [claim.queue for claim in await older.claim(9)] == ["free", "free"]
    assert [claim.queue for claim in await driver.claim(9)] == ["narrow", "narrow"]
    assert await older.claim(9) == []


@pytest.mark.parametrize("change", [QueueChange(paused=True), QueueChange(concurrency=1)], ids=["paused", "limited"])
async def test_an_older_worker_may_not_start_what_an_older_process_queues(
    engine: PostgresEngine, driver: Driver, older: Driver, clock: ManualClock, change: QueueChange
) -> None:
    await engine.queues.change("narrow", change)
    await submit(older, clock, "narrow", 3)
    await submit(older, clock, "free", 1)
    assert [claim.queue for claim in await older.claim(9)] == ["free"]
    assert [claim.queue for claim in await driver.claim(9)] == ([] if change.paused is True else ["narrow"])


async def test_an_older_worker_may_not_start_what_an_older_process_moves(
    engine: PostgresEngine, older: Driver, clock: ManualClock, sql: Sql
) -> None:
    """As it does with parked tasks."""
    await engine.queues.change("narrow", QueueChange(concurrency=1))
    await submit(older, clock, "narrow", 2)
    await sql("UPDATE pgqueuer SET entrypoint = $1", PARKED)
    await sql("UPDATE pgqueuer SET entrypoint = 'narrow/sum/alone'")
    assert await sql("SELECT DISTINCT entrypoint FROM pgqueuer") == [("narrow/@1/sum/alone",)]


async def test_an_older_worker_is_stopped_until_the_next_sweep_at_most(
    engine: PostgresEngine, another: MakeEngine, older: Driver, clock: ManualClock, sql: Sql
) -> None:
    """Where a claim holds a task in the moment of the first setting; no newer worker is there."""
    await submit(older, clock, "narrow", 3)
    await submit(older, clock, "free", 1)
    await sql("BEGIN")
    await sql("SELECT FROM pgqueuer FOR UPDATE")
    await engine.queues.change("narrow", QueueChange(paused=True))
    await sql("COMMIT")
    with pytest.raises(asyncpg.RaiseError, match="does not know how to keep to what is set of queue narrow"):
        await older.claim(9)
    await (await another()).sweep(limit=1000)
    assert [claim.queue for claim in await older.claim(9)] == ["free"]


async def test_a_sweep_moves_all_jobs_that_a_change_of_settings_has_left(
    engine: PostgresEngine, older: Driver, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasker.engines.postgres.limits._LIFT", 2)
    await submit(older, clock, "narrow", 9)
    await submit(older, clock, "free", 1)
    await engine.queues.change("narrow", QueueChange(paused=True))
    await engine.sweep(limit=1000)
    assert [claim.queue for claim in await older.claim(9)] == ["free"]


async def test_older_workers_go_on_with_a_new_api_process(
    engine: PostgresEngine, another: MakeEngine, older: Driver, clock: ManualClock, sql: Sql
) -> None:
    """Settings, and the jobs of their queues, are older than the schema; no worker of this version claims."""
    await submit(older, clock, "narrow", 3)
    await engine.queues.change("narrow", QueueChange(concurrency=1))
    await submit(older, clock, "free", 2)
    await engine.close()
    await sql("DROP FUNCTION refuse_older_worker, refuse_worker_without_steps, lift_joining, lift_moved CASCADE")
    await sql("ALTER TABLE task DROP COLUMN worker_level")
    await sql("UPDATE pgqueuer SET entrypoint = 'narrow/sum' WHERE entrypoint LIKE 'narrow/%'")
    await sql("DELETE FROM migration WHERE name = '0020_worker_levels'")
    api = await another()
    assert [claim.queue for claim in await older.claim(9)] == ["free", "free"]
    await api.submit([make_draft(clock.now(), queue="narrow"), make_draft(clock.now(), queue="free")])
    await submit(older, clock, "narrow", 1)
    assert [claim.queue for claim in await older.claim(9)] == ["free"]
    assert [claim.queue for claim in await Driver(api, clock).claim(9)] == ["narrow"]


async def test_an_attempt_begun_by_a_newer_worker_allows_an_older_one_nothing(
    engine: PostgresEngine, driver: Driver, older: Driver, clock: ManualClock
) -> None:
    """The level is that of one attempt: the next one, queued by an older process, shows none."""
    await engine.queues.change("narrow", QueueChange(concurrency=1))
    await driver.submit(
        make_draft(clock.now(), queue="narrow", retry=RetryPolicy(max_attempts=3, initial=timedelta(0)))
    )
    claim = (await driver.claim(1))[0]
    await older.finish(claim, Failed(problem("task-raised", "once", retryable=True)))
    assert await older.claim(1) == []
    again = (await driver.claim(1))[0]
    assert (again.task_id, again.attempt) == (claim.task_id, 2)


async def test_a_limit_holds_with_older_workers(
    engine: PostgresEngine, driver: Driver, older: Driver, clock: ManualClock, sql: Sql
) -> None:
    """Both claim and submit at the same time; never do more run than may."""
    await submit(older, clock, "narrow", 5)
    await engine.queues.change("narrow", QueueChange(concurrency=2))
    counts: list[int] = []

    async def claim_older(ended: asyncio.Task[None]) -> None:
        while not ended.done():
            with suppress(asyncpg.RaiseError):  # in the moment of the setting
                assert await older.claim(3) == []
            await submit(older, clock, "narrow", 1)

    async def claim_ours() -> None:
        done = 0
        while done < 8:  # an older worker may hold for a moment what it may not start
            claims: list[Claim] = await driver.claim(3)
            counts.extend(
                row[0] for row in await sql("SELECT count(*) FROM task WHERE status = 'running' AND queue = 'narrow'")
            )
            for claim in claims:
                done += await driver.finish(claim, Succeeded(b"1"))

    ours = asyncio.create_task(claim_ours())
    await asyncio.gather(ours, claim_older(ours))
    assert 1 <= max(counts) <= 2


async def test_looks_move_the_jobs_that_a_change_of_settings_has_left(
    engine: PostgresEngine, driver: Driver, older: Driver, clock: ManualClock, sql: Sql, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasker.engines.postgres.limits._LIFT", 2)
    await submit(driver, clock, "narrow", 5)
    await engine.queues.change("narrow", QueueChange(paused=True))
    counts = []
    for _ in range(3):
        counts.append((await sql("SELECT count(*) FROM pgqueuer WHERE entrypoint = 'narrow/sum'"))[0][0])
        assert await driver.claim(5) == []
    assert counts == [3, 1, 0]
    assert await older.claim(5) == []


async def test_a_task_for_later_workers_waits(engine: PostgresEngine, driver: Driver, sql: Sql) -> None:
    """Jobs that a later version queues at its own level are left to it."""
    task_id = await driver.submit()
    await sql("UPDATE pgqueuer SET entrypoint = $1", f"default/@{LEVEL + 1}/sum")
    assert await driver.claim(1) == []
    assert (await driver.get(task_id)).status == "pending"
    await sql("UPDATE pgqueuer SET entrypoint = $1", f"default/@{LEVEL}/sum")
    assert len(await driver.claim(1)) == 1


def test_partitions_have_levels() -> None:
    request = ClaimRequest(worker="w", types=("sum",), limit=1, lease_for=timedelta(seconds=1), suspects=1)
    known = ["q/sum", f"q/@{LEVEL}/sum", "q/@0/sum"]
    unknown = [f"q/@{LEVEL + 1}/sum", "q/@/sum", "q/@x/sum", "q/@-1/sum", f"q/@{'1' * 5000}/sum", "q/@1", "q/@1/@1/sum"]
    assert wanted(request, [*known, *unknown]) == (known, [])
    assert wanted(request, [f"q/@{LEVEL}/sum/alone"]) == ([], [f"q/@{LEVEL}/sum/alone"])
    for partition in ("q/sum", "q/@3/sum", "q/sum/alone"):
        assert level_of(at_level(partition, 7)) == 7
    assert at_level("q/sum/alone", 1) == "q/@1/sum/alone"
    assert at_level("q/@1/sum", 2) == "q/@2/sum"
