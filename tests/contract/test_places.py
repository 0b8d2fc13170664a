"""Engine.queues.find_place and find_run_time: a task's position, and the run time of similar tasks."""

from __future__ import annotations

from datetime import timedelta

from msgspec import structs

from tasker.engines.protocol import Engine
from tasker.model.queues import MOST_BEFORE, Place, QueueChange
from tasker.rules.lifecycle import Succeeded
from tasker.testing import Driver, ManualClock, make_draft

SECOND = timedelta(seconds=1)


async def test_a_place_is_counted_over_the_types_of_a_queue_by_priority_and_time(
    driver: Driver, engine: Engine, clock: ManualClock
) -> None:
    first = await driver.submit(make_draft(clock.now()))
    await driver.submit(make_draft(clock.now(), type="gpt", priority=5))
    await driver.submit(make_draft(clock.now(), priority=-1))
    await driver.submit(make_draft(clock.now(), priority=9, delay=60 * SECOND))
    await driver.submit(make_draft(clock.now(), queue="other", priority=9))
    last = await driver.submit(make_draft(clock.now()))
    assert await engine.queues.find_place(first) == Place(before=1)
    assert await engine.queues.find_place(last) == Place(before=2)


async def test_what_is_not_in_line_has_no_place(driver: Driver, engine: Engine, clock: ManualClock) -> None:
    later = await driver.submit(make_draft(clock.now(), delay=60 * SECOND))
    running = await driver.submit()
    await driver.claim_one()
    assert await engine.queues.find_place(later) is None
    assert await engine.queues.find_place(running) is None
    assert await engine.queues.find_place(make_draft().task_id) is None


async def test_a_parked_task_tells_of_its_key(driver: Driver, engine: Engine, clock: ManualClock) -> None:
    await engine.queues.change("default", QueueChange(concurrency_per_key=1))
    drafts = [structs.replace(make_draft(clock.now()), concurrency_key="a", weight=3) for _ in range(2)]
    await engine.submit(drafts)
    await driver.claim(5)
    assert await engine.queues.find_place(drafts[1].task_id) == Place(before=0, weight=3, key_running=1)


async def test_parked_tasks_are_before_no_other_task(driver: Driver, engine: Engine, clock: ManualClock) -> None:
    await engine.queues.change("default", QueueChange(concurrency_per_key=1))
    keyed = [structs.replace(make_draft(clock.now()), concurrency_key="a", owner="me") for _ in range(3)]
    await engine.submit(keyed)
    assert len(await driver.claim(5)) == 1
    first, last = (structs.replace(make_draft(clock.now()), owner="me") for _ in range(2))
    await engine.submit([first, last])
    for among in (None, "me"):
        places = [await engine.queues.find_place(one.task_id, among) for one in (first, last)]
        assert places == [Place(before=0), Place(before=1)], among


async def test_counting_ends_somewhere(driver: Driver, engine: Engine, clock: ManualClock) -> None:
    await engine.submit([make_draft(clock.now(), priority=number % 3) for number in range(1500)])
    last = await driver.submit(make_draft(clock.now(), priority=-1))
    assert await engine.queues.find_place(last) == Place(before=MOST_BEFORE)


async def test_run_times_are_those_of_its_type_before_it(driver: Driver, engine: Engine, clock: ManualClock) -> None:
    first = await driver.submit()
    assert await engine.queues.find_run_time(first) is None
    for seconds in (2, 4):
        claim = await driver.claim_one()
        clock.advance(seconds * SECOND)
        await driver.finish(claim, Succeeded(b"6"))
        await driver.submit()
    last = await driver.submit()
    assert await engine.queues.find_run_time(last) == 3 * SECOND
    other = await driver.submit(make_draft(clock.now(), type="gpt"))
    assert await engine.queues.find_run_time(other) is None
