"""Engine.submit, find: what was accepted is there, whole and unchanged."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from uuid import UUID

import msgspec
import pytest

from tasker.engines.protocol import Engine
from tasker.errors import Unavailable
from tasker.model import RetryPolicy, Status, new_task_id
from tasker.testing import Driver, ManualClock, make_draft


async def test_a_new_task_reads_as_it_was_submitted(engine: Engine, driver: Driver, clock: ManualClock) -> None:
    draft = make_draft(
        clock.now(),
        type="resize-image",
        params=b'{"width": 1.10, "name": "\\u00e9\xc3\xa9"}',
        queue="images",
        priority=-7,
        retry=RetryPolicy(max_attempts=4),
        tags=("b", "a"),
        metadata=b'{"order": 17}',
    )
    [receipt] = await engine.submit([draft])
    assert (receipt.task_id, receipt.outcome) == (draft.task_id, "stored")

    task = await driver.get(draft.task_id)
    assert task.task_id == draft.task_id
    assert (task.type, task.queue, task.priority) == ("resize-image", "images", -7)
    assert bytes(task.params) == draft.params, "params are kept as they came, byte for byte"
    assert msgspec.json.decode(task.metadata) == {"order": 17}
    assert sorted(task.tags) == ["a", "b"]
    assert (task.status, task.reason) == (Status.PENDING, "queued")
    assert (task.attempt, task.tries_left) == (0, 4)
    assert task.created_at == clock.now(), "times keep their microseconds"
    assert msgspec.json.decode(task.usage) == {}
    unset = (task.result, task.error, task.progress, task.run_at, task.started_at, task.finished_at)
    assert unset == (None,) * 6
    assert task.cancel_requested_at is None


async def test_a_delayed_task_tells_when_and_why_it_waits(engine: Engine, driver: Driver, clock: ManualClock) -> None:
    draft = make_draft(clock.now(), delay=timedelta(minutes=5))
    await engine.submit([draft])
    task = await driver.get(draft.task_id)
    assert (task.status, task.reason) == (Status.PENDING, "scheduled")
    assert task.run_at == draft.run_at

    clock.advance(timedelta(minutes=6))
    task = await driver.get(draft.task_id)
    assert task.reason == "queued", "once due, only a free worker is missing"
    assert task.run_at == draft.run_at


async def test_receipts_come_in_the_order_of_the_drafts(engine: Engine, driver: Driver, clock: ManualClock) -> None:
    drafts = [make_draft(clock.now(), params=b"[%d]" % number) for number in range(100)]
    receipts = await engine.submit(drafts)
    assert [receipt.task_id for receipt in receipts] == [draft.task_id for draft in drafts]
    for draft in drafts:
        assert bytes((await driver.get(draft.task_id)).params) == draft.params


async def test_submitting_nothing_stores_nothing(engine: Engine) -> None:
    assert await engine.submit([]) == []


async def test_an_unknown_task_is_not_found(engine: Engine, clock: ManualClock) -> None:
    assert await engine.find(new_task_id(clock.now())) is None
    assert await engine.find(UUID(int=0)) is None


@pytest.mark.parametrize(
    "params",
    [
        pytest.param(b"[9223372036854775808, 9007199254740993]", id="integers beyond 64 and 53 bits"),
        pytest.param(b"[-0, 1e2, 1.10]", id="spellings of numbers"),
        pytest.param('["\U0001f469‍\U0001f467 \\u0000 \u202e"]'.encode(), id="text"),
        pytest.param(b'["' + b"x" * 1_000_000 + b'"]', id="a megabyte"),
        pytest.param(b'[{"b":1,"a":2}]', id="order of keys"),
    ],
)
async def test_params_are_kept_byte_for_byte(engine: Engine, driver: Driver, clock: ManualClock, params: bytes) -> None:
    task_id = await driver.submit(make_draft(clock.now(), params=params))
    assert bytes((await driver.get(task_id)).params) == params
    assert (await driver.claim_one()).params == params


async def test_submissions_made_at_the_same_time_are_all_kept(
    engine: Engine, driver: Driver, clock: ManualClock
) -> None:
    drafts = [make_draft(clock.now()) for _ in range(64)]
    receipts = await asyncio.gather(*(engine.submit([draft]) for draft in drafts))
    assert [receipt.task_id for [receipt] in receipts] == [draft.task_id for draft in drafts]
    for draft in drafts:
        assert (await driver.get(draft.task_id)).status is Status.PENDING


async def test_a_submission_whose_caller_left_harms_no_other(
    engine: Engine, driver: Driver, clock: ManualClock
) -> None:
    """A client that goes away cancels its request's task on the loop, while the batch is on its way."""
    kept = [make_draft(clock.now()) for _ in range(8)]
    leaving = asyncio.create_task(engine.submit([make_draft(clock.now())]))
    staying = [asyncio.create_task(engine.submit([draft])) for draft in kept]
    await asyncio.sleep(0)
    leaving.cancel()
    await asyncio.gather(leaving, return_exceptions=True)
    async with asyncio.timeout(30):
        await asyncio.gather(*staying)
    for draft in kept:
        assert (await driver.get(draft.task_id)).status is Status.PENDING


async def test_what_was_submitted_survives_the_end_of_the_process(
    engine: Engine, make_engine, clock: ManualClock
) -> None:
    drafts = [make_draft(clock.now(), params=b"[%d]" % number) for number in range(3)]
    await engine.submit(drafts)
    await engine.close()

    again = await make_engine()
    for draft in drafts:
        task = await again.find(draft.task_id)
        assert task is not None, f"{draft.task_id} was accepted and is lost"
        assert (bytes(task.params), task.status) == (draft.params, Status.PENDING)


async def test_a_closed_engine_takes_nothing(engine: Engine, clock: ManualClock) -> None:
    await engine.close()
    with pytest.raises(Unavailable):
        async with asyncio.timeout(30):
            await engine.submit([make_draft(clock.now())])


async def test_close_finishes_what_was_taken_on(engine: Engine, make_engine, clock: ManualClock) -> None:
    """Each submission under way at close is either refused or kept; none hangs."""
    drafts = [make_draft(clock.now()) for _ in range(32)]
    under_way = [asyncio.create_task(engine.submit([draft])) for draft in drafts]
    await asyncio.sleep(0)
    async with asyncio.timeout(30):
        await engine.close()
        replies = await asyncio.gather(*under_way, return_exceptions=True)

    again = await make_engine()
    for draft, reply in zip(drafts, replies, strict=True):
        accepted = not isinstance(reply, BaseException)
        assert accepted or isinstance(reply, Unavailable), f"expected a receipt or Unavailable, got {reply!r}"
        assert accepted == (await again.find(draft.task_id) is not None)


async def test_close_is_idempotent(engine: Engine) -> None:
    await engine.close()
    await engine.close()


async def test_check_proves_that_the_store_takes_a_write(engine: Engine) -> None:
    await engine.check()
    await engine.check()
    await engine.close()
    with pytest.raises(Unavailable):
        await engine.check()
