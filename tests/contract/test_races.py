"""Clients that act on the same tasks at the same moment: of two conflicting actions exactly one succeeds."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence
from random import Random
from typing import Any, Literal
from uuid import UUID

import pytest
from tests.contract.bulk import act

from tasker.errors import Conflict, NotFound
from tasker.model import Status
from tasker.rules.lifecycle import Failed, Succeeded, problem
from tasker.testing import Driver, ManualClock, make_draft

Verb = Literal["cancel", "retry", "delete"]
TASKS = 30


async def submit(driver: Driver, clock: ManualClock, count: int) -> list[UUID]:
    receipts = await driver.engine.submit([make_draft(clock.now()) for _ in range(count)])
    return [receipt.task_id for receipt in receipts]


async def tried(work: Awaitable[Any], turns: int = 0) -> bool:
    """Do it after some iterations of the loop; return False if the task's new status forbids it."""
    for _ in range(turns):
        await asyncio.sleep(0)
    try:
        await work
    except (Conflict, NotFound):
        return False
    return True


async def status_of(driver: Driver, task_id: UUID) -> Status | None:
    task = await driver.engine.find(task_id)
    return None if task is None else task.status


async def test_of_a_cancel_and_an_end_one_wins_each_time(driver: Driver, clock: ManualClock) -> None:
    """1,000 times, at random offsets: a late cancel is refused, and every log is consistent."""
    random, asked = Random(5), dict[UUID, bool]()
    for _ in range(5):  # all at once would wait too long for the few connections of a pool
        asked |= await _race_of_cancels_and_ends(driver, await submit(driver, clock, 200), random)
    assert 0 < sum(asked.values()) < 1000, "one of the two always came first: no race"
    for task_id in asked:
        task = await driver.get(task_id)
        assert task.status is Status.COMPLETED, "an end that came all the same stands"
        assert (task.cancel_requested_at is not None) is asked[task_id]


async def _race_of_cancels_and_ends(driver: Driver, ids: Sequence[UUID], random: Random) -> dict[UUID, bool]:
    """Cancel and end these tasks at the same time; return for each whether the cancel was in time."""
    claims = await driver.claim(len(ids))
    ends = [asyncio.create_task(_end_soon(driver, claim, random.randrange(40))) for claim in claims]
    cancels = [asyncio.create_task(tried(driver.engine.cancel(task_id), random.randrange(40))) for task_id in ids]
    assert await asyncio.gather(*ends) == [True] * len(ids), "the attempt was current all the time: its end is stored"
    return dict(zip(ids, await asyncio.gather(*cancels), strict=True))


async def _end_soon(driver: Driver, claim: Any, turns: int) -> bool:
    for _ in range(turns):
        await asyncio.sleep(0)
    return await driver.finish(claim, Succeeded(b"6"))


async def _make(driver: Driver, clock: ManualClock, status: Status) -> list[UUID]:
    """Return tasks of this status."""
    ids = await submit(driver, clock, TASKS)
    if status is Status.FAILED:
        for claim in await driver.claim(TASKS):
            await driver.finish(claim, Failed(problem("task-failed", "no")))
    elif status is Status.CANCELLED:
        await act(driver.engine, "cancel", ids)
    return ids


@pytest.mark.parametrize(
    ("status", "verbs"),
    [
        (Status.FAILED, ("retry", "retry")), (Status.FAILED, ("delete", "delete")),
        (Status.FAILED, ("retry", "delete")),
        (Status.CANCELLED, ("retry", "retry")), (Status.CANCELLED, ("delete", "retry")),
        (Status.PENDING, ("cancel", "cancel")),
    ],
)  # fmt: skip
async def test_of_two_clients_one_has_its_way(
    driver: Driver, clock: ManualClock, status: Status, verbs: Sequence[Verb]
) -> None:
    ids = await _make(driver, clock, status)
    after = {"retry": Status.PENDING, "delete": None, "cancel": Status.CANCELLED}
    for task_id, won in zip(ids, await _race(driver, ids, verbs), strict=True):
        assert sum(won) == 1, verbs
        assert await status_of(driver, task_id) == after[verbs[won.index(True)]]


@pytest.mark.parametrize(
    ("status", "first", "second", "after"),
    [
        (Status.PENDING, "cancel", "delete", (Status.CANCELLED, None)),
        (Status.PENDING, "cancel", "retry", (Status.CANCELLED, Status.PENDING)),
        (Status.FAILED, "retry", "cancel", (Status.PENDING, Status.CANCELLED)),
    ],
)
async def test_what_the_other_makes_possible_is_done_or_refused(
    driver: Driver, clock: ManualClock, status: Status, first: Verb, second: Verb, after: tuple[Any, Any]
) -> None:
    ids = await _make(driver, clock, status)
    for task_id, won in zip(ids, await _race(driver, ids, (first, second)), strict=True):
        assert won[0], "nothing stood in its way"
        assert await status_of(driver, task_id) == after[won[1]]


async def _race(driver: Driver, ids: Sequence[UUID], verbs: Sequence[Verb]) -> list[list[bool]]:
    """Let a client for each action act on every task, all at once; return which actions succeeded for each."""
    random = Random(7)
    works = [
        [tried(getattr(driver.engine, verb)(task_id), random.randrange(4)) for verb in verbs] for task_id in ids
    ]  # fmt: skip
    return await asyncio.gather(*(_together(pair) for pair in works))


async def _together(works: Sequence[Awaitable[bool]]) -> list[bool]:
    return list(await asyncio.gather(*works))
