"""Settings of queues: pause, concurrency, concurrency per key and rate hold in every kind of claim."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from random import Random
from uuid import UUID

import pytest
from msgspec import structs
from tests.contract.conftest import MakeEngine

from tasker.engines.protocol import Engine
from tasker.errors import Conflict
from tasker.model import Claim, Draft, RetryPolicy, Status
from tasker.model.queues import Pause, QueueChange, QueueSettings, Rate
from tasker.rules.lifecycle import Failed, Interrupted, Released, Succeeded, problem
from tasker.testing import Driver, ManualClock, make_draft

SECOND = timedelta(seconds=1)
MINUTE = timedelta(minutes=1)
DONE = Succeeded(b"6")


def draft(
    clock: ManualClock,
    key: str | None = None,
    *,
    weight: int = 1,
    queue: str = "q",
    priority: int = 0,
    type: str = "sum",
) -> Draft:
    plain = make_draft(clock.now(), queue=queue, priority=priority, type=type)
    return structs.replace(plain, concurrency_key=key, weight=weight)


async def submit(driver: Driver, *drafts: Draft) -> list[UUID]:
    """Submit each on its own, so that a waiting claim may take it at once."""
    return [(await driver.submit(one)) for one in drafts]


def ids(claims: Sequence[Claim]) -> list[UUID]:
    return [claim.task_id for claim in claims]


async def wait(driver: Driver) -> asyncio.Task[list[Claim]]:
    """Return a claim that waits, and has looked."""
    waiting = asyncio.create_task(driver.claim(10, wait_for=MINUTE))
    await asyncio.sleep(0.05)
    assert not waiting.done()
    return waiting


async def claimed(waiting: asyncio.Task[list[Claim]]) -> list[UUID]:
    async with asyncio.timeout(30):
        return ids(await waiting)


async def set_(engine: Engine, queue: str = "q", **fields: object) -> QueueSettings:
    return await engine.queues.change(queue, QueueChange(**fields))  # type: ignore[arg-type]


# settings


async def test_no_queue_has_settings_at_first(engine: Engine) -> None:
    assert await engine.queues.find_all() == []


async def test_settings_are_stored_and_returned(engine: Engine, make_engine: MakeEngine) -> None:
    rate = Rate(limit=100, per=MINUTE, burst=10)
    await set_(engine, "b", paused=True)
    assert await set_(engine, "a", concurrency=3, rate=rate) == QueueSettings(name="a", concurrency=3, rate=rate)
    await set_(engine, "a", concurrency_per_key=1)
    await set_(engine, "a", concurrency=None)
    expected = [QueueSettings(name="a", concurrency_per_key=1, rate=rate), QueueSettings(name="b", paused=True)]
    assert [state.settings for state in await engine.queues.find_all()] == expected
    await engine.close()
    again = await make_engine()
    states = await again.queues.find_all()
    assert [state.settings for state in states] == expected
    assert (states[0].running, states[0].tokens) == (0, 10)


async def test_a_queue_without_settings_again_is_like_any_other(engine: Engine) -> None:
    await set_(engine, paused=True)
    await set_(engine, paused=False)
    assert await engine.queues.find_all() == []


# pause


async def test_who_has_paused_a_queue_is_stored(engine: Engine, clock: ManualClock) -> None:
    """Of two who pause it, the first one; nobody once it goes on."""
    first, second = (Pause(at=clock.now() + number * MINUTE, owner="ops", key=f"key {number}") for number in (1, 2))
    for by in (first, second):
        assert (await set_(engine, paused=True, by=by)).pause == first
    assert (await set_(engine, concurrency=3, by=second)).pause == first
    [state] = await engine.queues.find_all()
    assert state.settings == QueueSettings(name="q", paused=True, concurrency=3, pause=first)
    assert (await set_(engine, paused=False, by=second)).pause is None
    assert (await set_(engine, paused=True, by=second)).pause == second
    await set_(engine, paused=False, concurrency=None, by=second)
    assert await engine.queues.find_all() == []


async def test_a_paused_queue_gives_nothing_and_the_others_do(
    driver: Driver, engine: Engine, clock: ManualClock
) -> None:
    await set_(engine, paused=True)
    await submit(driver, draft(clock, priority=100))
    [other] = await submit(driver, draft(clock, queue="other"))
    assert ids(await driver.claim(10)) == [other]
    assert await driver.claim(10) == []


async def test_a_pause_holds_while_claims_wait(driver: Driver, engine: Engine, clock: ManualClock) -> None:
    waiting = await wait(driver)
    await set_(engine, paused=True)
    await submit(driver, draft(clock), draft(clock))
    [other] = await submit(driver, draft(clock, queue="other"))
    assert await claimed(waiting) == [other]


async def test_a_waiting_claim_is_woken_when_a_queue_is_resumed(
    driver: Driver, engine: Engine, clock: ManualClock
) -> None:
    await set_(engine, paused=True)
    tasks = await submit(driver, draft(clock))
    waiting = await wait(driver)
    await set_(engine, paused=False)
    assert await claimed(waiting) == tasks


async def test_a_pause_by_another_process_holds_and_ends_here(
    driver: Driver, engine: Engine, make_engine: MakeEngine, clock: ManualClock
) -> None:
    if not engine.is_shared:
        pytest.skip("one process")
    other = await make_engine()
    await set_(other, paused=True)
    tasks = await submit(driver, draft(clock))
    waiting = await wait(driver)
    await set_(other, paused=False)
    assert await claimed(waiting) == tasks


async def test_what_runs_goes_on_in_a_paused_queue(driver: Driver, engine: Engine, clock: ManualClock) -> None:
    [task_id] = await submit(driver, draft(clock))
    claim = await driver.claim_one()
    await set_(engine, paused=True)
    assert await driver.finish(claim, DONE)
    assert (await driver.get(task_id)).status is Status.COMPLETED


# concurrency


async def test_no_more_run_than_the_limit_allows(driver: Driver, engine: Engine, clock: ManualClock) -> None:
    await set_(engine, concurrency=2)
    await submit(driver, draft(clock), draft(clock, type="other"), *(draft(clock) for _ in range(3)))
    claims = await driver.claim(10, types=["sum", "other"])
    assert len(claims) == 2
    assert await driver.claim(10, types=["sum", "other"]) == []
    await driver.finish(claims[0], DONE)
    assert len(await driver.claim(10)) == 1


async def test_a_waiting_worker_gets_no_more_than_the_limit(driver: Driver, engine: Engine, clock: ManualClock) -> None:
    """The path of a task that is stored as running."""
    await set_(engine, concurrency=1)
    waiting = await wait(driver)
    first, second = await submit(driver, draft(clock), draft(clock))
    assert await claimed(waiting) == [first]
    assert (await driver.get(second)).status is Status.PENDING
    waiting = await wait(driver)
    await submit(driver, draft(clock))
    await asyncio.sleep(0.05)
    assert not waiting.done()
    waiting.cancel()


@pytest.mark.parametrize("end", ["completed", "retried", "released"])
async def test_a_slot_that_is_free_again_wakes_a_claim(
    end: str, driver: Driver, engine: Engine, clock: ManualClock
) -> None:
    await set_(engine, concurrency=1)
    retry = RetryPolicy(max_attempts=2, initial=MINUTE, jitter=False)
    await driver.submit(structs.replace(make_draft(clock.now(), queue="q", retry=retry)))
    claim = await driver.claim_one()
    [second] = await submit(driver, draft(clock, priority=1))
    waiting = await wait(driver)
    outcomes = {
        "completed": DONE, "retried": Failed(problem("task-failed", "no", retryable=True)), "released": Released()
    }  # fmt: skip
    assert await driver.finish(claim, outcomes[end])
    assert await claimed(waiting) == [second]


async def test_a_lower_limit_stops_nothing_and_starts_nothing(
    driver: Driver, engine: Engine, clock: ManualClock
) -> None:
    await submit(driver, *(draft(clock) for _ in range(4)))
    claims = await driver.claim(3)
    await set_(engine, concurrency=1)
    for claim in claims[:2]:
        await driver.finish(claim, DONE)
        assert await driver.claim(1) == []
    await driver.finish(claims[2], DONE)
    assert len(await driver.claim(5)) == 1


async def test_a_higher_limit_wakes_a_claim(driver: Driver, engine: Engine, clock: ManualClock) -> None:
    await set_(engine, concurrency=1)
    _, second = await submit(driver, draft(clock), draft(clock))
    await driver.claim_one()
    waiting = await wait(driver)
    await set_(engine, concurrency=None)
    assert await claimed(waiting) == [second]


async def test_limits_are_exact_over_all_workers(
    engine: Engine, make_engine: MakeEngine, driver: Driver, clock: ManualClock
) -> None:
    """Claims and ends of many workers at once: never more than the limits, and in the end everything has run."""
    random = Random(7)
    engines = [engine]
    if engine.is_shared:
        engines.append(await make_engine())
    await set_(engine, concurrency=5, concurrency_per_key=2)
    drafts = [draft(clock, random.choice("abc"), type=random.choice(["sum", "gpt"])) for _ in range(60)]
    await engine.submit(drafts)
    key_of = {one.task_id: one.concurrency_key for one in drafts}
    running: dict[UUID, Claim] = {}
    most = 0
    drivers = [Driver(one, clock, worker=f"worker-{number}") for number, one in enumerate(engines * 3)]
    for _ in range(400):
        taken = await asyncio.gather(
            *(one.claim(random.randint(1, 4), types=["sum", "gpt"]) for one in random.sample(drivers, 2))
        )
        running |= {claim.task_id: claim for claims in taken for claim in claims}
        keys = [key_of[task_id] for task_id in running]
        most = max(most, len(running))
        assert len(running) <= 5
        assert all(keys.count(key) <= 2 for key in "abc")
        if not running:
            break
        ended = random.sample(list(running.values()), random.randint(1, len(running)))
        await asyncio.gather(*(random.choice(drivers).finish(claim, DONE) for claim in ended))
        for claim in ended:
            del running[claim.task_id]
    assert most == 5
    assert all([(await driver.get(one.task_id)).status is Status.COMPLETED for one in drafts])


# concurrency per key


async def test_a_taken_key_holds_up_no_other(driver: Driver, engine: Engine, clock: ManualClock) -> None:
    await set_(engine, concurrency_per_key=1)
    a1, a2, a3, b1, none = await submit(driver, *(draft(clock, key) for key in ("a", "a", "a", "b", None)))
    claims = await driver.claim(10)
    assert ids(claims) == [a1, b1, none]
    assert (await driver.get(a2)).reason == "concurrency_limited"
    assert await driver.claim(10) == []
    [c1] = await submit(driver, draft(clock, "c"))
    await driver.finish(claims[0], DONE)
    assert ids(await driver.claim(10)) == [a2, c1], "it has kept its place"
    assert (await driver.get(a3)).reason == "concurrency_limited"


async def test_a_hot_key_shares_with_the_others(driver: Driver, engine: Engine, clock: ManualClock) -> None:
    """More tasks of one key at the head than a claim would ever look at."""
    await set_(engine, concurrency_per_key=2)
    await engine.submit([draft(clock, "hot") for _ in range(3000)])
    [cold] = await submit(driver, draft(clock, "cold"))
    claims = await driver.claim(4)
    for _ in range(3):
        claims += await driver.claim(4)
    assert len(claims) == 3
    assert claims.pop().task_id == cold
    seen = {claim.task_id for claim in claims}
    for _ in range(5):
        await driver.finish(claims.pop(0), DONE)
        [claim] = await driver.claim(4)
        assert claim.task_id not in seen
        seen.add(claim.task_id)
        claims.append(claim)
    [line] = await engine.stats.open_counts()
    assert (line.pending, line.scheduled, line.running) == (3001 - 8, 0, 3)


async def test_a_slot_of_its_key_wakes_a_claim(driver: Driver, engine: Engine, clock: ManualClock) -> None:
    await set_(engine, concurrency_per_key=1)
    _, second = await submit(driver, draft(clock, "a"), draft(clock, "a"))
    [first] = await driver.claim(10)
    waiting = await wait(driver)
    await driver.finish(first, DONE)
    assert await claimed(waiting) == [second]


async def test_the_next_of_a_key_takes_the_place_of_one_that_is_cancelled(
    driver: Driver, engine: Engine, clock: ManualClock
) -> None:
    await set_(engine, concurrency_per_key=1)
    first, second, third = await submit(driver, *(draft(clock, "a") for _ in range(3)))
    (claim,) = await driver.claim(10)
    assert claim.task_id == first
    await driver.finish(claim, DONE)
    await engine.cancel(second)
    assert ids(await driver.claim(10)) == [third]


@pytest.mark.parametrize(("limit", "count"), [(2, 1), (None, 3)])
async def test_parked_tasks_come_back_with_a_higher_limit(
    limit: int | None, count: int, driver: Driver, engine: Engine, clock: ManualClock
) -> None:
    await set_(engine, concurrency_per_key=1)
    tasks = await submit(driver, *(draft(clock, "a", priority=-number) for number in range(4)))
    await driver.claim(10)
    waiting = await wait(driver)
    await set_(engine, concurrency_per_key=limit)
    assert await claimed(waiting) == tasks[1 : 1 + count]


async def test_a_key_means_nothing_where_no_limit_is_set(driver: Driver, engine: Engine, clock: ManualClock) -> None:
    await set_(engine, concurrency=10)
    tasks = await submit(driver, *(draft(clock, "a") for _ in range(3)), draft(clock, "a", queue="other"))
    assert sorted(ids(await driver.claim(10))) == sorted(tasks)


async def test_a_sweep_finds_parked_tasks_that_were_not_unparked(
    driver: Driver, engine: Engine, make_engine: MakeEngine, clock: ManualClock
) -> None:
    """A worker that takes other types parks one behind a task that it does not run after all."""
    await set_(engine, concurrency_per_key=1)
    first, second = await submit(driver, draft(clock, "a", type="gpt", priority=1), draft(clock, "a"))
    [other] = await submit(driver, draft(clock, queue="other", priority=2))
    assert ids(await driver.claim(1, types=["sum", "gpt"])) == [other]
    await engine.sweep(limit=100)
    assert ids(await driver.claim(10, types=["sum"])) == [second]
    assert await driver.claim(10, types=["gpt"]) == []
    assert (await driver.get(first)).status is Status.PENDING


async def test_of_parked_tasks_the_one_of_the_largest_priority_comes_back_first(
    driver: Driver, engine: Engine, clock: ManualClock
) -> None:
    await set_(engine, concurrency_per_key=1)
    await submit(driver, draft(clock, "a"))
    [running] = await driver.claim(10)
    low, high = await submit(driver, draft(clock, "a", priority=-5), draft(clock, "a", priority=5))
    assert await driver.claim(10) == [], "both are parked"
    await driver.finish(running, DONE)
    [next_] = await driver.claim(10)
    assert next_.task_id == high
    await driver.finish(next_, DONE)
    assert ids(await driver.claim(10)) == [low]


async def test_a_parked_task_survives_a_restart_and_can_be_cancelled(
    driver: Driver, engine: Engine, make_engine: MakeEngine, clock: ManualClock
) -> None:
    await set_(engine, concurrency_per_key=1)
    first, second, third = await submit(driver, *(draft(clock, "a") for _ in range(3)))
    [claim] = await driver.claim(10)
    await engine.close()
    again = await make_engine()
    driver = Driver(again, clock)
    clock.advance(MINUTE)
    assert (await driver.get(second)).reason == "concurrency_limited"
    await again.cancel(second)
    assert await driver.claim(10) == []
    await driver.reap()
    assert claim.task_id == first
    assert ids(await driver.claim(10)) == [third]
    assert (await driver.get(second)).status is Status.CANCELLED
    assert (await again.retry(second)).reason == "queued"


async def test_a_parked_task_goes_into_an_archive_as_one_that_is_due(
    driver: Driver, engine: Engine, clock: ManualClock
) -> None:
    await set_(engine, concurrency_per_key=1)
    first, second = await submit(driver, draft(clock, "a"), draft(clock, "a"))
    await driver.claim(10)
    stored = {task.task_id: task for task in await engine.archive.find_many([first, second]) if task is not None}
    assert (stored[second].reason, stored[second].due_at) == ("queued", clock.now())
    assert (await engine.cancel(second)).status is Status.CANCELLED
    [cancelled] = await engine.archive.find_many([second])
    assert cancelled is not None
    assert cancelled.due_at == clock.now()


# rate


async def test_a_bucket_holds_its_burst_and_no_more(driver: Driver, engine: Engine, clock: ManualClock) -> None:
    await set_(engine, rate=Rate(limit=10, per=SECOND, burst=4))
    await submit(driver, *(draft(clock, type=type) for type in ("sum", "gpt") * 5))
    clock.advance(MINUTE)
    assert len(await driver.claim(10, types=["sum", "gpt"])) == 4
    assert await driver.claim(10, types=["sum", "gpt"]) == []
    clock.advance(0.25 * SECOND)
    assert len(await driver.claim(10, types=["sum", "gpt"])) == 2


async def test_a_rate_holds_over_an_hour(engine: Engine, make_engine: MakeEngine, clock: ManualClock) -> None:
    random = Random(3)
    rate = Rate(limit=100, per=MINUTE, burst=50)
    await set_(engine, rate=rate)
    drafts = [draft(clock, weight=random.choice([1, 2, 5])) for _ in range(3000)]
    await engine.submit(drafts)
    weights = {one.task_id: one.weight for one in drafts}
    drivers = [Driver(engine, clock)]
    if engine.is_shared:
        drivers.append(Driver(await make_engine(), clock, worker="worker-2"))
    begun, spent = clock.now(), 0
    while clock.now() - begun < timedelta(hours=1):
        taken = await asyncio.gather(*(one.claim(50) for one in drivers))
        spent += sum(weights.pop(claim.task_id) for claims in taken for claim in claims)
        allowed = rate.limit * ((clock.now() - begun) / MINUTE) + rate.burst
        assert allowed - 5 <= spent <= allowed + 0.001
        clock.advance(random.choice([15, 20, 25]) * SECOND)


async def test_a_task_heavier_than_the_burst_waits_for_a_full_bucket_and_is_paid_off(
    driver: Driver, engine: Engine, clock: ManualClock
) -> None:
    await set_(engine, rate=Rate(limit=60, per=MINUTE, burst=10))
    light, heavy, last = await submit(driver, draft(clock), draft(clock, weight=30), draft(clock))
    assert ids(await driver.claim(10)) == [light]
    clock.advance(SECOND)
    assert ids(await driver.claim(10)) == [heavy]
    clock.advance(20 * SECOND)
    assert await driver.claim(10) == []
    clock.advance(SECOND)
    assert ids(await driver.claim(10)) == [last]


async def test_a_claim_wakes_when_its_rate_allows_it(driver: Driver, engine: Engine, clock: ManualClock) -> None:
    await set_(engine, rate=Rate(limit=1, per=SECOND, burst=1))
    _, second = await submit(driver, draft(clock), draft(clock))
    await driver.claim_one()
    waiting = await wait(driver)
    clock.advance(1.5 * SECOND)
    assert await claimed(waiting) == [second]


async def test_a_rate_that_is_set_again_keeps_the_tokens_in_the_bucket(
    driver: Driver, engine: Engine, clock: ManualClock
) -> None:
    await set_(engine, rate=Rate(limit=10, per=MINUTE, burst=5))
    await submit(driver, *(draft(clock) for _ in range(30)))
    assert len(await driver.claim(10)) == 5
    await set_(engine, rate=Rate(limit=20, per=MINUTE, burst=5))
    assert await driver.claim(10) == []
    clock.advance(6 * SECOND)
    assert len(await driver.claim(10)) == 2
    await set_(engine, rate=None)
    assert len(await driver.claim(30)) == 23


async def test_a_clock_that_is_set_back_does_not_stop_a_rate(
    driver: Driver, engine: Engine, clock: ManualClock
) -> None:
    await set_(engine, rate=Rate(limit=1, per=SECOND, burst=1))
    await submit(driver, *(draft(clock) for _ in range(3)))
    assert len(await driver.claim(10)) == 1
    clock.set(clock.now() - timedelta(hours=1))
    await driver.claim(10)
    clock.advance(1.5 * SECOND)
    assert len(await driver.claim(10)) == 1


# limits and lines


async def test_a_limited_queue_holds_up_no_other(driver: Driver, engine: Engine, clock: ManualClock) -> None:
    await set_(engine, "slots", concurrency=1)
    await set_(engine, "rate", rate=Rate(limit=1, per=MINUTE, burst=1))
    limited = [draft(clock, queue=queue, priority=9) for queue in ("slots", "rate") for _ in range(50)]
    await engine.submit(limited)
    [other] = await submit(driver, draft(clock, queue="other"))
    claims = await driver.claim(3)
    assert sorted(claim.queue for claim in claims) == ["other", "rate", "slots"]
    assert other in ids(claims)
    waiting = await wait(driver)
    [next_] = await submit(driver, draft(clock, queue="other"))
    assert await claimed(waiting) == [next_]


async def test_the_order_is_one_over_limited_and_other_queues(
    driver: Driver, engine: Engine, clock: ManualClock
) -> None:
    await set_(engine, "slots", concurrency=5)
    drafts = [draft(clock, queue=("slots", "other")[number % 2], priority=-number) for number in range(8)]
    await engine.submit(drafts)
    assert ids(await driver.claim(3)) == [one.task_id for one in drafts[:3]]
    assert ids(await driver.claim(10)) == [one.task_id for one in drafts[3:]]


async def test_a_claim_that_asks_for_queues_gets_them_within_their_limits(
    driver: Driver, engine: Engine, clock: ManualClock
) -> None:
    await set_(engine, concurrency=1)
    tasks = await submit(driver, draft(clock), draft(clock), draft(clock, queue="other"))
    assert ids(await driver.claim(10, queues=["q"])) == tasks[:1]
    assert await driver.claim(10, queues=["q"]) == []


async def test_suspects_keep_to_limits_too(driver: Driver, engine: Engine, clock: ManualClock) -> None:
    suspects = await submit(driver, draft(clock, "a"), draft(clock, "a"))
    for _ in range(3):
        for claim in await driver.claim(2):
            await driver.finish(claim, Interrupted())
        clock.advance(MINUTE)
    assert await driver.claim(2) == []
    await set_(engine, paused=True)
    assert await driver.claim(0, suspects=2) == []
    await set_(engine, paused=False, concurrency=1)
    [claim] = await driver.claim(0, suspects=2)
    assert claim.task_id == suspects[0]
    await set_(engine, concurrency=None, concurrency_per_key=1)
    assert await driver.claim(0, suspects=2) == []
    await driver.finish(claim, DONE)
    assert ids(await driver.claim(0, suspects=2)) == [suspects[1]]


async def test_a_task_that_fails_by_its_deadline_frees_its_key(driver: Driver, clock: ManualClock) -> None:
    await set_(driver.engine, concurrency_per_key=1)
    first, late, last = draft(clock, "k"), draft(clock, "k"), draft(clock, "k")
    late = structs.replace(late, deadline=clock.now() + 5 * SECOND)
    await submit(driver, first, late, last)
    [running] = await driver.claim(10)
    assert await driver.claim(10) == []
    await driver.finish(running, DONE)
    clock.advance(5 * SECOND)
    await driver.engine.fail_overdue(limit=10)
    assert ids(await driver.claim(10)) == [last.task_id]


# names


async def test_queues_are_found_by_name_where_they_hold_tasks_or_settings(
    driver: Driver, engine: Engine, clock: ManualClock
) -> None:
    for queue in ("b", "d", "d", "f"):
        await submit(driver, draft(clock, queue=queue))
    await driver.submit(make_draft(clock.now(), queue="c", delay=MINUTE))
    await driver.claim(1, queues=["f"])
    await set_(engine, "e", paused=True)
    assert await engine.queues.find_names(limit=9) == ["b", "c", "d", "e", "f"]
    assert await engine.queues.find_names(limit=2) == ["b", "c"]
    assert await engine.queues.find_names(after="c", limit=2) == ["d", "e"]
    assert await engine.queues.find_names(after="f", limit=2) == []
    assert [line.queue for line in await engine.stats.open_counts(queues=["d", "f", "nothing"])] == ["d", "f"]
    whole = await engine.stats.open_counts()
    assert await engine.stats.open_counts(queues=["d", "f"]) == [line for line in whole if line.queue in ("d", "f")]
    assert [state.settings.name for state in await engine.queues.find_all(["d"])] == []
    assert [state.settings.name for state in await engine.queues.find_all(["d", "e"])] == ["e"]


async def test_an_owners_open_queues_are_those_of_its_open_tasks(
    driver: Driver, engine: Engine, clock: ManualClock
) -> None:
    for owner, queue in (("me", "a"), ("me", "b"), ("you", "b"), ("you", "c")):
        await driver.submit(make_draft(clock.now(), queue=queue, owner=owner))
    [claim] = await driver.claim(1, queues=["a"])
    assert sorted(await engine.queues.find_open("me")) == ["a", "b"]
    await driver.finish(claim, Succeeded(b"1"))
    assert sorted(await engine.queues.find_open("me")) == ["b"]
    assert sorted(await engine.queues.find_open("you")) == ["b", "c"]
    assert await engine.queues.find_open("nobody") == []


async def test_open_queues_of_no_owner_are_those_of_tasks_without_an_owner(
    driver: Driver, engine: Engine, clock: ManualClock
) -> None:
    assert await engine.queues.find_open("") == []
    for owner, queue in (("me", "a"), ("me", "b"), ("", "b"), ("", "c"), ("", "d")):
        await driver.submit(make_draft(clock.now(), queue=queue, owner=owner))
    [claim] = await driver.claim(1, queues=["d"])
    assert sorted(await engine.queues.find_open("")) == ["b", "c", "d"]
    await driver.finish(claim, Succeeded(b"1"))
    assert sorted(await engine.queues.find_open("")) == ["b", "c"]


async def test_an_owners_tasks_are_counted_in_these_queues_alone(
    driver: Driver, engine: Engine, clock: ManualClock
) -> None:
    for owner, queue in (("me", "a"), ("me", "b"), ("me", "b"), ("me", "c"), ("me", "d"), ("you", "b"), ("you", "c")):
        await driver.submit(make_draft(clock.now(), queue=queue, owner=owner))
    await driver.submit(make_draft(clock.now(), queue="b", owner="me", delay=MINUTE))
    await driver.claim(2, queues=["c"])
    await driver.claim(1, queues=["d"])
    whole = await engine.stats.open_counts("me")
    found = await engine.stats.open_counts("me", queues=["c", "b", "nothing"])
    assert found == [line for line in whole if line.queue in ("b", "c")]
    assert [(line.queue, line.pending, line.scheduled, line.running) for line in found] == [
        ("b", 2, 1, 0), ("c", 0, 0, 1),
    ]  # fmt: skip
    assert await engine.stats.open_counts("me", queues=[]) == []
    assert [line.pending for line in await engine.stats.open_counts("you", queues=["b", "a"])] == [1]


async def test_queues_with_settings_are_limited(engine: Engine) -> None:
    for name in ("a", "b"):
        await engine.queues.change(name, QueueChange(paused=True), most=2)
    with pytest.raises(Conflict, match="TASKER_MAX_QUEUES"):
        await engine.queues.change("c", QueueChange(paused=True), most=2)
    assert await engine.queues.change("c", QueueChange(paused=False), most=2) == QueueSettings(name="c"), "one no more"
    assert {state.settings.name for state in await engine.queues.find_all()} == {"a", "b"}
    await engine.queues.change("a", QueueChange(concurrency=1), most=2)
    await engine.queues.change("a", QueueChange(concurrency=None, paused=False), most=2)
    await engine.queues.change("c", QueueChange(paused=True), most=2)
