"""Engine.complete: what a task becomes after each way an attempt can end."""

from __future__ import annotations

from datetime import timedelta
from random import Random

import msgspec
import pytest

from tasker.engines.protocol import Engine
from tasker.model import ExceptionInfo, NewEvent, Progress, Report, RetryPolicy, Status
from tasker.rules.lifecycle import (
    MAX_CRASHES,
    Cancelled,
    Crashed,
    Failed,
    Interrupted,
    Outcome,
    Released,
    Snoozed,
    Succeeded,
    TimedOut,
    decide,
    problem,
)
from tasker.testing import Driver, ManualClock, make_draft

SECOND = timedelta(seconds=1)
TEN_TRIES = RetryPolicy(max_attempts=10, initial=10 * SECOND, factor=1, jitter=False)


async def test_success_completes_the_task(driver: Driver, clock: ManualClock) -> None:
    task_id = await driver.submit()
    claim = await driver.claim_one()
    started_at = clock.now()
    clock.advance(SECOND)
    assert await driver.finish(claim, Succeeded(b'{"b": 1.10, "a": [6]}'))

    task = await driver.get(task_id)
    assert (task.status, task.reason, task.error) == (Status.COMPLETED, None, None)
    assert bytes(task.result or b"") == b'{"b": 1.10, "a": [6]}', "a result is kept as it came"
    assert (task.attempt, task.tries_left) == (1, 0)
    assert (task.started_at, task.finished_at, task.next_attempt_at) == (started_at, clock.now(), None)
    [attempt] = await driver.engine.find_attempts(task_id)
    assert (attempt.ending, attempt.error) == ("succeeded", None)
    assert (attempt.started_at, attempt.finished_at) == (started_at, clock.now())
    assert await driver.claim() == []


async def test_null_is_a_result(driver: Driver) -> None:
    """A task that returned None has the result null, which is not the same as none yet; the wire shows both as null."""
    task_id = await driver.submit()
    assert await driver.finish(await driver.claim_one(), Succeeded(b"null"))
    task = await driver.get(task_id)
    assert msgspec.json.decode(msgspec.json.encode(task))["result"] is None
    assert task.status is Status.COMPLETED


async def test_a_large_result_is_kept(driver: Driver) -> None:
    task_id = await driver.submit()
    result = b'"' + b"x" * 1_000_000 + b'"'
    assert await driver.finish(await driver.claim_one(), Succeeded(result))
    assert bytes((await driver.get(task_id)).result or b"") == result


async def test_failure_for_good_fails_the_task_and_tells_why(driver: Driver, clock: ManualClock) -> None:
    task_id = await driver.submit(make_draft(clock.now(), retry=TEN_TRIES))
    why = msgspec.structs.replace(
        problem("task-raised", "ValueError: no — “such” thing\n\x1b[2J"),
        exception=ExceptionInfo(class_="builtins.ValueError", message="no"),
        traceback="Traceback...",
    )
    assert await driver.finish(await driver.claim_one(), Failed(why))

    task = await driver.get(task_id)
    assert (task.status, task.result, task.tries_left) == (Status.FAILED, None, 9)
    expected = msgspec.structs.replace(why, attempt=1)
    assert task.error == expected
    assert (task.finished_at, task.next_attempt_at) == (clock.now(), None)
    [attempt] = await driver.engine.find_attempts(task_id)
    assert (attempt.ending, attempt.error) == ("failed", expected)
    assert await driver.claim() == []


async def test_a_failure_worth_a_retry_waits_its_delay(driver: Driver, clock: ManualClock) -> None:
    task_id = await driver.submit(make_draft(clock.now(), retry=TEN_TRIES))
    claim = await driver.claim_one()
    assert await driver.finish(claim, Failed(problem("task-failed", "busy", retryable=True)))

    task = await driver.get(task_id)
    assert (task.status, task.reason) == (Status.PENDING, "retrying")
    assert (task.attempt, task.tries_left) == (1, 9)
    assert task.next_attempt_at == clock.now() + 10 * SECOND
    assert task.finished_at is None
    assert task.error is not None
    assert (task.error.detail, task.error.attempt) == ("busy", 1)
    assert await driver.claim() == []
    clock.advance(10 * SECOND)
    again = await driver.claim_one()
    assert (again.attempt, again.tries, again.crashes, again.interruptions) == (2, 1, 0, 0)


async def test_a_success_after_a_failure_leaves_the_failure_to_its_attempt(driver: Driver, clock: ManualClock) -> None:
    task_id = await driver.submit(make_draft(clock.now(), retry=TEN_TRIES))
    assert await driver.finish(await driver.claim_one(), Failed(problem("task-failed", "busy", retryable=True)))
    clock.advance(10 * SECOND)
    assert await driver.finish(await driver.claim_one(), Succeeded(b"6"))

    task = await driver.get(task_id)
    assert (task.status, task.error) == (Status.COMPLETED, None), "a completed task has no error"
    first, second = await driver.engine.find_attempts(task_id)
    assert (first.attempt, first.ending, first.error and first.error.detail) == (1, "failed", "busy")
    assert (second.attempt, second.ending, second.error) == (2, "succeeded", None)
    assert first.finished_at is not None
    assert first.finished_at < second.started_at


async def test_the_last_try_makes_a_dead_letter(driver: Driver, clock: ManualClock) -> None:
    task_id = await driver.submit(make_draft(clock.now(), retry=RetryPolicy(max_attempts=3, jitter=False)))
    for tries_left in (2, 1, 0):
        claim = await driver.claim_one()
        assert await driver.finish(claim, Failed(problem("task-failed", "busy", retryable=True)))
        task = await driver.get(task_id)
        assert task.tries_left == tries_left
        clock.advance(10 * SECOND)
    assert task.status is Status.FAILED
    assert [attempt.ending for attempt in await driver.engine.find_attempts(task_id)] == ["failed"] * 3


@pytest.mark.parametrize(
    ("outcome", "ending", "reason", "delay", "tries_left"),
    [
        pytest.param(TimedOut(5 * SECOND), "timed_out", "retrying", 10 * SECOND, 9, id="timed out"),
        pytest.param(Snoozed(7 * SECOND), "snoozed", "snoozed", 7 * SECOND, 10, id="snoozed"),
        pytest.param(Released(), "released", "queued", timedelta(0), 10, id="released"),
        pytest.param(Interrupted(), "interrupted", "queued", timedelta(0), 10, id="interrupted"),
    ],
)
async def test_ways_back_to_the_line(
    driver: Driver,
    clock: ManualClock,
    outcome: Outcome,
    ending: str,
    reason: str,
    delay: timedelta,
    tries_left: int,
) -> None:
    task_id = await driver.submit(make_draft(clock.now(), retry=TEN_TRIES))
    assert await driver.finish(await driver.claim_one(), outcome)
    task = await driver.get(task_id)
    assert (task.status, task.reason, task.tries_left) == (Status.PENDING, reason, tries_left)
    [attempt] = await driver.engine.find_attempts(task_id)
    assert (attempt.ending, attempt.finished_at) == (ending, clock.now())
    if delay:
        assert task.next_attempt_at == clock.now() + delay
        assert await driver.claim() == []
    clock.advance(delay)
    again = await driver.claim_one()
    assert (again.attempt, again.tries) == (2, 10 - tries_left)


async def test_crashes_are_counted_apart_from_tries(driver: Driver, clock: ManualClock) -> None:
    task_id = await driver.submit(make_draft(clock.now(), retry=TEN_TRIES))
    for crashes in range(MAX_CRASHES):
        claim = await driver.claim_one()
        assert (claim.crashes, claim.tries) == (crashes, 0)
        assert await driver.finish(claim, Crashed("the process died of signal 9"))
        clock.advance(timedelta(hours=1))
    task = await driver.get(task_id)
    assert (task.status, task.tries_left) == (Status.FAILED, 10)
    assert task.error is not None
    assert task.error.type == "/problems/worker-crashed"
    assert [attempt.ending for attempt in await driver.engine.find_attempts(task_id)] == ["crashed"] * MAX_CRASHES


async def test_a_crash_is_final_where_the_policy_says_so(driver: Driver, clock: ManualClock) -> None:
    task_id = await driver.submit(make_draft(clock.now(), on_crash="fail", retry=TEN_TRIES))
    assert await driver.finish(await driver.claim_one(), Crashed("gone"))
    assert (await driver.get(task_id)).status is Status.FAILED


async def test_interruptions_count_in_a_row(driver: Driver, clock: ManualClock) -> None:
    await driver.submit(make_draft(clock.now(), retry=TEN_TRIES))
    for interruptions in (0, 1):
        claim = await driver.claim_one()
        assert claim.interruptions == interruptions
        assert await driver.finish(claim, Interrupted())
    claim = await driver.claim_one()
    assert claim.interruptions == 2
    assert await driver.finish(claim, Failed(problem("task-failed", "busy", retryable=True)))
    clock.advance(10 * SECOND)
    assert (await driver.claim_one()).interruptions == 0, "an attempt that came to its own end ends the row"


async def test_an_attempt_that_stopped_for_a_cancel_is_cancelled(driver: Driver, clock: ManualClock) -> None:
    task_id = await driver.submit()
    claim = await driver.claim_one()
    await driver.engine.cancel(task_id)
    assert await driver.finish(claim, Cancelled())
    task = await driver.get(task_id)
    assert (task.status, task.finished_at, task.next_attempt_at) == (Status.CANCELLED, clock.now(), None)
    [attempt] = await driver.engine.find_attempts(task_id)
    assert attempt.ending == "cancelled"


async def test_a_last_report_is_stored_with_the_end(driver: Driver, clock: ManualClock) -> None:
    task_id = await driver.submit()
    claim = await driver.claim_one()
    event = NewEvent(type="output", time=clock.now(), data=b'{"chunk":"done"}')
    report = Report(events=(event,), progress=Progress(fraction=1.0, message="done"), usage=b'{"output_tokens":7}')
    assert await driver.finish(claim, Succeeded(b"6"), report)
    task = await driver.get(task_id)
    assert task.progress == Progress(fraction=1.0, message="done")
    assert msgspec.json.decode(task.usage) == {"output_tokens": 7}
    outputs = [event for event in await driver.engine.find_events(task_id) if event.type == "output"]
    assert [(event.attempt, msgspec.json.decode(event.data)["chunk"]) for event in outputs] == [(1, "done")]


async def test_a_last_report_is_stored_with_a_retry_too(driver: Driver, clock: ManualClock) -> None:
    task_id = await driver.submit(make_draft(clock.now(), retry=TEN_TRIES))
    event = NewEvent(type="log", time=clock.now(), data=b'{"message":"busy"}')
    failed = Failed(problem("task-failed", "busy", retryable=True))
    assert await driver.finish(await driver.claim_one(), failed, Report(events=(event,), usage=b'{"calls":1}'))
    assert [event.type for event in await driver.engine.find_events(task_id) if event.type == "log"] == ["log"]
    assert msgspec.json.decode((await driver.get(task_id)).usage) == {"calls": 1}


async def test_an_end_survives_the_end_of_the_process(
    engine: Engine, make_engine, driver: Driver, clock: ManualClock
) -> None:
    task_id = await driver.submit()
    assert await driver.finish(await driver.claim_one(), Succeeded(b"6"))
    before = await driver.get(task_id)
    await engine.close()
    again = await make_engine()
    assert await again.find(task_id) == before
    assert await Driver(again, clock).claim() == []


async def test_each_attempt_keeps_its_peak_of_memory(driver: Driver, clock: ManualClock) -> None:
    """Also when another attempt follows, and when the task is run again; the latest is in the task's own row."""
    task_id = await driver.submit(make_draft(clock.now(), retry=TEN_TRIES))
    outcomes = (
        Failed(problem("task-raised", "no", retryable=True)),
        Snoozed(timedelta(0)),
        Failed(problem("task-failed", "no")),
    )
    for peak, outcome in zip((1 << 40, None, 7), outcomes, strict=True):
        clock.advance(10 * SECOND)
        claim = await driver.claim_one()
        change = msgspec.structs.replace(decide(outcome, claim, clock.now(), Random(0)), peak_memory=peak)
        assert await driver.engine.complete(claim.lease, change)
    assert [one.peak_memory for one in await driver.engine.find_attempts(task_id)] == [1 << 40, None, 7]
    await driver.engine.retry(task_id)
    await driver.claim_one()
    assert [one.peak_memory for one in await driver.engine.find_attempts(task_id)] == [1 << 40, None, 7, None]
