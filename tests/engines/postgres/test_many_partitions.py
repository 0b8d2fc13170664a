"""More partitions than one look covers, and limits that several processes keep."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest
from tests.engines.postgres.conftest import MakeEngine

from tasker.engines.postgres import PostgresEngine, claim, waiters
from tasker.engines.postgres.waiters import Window
from tasker.engines.protocol import ClaimRequest
from tasker.errors import Conflict
from tasker.service.admission import OpenQueues
from tasker.testing import Driver, ManualClock, make_draft


@pytest.fixture(autouse=True)
def _few_partitions(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (claim, waiters):
        monkeypatch.setattr(module, "LOOKED_AT_ONCE", 3)


def test_a_window_goes_round_and_knows_when_nothing_is_left() -> None:
    window = Window()
    for partitions, found, after, is_done in (
        (["a", "b", "c"], False, "c", False),
        (["d"], False, "", True),  # a whole round, and nothing
        (["a", "b", "c"], True, "c", False),
        (["d"], False, "", False),  # something was claimed in this round: once more
        (["a", "b"], False, "", True),
        (["a", "b"], True, "", False),
    ):
        window.move(partitions)
        assert (window.after, window.is_done(found)) == (after, is_done)


async def test_claims_find_tasks_of_every_partition(driver: Driver, clock: ManualClock) -> None:
    expected = {await driver.submit(make_draft(clock.now(), queue=f"q{place}")) for place in range(10)}
    found = {one.task_id for _ in range(8) for one in await driver.claim(4)}
    assert found == expected


async def test_a_waiting_claim_finds_its_type_behind_partitions_of_others(
    engine: PostgresEngine, driver: Driver, clock: ManualClock
) -> None:
    for place in range(10):
        await driver.submit(make_draft(clock.now(), queue=f"a{place}", type="other"))
    task_id = await driver.submit(make_draft(clock.now(), queue="z"))
    request = ClaimRequest(worker="w", types=("sum",), limit=1, lease_for=timedelta(seconds=30))
    async with asyncio.timeout(20):
        [found] = await engine.claim(request, wait_for=timedelta(seconds=20))
    assert found.task_id == task_id


async def test_processes_exceed_the_limit_of_queues_by_what_they_had_not_seen(
    engine: PostgresEngine, another: MakeEngine, clock: ManualClock
) -> None:
    processes = [(one, OpenQueues(one.queues, clock, 3, is_shared=True)) for one in (engine, await another())]

    async def fill(place: int) -> int:
        own, open_queues = processes[place]
        accepted = 0
        for number in range(5):
            queue = f"{place}-{number}"
            try:
                await open_queues.enter("me", queue)
            except Conflict:
                continue
            await own.submit([make_draft(clock.now(), queue=queue, owner="me")])
            open_queues.leave([("me", queue)])
            accepted += 1
        return accepted

    for place in range(2):  # each has asked before the other has stored anything
        await processes[place][1].enter("me", f"{place}-0")
        processes[place][1].leave([("me", f"{place}-0")])
    assert [await fill(0), await fill(1)] == [3, 3]
    clock.advance(timedelta(seconds=2))
    assert [await fill(0), await fill(1)] == [3, 3]  # those that are open are let in, and no other
    assert len(await engine.queues.find_open("me")) == 6


async def test_a_process_asks_again_what_others_have_opened_meanwhile(
    engine: PostgresEngine, driver: Driver, clock: ManualClock
) -> None:
    open_queues = OpenQueues(engine.queues, clock, 3, is_shared=True)
    await open_queues.enter("me", "a")
    for place in range(3):
        await driver.submit(make_draft(clock.now(), queue=f"theirs-{place}", owner="me"))
    clock.advance(timedelta(seconds=2))
    with pytest.raises(Conflict, match="4 queues"):
        await open_queues.enter("me", "b")
