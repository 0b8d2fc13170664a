"""Engine.cancel, retry, delete: allowed changes of a task, and races."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from uuid import UUID

import pytest
from tests.contract.conftest import open_after_the_end

from tasker.engines.protocol import Engine
from tasker.errors import Conflict, NotFound
from tasker.model import NewEvent, Report, RetryPolicy, Status, TaskFilter, new_task_id
from tasker.rules.lifecycle import (
    MAX_INTERRUPTIONS,
    Cancelled,
    Crashed,
    Failed,
    Interrupted,
    Outcome,
    Released,
    Snoozed,
    Succeeded,
    problem,
)
from tasker.testing import Driver, ManualClock, make_draft, make_key

SECOND = timedelta(seconds=1)
MINUTE = timedelta(minutes=1)
FOR_GOOD = Failed(problem("task-failed", "for good"))
AGAIN = Failed(problem("task-failed", "busy", retryable=True))
ENDS: dict[Status, Outcome] = {
    Status.COMPLETED: Succeeded(b"6"),
    Status.FAILED: FOR_GOOD,
    Status.CANCELLED: Cancelled(),
}


async def bring_to(driver: Driver, status: Status) -> UUID:
    """Return a task in `status`; past pending, it has had one attempt."""
    task_id = await driver.submit()
    if status is not Status.PENDING:
        claim = await driver.claim_one()
        if status is not Status.RUNNING:
            assert await driver.finish(claim, ENDS[status])
    assert (await driver.get(task_id)).status is status
    return task_id


# cancel


async def test_a_pending_task_is_cancelled_at_once(driver: Driver, clock: ManualClock) -> None:
    task_id = await driver.submit()
    clock.advance(SECOND)
    task = await driver.engine.cancel(task_id)
    assert (task.task_id, task.status, task.reason) == (task_id, Status.CANCELLED, None)
    assert (task.finished_at, task.next_attempt_at, task.attempt) == (clock.now(), None, 0)
    assert await driver.get(task_id) == task
    assert await driver.claim() == []
    assert await driver.engine.find_attempts(task_id) == []


@pytest.mark.parametrize("outcome", [AGAIN, Snoozed(MINUTE), Released()], ids=["retrying", "snoozed", "released"])
async def test_a_task_between_attempts_is_cancelled_at_once(
    driver: Driver, clock: ManualClock, outcome: Outcome
) -> None:
    task_id = await driver.submit(make_draft(clock.now(), retry=RetryPolicy(max_attempts=5)))
    assert await driver.finish(await driver.claim_one(), outcome)
    assert (await driver.engine.cancel(task_id)).status is Status.CANCELLED
    clock.advance(timedelta(days=1))
    assert await driver.claim() == []
    assert [attempt.attempt for attempt in await driver.engine.find_attempts(task_id)] == [1]


async def test_a_delayed_task_is_cancelled_at_once(driver: Driver, clock: ManualClock) -> None:
    task_id = await driver.submit(make_draft(clock.now(), delay=MINUTE))
    assert (await driver.engine.cancel(task_id)).status is Status.CANCELLED
    clock.advance(MINUTE)
    assert await driver.claim() == []


async def test_a_running_task_is_asked_to_stop(driver: Driver, clock: ManualClock) -> None:
    await driver.engine.submit([make_draft(clock.now()) for _ in range(2)])
    asked, other = await driver.claim(2)
    clock.advance(SECOND)
    task = await driver.engine.cancel(asked.task_id)
    assert (task.status, task.cancel_requested_at, task.finished_at) == (Status.RUNNING, clock.now(), None)

    told = await driver.engine.heartbeat([asked.lease, other.lease], MINUTE)
    assert (told.cancelled, told.lost) == ({asked.lease}, set())
    told = await driver.engine.heartbeat([asked.lease, other.lease], MINUTE)
    assert told.cancelled == {asked.lease}, "told at each heartbeat, for one reply may be lost"


async def test_asking_again_changes_nothing(driver: Driver, clock: ManualClock) -> None:
    task_id = await bring_to(driver, Status.RUNNING)
    first = await driver.engine.cancel(task_id)
    clock.advance(SECOND)
    assert await driver.engine.cancel(task_id) == first
    assert await driver.get(task_id) == first


@pytest.mark.parametrize(
    "outcome", [AGAIN, Snoozed(MINUTE), Released(), Interrupted(), Crashed("gone")], ids=lambda way: type(way).__name__
)
async def test_a_requested_cancel_wins_over_another_attempt(
    driver: Driver, clock: ManualClock, outcome: Outcome
) -> None:
    task_id = await driver.submit(make_draft(clock.now(), retry=RetryPolicy(max_attempts=5)))
    claim = await driver.claim_one()
    await driver.engine.cancel(task_id)
    clock.advance(SECOND)
    assert await driver.finish(claim, outcome)
    task = await driver.get(task_id)
    assert (task.status, task.reason, task.next_attempt_at) == (Status.CANCELLED, None, None)
    assert task.finished_at == clock.now()
    clock.advance(timedelta(days=1))
    assert await driver.claim(5, suspects=5) == []
    [attempt] = await driver.engine.find_attempts(task_id)
    assert attempt.finished_at is not None


@pytest.mark.parametrize("status", [Status.COMPLETED, Status.FAILED])
async def test_an_end_that_came_all_the_same_stands(driver: Driver, status: Status) -> None:
    """Cancel is a request: a function that returned before it was stopped has its result."""
    task_id = await driver.submit()
    claim = await driver.claim_one()
    await driver.engine.cancel(task_id)
    assert await driver.finish(claim, ENDS[status])
    assert (await driver.get(task_id)).status is status


async def test_a_requested_cancel_survives_the_end_of_the_process(
    driver: Driver, engine: Engine, make_engine, clock: ManualClock
) -> None:
    task_id = await bring_to(driver, Status.RUNNING)
    await engine.cancel(task_id)
    await engine.close()
    again = Driver(await open_after_the_end(make_engine, clock), clock)
    assert [claim.task_id for claim in await again.reap()] == [task_id]
    assert (await again.get(task_id)).status is Status.CANCELLED


@pytest.mark.parametrize("status", ENDS)
async def test_a_terminal_task_cannot_be_cancelled(driver: Driver, status: Status) -> None:
    task_id = await bring_to(driver, status)
    before = await driver.get(task_id)
    with pytest.raises(Conflict):
        await driver.engine.cancel(task_id)
    assert await driver.get(task_id) == before


# retry


@pytest.mark.parametrize("status", [Status.FAILED, Status.CANCELLED])
async def test_a_dead_letter_gets_all_its_tries_again(driver: Driver, clock: ManualClock, status: Status) -> None:
    task_id = await driver.submit(make_draft(clock.now(), retry=RetryPolicy(max_attempts=3, initial=timedelta(0))))
    assert await driver.finish(await driver.claim_one(), AGAIN)
    assert await driver.finish(await driver.claim_one(), ENDS[status])
    clock.advance(MINUTE)

    task = await driver.engine.retry(task_id)
    assert (task.task_id, task.status, task.reason) == (task_id, Status.PENDING, "queued")
    assert (task.tries_left, task.attempt) == (3, 2)
    assert (task.result, task.finished_at, task.cancel_requested_at) == (None, None, None)
    assert await driver.get(task_id) == task
    claim = await driver.claim_one()
    assert (claim.attempt, claim.tries, claim.started_at) == (3, 0, clock.now())
    assert [attempt.attempt for attempt in await driver.engine.find_attempts(task_id)] == [1, 2, 3]


async def test_a_retried_task_is_due_now_and_stands_behind_those_that_were_due_before(
    driver: Driver, clock: ManualClock
) -> None:
    first = await driver.submit()
    await driver.engine.cancel(first)
    clock.advance(SECOND)
    second = await driver.submit()
    clock.advance(SECOND)
    await driver.engine.retry(first)
    assert [claim.task_id for claim in await driver.claim(2)] == [second, first]


async def test_a_retried_task_forgets_its_delay(driver: Driver, clock: ManualClock) -> None:
    task_id = await driver.submit(make_draft(clock.now(), delay=MINUTE))
    await driver.engine.cancel(task_id)
    await driver.engine.retry(task_id)
    assert [claim.task_id for claim in await driver.claim()] == [task_id]


async def test_a_retried_task_is_not_cancelled_by_the_old_request(driver: Driver, clock: ManualClock) -> None:
    task_id = await bring_to(driver, Status.RUNNING)
    await driver.engine.cancel(task_id)
    assert len(await driver.engine.find_attempts(task_id)) == 1
    clock.advance(MINUTE)
    await driver.reap()
    assert (await driver.get(task_id)).status is Status.CANCELLED

    await driver.engine.retry(task_id)
    claim = await driver.claim_one()
    assert await driver.engine.heartbeat([claim.lease], MINUTE) == (set(), set())
    assert await driver.finish(claim, Released())
    assert (await driver.get(task_id)).status is Status.PENDING


async def test_a_retried_task_has_its_crashes_and_interruptions_forgiven(driver: Driver, clock: ManualClock) -> None:
    task_id = await driver.submit()
    for _ in range(MAX_INTERRUPTIONS):
        assert await driver.finish(await driver.claim_one(), Interrupted())
    await driver.engine.cancel(task_id)
    await driver.engine.retry(task_id)
    claim = await driver.claim_one()
    assert (claim.interruptions, claim.crashes) == (0, 0)

    while (await driver.get(task_id)).status is not Status.FAILED:
        assert await driver.finish(claim, Crashed("gone"))
        clock.advance(timedelta(hours=1))
        claim = next(iter(await driver.claim()), claim)
    await driver.engine.retry(task_id)
    assert (await driver.claim_one()).crashes == 0


@pytest.mark.parametrize("status", [Status.PENDING, Status.RUNNING, Status.COMPLETED])
async def test_only_failed_and_cancelled_tasks_are_retried(driver: Driver, status: Status) -> None:
    task_id = await bring_to(driver, status)
    before = await driver.get(task_id)
    with pytest.raises(Conflict):
        await driver.engine.retry(task_id)
    assert await driver.get(task_id) == before


# delete


@pytest.mark.parametrize("status", ENDS)
async def test_a_terminal_task_is_erased_with_all_that_belongs_to_it(
    driver: Driver, clock: ManualClock, status: Status
) -> None:
    engine = driver.engine
    draft = make_draft(clock.now(), tags=("t",), idempotency=make_key(clock.now()))
    await engine.submit([draft])
    claim = await driver.claim_one()
    event = NewEvent(type="output", time=clock.now(), data=b"{}")
    assert await driver.finish(claim, ENDS[status], Report(events=(event,)))
    kept = await driver.submit(make_draft(clock.now(), tags=("t",)))

    await engine.delete(draft.task_id)
    assert await engine.find(draft.task_id) is None
    assert await engine.find_attempts(draft.task_id) == []
    assert await engine.find_events(draft.task_id) == []
    for where in (TaskFilter(), TaskFilter(tag="t"), TaskFilter(types=("sum",))):
        assert [task.task_id for task in (await engine.find_many(where, limit=10)).items] == [kept]
    [receipt] = await engine.submit([make_draft(clock.now(), idempotency=make_key(clock.now()))])
    assert receipt.outcome == "stored", "the idempotency key went with its task"


async def test_what_comes_after_an_erased_task_has_nothing_of_it(driver: Driver, clock: ManualClock) -> None:
    engine = driver.engine
    erased = await bring_to(driver, Status.COMPLETED)
    await engine.delete(erased)
    task_id = await driver.submit()
    assert await engine.find_attempts(task_id) == []
    claim = await driver.claim_one()
    event = NewEvent(type="output", time=clock.now(), data=b"{}")
    assert await engine.record(claim.lease, Report(events=(event,)))
    events = await engine.find_events(task_id)
    assert {event.task_id for event in events} == {task_id}
    assert [event.type for event in events] == ["created", "started", "output"]


@pytest.mark.parametrize("status", [Status.PENDING, Status.RUNNING])
async def test_an_open_task_cannot_be_erased(driver: Driver, status: Status) -> None:
    task_id = await bring_to(driver, status)
    before = await driver.get(task_id)
    with pytest.raises(Conflict):
        await driver.engine.delete(task_id)
    assert await driver.get(task_id) == before


async def test_an_erased_task_stays_erased(driver: Driver, make_engine) -> None:
    task_id = await bring_to(driver, Status.COMPLETED)
    await driver.engine.delete(task_id)
    with pytest.raises(NotFound):
        await driver.engine.delete(task_id)
    await driver.engine.close()
    again = await make_engine()
    assert await again.find(task_id) is None


# all three


@pytest.mark.parametrize("step", ["cancel", "retry", "delete"])
async def test_an_unknown_task_is_not_found(engine: Engine, clock: ManualClock, step: str) -> None:
    with pytest.raises(NotFound):
        await getattr(engine, step)(new_task_id(clock.now()))


@pytest.mark.parametrize("status", [Status.FAILED, Status.CANCELLED])
async def test_of_a_retry_and_a_delete_one_wins(driver: Driver, status: Status) -> None:
    for _ in range(10):
        task_id = await bring_to(driver, status)
        retried, deleted = await asyncio.gather(
            driver.engine.retry(task_id), driver.engine.delete(task_id), return_exceptions=True
        )
        won = [not isinstance(reply, BaseException) for reply in (retried, deleted)]
        assert won.count(True) == 1, f"both or none won: {retried!r}, {deleted!r}"
        loser = deleted if won[0] else retried
        assert isinstance(loser, Conflict | NotFound), f"the loser was told {loser!r}"
        assert (await driver.engine.find(task_id) is not None) == won[0]
        if won[0]:
            await driver.engine.cancel(task_id)


async def test_of_many_retries_one_wins(driver: Driver) -> None:
    task_id = await bring_to(driver, Status.FAILED)
    replies = await asyncio.gather(*(driver.engine.retry(task_id) for _ in range(8)), return_exceptions=True)
    conflicts = [reply for reply in replies if isinstance(reply, Conflict)]
    assert len(conflicts) == 7, f"expected one winner and seven conflicts, got {replies}"
    assert len(await driver.claim(10)) == 1


async def test_of_a_cancel_and_a_claim_both_find_a_task_that_makes_sense(driver: Driver, clock: ManualClock) -> None:
    for _ in range(20):
        task_id = await driver.submit()
        claims, cancelled = await asyncio.gather(driver.claim(), driver.engine.cancel(task_id))
        task = await driver.get(task_id)
        if claims:
            assert cancelled.status is task.status is Status.RUNNING
            assert task.cancel_requested_at is not None, "the cancel was lost"
            assert (await driver.engine.heartbeat([claims[0].lease], MINUTE)).cancelled == {claims[0].lease}
            assert await driver.finish(claims[0], Cancelled())
        else:
            assert cancelled.status is task.status is Status.CANCELLED


async def test_a_cancel_and_an_end_give_one_consistent_log(driver: Driver) -> None:
    for _ in range(20):
        task_id = await driver.submit()
        claim = await driver.claim_one()
        ended, cancelled = await asyncio.gather(
            driver.finish(claim, Succeeded(b"6")), driver.engine.cancel(task_id), return_exceptions=True
        )
        assert ended is True, "a result that came in time is kept"
        if isinstance(cancelled, BaseException):
            assert isinstance(cancelled, Conflict)
        else:
            assert cancelled.status is Status.RUNNING
        assert (await driver.get(task_id)).status is Status.COMPLETED
