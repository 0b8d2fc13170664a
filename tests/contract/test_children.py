"""Children: started once, counted, released, cancelled with their parent, and run again."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from msgspec import structs
from tests.contract.conftest import Changes, MakeEngine
from tests.contract.steps import (
    child_drafts,
    claim_children,
    new_children,
    new_question,
    new_step,
    one_step,
    park,
    put,
    start,
)

from tasker.engines.protocol import Engine
from tasker.errors import Conflict, LimitReached
from tasker.model import Change, Claim, Extra, RetryPolicy, Status, TaskFilter
from tasker.model.steps import Family, Forget
from tasker.model.tasks import ChildCounts
from tasker.rules.lifecycle import Cancelled, Crashed, Failed, Outcome, Succeeded, TimedOut, problem
from tasker.testing import Driver, ManualClock, make_draft

SECOND = timedelta(seconds=1)
HOUR = timedelta(hours=1)
BROKEN = Failed(problem("task-failed", "broken"))
BUSY = Failed(problem("task-failed", "busy", retryable=True))
DONE = Succeeded(b"1")


async def claim_parent(driver: Driver, **options: Any) -> Claim:
    """Submit and claim a task that will have children."""
    await driver.submit(make_draft(driver.clock.now(), **options))
    return await driver.claim_one()


async def end_children(driver: Driver, outcome: Outcome = DONE, limit: int = 100) -> list[Claim]:
    claims = await claim_children(driver, limit)
    for claim in claims:
        await driver.finish(claim, outcome)
    return claims


async def statuses(driver: Driver, task_ids: Sequence[UUID]) -> list[Status]:
    return [(await driver.get(task_id)).status for task_id in task_ids]


# started


async def test_children_are_tasks_in_order(driver: Driver, engine: Engine, clock: ManualClock) -> None:
    claim = await claim_parent(driver)
    children = await start(driver, claim, 3)
    found = await engine.steps.find_children(claim.task_id, "map")
    assert [(child.place, child.task_id, child.status) for child in found] == [
        (place, task_id, Status.PENDING) for place, task_id in enumerate(children)
    ]
    step = await one_step(engine, claim.task_id, "map")
    assert (step.kind, step.total, step.open_children, step.started_at) == ("children", 3, 3, clock.now())
    task = await driver.get(children[0])
    assert (task.parent_id, task.root_id) == (claim.task_id, claim.task_id)
    [first, *_] = await claim_children(driver)
    assert (first.task_id, first.has_steps) == (children[0], True)


async def test_starting_them_again_changes_nothing(driver: Driver, engine: Engine, clock: ManualClock) -> None:
    claim = await claim_parent(driver)
    drafts = child_drafts(claim.task_id, clock.now(), 3)
    given = new_children(claim.task_id, drafts, clock.now())
    first = await engine.steps.start_children(claim.lease, given, most=3)
    clock.advance(SECOND)
    later = structs.replace(given, step=structs.replace(given.step, started_at=clock.now()))
    assert await engine.steps.start_children(claim.lease, later, most=3) == first
    assert len(await claim_children(driver)) == 3
    assert len(await engine.steps.find_children(claim.task_id, "map")) == 3


async def test_a_part_that_was_not_stored_is_added(driver: Driver, engine: Engine, clock: ManualClock) -> None:
    """The second attempt finds the first chunk, and stores the others."""
    claim = await claim_parent(driver)
    drafts = child_drafts(claim.task_id, clock.now(), 5)
    for some, first in ((drafts[:2], 0), (drafts[:4], 0), (drafts[3:], 3)):
        chunk = new_children(claim.task_id, some, clock.now(), first=first, total=5)
        step = await engine.steps.start_children(claim.lease, chunk, most=5)
        assert step is not None
        assert (step.total, step.number) == (5, 1)
    found = await engine.steps.find_children(claim.task_id, "map")
    assert [(child.place, child.task_id) for child in found] == [
        (place, draft.task_id) for place, draft in enumerate(drafts)
    ]


async def test_children_that_are_not_stored_yet_keep_the_step_open(
    driver: Driver, engine: Engine, clock: ManualClock
) -> None:
    claim = await claim_parent(driver)
    drafts = child_drafts(claim.task_id, clock.now(), 2)
    await engine.steps.start_children(claim.lease, new_children(claim.task_id, drafts, clock.now(), total=3), most=10)
    await end_children(driver)
    await park(driver, claim, children=("map",))
    assert await driver.claim() == []


async def test_a_lost_attempt_starts_no_children(driver: Driver, engine: Engine, clock: ManualClock) -> None:
    old = await claim_parent(driver)
    clock.advance(31 * SECOND)
    await driver.reap()
    given = new_children(old.task_id, child_drafts(old.task_id, clock.now(), 1), clock.now())
    assert await engine.steps.start_children(old.lease, given, most=1) is None
    assert await claim_children(driver) == []
    assert await engine.steps.find(old.task_id) == []


async def test_there_are_no_more_than_allowed(driver: Driver, engine: Engine, clock: ManualClock) -> None:
    claim = await claim_parent(driver)
    await start(driver, claim, 2, key="first")
    given = new_children(claim.task_id, child_drafts(claim.task_id, clock.now(), 1), clock.now(), total=2)
    with pytest.raises(LimitReached, match="4"):
        await engine.steps.start_children(claim.lease, given, most=3)
    assert len(await engine.steps.find(claim.task_id)) == 1
    assert await engine.steps.start_children(claim.lease, given, most=4) is not None


async def test_an_id_of_another_task_is_refused(driver: Driver, engine: Engine, clock: ManualClock) -> None:
    other = await driver.submit(make_draft(clock.now(), type="other"))
    claim = await claim_parent(driver)
    drafts = [*child_drafts(claim.task_id, clock.now(), 1), make_draft(clock.now(), task_id=other)]
    with pytest.raises(Conflict, match=str(other)):
        await engine.steps.start_children(claim.lease, new_children(claim.task_id, drafts, clock.now()), most=9)
    assert await engine.steps.find(claim.task_id) == []


async def test_a_key_of_another_kind_stays_what_it_is(driver: Driver, engine: Engine, clock: ManualClock) -> None:
    claim = await claim_parent(driver)
    await put(engine, claim, new_step(clock.now(), "map"))
    given = new_children(claim.task_id, child_drafts(claim.task_id, clock.now(), 1), clock.now())
    step = await engine.steps.start_children(claim.lease, given, most=9)
    assert step is not None
    assert step.kind == "step"
    assert await claim_children(driver) == []


async def test_children_get_what_belongs_to_the_family(driver: Driver, engine: Engine, clock: ManualClock) -> None:
    deadline = clock.now() + HOUR
    claim = await claim_parent(driver, owner="ann", deadline=deadline, extra=Extra(traceparent="00-11-22-01"))
    family = Family(root_id=claim.task_id, level=0, owner="ann", deadline=deadline, traceparent="00-11-22-01")
    assert await engine.steps.find_family(claim.task_id) == family
    [child] = await start(driver, claim, 1, level=1)
    assert await engine.steps.find_family(child) == Family(root_id=claim.task_id, level=1, owner="")


async def test_the_numbers_of_children_are_kept(driver: Driver, engine: Engine) -> None:
    claim = await claim_parent(driver)
    assert (await driver.get(claim.task_id)).children is None
    await start(driver, claim, 5, max_in_flight=4)
    await start(driver, claim, 1, key="one")
    running = await claim_children(driver, 4)
    for child, outcome in zip(running, (DONE, BROKEN, Cancelled()), strict=False):
        await driver.finish(child, outcome)
    counts = ChildCounts(pending=2, running=1, completed=1, failed=1, cancelled=1)
    assert (await driver.get(claim.task_id)).children == counts
    await driver.finish(claim, DONE)
    assert (await driver.get(claim.task_id)).children == counts


async def test_children_are_listed(driver: Driver, engine: Engine, clock: ManualClock) -> None:
    claim = await claim_parent(driver)
    await driver.submit(make_draft(clock.now(), type="other"))
    children = await start(driver, claim, 5)
    where = TaskFilter(parent=claim.task_id)
    page = await engine.find_many(where, limit=3)
    rest = await engine.find_many(where, limit=3, cursor=page.next_cursor)
    assert [task.task_id for task in (*page.items, *rest.items)] == children[::-1]
    assert (await engine.count(where)).number == 5
    chosen = await engine.control.choose(where, limit=10, cursor=None)
    assert {one.task_id for one in chosen.tasks} == set(children)
    assert (await engine.find_many(TaskFilter(parent=uuid4()), limit=3)).items == []
    await end_children(driver, limit=2)
    done = TaskFilter(parent=claim.task_id, status=(Status.COMPLETED,))
    assert len((await engine.find_many(done, limit=9)).items) == 2


async def test_results_and_errors_are_collected(driver: Driver, engine: Engine) -> None:
    claim = await claim_parent(driver)
    await start(driver, claim, 3)
    outcomes = (Succeeded(b'"x"'), BROKEN, Cancelled())
    for child, outcome in zip(await claim_children(driver), outcomes, strict=True):
        await driver.finish(child, outcome)
    first, second, third = await engine.steps.find_children(claim.task_id, "map")
    assert (first.status, first.result, first.error) == (Status.COMPLETED, b'"x"', None)
    assert (second.status, second.result) == (Status.FAILED, None)
    assert second.error is not None
    assert second.error.detail == "broken"
    assert (third.status, third.error) == (Status.CANCELLED, None)
    assert await engine.steps.find_children(claim.task_id, "map", first=1, limit=1) == [second]
    assert await engine.steps.find_children(claim.task_id, "other") == []


async def test_one_collection_has_a_limited_size(driver: Driver, engine: Engine) -> None:
    claim = await claim_parent(driver)
    await start(driver, claim, 4)
    large = b'"%s"' % (b"x" * 600_000)
    await end_children(driver, Succeeded(large))
    places = []
    while some := await engine.steps.find_children(claim.task_id, "map", first=len(places)):
        assert len(some) < 4
        assert all(child.result == large for child in some)
        places += [child.place for child in some]
    assert places == [0, 1, 2, 3]


# their ends


@pytest.mark.parametrize("outcome", [DONE, BROKEN, Cancelled()])
async def test_the_last_end_wakes_the_parent(
    driver: Driver, engine: Engine, changes: Changes, outcome: Outcome
) -> None:
    claim = await claim_parent(driver)
    await start(driver, claim, 2)
    await park(driver, claim, children=("map",))
    assert (await driver.get(claim.task_id)).reason == "waiting_for_children"
    await end_children(driver, outcome, limit=1)
    assert await driver.claim() == []
    changes.heard.clear()
    await end_children(driver, outcome)
    await changes.until(Change(claim.task_id, Status.PENDING))
    again = await driver.claim_one()
    assert (again.task_id, again.attempt, again.tries) == (claim.task_id, 2, 0)
    step = await one_step(engine, claim.task_id, "map")
    assert step.completed + step.failed + step.cancelled == 2
    assert step.finished_at == driver.clock.now()
    assert not step.is_open


async def test_a_child_that_ends_by_cancel_or_deadline_counts(
    driver: Driver, engine: Engine, clock: ManualClock
) -> None:
    claim = await claim_parent(driver)
    [cancelled] = await start(driver, claim, 1, key="a")
    [late] = await start(driver, claim, 1, key="b", options={"deadline": clock.now() + SECOND})
    await park(driver, claim, children=("a", "b"))
    clock.advance(2 * SECOND)
    await engine.fail_overdue(limit=10)
    assert (await driver.get(late)).status is Status.FAILED
    again = await driver.claim_one()
    await park(driver, again, children=("a",))
    await engine.cancel(cancelled)
    await driver.claim_one()


async def test_children_that_have_ended_already_are_not_waited_for(driver: Driver) -> None:
    claim = await claim_parent(driver)
    await start(driver, claim, 2)
    await end_children(driver)
    await park(driver, claim, children=("map",))
    assert (await driver.claim_one()).attempt == 2


async def test_any_of_several_steps_wakes(driver: Driver, engine: Engine, clock: ManualClock) -> None:
    claim = await claim_parent(driver)
    await start(driver, claim, 1, key="a")
    await start(driver, claim, 1, key="b")
    await put(engine, claim, new_question(clock.now()))
    await park(driver, claim, children=("b", "a"), inputs=("approve",), until=clock.now() + HOUR)
    assert (await driver.get(claim.task_id)).reason == "input_required"
    await end_children(driver, limit=1)
    assert (await driver.claim_one()).attempt == 2


async def test_a_running_parent_is_told(driver: Driver, changes: Changes) -> None:
    claim = await claim_parent(driver)
    await start(driver, claim, 2)
    first, second = await claim_children(driver)
    changes.heard.clear()
    await driver.finish(first, DONE)
    await changes.until(Change(first.task_id, Status.COMPLETED))
    assert Change(claim.task_id, Status.RUNNING, spoke=True) not in changes.heard
    await driver.finish(second, DONE)
    await changes.until(Change(claim.task_id, Status.RUNNING, spoke=True))


async def test_parents_of_parents_wait_without_a_slot(driver: Driver, engine: Engine) -> None:
    """Each level runs alone, and goes on after the one below."""
    top = await claim_parent(driver)
    lease = top
    for level in range(1, 5):
        await start(driver, lease, 1, level=level)
        await park(driver, lease, children=("map",))
        [lease] = await claim_children(driver)
    await driver.finish(lease, DONE)
    for _ in range(3):
        await end_children(driver)
    again = await driver.claim_one()
    assert again.task_id == top.task_id
    await driver.finish(again, DONE)


# held


async def test_so_many_are_in_flight(driver: Driver, engine: Engine) -> None:
    claim = await claim_parent(driver)
    children = await start(driver, claim, 5, max_in_flight=2)
    first, second = await claim_children(driver)
    assert [first.task_id, second.task_id] == children[:2]
    assert (await driver.get(children[2])).status is Status.PENDING
    await driver.finish(second, DONE)
    [third] = await claim_children(driver)
    assert third.task_id == children[2]
    await driver.finish(first, BROKEN)
    await driver.finish(third, Cancelled())
    assert [one.task_id for one in await claim_children(driver)] == children[3:]


async def test_chunks_share_the_limit(driver: Driver, engine: Engine, clock: ManualClock) -> None:
    claim = await claim_parent(driver)
    drafts = child_drafts(claim.task_id, clock.now(), 4)
    for first in (0, 2):
        chunk = new_children(
            claim.task_id, drafts[first : first + 2], clock.now(), first=first, total=4, max_in_flight=3
        )
        await engine.steps.start_children(claim.lease, chunk, most=9)
    assert len(await claim_children(driver)) == 3


async def test_a_held_child_that_is_cancelled_lets_no_other_start(driver: Driver, engine: Engine) -> None:
    claim = await claim_parent(driver)
    children = await start(driver, claim, 4, max_in_flight=1)
    await engine.cancel(children[1])
    [first] = await claim_children(driver)
    await driver.finish(first, DONE)
    assert [one.task_id for one in await claim_children(driver)] == [children[2]]


async def test_a_pending_child_that_is_cancelled_lets_another_start(driver: Driver, engine: Engine) -> None:
    claim = await claim_parent(driver)
    children = await start(driver, claim, 2, max_in_flight=1)
    await engine.cancel(children[0])
    assert [one.task_id for one in await claim_children(driver)] == [children[1]]


async def test_held_children_count_as_waiting(driver: Driver, engine: Engine) -> None:
    claim = await claim_parent(driver)
    await start(driver, claim, 3, max_in_flight=1)
    counts = {one.type: one for one in await engine.stats.open_counts()}["child"]
    assert (counts.pending, counts.scheduled, counts.running) == (1, 2, 0)
    await end_children(driver)
    counts = {one.type: one for one in await engine.stats.open_counts()}["child"]
    assert (counts.pending, counts.scheduled, counts.running) == (1, 1, 0)


# cancelled with the parent


@pytest.fixture
def few_at_once(monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr("tasker.engines.postgres.transaction.SETTLED_AT_ONCE", 8)
    monkeypatch.setattr("tasker.engines.sqlite.partitions.SETTLED_AT_ONCE", 8)
    return 8


@pytest.mark.parametrize("outcome", [BROKEN, Cancelled()])
async def test_open_children_are_cancelled_with_their_parent(
    driver: Driver, engine: Engine, changes: Changes, outcome: Outcome
) -> None:
    claim = await claim_parent(driver)
    children = await start(driver, claim, 5, max_in_flight=4)
    done, running, *_ = await claim_children(driver, 2)
    await driver.finish(done, DONE)
    await driver.finish(claim, outcome)
    await changes.until(
        *(Change(task_id, Status.CANCELLED) for task_id in children[2:]),
        Change(running.task_id, Status.RUNNING, cancel_requested=True),
    )
    assert await statuses(driver, children) == [
        Status.COMPLETED, Status.RUNNING, Status.CANCELLED, Status.CANCELLED, Status.CANCELLED,
    ]  # fmt: skip
    await driver.finish(running, Cancelled())
    assert (await driver.get(claim.task_id)).children == ChildCounts(completed=1, cancelled=4)
    assert await claim_children(driver) == []


async def test_a_parked_parent_that_is_cancelled_takes_its_children_along(
    driver: Driver, engine: Engine, changes: Changes
) -> None:
    claim = await claim_parent(driver)
    children = await start(driver, claim, 2)
    await park(driver, claim, children=("map",))
    await engine.cancel(claim.task_id)
    await changes.until(*(Change(task_id, Status.CANCELLED) for task_id in children))


async def test_a_parent_that_completes_leaves_its_children_alone(driver: Driver) -> None:
    claim = await claim_parent(driver)
    await start(driver, claim, 3, max_in_flight=2)
    await driver.finish(claim, DONE)
    assert len(await end_children(driver)) == 2
    assert len(await end_children(driver)) == 1
    assert (await driver.get(claim.task_id)).children == ChildCounts(completed=3)


async def test_detached_children_go_on(driver: Driver, engine: Engine, changes: Changes) -> None:
    claim = await claim_parent(driver)
    detached = await start(driver, claim, 3, key="a", is_detached=True, max_in_flight=2)
    tied = await start(driver, claim, 1, key="b")
    await driver.finish(claim, BROKEN)
    await changes.until(*(Change(task_id, Status.CANCELLED) for task_id in tied))
    assert await statuses(driver, detached) == [Status.PENDING] * 3
    assert [one.task_id for one in await claim_children(driver)] == detached[:2]


async def test_detached_children_go_on_one_after_the_other(driver: Driver, engine: Engine) -> None:
    claim = await claim_parent(driver)
    children = await start(driver, claim, 3, is_detached=True, max_in_flight=1)
    await driver.finish(claim, BROKEN)
    ended = [(await end_children(driver))[0].task_id for _ in range(3)]
    assert ended == children


async def test_a_cancel_goes_through_all_levels(
    driver: Driver, engine: Engine, changes: Changes, few_at_once: int
) -> None:
    """In more than one commit, for a root with many children and grandchildren, pending, parked and running."""
    top = await claim_parent(driver)
    await start(driver, top, 12)
    middle = await claim_children(driver)
    leaves: list[UUID] = []
    for claim in middle[:3]:
        leaves += await start(driver, claim, 12, level=2, options={"type": "leaf"})
    await park(driver, middle[0], children=("map",))
    running = await driver.claim(5, types=("leaf",))
    await engine.cancel(top.task_id)
    await driver.finish(top, Cancelled())
    for claim in middle[1:]:
        await changes.until(Change(claim.task_id, Status.RUNNING, cancel_requested=True))
        await driver.finish(claim, Cancelled())
    for claim in running:
        await changes.until(Change(claim.task_id, Status.RUNNING, cancel_requested=True))
        await driver.finish(claim, Cancelled())
    await changes.until(*(Change(task_id, Status.CANCELLED) for task_id in leaves))
    assert (await engine.count(TaskFilter(status=(Status.PENDING, Status.RUNNING)))).number == 0
    assert max(map(len, changes.batches)) <= 2 * few_at_once + 2
    assert (await driver.get(top.task_id)).children == ChildCounts(cancelled=12)


async def test_a_process_that_ends_in_between_leaves_no_child_open(
    driver: Driver, engine: Engine, clock: ManualClock, make_engine: MakeEngine, few_at_once: int
) -> None:
    claim = await claim_parent(driver)
    await start(driver, claim, 5 * few_at_once)
    await driver.finish(claim, BROKEN)
    await engine.close()
    again = await make_engine()
    is_open = TaskFilter(status=(Status.PENDING,), types=("child",))
    for _ in range(100):
        await again.sweep(limit=100)
        await again.check()
        if not (await again.count(is_open)).number:
            break
    assert (await again.count(is_open)).number == 0


# again


async def fail_and_park(driver: Driver, **options: Any) -> tuple[Claim, list[UUID]]:
    """Return a claim of a parent, and its three children: completed, failed, cancelled."""
    claim = await claim_parent(driver, **options)
    children = await start(driver, claim, 3)
    for child, outcome in zip(await claim_children(driver), (DONE, BROKEN, Cancelled()), strict=True):
        await driver.finish(child, outcome)
    await park(driver, claim, children=("map",))
    return await driver.claim_one(), children


RETRIES = RetryPolicy(max_attempts=3, initial=timedelta(0))


@pytest.mark.parametrize("outcome", [BUSY, TimedOut(SECOND)])
async def test_a_new_try_may_run_failed_children_again(driver: Driver, engine: Engine, outcome: Outcome) -> None:
    claim, children = await fail_and_park(driver, retry=RETRIES)
    assert not (await one_step(engine, claim.task_id, "map")).may_run_again
    await driver.finish(claim, outcome)
    again = await driver.claim_one()
    assert (await one_step(engine, claim.task_id, "map")).may_run_again
    assert await engine.steps.run_children_again(claim.lease, "map") is None
    step = await engine.steps.run_children_again(again.lease, "map")
    assert step is not None
    assert (step.completed, step.failed, step.cancelled, step.open_children) == (1, 0, 0, 2)
    assert not step.may_run_again
    assert step == await one_step(engine, claim.task_id, "map")
    assert await engine.steps.run_children_again(again.lease, "map") == step
    await park(driver, again, children=("map",))
    assert [one.task_id for one in await end_children(driver)] == children[1:]
    await driver.claim_one()
    assert (await driver.get(claim.task_id)).children == ChildCounts(completed=3)


async def test_a_manual_retry_may_run_failed_children_again(driver: Driver, engine: Engine) -> None:
    claim, children = await fail_and_park(driver)
    await driver.finish(claim, BROKEN)
    await engine.retry(claim.task_id)
    again = await driver.claim_one()
    assert (await one_step(engine, claim.task_id, "map")).may_run_again
    await engine.steps.run_children_again(again.lease, "map")
    assert [one.task_id for one in await claim_children(driver)] == children[1:]


async def test_a_retry_runs_children_again_that_are_still_being_stopped(driver: Driver, engine: Engine) -> None:
    claim = await claim_parent(driver)
    children = await start(driver, claim, 2)
    failed, slow = await claim_children(driver)
    await driver.finish(failed, BROKEN)
    await park(driver, claim, children=("map",))
    await engine.cancel(claim.task_id)
    await engine.retry(claim.task_id)
    again = await driver.claim_one()
    step = await engine.steps.run_children_again(again.lease, "map")
    assert step is not None
    assert (step.failed, step.open_children, step.may_run_again) == (0, 2, True)
    await driver.finish(slow, Cancelled())
    step = await engine.steps.run_children_again(again.lease, "map")
    assert step is not None
    assert (step.cancelled, step.open_children, step.may_run_again) == (0, 2, False)
    assert {one.task_id for one in await claim_children(driver)} == set(children)


async def test_a_crash_a_park_or_a_restart_runs_no_child_again(
    driver: Driver, engine: Engine, clock: ManualClock
) -> None:
    claim, _ = await fail_and_park(driver, retry=RETRIES)
    await driver.finish(claim, Crashed("gone"))
    clock.advance(timedelta(minutes=11))
    claim = await driver.claim_one()
    clock.advance(31 * SECOND)
    await driver.reap()
    claim = await driver.claim_one()
    await park(driver, claim, until=clock.now())
    claim = await driver.claim_one()
    assert not (await one_step(engine, claim.task_id, "map")).may_run_again
    step = await engine.steps.run_children_again(claim.lease, "map")
    assert step is not None
    assert (step.failed, step.cancelled) == (1, 1)
    assert await claim_children(driver) == []


async def test_children_that_succeeded_never_run_again(driver: Driver, engine: Engine) -> None:
    claim = await claim_parent(driver, retry=RETRIES)
    await start(driver, claim, 2)
    await end_children(driver)
    await driver.finish(claim, BUSY)
    assert not (await one_step(engine, claim.task_id, "map")).may_run_again


async def test_many_run_again_within_their_limit(driver: Driver, engine: Engine, monkeypatch: Any) -> None:
    monkeypatch.setattr("tasker.engines.sqlite.stores.steps._AGAIN_AT_ONCE", 2)
    claim = await claim_parent(driver, retry=RETRIES)
    children = await start(driver, claim, 7, max_in_flight=3)
    while await end_children(driver, BROKEN):
        pass
    await driver.finish(claim, BUSY)
    again = await driver.claim_one()
    step = await engine.steps.run_children_again(again.lease, "map")
    assert step is not None
    assert (step.failed, step.open_children, step.may_run_again) == (0, 7, False)
    ended: list[UUID] = []
    while claims := await claim_children(driver):
        assert len(claims) <= 3
        for one in claims:
            await driver.finish(one, DONE)
        ended += [one.task_id for one in claims]
    assert ended == children


async def test_a_child_that_fails_while_others_run_again_waits_for_the_next_try(
    driver: Driver, engine: Engine, monkeypatch: Any
) -> None:
    for name in ("sqlite", "postgres"):
        monkeypatch.setattr(f"tasker.engines.{name}.stores.steps._AGAIN_AT_ONCE", 1)
    claim = await claim_parent(driver, retry=RETRIES)
    children = await start(driver, claim, 8)
    await end_children(driver, BROKEN)
    await driver.finish(claim, BUSY)
    again = await driver.claim_one()
    running = asyncio.create_task(engine.steps.run_children_again(again.lease, "map"))
    async with asyncio.timeout(20):
        while not running.done():
            await end_children(driver, BROKEN)
    await end_children(driver, BROKEN)
    assert [(await driver.get(child)).attempt for child in children] == [2] * len(children)


async def test_a_child_that_is_retried_by_hand_counts_again(driver: Driver, engine: Engine) -> None:
    claim = await claim_parent(driver)
    [child] = await start(driver, claim, 1)
    await end_children(driver, BROKEN)
    await engine.retry(child)
    step = await one_step(engine, claim.task_id, "map")
    assert (step.open_children, step.finished_at) == (1, None)
    await park(driver, claim, children=("map",))
    assert (await driver.get(claim.task_id)).next_attempt_at is None
    assert await driver.claim() == []
    await end_children(driver)
    await driver.claim_one()
    assert (await driver.get(claim.task_id)).children == ChildCounts(completed=1)


async def test_forgotten_children_are_cancelled_and_let_go(driver: Driver, engine: Engine, changes: Changes) -> None:
    claim = await claim_parent(driver)
    old = await start(driver, claim, 3, is_detached=True)
    running, done = await claim_children(driver, 2)
    await driver.finish(done, DONE)
    await driver.finish(claim, BROKEN)
    await engine.retry(claim.task_id, Forget(names=("map",)))
    await changes.until(
        Change(old[2], Status.CANCELLED), Change(running.task_id, Status.RUNNING, cancel_requested=True)
    )
    again = await driver.claim_one()
    assert await engine.steps.find(claim.task_id) == []
    assert (await driver.get(claim.task_id)).children is None
    assert (await driver.get(done.task_id)).status is Status.COMPLETED
    new = await start(driver, again, 1)
    await driver.finish(running, Cancelled())
    assert (await one_step(engine, claim.task_id, "map")).open_children == 1
    await park(driver, again, children=("map",))
    assert [one.task_id for one in await end_children(driver)] == new
    await driver.claim_one()


async def test_a_retried_parent_keeps_what_its_children_have_done(
    driver: Driver, engine: Engine, clock: ManualClock
) -> None:
    claim = await claim_parent(driver)
    [child] = await start(driver, claim, 1, options={"retention": SECOND})
    await end_children(driver)
    await driver.finish(claim, BROKEN)
    await engine.check()
    await engine.retry(claim.task_id)
    clock.advance(HOUR)
    while await engine.prune(limit=100):
        pass
    assert (await driver.get(child)).status is Status.COMPLETED
    [found] = await engine.steps.find_children(claim.task_id, "map")
    assert found.result == b"1"


@pytest.mark.parametrize("total", [2, 3], ids=["all", "a-part"])
async def test_children_that_are_gone_are_not_started_again(
    driver: Driver, engine: Engine, clock: ManualClock, total: int
) -> None:
    claim = await claim_parent(driver)
    drafts = child_drafts(claim.task_id, clock.now(), 2)
    given = new_children(claim.task_id, drafts, clock.now(), total=total)
    await engine.steps.start_children(claim.lease, given, most=9)
    await end_children(driver)
    await driver.finish(claim, BROKEN)
    await engine.delete(drafts[0].task_id)
    await engine.retry(claim.task_id)
    again = await driver.claim_one()
    step = await engine.steps.start_children(again.lease, given, most=9)
    assert step is not None
    assert (step.completed, step.open_children) == (2, total - 2)
    assert await claim_children(driver) == []


async def test_children_that_are_gone_still_count(driver: Driver, engine: Engine) -> None:
    claim = await claim_parent(driver)
    gone, *_ = await start(driver, claim, 2)
    await end_children(driver)
    await driver.finish(claim, BROKEN)
    await engine.delete(gone)
    await engine.retry(claim.task_id)
    again = await driver.claim_one()
    await start(driver, again, 1, key="more")
    await park(driver, again, children=("more",))
    await engine.sweep(limit=100)
    assert (await one_step(engine, claim.task_id, "map")).completed == 2
