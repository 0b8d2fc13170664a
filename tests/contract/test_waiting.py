"""Engine.claim with waiting workers: new work goes to them at once, by the usual rules."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any
from uuid import UUID

import msgspec
from tests.contract.conftest import open_after_the_end

from tasker.engines.protocol import Engine
from tasker.model import Claim, Policy, RetryPolicy, Status, TaskFilter
from tasker.rules.lifecycle import Released, Succeeded
from tasker.testing import Driver, ManualClock, make_draft, make_key

SECOND = timedelta(seconds=1)
MINUTE = timedelta(minutes=1)


async def waits(driver: Driver, limit: int = 1, **options: Any) -> asyncio.Task[list[Claim]]:
    """Return a claim that has looked, has found nothing, and waits."""
    waiting = asyncio.create_task(driver.claim(limit, wait_for=MINUTE, **options))
    for _ in range(2):
        await driver.engine.check()  # a write of our own: by its end the claim has had its turn
    assert not waiting.done(), f"nothing was there to be claimed, and the answer was {waiting}"
    return waiting


async def told(waiting: asyncio.Task[list[Claim]]) -> list[UUID]:
    async with asyncio.timeout(30):
        return [claim.task_id for claim in await waiting]


async def still_waits(driver: Driver, waiting: asyncio.Task[list[Claim]]) -> bool:
    await driver.engine.check()
    return not waiting.done()


async def test_a_new_task_is_whole_although_a_worker_waits_for_it(driver: Driver, clock: ManualClock) -> None:
    waiting = await waits(driver)
    clock.advance(SECOND)
    policy = RetryPolicy(max_attempts=3)
    draft = make_draft(
        clock.now(), params=b"[1, 2]", priority=7, queue="q", retry=policy, on_crash="fail", tags=("a", "b"),
        metadata=b'{"n":1}', idempotency=make_key(clock.now()),
    )  # fmt: skip
    task_id = await driver.submit(draft)
    [claim] = await waiting
    assert claim == Claim(
        task_id=task_id, attempt=1, type="sum", params=b"[1, 2]", queue="q", priority=7,
        policy=Policy(retry=policy, on_crash="fail"), tries=0, crashes=0, interruptions=0, started_at=clock.now(),
        worker="worker-1",
    )  # fmt: skip
    task = await driver.get(task_id)
    assert (task.status, task.reason, task.attempt, task.tries_left) == (Status.RUNNING, None, 1, 3)
    assert (task.created_at, task.started_at, task.finished_at) == (clock.now(), clock.now(), None)
    assert (task.queue, task.priority, sorted(task.tags)) == ("q", 7, ["a", "b"])
    assert (bytes(task.params), msgspec.json.decode(task.metadata)) == (b"[1, 2]", {"n": 1})
    [attempt] = await driver.engine.find_attempts(task_id)
    assert (attempt.attempt, attempt.worker, attempt.ending) == (1, "worker-1", None)
    for where in (TaskFilter(tag="b"), TaskFilter(status=(Status.RUNNING,)), TaskFilter(types=("sum",))):
        assert [found.task_id for found in (await driver.engine.find_many(where, limit=10)).items] == [task_id]
    [again] = await driver.engine.submit([msgspec.structs.replace(draft, task_id=UUID(int=1))])
    assert (again.task_id, again.outcome) == (task_id, "replayed")

    assert await driver.engine.heartbeat([claim.lease], MINUTE) == (set(), set())
    assert await driver.finish(claim, Succeeded(b"3"))
    assert (await driver.get(task_id)).status is Status.COMPLETED


async def test_its_lease_ends_and_a_restart_cuts_it_off(driver: Driver, make_engine, clock: ManualClock) -> None:
    waiting = await waits(driver)
    await driver.submit()
    [claim] = await waiting
    assert await driver.engine.find_expired(limit=10) == []
    clock.advance(31 * SECOND)
    assert await driver.engine.find_expired(limit=10) == [claim]
    await driver.engine.heartbeat([claim.lease], MINUTE)
    await driver.engine.close()
    again = await open_after_the_end(make_engine, clock, after=MINUTE)
    assert await again.find_expired(limit=10) == [claim]


async def test_work_for_others_leaves_a_worker_waiting(driver: Driver, clock: ManualClock) -> None:
    waiting = await waits(driver, 5, queues=["mine"])
    others = [
        make_draft(clock.now(), type="other", queue="mine"),
        make_draft(clock.now(), queue="theirs"),
        make_draft(clock.now(), queue="mine", delay=MINUTE),
    ]
    for draft in others:
        await driver.submit(draft)
    assert await still_waits(driver, waiting)
    mine = await driver.submit(make_draft(clock.now(), queue="mine"))
    assert await told(waiting) == [mine]
    assert {(await driver.get(draft.task_id)).status for draft in others} == {Status.PENDING}


async def test_a_worker_with_room_for_suspects_alone_takes_no_ordinary_task(driver: Driver) -> None:
    waiting = await waits(driver, 0, suspects=1)
    task_id = await driver.submit()
    assert await still_waits(driver, waiting)
    assert [claim.task_id for claim in await driver.claim()] == [task_id]


async def test_of_many_new_tasks_each_worker_takes_what_it_has_room_for(driver: Driver, clock: ManualClock) -> None:
    waiting = [await waits(driver, 2), await waits(driver, 1)]
    drafts = [make_draft(clock.now()) for _ in range(5)]
    await asyncio.gather(*(driver.engine.submit([draft]) for draft in drafts))
    claimed = [await told(claims) for claims in waiting]
    assert [len(ids) for ids in claimed] == [2, 1]
    assert {task_id for ids in claimed for task_id in ids} == {draft.task_id for draft in drafts[:3]}
    assert [claim.task_id for claim in await driver.claim(10)] == [draft.task_id for draft in drafts[3:]]


async def test_a_submission_of_many_goes_by_priority(driver: Driver, clock: ManualClock) -> None:
    waiting = await waits(driver, 2)
    drafts = [make_draft(clock.now(), priority=priority) for priority in (0, 5, -1, 9)]
    await driver.engine.submit(drafts)
    assert await told(waiting) == [drafts[3].task_id, drafts[1].task_id]


async def test_a_new_task_does_not_overtake_one_that_came_back(driver: Driver, clock: ManualClock) -> None:
    """The one that comes back has the larger priority, and another type. Only one process can promise one commit."""
    await driver.submit(make_draft(clock.now(), type="other", priority=9))
    back = await driver.claim_one(types=["other"])
    waiting = await waits(driver, types=["sum", "other"])
    _, new = await asyncio.gather(driver.finish(back, Released()), driver.submit())
    taken = await told(waiting)
    assert taken == [back.task_id] or (driver.engine.is_shared and taken == [new])
    assert {task.status for task in [await driver.get(back.task_id), await driver.get(new)]} == {
        Status.RUNNING, Status.PENDING,
    }  # fmt: skip


async def test_a_new_task_does_not_overtake_one_that_has_just_become_due(driver: Driver, clock: ManualClock) -> None:
    scheduled = await driver.submit(make_draft(clock.now(), delay=10 * SECOND, type="other"))
    waiting = await waits(driver, types=["sum", "other"])
    clock.advance(20 * SECOND)
    new = await driver.submit()
    assert await told(waiting) == [scheduled], "due ten seconds before the new one"
    assert (await driver.get(new)).status is Status.PENDING


async def test_a_replay_wakes_no_claim(driver: Driver, clock: ManualClock) -> None:
    draft = make_draft(clock.now(), idempotency=make_key(clock.now()))
    await driver.submit(draft)
    await driver.finish(await driver.claim_one(), Succeeded(b"6"))
    waiting = await waits(driver)
    [receipt] = await driver.engine.submit([make_draft(clock.now(), idempotency=make_key(clock.now()))])
    assert receipt.outcome == "replayed"
    assert await still_waits(driver, waiting)


async def test_a_worker_that_has_just_left_is_given_nothing(driver: Driver, engine: Engine) -> None:
    """Its wait ends, and a task comes before the loop has delivered that: the task's try is not used up.

    With PostgreSQL it may just be looking, woken by the end of the previous task: it gives back what it finds.
    """
    for _ in range(5):
        waiting = await waits(driver)
        waiting.cancel()
        task_id = await driver.submit()
        await asyncio.wait([waiting])
        async with asyncio.timeout(30):
            [claim] = await driver.claim(wait_for=MINUTE)
        assert (claim.task_id, claim.tries) == (task_id, 0), "a try was spent on a worker that had left"
        *before, _ = [attempt.ending for attempt in await engine.find_attempts(task_id)]
        assert before == [] or (engine.is_shared and before == ["released"])
        assert await driver.finish(claim, Succeeded(b"6"))
