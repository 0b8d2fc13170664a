"""A concurrency key belongs to its owner, unless the queue shares keys: one owner's tasks do not delay another's."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta
from random import Random
from uuid import UUID

import pytest
from msgspec import structs
from tests.contract.conftest import MakeEngine
from tests.contract.test_queues import DONE, MINUTE, SECOND, claimed, draft, ids, set_, submit, wait

from tasker.engines.protocol import Engine
from tasker.model import Claim, Draft
from tasker.rules.lifecycle import Interrupted
from tasker.testing import Driver, ManualClock


def of(owner: str, clock: ManualClock, key: str | None = "k", *, priority: int = 0) -> Draft:
    return structs.replace(draft(clock, key, priority=priority), owner=owner)


async def test_a_key_that_one_owner_has_taken_is_free_for_another(
    driver: Driver, engine: Engine, clock: ManualClock
) -> None:
    await set_(engine, concurrency_per_key=1)
    mine, more, theirs, nobodys = await submit(driver, *(of(owner, clock) for owner in ("eve", "eve", "ada", "")))
    claims = await driver.claim(10)
    assert ids(claims) == [mine, theirs, nobodys]
    assert (await driver.get(more)).reason == "concurrency_limited"
    await driver.finish(claims[1], DONE)
    assert await driver.claim(10) == [], "a slot of another owner's key is none of its own"
    await driver.finish(claims[0], DONE)
    assert ids(await driver.claim(10)) == [more]


async def test_running_attempts_of_a_key_are_counted_for_its_owner_alone(
    driver: Driver, engine: Engine, clock: ManualClock
) -> None:
    await set_(engine, concurrency_per_key=1)
    *_, mine = await submit(driver, *(of(owner, clock) for owner in ("eve", "ada", "eve")))
    assert len(await driver.claim(10)) == 2
    place = await engine.queues.find_place(mine)
    assert place is not None
    assert place.key_running == 1
    await set_(engine, shared_keys=True)
    place = await engine.queues.find_place(mine)
    assert place is not None
    assert place.key_running == 2


async def test_a_queue_may_share_the_keys_of_all_owners(driver: Driver, engine: Engine, clock: ManualClock) -> None:
    await set_(engine, concurrency_per_key=1, shared_keys=True)
    first, low, high = await submit(
        driver, of("eve", clock), of("eve", clock, priority=-1), of("ada", clock, priority=-1)
    )
    [claim] = await driver.claim(10)
    assert claim.task_id == first
    await driver.finish(claim, DONE)
    [claim] = await driver.claim(10)
    assert claim.task_id == low, "the next of the key, whoever's"
    await driver.finish(claim, DONE)
    assert ids(await driver.claim(10)) == [high]


async def test_parked_tasks_go_when_keys_are_shared_no_more(driver: Driver, engine: Engine, clock: ManualClock) -> None:
    await set_(engine, concurrency_per_key=1, shared_keys=True)
    first, mine, theirs = await submit(driver, *(of(owner, clock) for owner in ("eve", "eve", "ada")))
    assert ids(await driver.claim(10)) == [first]
    waiting = await wait(driver)
    await set_(engine, shared_keys=False)
    assert await claimed(waiting) == [theirs]
    assert (await driver.get(mine)).reason == "concurrency_limited"


async def test_parked_tasks_wait_for_all_owners_once_keys_are_shared(
    driver: Driver, engine: Engine, clock: ManualClock
) -> None:
    await set_(engine, concurrency_per_key=1)
    first, theirs, mine = await submit(driver, *(of(owner, clock) for owner in ("eve", "ada", "eve")))
    claims = await driver.claim(10)
    assert ids(claims) == [first, theirs]
    await set_(engine, shared_keys=True)
    await driver.finish(claims[0], DONE)
    assert await driver.claim(10) == [], "another owner's still runs"
    await driver.finish(claims[1], DONE)
    await engine.sweep(limit=100)
    assert ids(await driver.claim(10)) == [mine]


@pytest.mark.parametrize("shared", [True, False])
async def test_the_setting_outlives_the_process_and_the_limit(
    engine: Engine, make_engine: MakeEngine, shared: bool
) -> None:
    await set_(engine, concurrency_per_key=1, shared_keys=True)
    await set_(engine, concurrency_per_key=None, shared_keys=shared)
    await engine.close()
    again = await make_engine()
    assert [state.settings.shared_keys for state in await again.queues.find_all()] == [True] * shared


@pytest.mark.parametrize("shared", [True, False])
async def test_who_leaves_the_line_lets_the_next_of_its_key_in(
    driver: Driver, engine: Engine, clock: ManualClock, shared: bool
) -> None:
    """By a cancel, and by a deadline."""
    await set_(engine, concurrency_per_key=1, shared_keys=shared)
    first, cancelled, late, last = (of("eve", clock) for _ in range(4))
    late = structs.replace(late, deadline=clock.now() + 5 * SECOND)
    await submit(driver, first, cancelled, late, last)
    [claim] = await driver.claim(10)
    assert claim.task_id == first.task_id
    await driver.finish(claim, DONE)
    await engine.cancel(cancelled.task_id)
    clock.advance(5 * SECOND)
    await engine.fail_overdue(limit=10)
    assert ids(await driver.claim(10)) == [last.task_id]


@pytest.mark.parametrize("shared", [True, False])
async def test_suspects_keep_to_the_keys_of_their_owner(
    driver: Driver, engine: Engine, clock: ManualClock, shared: bool
) -> None:
    suspects = await submit(driver, of("eve", clock), of("ada", clock))
    for _ in range(3):
        for claim in await driver.claim(2):
            await driver.finish(claim, Interrupted())
        clock.advance(MINUTE)
    await set_(engine, concurrency_per_key=1, shared_keys=shared)
    assert ids(await driver.claim(0, suspects=2)) == suspects[: 1 if shared else 2]


async def test_limits_of_owners_are_exact_while_keys_are_shared_and_not(
    driver: Driver, engine: Engine, clock: ManualClock
) -> None:
    """What starts keeps to what is set then; in the end everything has run."""
    random = Random(11)
    await set_(engine, concurrency_per_key=2)
    drafts = [of(random.choice(["ada", "eve", ""]), clock, random.choice("ab")) for _ in range(60)]
    await engine.submit(drafts)
    who = {one.task_id: (one.owner, str(one.concurrency_key)) for one in drafts}
    running: dict[UUID, Claim] = {}
    shared = False
    for step in range(400):
        if step % 7 == 6:
            shared = not shared
            await set_(engine, shared_keys=shared)
        before = Counter(_counted(who[task_id], shared) for task_id in running)
        claims = await driver.claim(random.randint(1, 4))
        running |= {claim.task_id: claim for claim in claims}
        for slot, count in Counter(_counted(who[task_id], shared) for task_id in running).items():
            assert count <= max(2, before[slot])
        for claim in random.sample(list(running.values()), random.randint(0, len(running))):
            await driver.finish(claim, DONE)
            del running[claim.task_id]
        if step % 20 == 19:
            await engine.sweep(limit=100)
            clock.advance(timedelta(milliseconds=1))
    assert not running
    assert [task.status for task in [await driver.get(task_id) for task_id in who]] == ["completed"] * 60


def _counted(who: tuple[str, str], shared: bool) -> tuple[str, str]:
    return ("*", who[1]) if shared else who


async def test_of_a_waiting_claim_no_owner_keeps_another_waiting(
    driver: Driver, engine: Engine, clock: ManualClock
) -> None:
    """Many parked tasks of one owner are not even looked at for another's slot."""
    await set_(engine, concurrency_per_key=1)
    await engine.submit([of("eve", clock) for _ in range(300)])
    assert len(await driver.claim(1)) == 1
    [mine, next_] = await submit(driver, of("ada", clock), of("ada", clock))
    claims: list[Claim] = []
    for _ in range(5):
        claims += await driver.claim(5)
    assert ids(claims) == [mine]
    waiting = await wait(driver)
    await driver.finish(claims[0], DONE)
    assert await claimed(waiting) == [next_]
    clock.advance(MINUTE)
