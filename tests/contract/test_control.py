"""Engine.control: what a task was submitted with, and tasks of a filter. Engine.bulk: actions on each of many."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from uuid import UUID

import pytest
from msgspec import structs
from tests.contract.bulk import act

from tasker.engines.protocol import Engine
from tasker.model import Draft, RetryPolicy, Status, TaskFilter, new_task_id
from tasker.model.control import Chosen
from tasker.rules.lifecycle import Failed, Succeeded, problem
from tasker.testing import Driver, ManualClock, make_draft, make_key

SECOND = timedelta(seconds=1)
PENDING, RUNNING = TaskFilter(status=(Status.PENDING,)), TaskFilter(status=(Status.RUNNING,))
ENDED = TaskFilter(status=(Status.COMPLETED, Status.FAILED, Status.CANCELLED))


async def one_of_each(driver: Driver, clock: ManualClock) -> dict[Status, UUID]:
    """Submit a task for each status; return their ids, in order of submission."""
    ids = {}
    for status in (Status.COMPLETED, Status.FAILED, Status.CANCELLED, Status.RUNNING, Status.PENDING):
        clock.advance(SECOND)
        ids[status] = await driver.submit(make_draft(clock.now(), tags=("each",), idempotency=make_key(key=status)))
        if status is Status.CANCELLED:
            await driver.engine.cancel(ids[status])
        elif status is not Status.PENDING:
            claim = await driver.claim_one()
            if status is not Status.RUNNING:
                ok = status is Status.COMPLETED
                await driver.finish(claim, Succeeded(b"6") if ok else Failed(problem("task-failed", "no")))
    return ids


def ids_of(chosen: Chosen) -> list[UUID]:
    return [task.task_id for task in chosen.tasks]


async def statuses(driver: Driver, ids: list[UUID]) -> list[str]:
    found = [await driver.engine.find(task_id) for task_id in ids]
    return ["gone" if task is None else str(task.status) for task in found]


async def test_what_was_submitted_is_found_again(driver: Driver, clock: ManualClock) -> None:
    draft = make_draft(
        clock.now(), type="t", params=b'{"a": 1.10}', queue="q", priority=-7, delay=SECOND, tags=("b", "a"),
        retry=RetryPolicy(max_attempts=5), metadata=b'{"m": -0}', idempotency=make_key(clock.now()),
    )  # fmt: skip
    draft = structs.replace(draft, owner="me", retention=timedelta(days=3), concurrency_key="k", weight=5)
    plain = make_draft(clock.now())
    await driver.engine.submit([draft, plain])
    found = await driver.engine.control.find_draft(draft.task_id)
    assert found == structs.replace(draft, run_at=None, idempotency=None, extra=None)
    assert await driver.engine.control.find_draft(plain.task_id) == plain
    assert await driver.engine.control.find_draft(new_task_id(clock.now())) is None


@pytest.mark.parametrize(
    ("action", "expected"),
    [
        ("cancel", ["completed", "failed", "cancelled", "running", "cancelled"]),
        ("retry", ["completed", "pending", "pending", "running", "pending"]),
        ("delete", ["gone", "gone", "gone", "running", "pending"]),
    ],
)
async def test_each_task_is_acted_on_as_alone(
    driver: Driver, clock: ManualClock, action: object, expected: list[str]
) -> None:
    """Tasks that are gone, or whose status does not allow the action, are skipped."""
    ids = await one_of_each(driver, clock)
    missing = new_task_id(clock.now())
    done = await act(driver.engine, action, [*ids.values(), missing])  # type: ignore[arg-type]
    assert await statuses(driver, list(ids.values())) == expected
    running = await driver.get(ids[Status.RUNNING])
    assert (running.cancel_requested_at is not None) is (action == "cancel")
    assert done == {"cancel": 2, "retry": 2, "delete": 3}[str(action)]
    if action == "retry":
        assert len(await driver.claim(10)) == 3
    if action == "delete":
        [receipt] = await driver.engine.submit([make_draft(clock.now(), idempotency=make_key(key="failed"))])
        assert receipt.outcome == "stored", "its key went with it"


@pytest.mark.parametrize("action", ["cancel", "retry", "delete"])
async def test_what_has_expired_is_passed_over(driver: Driver, clock: ManualClock, action: object) -> None:
    """Also among other tasks: those are acted on, and expired ones are no longer counted or chosen."""
    ids = []
    for kept in (None, SECOND, None):
        draft = structs.replace(make_draft(clock.now()), retention=kept)
        ids.append(await driver.submit(draft))
        await driver.finish(await driver.claim_one(), Failed(problem("task-failed", "no")))
    assert (await driver.engine.control.count(ENDED)).count == 3
    clock.advance(SECOND)
    assert await act(driver.engine, action, ids) == (0 if action == "cancel" else 2)  # type: ignore[arg-type]
    assert await act(driver.engine, "delete", ids[1:2]) == 0
    left = [ids[2], ids[0]] if action == "cancel" else []
    assert (await driver.engine.control.count(ENDED)).count == len(left)
    assert ids_of(await driver.engine.control.choose(ENDED, limit=9, cursor=None)) == left


async def test_each_change_is_notified(driver: Driver, clock: ManualClock) -> None:
    ids = await one_of_each(driver, clock)
    heard: dict[UUID, tuple[Status, bool]] = {}
    driver.engine.watch(lambda changes: heard.update({c.task_id: (c.status, c.cancel_requested) for c in changes}))
    await act(driver.engine, "cancel", list(ids.values()))
    assert heard == {ids[Status.PENDING]: (Status.CANCELLED, False), ids[Status.RUNNING]: (Status.RUNNING, True)}


async def test_tasks_are_counted_and_chosen_by_a_filter(driver: Driver, clock: ManualClock) -> None:
    ids = await one_of_each(driver, clock)
    others = [make_draft(clock.now(), type="other", queue="q") for _ in range(7)]
    await driver.engine.submit(others)
    control = driver.engine.control
    newest_first = [draft.task_id for draft in reversed(others)]
    for where, count in (
        (ENDED, 3), (PENDING, 8), (RUNNING, 1), (TaskFilter(), 12), (TaskFilter(types=("other",)), 7),
        (TaskFilter(status=(Status.PENDING,), queues=("q",)), 7), (TaskFilter(tag="each"), 5),
        (TaskFilter(tag="no"), 0),
        (TaskFilter(status=(Status.FAILED, Status.PENDING), tag="each"), 2), (TaskFilter(owner="x"), 0),
        (TaskFilter(status=(Status.FAILED,), created_before=clock.now() - 3 * SECOND), 0),
        (TaskFilter(status=(Status.FAILED,), created_after=clock.now() - 4 * SECOND), 1),
    ):  # fmt: skip
        counted = await control.count(where)
        assert counted.count == count, where
        assert (counted.cursor is None) is (count == 0)
        found = await control.choose(where, limit=100, cursor=counted.cursor)
        assert (len(found.tasks), found.next_cursor) == (count, None), where
    first = await control.choose(PENDING, limit=3, cursor=(await control.count(PENDING)).cursor)
    second = await control.choose(PENDING, limit=100, cursor=first.next_cursor)
    assert [*ids_of(first), *ids_of(second)] == [*newest_first, ids[Status.PENDING]]
    assert second.next_cursor is None
    whole = await control.choose(PENDING, limit=8, cursor=None)
    assert (ids_of(whole), whole.next_cursor) == ([*newest_first, ids[Status.PENDING]], None)


async def test_later_tasks_are_not_chosen(driver: Driver, clock: ManualClock) -> None:
    before = await driver.submit()
    counted = await driver.engine.control.count(PENDING)
    await driver.submit()
    assert ids_of(await driver.engine.control.choose(PENDING, limit=10, cursor=counted.cursor)) == [before]


async def test_two_at_once_act_on_each_task_once(engine: Engine, clock: ManualClock) -> None:
    drafts: list[Draft] = [make_draft(clock.now()) for _ in range(60)]
    await engine.submit(drafts)
    ids = [draft.task_id for draft in drafts]
    halves = ids, ids[::-1]
    assert sum(await asyncio.gather(*(act(engine, "cancel", half, at_once=20) for half in halves))) == 60
    assert sum(await asyncio.gather(*(act(engine, "retry", half, at_once=20) for half in halves))) == 60
    assert sum(await asyncio.gather(*(act(engine, "cancel", half, at_once=20) for half in halves))) == 60
    assert sum(await asyncio.gather(*(act(engine, "delete", half, at_once=20) for half in halves))) == 60
    assert (await engine.control.count(TaskFilter())).count == 0
