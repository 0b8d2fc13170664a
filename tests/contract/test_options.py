"""Ties of submissions to other tasks: unique keys, cached results, dependencies; and deadlines."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from tests.contract.engines import ENGINES
from tests.contract.journal import by_task, read_all

from tasker.engines.protocol import Engine
from tasker.errors import Conflict
from tasker.model import Extra, OnConflict, Receipt, RetryPolicy, Status, Task, new_task_id
from tasker.rules.lifecycle import Cancelled, Failed, Outcome, Snoozed, Succeeded, problem
from tasker.testing import Driver, ManualClock, make_draft, make_key

SECOND = timedelta(seconds=1)
FOR_GOOD = Failed(problem("task-failed", "for good"))


@pytest.fixture(autouse=True)
async def journal_is_true(engine: Engine) -> AsyncIterator[None]:
    """Check after each test that the journal agrees with the logs of the tasks."""
    start = await engine.journal.tail()
    yield
    for task_id, events in by_task(await read_all(engine, start)).items():
        assert events == await engine.find_events(task_id)


async def give(driver: Driver, **options: Any) -> Receipt:
    [receipt] = await driver.engine.submit([make_draft(driver.clock.now(), **options)])
    return receipt


async def status_of(driver: Driver, task_id: UUID) -> tuple[Status, str | None]:
    task = await driver.get(task_id)
    return task.status, task.reason if task.error is None else task.error.type.removeprefix("/problems/")


def after(*others: UUID) -> Extra:
    return Extra(depends_on=others)


# unique keys


async def test_an_open_task_answers_for_another_with_its_unique_key(driver: Driver) -> None:
    first = await give(driver, unique_key="nightly")
    again = await give(driver, unique_key="nightly")
    assert (again.task_id, again.outcome) == (first.task_id, "joined")
    assert (await give(driver, unique_key="other")).outcome == "stored"
    assert (await give(driver, unique_key="nightly", owner="somebody")).outcome == "stored"
    claim = await driver.claim_one()
    assert claim.task_id == first.task_id
    assert (await give(driver, unique_key="nightly")).task_id == first.task_id
    await driver.finish(claim, Succeeded(b"6"))
    assert (await give(driver, unique_key="nightly")).outcome == "stored"


@pytest.mark.parametrize("on_conflict", ["return", "reject", "replace"])
async def test_a_unique_key_is_of_one_type(driver: Driver, on_conflict: OnConflict) -> None:
    first = await give(driver, type="sum", unique_key="nightly")
    second = await give(driver, type="reverse", unique_key="nightly", on_conflict=on_conflict)
    assert (first.outcome, second.outcome) == ("stored", "stored")
    assert (await driver.get(first.task_id)).status is Status.PENDING, "the other type's task was replaced"
    for type, task_id in (("sum", first.task_id), ("reverse", second.task_id)):
        assert (await give(driver, type=type, unique_key="nightly")) == Receipt(task_id, "joined")
    together = [make_draft(driver.clock.now(), type=type, unique_key="weekly") for type in ("sum", "reverse", "sum")]
    assert [receipt.outcome for receipt in await driver.engine.submit(together)] == ["stored", "stored", "joined"]


async def test_a_task_is_retried_while_another_type_s_task_has_its_unique_key(driver: Driver) -> None:
    first = await give(driver, type="sum", unique_key="nightly")
    await driver.engine.cancel(first.task_id)
    await give(driver, type="reverse", unique_key="nightly")
    assert (await driver.engine.retry(first.task_id)).status is Status.PENDING
    with pytest.raises(Conflict):
        await driver.engine.retry(first.task_id)


async def test_a_unique_key_can_refuse(driver: Driver) -> None:
    first = await give(driver, unique_key="nightly")
    refused = await give(driver, unique_key="nightly", on_conflict="reject", idempotency=make_key(driver.clock.now()))
    assert refused.outcome == "refused"
    assert refused.refusal is not None
    assert refused.refusal.kind.name == "not-unique"
    assert str(first.task_id) in refused.refusal.detail
    assert (await give(driver, idempotency=make_key(driver.clock.now()))).outcome == "stored", "the key was not kept"


async def test_a_unique_task_replaces_a_pending_one(driver: Driver) -> None:
    first = await give(driver, unique_key="nightly")
    second = await give(driver, unique_key="nightly", on_conflict="replace")
    assert second.outcome == "stored"
    assert await status_of(driver, first.task_id) == (Status.CANCELLED, None)
    assert [claim.task_id for claim in await driver.claim(5)] == [second.task_id]


async def test_a_unique_task_replaces_a_running_one(driver: Driver, clock: ManualClock) -> None:
    first = await give(driver, unique_key="nightly")
    claim = await driver.claim_one()
    second = await give(driver, unique_key="nightly", on_conflict="replace")
    assert (await driver.get(first.task_id)).cancel_requested_at == clock.now()
    assert (await driver.engine.heartbeat([claim.lease], SECOND)).cancelled == {claim.lease}
    assert (await give(driver, unique_key="nightly")).task_id == second.task_id
    assert await driver.finish(claim, Cancelled())
    assert (await driver.get(first.task_id)).status is Status.CANCELLED


async def test_a_task_is_not_retried_while_another_has_its_unique_key(driver: Driver) -> None:
    first = await give(driver, unique_key="nightly")
    await driver.engine.cancel(first.task_id)
    second = await give(driver, unique_key="nightly")
    with pytest.raises(Conflict, match=str(second.task_id)):
        await driver.engine.retry(first.task_id)
    await driver.engine.cancel(second.task_id)
    assert (await driver.engine.retry(first.task_id)).status is Status.PENDING


async def test_of_many_at_once_one_is_stored(driver: Driver) -> None:
    receipts = await asyncio.gather(*(give(driver, unique_key="nightly") for _ in range(20)))
    assert sorted(receipt.outcome for receipt in receipts) == ["joined"] * 19 + ["stored"]
    assert len({receipt.task_id for receipt in receipts}) == 1
    together = await driver.engine.submit([make_draft(driver.clock.now(), unique_key="weekly") for _ in range(3)])
    assert [receipt.outcome for receipt in together] == ["stored", "joined", "joined"]


async def test_an_idempotency_key_stands_for_the_task_that_answers(driver: Driver) -> None:
    first = await give(driver, unique_key="nightly")
    for outcome in ("joined", "replayed"):
        receipt = await give(driver, unique_key="nightly", idempotency=make_key(driver.clock.now()))
        assert (receipt.task_id, receipt.outcome, receipt.reply or b"") == (first.task_id, outcome, b"")


async def test_a_draft_that_is_stored_again_is_what_it_was(driver: Driver) -> None:
    """The answer of its commit was lost; by the time it is sent again, another task has its key."""
    draft = make_draft(driver.clock.now(), unique_key="k", on_conflict="replace")
    await driver.submit(draft)
    await driver.finish(await driver.claim_one(), Succeeded(b"6"))
    other = await give(driver, unique_key="k")
    if driver.engine.is_shared:  # one process alone sends nothing again
        [receipt] = await driver.engine.submit([draft])
        assert (receipt.task_id, receipt.outcome) == (draft.task_id, "stored")
    assert (await driver.get(other.task_id)).status is Status.PENDING


async def test_of_a_retry_and_a_submission_at_once_one_has_the_key(driver: Driver) -> None:
    for number in range(5):
        first = (await give(driver, unique_key=f"k{number}")).task_id
        await driver.engine.cancel(first)
        done = await asyncio.gather(
            driver.engine.retry(first), give(driver, unique_key=f"k{number}", on_conflict="reject"),
            return_exceptions=True,
        )  # fmt: skip
        retried = not isinstance(done[0], BaseException)
        assert isinstance(done[0], Task | Conflict)
        assert isinstance(done[1], Receipt)
        assert (done[1].outcome == "refused") == retried


async def test_a_draft_that_may_not_be_stored_is_answered_by_earlier_tasks_alone(driver: Driver) -> None:
    late = {"refusal": Conflict("too late")}
    key = make_key(driver.clock.now())
    first = await give(driver, idempotency=key, unique_key="k")
    assert (await give(driver, idempotency=key, **late)).task_id == first.task_id
    assert (await give(driver, unique_key="k", **late)).outcome == "joined"
    other = make_key(driver.clock.now(), "other")
    for unique_key, on_conflict in ((None, "return"), ("k2", "return"), ("k", "replace")):
        refused = await give(driver, idempotency=other, unique_key=unique_key, on_conflict=on_conflict, **late)
        assert (refused.outcome, refused.refusal) == ("refused", late["refusal"])
        assert await driver.engine.find(refused.task_id) is None
    assert await status_of(driver, first.task_id) == (Status.PENDING, "queued")
    assert (await give(driver, idempotency=other)).outcome == "stored", "no key was kept"


# cached results


async def test_equal_tasks_share_one_run_and_its_result(driver: Driver, clock: ManualClock) -> None:
    cached = {"cache_key": b"sum 4 2", "cache_for": 60 * SECOND}
    first = await give(driver, **cached)
    assert await give(driver, **cached) == Receipt(first.task_id, "joined")
    claim = await driver.claim_one()
    assert (await give(driver, **cached)).outcome == "joined"
    await driver.finish(claim, Succeeded(b"6"))
    clock.advance(59 * SECOND)
    assert (await give(driver, **cached)).task_id == first.task_id
    assert (await give(driver, cache_key=b"another", cache_for=60 * SECOND)).outcome == "stored"
    clock.advance(2 * SECOND)
    assert (await give(driver, **cached)).outcome == "stored", "the result is too old"


@pytest.mark.parametrize("outcome", [FOR_GOOD, Cancelled()])
async def test_only_a_good_result_is_shared(driver: Driver, outcome: Outcome) -> None:
    cached = {"cache_key": b"sum 4 2", "cache_for": 60 * SECOND}
    await give(driver, **cached)
    await driver.finish(await driver.claim_one(), outcome)
    assert (await give(driver, **cached)).outcome == "stored"


# dependencies


async def test_a_task_waits_for_what_it_depends_on(driver: Driver) -> None:
    first, second = await driver.submit(), await driver.submit()
    third = (await give(driver, extra=after(first, second))).task_id
    assert (await driver.get(third)).depends_on == (first, second)
    assert await status_of(driver, third) == (Status.PENDING, "dependencies")
    claims = await driver.claim(5)
    assert [claim.task_id for claim in claims] == [first, second]
    await driver.finish(claims[0], Succeeded(b"1"))
    assert await driver.claim(5) == []
    await driver.finish(claims[1], Succeeded(b"2"))
    assert await status_of(driver, third) == (Status.PENDING, "queued")
    assert (await driver.claim_one()).task_id == third
    assert (await give(driver, extra=after(first))).outcome == "stored"
    assert (await driver.claim_one()).task_id, "what has completed is not waited for"


async def test_a_waiting_worker_is_woken_by_the_end_of_a_dependency(driver: Driver) -> None:
    first = await driver.submit()
    claim = await driver.claim_one()
    second = (await give(driver, extra=after(first))).task_id
    waiting = asyncio.create_task(driver.claim(wait_for=timedelta(seconds=20)))
    await asyncio.sleep(0.05)
    await driver.finish(claim, Succeeded(b"1"))
    assert [claim.task_id for claim in await asyncio.wait_for(waiting, 30)] == [second]


async def test_dependants_fail_with_what_they_depend_on(driver: Driver) -> None:
    first = await driver.submit()
    claim = await driver.claim_one()
    second = (await give(driver, extra=after(first))).task_id
    third = (await give(driver, extra=after(second))).task_id
    other = (await give(driver, extra=after(first, second))).task_id
    await driver.finish(claim, FOR_GOOD)
    for task_id in (second, third, other):
        task = await driver.get(task_id)
        assert (task.status, task.finished_at, task.attempt) == (Status.FAILED, driver.clock.now(), 0)
        assert task.error is not None
        assert task.error.type == "/problems/dependency-failed"
    error = (await driver.get(second)).error
    assert error is not None
    assert (str(first) in error.detail, "for good" in error.detail) == (True, True)
    assert [event.type for event in await driver.engine.find_events(third)] == ["created", "failed"]
    late = (await give(driver, extra=after(third))).task_id
    assert await status_of(driver, late) == (Status.FAILED, "dependency-failed")
    assert await driver.claim(5) == []


async def test_a_cancelled_dependency_fails_its_dependants(driver: Driver) -> None:
    first = await driver.submit()
    second = (await give(driver, extra=after(first))).task_id
    await driver.engine.cancel(first)
    assert await status_of(driver, second) == (Status.FAILED, "dependency-failed")
    with pytest.raises(Conflict, match=str(first)):
        await driver.engine.retry(second)
    await driver.engine.retry(first)
    assert (await driver.engine.retry(second)).reason == "dependencies"
    await driver.finish(await driver.claim_one(), Succeeded(b"1"))
    assert (await driver.claim_one()).task_id == second


async def test_what_depended_on_an_erased_task_is_not_run_again(driver: Driver) -> None:
    first = await driver.submit()
    second = (await give(driver, extra=after(first))).task_id
    await driver.engine.cancel(first)
    await driver.engine.delete(first)
    with pytest.raises(Conflict, match=str(first)):
        await driver.engine.retry(second)


@pytest.mark.parametrize("outcome", [None, Succeeded(b"1"), FOR_GOOD])
async def test_an_imported_task_waits_for_what_it_depends_on(
    driver: Driver, tmp_path: Path, outcome: Outcome | None
) -> None:
    """Whether that one is open there, or has ended meanwhile."""
    first = await driver.submit()
    second = (await give(driver, extra=after(first))).task_id
    tasks = await driver.engine.archive.find_many([first, second])
    parent, child = [task for task in tasks if task is not None]
    async with ENGINES["postgres" if driver.engine.is_shared else "sqlite"](tmp_path / "other", driver.clock) as other:
        there = Driver(other, driver.clock)
        await other.archive.put([parent])
        if outcome is not None:
            await there.finish(await there.claim_one(), outcome)
        await other.archive.put([child])
        if outcome is None:
            assert await status_of(there, second) == (Status.PENDING, "dependencies")
            await there.finish(await there.claim_one(), Succeeded(b"1"))
        if outcome is FOR_GOOD:
            assert await status_of(there, second) == (Status.FAILED, "dependency-failed")
        else:
            assert (await there.claim_one()).task_id == second


async def test_a_cancelled_dependant_is_left_alone(driver: Driver) -> None:
    first = await driver.submit()
    second = (await give(driver, extra=after(first))).task_id
    await driver.engine.cancel(second)
    await driver.finish(await driver.claim_one(), Succeeded(b"1"))
    assert await status_of(driver, second) == (Status.CANCELLED, None)
    assert await driver.claim(5) == []


async def test_what_a_task_depends_on_must_be_there(driver: Driver) -> None:
    there, missing = await driver.submit(), new_task_id(driver.clock.now())
    receipt = await give(driver, extra=after(there, missing))
    assert receipt.outcome == "refused"
    assert receipt.refusal is not None
    assert [fault.pointer for fault in receipt.refusal.faults] == ["/depends_on/1"]
    foreign = await give(driver, extra=after(there), owner="somebody")
    assert foreign.outcome == "refused", "another's task is not there"
    assert await driver.engine.find(receipt.task_id) is None


async def test_a_dependant_keeps_its_own_moment(driver: Driver, clock: ManualClock) -> None:
    first = await driver.submit()
    second = (await give(driver, extra=after(first), delay=60 * SECOND)).task_id
    await driver.finish(await driver.claim_one(), Succeeded(b"1"))
    assert await status_of(driver, second) == (Status.PENDING, "scheduled")
    assert await driver.claim(5) == []
    clock.advance(60 * SECOND)
    assert (await driver.claim_one()).task_id == second


async def test_two_dependencies_that_end_at_once_free_their_dependant(driver: Driver) -> None:
    for _ in range(10):
        ids = [await driver.submit(), await driver.submit()]
        third = (await give(driver, extra=after(*ids))).task_id
        claims = [await driver.claim_one(), await driver.claim_one()]
        await asyncio.gather(*(driver.finish(claim, Succeeded(b"1")) for claim in claims))
        last = await driver.claim_one()
        assert last.task_id == third
        await driver.finish(last, Succeeded(b"3"))


async def test_a_task_that_depends_on_one_that_it_replaces_fails(driver: Driver) -> None:
    first = (await give(driver, unique_key="k")).task_id
    between = (await give(driver, extra=after(first))).task_id
    second = await give(driver, unique_key="k", on_conflict="replace", extra=after(first, between))
    assert second.outcome == "stored"
    assert await status_of(driver, second.task_id) == (Status.FAILED, "dependency-failed")
    assert await status_of(driver, between) == (Status.FAILED, "dependency-failed")


# deadlines


async def test_no_attempt_starts_after_the_deadline(driver: Driver, clock: ManualClock) -> None:
    in_time = (await give(driver, deadline=clock.now() + 10 * SECOND)).task_id
    late = (await give(driver, deadline=clock.now() + 5 * SECOND)).task_id
    clock.advance(5 * SECOND)
    assert [claim.task_id for claim in await driver.claim(5)] == [in_time]
    await driver.engine.fail_overdue(limit=10)
    assert await status_of(driver, late) == (Status.FAILED, "deadline-passed")
    assert (await driver.get(late)).finished_at == clock.now()


async def test_an_unclaimed_task_is_ended_at_its_deadline(driver: Driver, engine: Engine, clock: ManualClock) -> None:
    task_id = (await give(driver, type="other", deadline=clock.now() + 5 * SECOND)).task_id
    dependant = (await give(driver, extra=after(task_id))).task_id
    assert await engine.fail_overdue(limit=10) == 0
    clock.advance(5 * SECOND)
    assert await engine.fail_overdue(limit=10) == 1
    assert await status_of(driver, task_id) == (Status.FAILED, "deadline-passed")
    assert await status_of(driver, dependant) == (Status.FAILED, "dependency-failed")
    assert await engine.fail_overdue(limit=10) == 0


async def test_an_attempt_goes_on_past_the_deadline_but_no_other_follows(driver: Driver, clock: ManualClock) -> None:
    retry = RetryPolicy(max_attempts=3, initial=timedelta(0))
    task_id = (await give(driver, deadline=clock.now() + 5 * SECOND, retry=retry)).task_id
    claim = await driver.claim_one()
    clock.advance(6 * SECOND)
    assert await driver.engine.fail_overdue(limit=10) == 0
    assert await driver.finish(claim, Failed(problem("task-failed", "busy", retryable=True)))
    assert await driver.claim() == []
    await driver.engine.fail_overdue(limit=10)
    task = await driver.get(task_id)
    assert task.error is not None
    assert (task.status, task.error.type) == (Status.FAILED, "/problems/deadline-passed")
    assert "busy" in task.error.detail


async def test_a_snoozed_task_may_end_by_its_deadline(driver: Driver, clock: ManualClock) -> None:
    task_id = (await give(driver, deadline=clock.now() + 5 * SECOND)).task_id
    await driver.finish(await driver.claim_one(), Snoozed(60 * SECOND))
    clock.advance(60 * SECOND)
    assert await driver.claim() == []
    await driver.engine.fail_overdue(limit=10)
    assert await status_of(driver, task_id) == (Status.FAILED, "deadline-passed")
