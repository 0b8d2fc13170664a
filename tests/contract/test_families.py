"""How long families are kept: children go with their parents, and all of it in small steps."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from tests.contract.conftest import Changes, MakeEngine
from tests.contract.steps import claim_children, new_step, park, put, start

from tasker.engines.protocol import Engine
from tasker.errors import Conflict, Expired, NotFound
from tasker.model import Change, Claim, Status, TaskFilter
from tasker.rules.lifecycle import Cancelled, Failed, Succeeded, problem
from tasker.testing import Driver, ManualClock, make_draft

SECOND = timedelta(seconds=1)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
BROKEN = Failed(problem("task-failed", "broken"))
DONE = Succeeded(b"1")
SOON = timedelta(milliseconds=1)
"""More than children go before their parents."""


async def claim_parent(driver: Driver, **options: Any) -> Claim:
    await driver.submit(make_draft(driver.clock.now(), **options))
    return await driver.claim_one()


async def end_children(driver: Driver) -> None:
    for claim in await claim_children(driver):
        await driver.finish(claim, DONE)


async def settled(engine: Engine, parent: UUID, *, is_all_ended: bool = False) -> None:
    """Return once the end of a parent is settled for its children, which may take some commits."""
    for _ in range(200):
        await engine.check()
        await engine.sweep(limit=100)
        page = await engine.find_many(TaskFilter(parent=parent), limit=1000)
        are_open = [not task.status.is_terminal for task in page.items]
        if is_all_ended and any(are_open):
            continue
        if all(is_open or task.expires_at for is_open, task in zip(are_open, page.items, strict=True)):
            return
    raise AssertionError("not settled")


async def prune_all(engine: Engine, limit: int = 100) -> int:
    steps = 0
    while await engine.prune(limit=limit):
        steps += 1
    return steps


async def test_children_are_kept_while_their_parent_is_open(driver: Driver, engine: Engine, clock: ManualClock) -> None:
    claim = await claim_parent(driver)
    children = await start(driver, claim, 2, options={"retention": SECOND})
    await end_children(driver)
    await park(driver, claim, until=clock.now() + DAY)
    clock.advance(HOUR)
    await prune_all(engine)
    for child in children:
        task = await driver.get(child)
        assert (task.status, task.expires_at) == (Status.COMPLETED, None)
    with pytest.raises(Conflict, match="child"):
        await engine.delete(children[0])


async def test_they_go_just_before_their_parent(driver: Driver, engine: Engine, clock: ManualClock) -> None:
    claim = await claim_parent(driver, retention=HOUR)
    children = await start(driver, claim, 2, options={"retention": DAY})
    await end_children(driver)
    await put(engine, claim, new_step(clock.now()))
    await driver.finish(claim, DONE)
    await settled(engine, claim.task_id)
    parent = await driver.get(claim.task_id)
    assert parent.expires_at == clock.now() + HOUR
    for child in children:
        until = (await driver.get(child)).expires_at
        assert until is not None
        assert parent.expires_at - SOON < until < parent.expires_at
    clock.advance(HOUR)
    await prune_all(engine)
    assert await engine.find(children[0]) is None
    assert await engine.steps.find(claim.task_id) == []
    with pytest.raises(Expired):
        await engine.cancel(claim.task_id)
    with pytest.raises(Expired):
        await engine.cancel(children[0])


async def test_a_shorter_retention_of_their_own_counts_from_their_end(
    driver: Driver, engine: Engine, clock: ManualClock
) -> None:
    claim = await claim_parent(driver, retention=DAY)
    [child] = await start(driver, claim, 1, options={"retention": HOUR})
    await end_children(driver)
    ended_at = clock.now()
    clock.advance(SECOND)
    await driver.finish(claim, DONE)
    await settled(engine, claim.task_id)
    assert (await driver.get(child)).expires_at == ended_at + HOUR


async def test_a_parent_that_is_kept_for_ever_leaves_them_their_own(
    driver: Driver, engine: Engine, clock: ManualClock
) -> None:
    claim = await claim_parent(driver, retention=None)
    [short] = await start(driver, claim, 1, key="a", options={"retention": HOUR})
    [long] = await start(driver, claim, 1, key="b", options={"retention": None})
    await end_children(driver)
    await driver.finish(claim, DONE)
    for _ in range(5):
        await engine.check()
        await engine.sweep(limit=100)
    assert (await driver.get(short)).expires_at == clock.now() + HOUR
    assert (await driver.get(long)).expires_at is None


async def test_a_child_that_ends_after_its_parent_goes_with_it(
    driver: Driver, engine: Engine, clock: ManualClock
) -> None:
    claim = await claim_parent(driver, retention=HOUR)
    [child] = await start(driver, claim, 1, options={"retention": DAY})
    await driver.finish(claim, DONE)
    clock.advance(SECOND)
    await end_children(driver)
    parent, task = await driver.get(claim.task_id), await driver.get(child)
    assert parent.expires_at is not None
    assert task.expires_at is not None
    assert parent.expires_at - SOON < task.expires_at < parent.expires_at


async def test_a_child_that_outlives_its_parent_is_kept_as_any_task(
    driver: Driver, engine: Engine, clock: ManualClock
) -> None:
    claim = await claim_parent(driver, retention=SECOND)
    [child] = await start(driver, claim, 1, is_detached=True, options={"retention": HOUR})
    [running] = await claim_children(driver)
    await driver.finish(claim, BROKEN)
    clock.advance(10 * SECOND)
    await prune_all(engine)
    assert await engine.find(claim.task_id) is None
    await driver.finish(running, DONE)
    assert (await driver.get(child)).expires_at == clock.now() + HOUR
    await prune_all(engine)
    assert await engine.find(child) is not None
    assert (await engine.find_many(TaskFilter(parent=claim.task_id), limit=9)).items == []


async def three_levels(driver: Driver, retention: timedelta | None = HOUR) -> tuple[Claim, UUID, UUID]:
    """Return a running root, and an ended child with an ended child of its own."""
    top = await claim_parent(driver, retention=retention)
    [middle] = await start(driver, top, 1, options={"retention": DAY})
    [claim] = await claim_children(driver)
    [leaf] = await start(driver, claim, 1, level=2, options={"retention": DAY})
    [last] = await claim_children(driver)
    await driver.finish(last, DONE)
    await driver.finish(claim, DONE)
    return top, middle, leaf


async def test_all_levels_go_with_the_root(driver: Driver, engine: Engine, clock: ManualClock) -> None:
    top, middle, leaf = await three_levels(driver)
    await driver.finish(top, DONE)
    await settled(engine, top.task_id)
    await settled(engine, middle)
    for _ in range(10):
        await engine.check()
        await engine.sweep(limit=100)
    root, first, second = [(await driver.get(task_id)).expires_at for task_id in (top.task_id, middle, leaf)]
    assert root is not None
    assert first is not None
    assert second is not None
    assert root - SOON < second < first < root
    clock.advance(2 * HOUR)
    await prune_all(engine)
    for task_id in (top.task_id, middle, leaf):
        with pytest.raises(Expired):
            await engine.cancel(task_id)


# deleted


async def test_a_family_is_deleted(driver: Driver, engine: Engine, clock: ManualClock, changes: Changes) -> None:
    """At once for its clients; what is open is cancelled, what is running is asked to stop; then all of it goes."""
    claim = await claim_parent(driver)
    children = await start(driver, claim, 4)
    done, running = await claim_children(driver, 2)
    await driver.finish(done, DONE)
    await put(engine, claim, new_step(clock.now()))
    await driver.finish(claim, DONE)
    await engine.delete(claim.task_id)
    assert await engine.find(claim.task_id) is None
    with pytest.raises(NotFound) as refusal:
        await engine.cancel(claim.task_id)
    assert not isinstance(refusal.value, Expired)
    await changes.until(
        *(Change(task_id, Status.CANCELLED) for task_id in children[2:]),
        Change(running.task_id, Status.RUNNING, cancel_requested=True),
    )
    assert await claim_children(driver) == []
    await prune_all(engine)
    await driver.finish(running, Cancelled())
    for _ in range(5):
        await engine.check()
        await engine.sweep(limit=100)
    await prune_all(engine)
    for task_id in (claim.task_id, *children):
        assert await engine.find(task_id) is None
        assert await engine.tombstones.find(task_id) is None
        with pytest.raises(NotFound) as refusal:
            await engine.retry(task_id)
        assert not isinstance(refusal.value, Expired)
    assert await engine.steps.find(claim.task_id) == []


async def test_all_levels_are_deleted(driver: Driver, engine: Engine, clock: ManualClock) -> None:
    top, middle, leaf = await three_levels(driver, retention=None)
    await driver.finish(top, DONE)
    await engine.delete(top.task_id)
    for _ in range(20):
        await engine.check()
        await engine.sweep(limit=100)
    await prune_all(engine)
    for task_id in (top.task_id, middle, leaf):
        assert await engine.find(task_id) is None
        assert await engine.tombstones.find(task_id) is None
    assert (await engine.find_many(TaskFilter(), limit=9)).items == []


async def test_open_children_on_all_levels_of_a_deleted_family_are_cancelled(driver: Driver, engine: Engine) -> None:
    top = await claim_parent(driver)
    await start(driver, top, 1)
    [middle] = await claim_children(driver)
    await start(driver, middle, 2, level=2)
    [leaf] = await claim_children(driver, 1)
    await driver.finish(middle, DONE)
    await driver.finish(top, DONE)
    await engine.delete(top.task_id)
    for _ in range(20):
        await engine.check()
        await engine.sweep(limit=100)
    assert await claim_children(driver) == []
    assert (await driver.get(leaf.task_id)).cancel_requested_at is not None
    await driver.finish(leaf, Cancelled())
    await prune_all(engine)
    assert (await engine.find_many(TaskFilter(), limit=9)).items == []


async def test_detached_children_of_a_deleted_parent_go_on(driver: Driver, engine: Engine, clock: ManualClock) -> None:
    claim = await claim_parent(driver)
    [child] = await start(driver, claim, 1, is_detached=True, options={"retention": HOUR})
    await driver.finish(claim, BROKEN)
    await engine.delete(claim.task_id)
    for _ in range(5):
        await engine.check()
        await engine.sweep(limit=100)
    await prune_all(engine)
    [running] = await claim_children(driver)
    await driver.finish(running, DONE)
    assert (await driver.get(child)).expires_at == clock.now() + HOUR
    await engine.delete(child)


async def test_a_child_of_an_ended_parent_is_deleted_alone(driver: Driver, engine: Engine) -> None:
    claim = await claim_parent(driver, retention=HOUR)
    children = await start(driver, claim, 2)
    await end_children(driver)
    await driver.finish(claim, DONE)
    await settled(engine, claim.task_id)
    await engine.delete(children[0])
    assert await engine.find(children[0]) is None
    assert [child.task_id for child in await engine.steps.find_children(claim.task_id, "map")] == children[1:]
    await engine.delete(claim.task_id)


async def test_an_erased_family_leaves_no_rows(driver: Driver, engine: Engine, clock: ManualClock) -> None:
    """A later task may get the same place in the store: it has no steps and no children."""
    claim = await claim_parent(driver, retention=SECOND)
    await start(driver, claim, 2)
    await put(engine, claim, new_step(clock.now()))
    await end_children(driver)
    await driver.finish(claim, DONE)
    await settled(engine, claim.task_id)
    clock.advance(HOUR)
    await prune_all(engine)
    again = await claim_parent(driver)
    assert await engine.steps.find(again.task_id) == []
    assert (await driver.get(again.task_id)).children is None
    await start(driver, again, 1)
    assert len(await engine.steps.find_children(again.task_id, "map")) == 1


async def test_a_retried_parent_and_its_children_are_kept_again(
    driver: Driver, engine: Engine, clock: ManualClock
) -> None:
    claim = await claim_parent(driver, retention=HOUR)
    [child] = await start(driver, claim, 1)
    await end_children(driver)
    await driver.finish(claim, BROKEN)
    await settled(engine, claim.task_id)
    await engine.retry(claim.task_id)
    assert (await driver.get(child)).expires_at is None
    again = await driver.claim_one()
    await driver.finish(again, DONE)
    await settled(engine, claim.task_id)


# small steps


@pytest.fixture
def few_at_once(monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr("tasker.engines.postgres.transaction.SETTLED_AT_ONCE", 20)
    monkeypatch.setattr("tasker.engines.sqlite.partitions.SETTLED_AT_ONCE", 20)
    return 20


async def test_many_children_are_settled_and_erased_in_small_steps(
    driver: Driver, engine: Engine, clock: ManualClock, make_engine: MakeEngine, few_at_once: int
) -> None:
    """No step erases more tasks than it may, and each root goes after its children."""
    roots = [await claim_parent(driver, retention=HOUR) for _ in range(3)]
    for root in roots:
        await start(driver, root, 60, options={"type": "never"})
    for root in roots:
        await driver.finish(root, BROKEN)
    for root in roots:
        await settled(engine, root.task_id, is_all_ended=True)
    assert (await engine.count(TaskFilter(status=(Status.CANCELLED,)))).number == 180
    clock.advance(2 * HOUR)
    erased = 0
    while (step := await engine.prune(limit=50)) and erased < 183:
        assert step <= 50
        erased += step
    assert erased == 183


async def test_many_steps_of_a_task_are_erased_in_small_steps(
    driver: Driver, engine: Engine, clock: ManualClock
) -> None:
    claim = await claim_parent(driver, retention=SECOND)
    wide = b'"%s"' % (b"x" * 200_000)
    await put(engine, claim, *(new_step(clock.now(), f"wide{place}", wide) for place in range(12)))
    await put(engine, claim, *(new_step(clock.now(), f"step{place}") for place in range(200)))
    await driver.finish(claim, DONE)
    clock.advance(HOUR)
    assert await prune_all(engine, limit=20) > 10
    assert await engine.find(claim.task_id) is None
