"""Engine.claim: which worker gets which task, in which order, and how long it waits."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from random import Random

import pytest
from tests.contract.conftest import open_after_the_end

from tasker.clock import SystemClock
from tasker.engines.protocol import Engine
from tasker.errors import Unavailable
from tasker.model import Claim, Policy, RetryPolicy, Status
from tasker.rules.lifecycle import MAX_INTERRUPTIONS, Released, problem
from tasker.rules.lifecycle import Failed as FailedOutcome
from tasker.testing import Driver, ManualClock, make_draft

SECOND = timedelta(seconds=1)
MINUTE = timedelta(minutes=1)


def ids(claims: list[Claim]) -> list:
    return [claim.task_id for claim in claims]


async def test_a_claim_carries_what_is_needed_to_run_it(driver: Driver, clock: ManualClock) -> None:
    policy = RetryPolicy(max_attempts=3, initial=2 * SECOND, jitter=False)
    draft = make_draft(clock.now(), params=b"[1, 2]", queue="q", priority=5, retry=policy, on_crash="fail")
    await driver.submit(draft)
    clock.advance(SECOND)

    [claim] = await driver.claim()
    assert claim == Claim(
        task_id=draft.task_id,
        attempt=1,
        type="sum",
        params=b"[1, 2]",
        queue="q",
        priority=5,
        policy=Policy(retry=policy, on_crash="fail"),
        tries=0,
        crashes=0,
        interruptions=0,
        started_at=clock.now(),
        worker="worker-1",
    )


async def test_a_claimed_task_runs(driver: Driver, clock: ManualClock) -> None:
    task_id = await driver.submit()
    clock.advance(SECOND)
    await driver.claim_one()
    task = await driver.get(task_id)
    assert (task.status, task.reason) == (Status.RUNNING, None)
    assert (task.attempt, task.started_at, task.finished_at) == (1, clock.now(), None)
    [attempt] = await driver.engine.find_attempts(task_id)
    assert (attempt.attempt, attempt.worker, attempt.started_at) == (1, "worker-1", clock.now())
    assert (attempt.finished_at, attempt.ending) == (None, None)


async def test_nothing_to_claim_is_an_empty_list_at_once(driver: Driver) -> None:
    assert await driver.claim(10) == []


async def test_a_task_is_claimed_once(driver: Driver) -> None:
    task_id = await driver.submit()
    assert ids(await driver.claim(10)) == [task_id]
    assert await driver.claim(10) == []


async def test_claims_made_at_the_same_time_share_no_task(driver: Driver, clock: ManualClock) -> None:
    await driver.engine.submit([make_draft(clock.now()) for _ in range(50)])
    taken = await asyncio.gather(*(driver.claim(7) for _ in range(8)))
    claimed = [task_id for claims in taken for task_id in ids(claims)]
    assert len(claimed) == len(set(claimed)) == 50


async def test_larger_priorities_come_first(driver: Driver, clock: ManualClock) -> None:
    priorities = [0, -100, 100, 3, -1, 3]
    drafts = [make_draft(clock.now(), priority=priority) for priority in priorities]
    await driver.engine.submit(drafts)
    claims = await driver.claim(10)
    assert [claim.priority for claim in claims] == [100, 3, 3, 0, -1, -100]
    threes = [draft.task_id for draft in drafts if draft.priority == 3]
    assert ids(claims)[1:3] == threes, "equal priorities: in the order of submission"


async def test_the_order_is_one_over_all_queues_and_types(driver: Driver, clock: ManualClock) -> None:
    drafts = [
        make_draft(clock.now(), queue=f"queue-{number % 5}", type=f"type-{number % 3}", priority=-number // 4)
        for number in range(60)
    ]
    await driver.engine.submit(drafts)
    types = [f"type-{number}" for number in range(3)]
    first, rest = await driver.claim(20, types=types), await driver.claim(100, types=types)
    assert ids(first) == [draft.task_id for draft in drafts[:20]], "with more tasks than room"
    assert ids(rest) == [draft.task_id for draft in drafts[20:]], "with room for all of them"


async def test_equal_priorities_come_in_the_order_in_which_they_became_due(driver: Driver, clock: ManualClock) -> None:
    in_ten = await driver.submit(make_draft(clock.now(), delay=10 * SECOND))
    clock.advance(5 * SECOND)
    at_five = await driver.submit()
    clock.advance(10 * SECOND)
    at_fifteen = await driver.submit()
    assert [(await driver.claim_one()).task_id for _ in range(3)] == [at_five, in_ten, at_fifteen]


async def test_tasks_of_one_moment_come_in_the_order_of_submission(driver: Driver, clock: ManualClock) -> None:
    drafts = [make_draft(clock.now()) for _ in range(20)]
    Random(1).shuffle(drafts)  # so that the order of ids is another one
    await driver.engine.submit(drafts[:10])
    await driver.engine.submit(drafts[10:])
    assert ids(await driver.claim(20)) == [draft.task_id for draft in drafts]


async def test_a_task_given_back_keeps_to_the_order_of_due_times(driver: Driver, clock: ManualClock) -> None:
    first = await driver.submit()
    second = await driver.submit()
    claim = await driver.claim_one()
    assert claim.task_id == first
    clock.advance(SECOND)
    assert await driver.finish(claim, Released())
    taken = [(await driver.claim_one()).task_id for _ in range(2)]
    assert taken == [second, first], "given back a second later, so due a second later"


async def test_the_limit_is_kept(driver: Driver, clock: ManualClock) -> None:
    await driver.engine.submit([make_draft(clock.now()) for _ in range(5)])
    assert [len(await driver.claim(limit)) for limit in (0, 2, 2, 2)] == [0, 2, 2, 1]


async def test_a_task_is_not_claimed_before_it_is_due(driver: Driver, clock: ManualClock) -> None:
    task_id = await driver.submit(make_draft(clock.now(), delay=MINUTE, priority=100))
    clock.advance(MINUTE - timedelta(microseconds=1))
    assert await driver.claim() == []
    clock.advance(timedelta(microseconds=1))
    assert ids(await driver.claim()) == [task_id]


async def test_a_task_that_is_not_due_holds_up_none_behind_it(driver: Driver, clock: ManualClock) -> None:
    await driver.submit(make_draft(clock.now(), delay=MINUTE, priority=100))
    due = await driver.submit(make_draft(clock.now(), priority=-100))
    assert ids(await driver.claim(5)) == [due]


async def test_only_the_types_asked_for_are_taken(driver: Driver, clock: ManualClock) -> None:
    other = await driver.submit(make_draft(clock.now(), type="other", priority=100))
    mine = await driver.submit()
    assert ids(await driver.claim(5, types=["sum", "reverse"])) == [mine]
    assert (await driver.get(other)).status is Status.PENDING
    assert ids(await driver.claim(5, types=["other"])) == [other]


async def test_no_types_no_tasks(driver: Driver) -> None:
    await driver.submit()
    assert await driver.claim(types=[]) == []


async def test_only_the_queues_asked_for_are_taken(driver: Driver, clock: ManualClock) -> None:
    slow = await driver.submit(make_draft(clock.now(), queue="slow", priority=1))
    fast = await driver.submit(make_draft(clock.now(), queue="fast"))
    assert await driver.claim(5, queues=[]) == []
    assert ids(await driver.claim(5, queues=["fast", "unknown"])) == [fast]
    assert ids(await driver.claim(5, queues=None)) == [slow]


async def test_thousands_of_tasks_come_in_order(driver: Driver, clock: ManualClock) -> None:
    """More tasks than an engine keeps in memory; new ones of every priority are added while they are claimed."""
    random = Random(2)
    waiting = []
    claimed = []

    async def submit(count: int) -> None:
        drafts = [make_draft(clock.now(), priority=random.randint(-3, 3)) for _ in range(count)]
        await driver.engine.submit(drafts)
        waiting.extend(
            (-draft.priority, clock.now(), len(waiting) + at, draft.task_id) for at, draft in enumerate(drafts)
        )
        clock.advance(SECOND)

    for _ in range(4):
        await submit(1500)
    while waiting:
        claims = await driver.claim(400)
        waiting.sort()
        expected, waiting[:400] = [task_id for *_, task_id in waiting[:400]], []
        assert ids(claims) == expected, f"wrong order after {len(claimed)} claims"
        claimed += expected
        if len(claimed) < 3000:
            await submit(100)
    assert await driver.claim(1) == []


async def test_many_tasks_of_other_types_hide_none(driver: Driver, clock: ManualClock) -> None:
    """The queue may begin with many tasks that this worker cannot run, or must not run."""
    others = [make_draft(clock.now(), type="other", priority=9) for _ in range(3000)]
    mine = make_draft(clock.now(), queue="mine")
    elsewhere = [make_draft(clock.now(), queue="elsewhere", priority=5) for _ in range(3000)]
    await driver.engine.submit([*others, *elsewhere, mine])
    assert ids(await driver.claim(5, queues=["mine"])) == [mine.task_id]
    assert await driver.claim(5, queues=["mine"]) == []
    assert len(await driver.claim(5000)) == 3000
    assert len(await driver.claim(5000, types=["other"])) == 3000


async def test_many_tasks_that_are_not_due_hide_none(driver: Driver, clock: ManualClock) -> None:
    later = [make_draft(clock.now(), delay=MINUTE, priority=9) for _ in range(3000)]
    due = make_draft(clock.now())
    await driver.engine.submit([*later, due])
    assert ids(await driver.claim(5)) == [due.task_id]
    clock.advance(MINUTE)
    assert len(await driver.claim(5000)) == 3000


async def test_a_newcomer_overtakes_by_priority(driver: Driver, clock: ManualClock) -> None:
    await driver.engine.submit([make_draft(clock.now()) for _ in range(3000)])
    await driver.claim(1)
    urgent = await driver.submit(make_draft(clock.now(), priority=1))
    assert ids(await driver.claim(1)) == [urgent]


async def test_the_order_holds_after_a_restart(engine: Engine, make_engine, driver: Driver, clock: ManualClock) -> None:
    drafts = [make_draft(clock.now(), priority=number % 3) for number in range(30)]
    await engine.submit(drafts)
    await engine.close()
    again = await make_engine()
    expected = [draft.task_id for draft in sorted(drafts, key=lambda draft: -draft.priority)]
    assert ids(await Driver(again, clock).claim(30)) == expected


async def test_a_waiting_claim_gets_the_task_that_comes(driver: Driver) -> None:
    waiting = asyncio.create_task(driver.claim(wait_for=MINUTE))
    await asyncio.sleep(0)
    task_id = await driver.submit()
    async with asyncio.timeout(30):
        assert ids(await waiting) == [task_id]


async def test_a_waiting_claim_is_not_ended_by_tasks_of_others(driver: Driver, clock: ManualClock) -> None:
    waiting = asyncio.create_task(driver.claim(5, wait_for=MINUTE))
    await asyncio.sleep(0)
    other = await driver.submit(make_draft(clock.now(), type="other"))
    mine = await driver.submit()
    async with asyncio.timeout(30):
        assert ids(await waiting) == [mine]
    assert (await driver.get(other)).status is Status.PENDING


async def test_claims_that_wait_for_different_types_each_get_theirs(driver: Driver, clock: ManualClock) -> None:
    waiting = {
        name: asyncio.create_task(driver.claim(types=[name], wait_for=MINUTE)) for name in ("sum", "reverse", "gpt")
    }
    await asyncio.sleep(0)
    submitted = {name: await driver.submit(make_draft(clock.now(), type=name)) for name in ("gpt", "sum", "reverse")}
    async with asyncio.timeout(30):
        assert {name: ids(await claims) for name, claims in waiting.items()} == {
            name: [task_id] for name, task_id in submitted.items()
        }


async def test_a_waiting_claim_takes_a_task_that_is_given_back(driver: Driver) -> None:
    await driver.submit()
    claim = await driver.claim_one()
    waiting = asyncio.create_task(driver.claim(wait_for=MINUTE))
    await asyncio.sleep(0)
    assert await driver.finish(claim, Released())
    async with asyncio.timeout(30):
        assert [again.lease for again in await waiting] == [type(claim.lease)(claim.task_id, 2)]


async def test_a_waiting_claim_takes_a_task_that_is_retried(driver: Driver) -> None:
    task_id = await driver.submit()
    await driver.engine.cancel(task_id)
    waiting = asyncio.create_task(driver.claim(wait_for=MINUTE))
    await asyncio.sleep(0)
    await driver.engine.retry(task_id)
    async with asyncio.timeout(30):
        assert ids(await waiting) == [task_id]


async def test_a_claim_that_was_given_up_takes_no_task_with_it(driver: Driver) -> None:
    waiting = asyncio.create_task(driver.claim(wait_for=MINUTE))
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    task_id = await driver.submit()
    assert ids(await driver.claim()) == [task_id]


@pytest.mark.parametrize("delay", [None, SECOND], ids=["due at once", "due later"])
async def test_a_wall_clock_set_back_loses_no_task(driver: Driver, clock: ManualClock, delay: timedelta | None) -> None:
    """Set back, the clock says that the task is not due yet: it must be found when the clock gets there again."""
    task_id = await driver.submit(make_draft(clock.now(), delay=delay))
    clock.advance(2 * SECOND)
    await driver.claim(types=["other"])
    clock.set(clock.now() - MINUTE)
    early = await driver.claim()
    clock.advance(2 * MINUTE)
    assert ids(early or await driver.claim()) == [task_id], "the task is never claimed again"


async def test_waiting_ends_when_its_time_is_up(make_engine) -> None:
    engine = await make_engine(SystemClock())
    driver = Driver(engine, SystemClock())
    async with asyncio.timeout(30):
        assert await driver.claim(wait_for=timedelta(milliseconds=20)) == []


async def test_a_waiting_claim_gets_a_task_when_it_becomes_due(make_engine) -> None:
    clock = SystemClock()
    engine = await make_engine(clock)
    driver = Driver(engine, clock)
    waiting = asyncio.create_task(driver.claim(wait_for=MINUTE))
    await asyncio.sleep(0)
    task_id = await driver.submit(make_draft(clock.now(), delay=timedelta(milliseconds=50)))
    async with asyncio.timeout(30):
        assert ids(await waiting) == [task_id]


async def test_a_waiting_claim_gets_a_retry_when_it_becomes_due(make_engine) -> None:
    clock = SystemClock()
    engine = await make_engine(clock)
    driver = Driver(engine, clock)
    await driver.submit(make_draft(clock.now(), retry=RetryPolicy(max_attempts=2, initial=SECOND / 20, jitter=False)))
    claim = await driver.claim_one()
    assert await driver.finish(claim, FailedOutcome(problem("task-failed", "no", retryable=True)))
    async with asyncio.timeout(30):
        assert [again.attempt for again in await driver.claim(wait_for=MINUTE)] == [2]


async def test_close_ends_a_waiting_claim(engine: Engine, driver: Driver) -> None:
    waiting = asyncio.create_task(driver.claim(wait_for=MINUTE))
    await asyncio.sleep(0)
    async with asyncio.timeout(30):
        await engine.close()
        [reply] = await asyncio.gather(waiting, return_exceptions=True)
    assert reply == [] or isinstance(reply, Unavailable), f"expected [] or Unavailable, got {reply!r}"


@pytest.mark.parametrize("ticks", range(8))
async def test_a_claim_given_up_at_any_moment_neither_loses_its_task_nor_stops_the_close(
    engine: Engine, make_engine, driver: Driver, clock: ManualClock, ticks: int
) -> None:
    """A worker that drains cancels its claim, and the engine is closed at once."""
    task_id = await driver.submit()
    claiming = asyncio.create_task(driver.claim(wait_for=MINUTE))
    for _ in range(ticks):
        await asyncio.sleep(0)
    claiming.cancel()
    async with asyncio.timeout(30):
        await engine.close()
    await asyncio.gather(claiming, return_exceptions=True)
    again = Driver(await make_engine(), clock)
    await again.reap()
    assert ids(await again.claim()) == [task_id]


@pytest.mark.parametrize("ticks", range(8))
async def test_a_claim_given_up_at_any_moment_gives_back_what_it_took(driver: Driver, ticks: int) -> None:
    task_id = await driver.submit()
    claiming = asyncio.create_task(driver.claim(wait_for=MINUTE))
    for _ in range(ticks):
        await asyncio.sleep(0)
    claiming.cancel()
    [reply] = await asyncio.gather(claiming, return_exceptions=True)
    taken = [] if isinstance(reply, BaseException) else reply
    async with asyncio.timeout(30):
        assert ids(taken or await driver.claim(wait_for=MINUTE)) == [task_id]


@pytest.fixture
async def suspect(make_engine, engine: Engine, clock: ManualClock) -> Driver:
    """A driver of a store with one task that was running at MAX_INTERRUPTIONS ends of the service in a row."""
    await Driver(engine, clock).submit()
    for _ in range(MAX_INTERRUPTIONS):
        await Driver(engine, clock).claim_one()
        await engine.close()
        engine = await open_after_the_end(make_engine, clock)
        assert len(await Driver(engine, clock).reap()) == 1
    return Driver(engine, clock)


async def test_a_suspect_is_taken_only_where_there_is_room_for_suspects(suspect: Driver) -> None:
    assert await suspect.claim(10) == []
    [claim] = await suspect.claim(0, suspects=1)
    assert (claim.attempt, claim.interruptions, claim.tries) == (MAX_INTERRUPTIONS + 1, MAX_INTERRUPTIONS, 0)


async def test_suspects_and_ordinary_tasks_are_counted_apart(suspect: Driver, clock: ManualClock) -> None:
    ordinary = [await suspect.submit() for _ in range(3)]
    claims = await suspect.claim(2, suspects=5)
    assert sorted(claim.interruptions for claim in claims) == [0, 0, MAX_INTERRUPTIONS]
    assert [claim.task_id for claim in claims if not claim.interruptions] == ordinary[:2]


async def test_suspects_too_come_by_priority(engine: Engine, make_engine, clock: ManualClock) -> None:
    priorities = [-1, 0, 3, 1]
    await engine.submit([make_draft(clock.now(), priority=priority) for priority in priorities])
    for _ in range(MAX_INTERRUPTIONS):
        await Driver(engine, clock).claim(4)
        await engine.close()
        engine = await open_after_the_end(make_engine, clock)
        await Driver(engine, clock).reap()
    taken = [await Driver(engine, clock).claim_one(suspects=1) for _ in priorities]
    assert [claim.priority for claim in taken] == sorted(priorities, reverse=True)


async def test_suspects_too_are_taken_by_type_queue_and_time(suspect: Driver, clock: ManualClock) -> None:
    assert await suspect.claim(0, suspects=1, types=["other"]) == []
    assert await suspect.claim(0, suspects=1, queues=["other"]) == []
    claim = await suspect.claim_one(suspects=1)
    assert claim.queue == "default"


async def test_a_waiting_claim_without_room_for_suspects_gets_an_ordinary_task(suspect: Driver) -> None:
    waiting = asyncio.create_task(suspect.claim(wait_for=MINUTE))
    await asyncio.sleep(0)
    task_id = await suspect.submit()
    async with asyncio.timeout(30):
        assert ids(await waiting) == [task_id]


async def test_a_task_of_an_unknown_type_waits_through_restarts(
    engine: Engine, make_engine, clock: ManualClock
) -> None:
    task_id = await Driver(engine, clock).submit(make_draft(clock.now(), type="from_tomorrow"))
    assert await Driver(engine, clock).claim() == []
    await engine.close()
    again = await make_engine()
    assert ids(await Driver(again, clock).claim(types=["from_tomorrow"])) == [task_id]
