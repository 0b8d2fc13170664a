"""Tasks that many others depend on: one transaction settles some of these, and the rest soon after it."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

import pytest
from msgspec import structs
from tests.contract.conftest import Changes, MakeEngine

from tasker.engines.protocol import Engine
from tasker.errors import Conflict
from tasker.model import Change, Extra, Status, TaskFilter
from tasker.rules.lifecycle import Succeeded
from tasker.testing import Driver, ManualClock, make_draft

SETTLED_AT_ONCE = 24
"""Limit of the dependants that one transaction settles, in these tests."""
MANY = SETTLED_AT_ONCE + 11


@pytest.fixture(autouse=True)
def few_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasker.engines.postgres.transaction.SETTLED_AT_ONCE", SETTLED_AT_ONCE)
    monkeypatch.setattr("tasker.engines.sqlite.partitions.SETTLED_AT_ONCE", SETTLED_AT_ONCE)


async def submit_dependants(engine: Engine, clock: ManualClock, number: int, on: UUID) -> list[UUID]:
    draft = make_draft(clock.now(), extra=Extra(depends_on=(on,)))
    drafts = [structs.replace(draft, task_id=make_draft(clock.now()).task_id) for _ in range(number)]
    return [receipt.task_id for receipt in await engine.submit(drafts)]


async def count(engine: Engine, status: Status) -> int:
    return (await engine.control.count(TaskFilter(status=(status,)))).count


async def all_heard(changes: Changes, task_ids: Sequence[UUID], status: Status) -> None:
    """Return once all tasks have the status; they are awaited in groups, each with its own time limit."""
    for start in range(0, len(task_ids), 50):
        await changes.until(*(Change(task_id, status) for task_id in task_ids[start : start + 50]))


async def complete_first(driver: Driver, changes: Changes, others: Sequence[UUID]) -> None:
    [claim] = await driver.claim(1)
    changes.heard.clear()
    changes.batches.clear()
    await driver.finish(claim, Succeeded(b"1"))
    await all_heard(changes, others, Status.PENDING)


async def test_however_many_depend_on_a_task_all_of_them_go_on(
    driver: Driver, engine: Engine, clock: ManualClock, changes: Changes
) -> None:
    first = await driver.submit()
    others = await submit_dependants(engine, clock, MANY, first)
    await complete_first(driver, changes, others)
    assert {claim.task_id for claim in await driver.claim(MANY)} == set(others)


async def test_one_commit_settles_a_part(driver: Driver, engine: Engine, clock: ManualClock, changes: Changes) -> None:
    first = await driver.submit()
    others = await submit_dependants(engine, clock, MANY, first)
    await complete_first(driver, changes, others)
    assert max(map(len, changes.batches)) < MANY


async def test_a_failure_goes_through_a_tree_of_dependants(
    driver: Driver, engine: Engine, clock: ManualClock, changes: Changes
) -> None:
    first = await driver.submit()
    middle = await submit_dependants(engine, clock, 10, first)
    leaves = [leaf for one in middle for leaf in await submit_dependants(engine, clock, MANY // 8, one)]
    changes.heard.clear()
    await engine.cancel(first)
    await all_heard(changes, [*middle, *leaves], Status.FAILED)
    assert await count(engine, Status.FAILED) == len(middle) + len(leaves)


async def test_a_process_that_ends_in_between_leaves_no_dependant_waiting(
    driver: Driver, engine: Engine, clock: ManualClock, make_engine: MakeEngine
) -> None:
    first = await driver.submit()
    number = 3 * SETTLED_AT_ONCE
    others = await submit_dependants(engine, clock, number, first)
    [claim] = await driver.claim(1)
    await driver.finish(claim, Succeeded(b"1"))
    await engine.close()
    again = await make_engine()
    second = Driver(again, clock)
    found: set[UUID] = set()
    for _ in range(100):
        await again.sweep(limit=number)
        found |= {claim.task_id for claim in await second.claim(number)}
        if len(found) == number:
            break
    assert found == set(others)


async def test_a_task_is_not_erased_before_those_that_wait_for_it_have_heard(
    driver: Driver, engine: Engine, clock: ManualClock, make_engine: MakeEngine
) -> None:
    """On PostgreSQL the process that settles them ends before it is done, or it might be done before the deletion."""
    first = await driver.submit()
    await submit_dependants(engine, clock, 4 * SETTLED_AT_ONCE, first)
    [claim] = await driver.claim(1)
    await driver.finish(claim, Succeeded(b"1"))
    if engine.is_shared:
        await engine.close()
        engine = await make_engine()
    with pytest.raises(Conflict, match="not settled yet"):
        await engine.delete(first)
