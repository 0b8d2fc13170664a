"""Engine.submit with a client's key: the same request once, however often it is sent."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from uuid import UUID, uuid4

import pytest
from msgspec import structs

from tasker.engines.protocol import Engine
from tasker.errors import Conflict
from tasker.model import Receipt, Status, TaskFilter
from tasker.rules.lifecycle import Succeeded
from tasker.testing import Driver, ManualClock, make_draft, make_key

DAY = timedelta(hours=24)
INSTANT = timedelta(microseconds=1)


async def submit(engine: Engine, clock: ManualClock, key: str = "k", **options) -> Receipt:
    draft = make_draft(clock.now(), idempotency=make_key(clock.now(), key, **options))
    [receipt] = await engine.submit([draft])
    return receipt


async def count(engine: Engine) -> int:
    return len((await engine.find_many(TaskFilter(), limit=1000)).items)


async def test_an_equal_request_gets_the_first_reply(engine: Engine, clock: ManualClock) -> None:
    first = await submit(engine, clock, reply=b'{"reply": 1.10}')
    assert first.outcome == "stored"
    second = await submit(engine, clock, reply=b'{"reply":2}')
    assert second == Receipt(first.task_id, "replayed", b'{"reply": 1.10}')
    assert await count(engine) == 1


async def test_another_request_with_the_same_key_is_refused(engine: Engine, clock: ManualClock) -> None:
    first = await submit(engine, clock)
    second = await submit(engine, clock, fingerprint=b"another")
    assert (second.task_id, second.outcome) == (first.task_id, "mismatched")
    third = await submit(engine, clock)
    assert third.outcome == "replayed", "the refused request did not take the key over"
    assert await count(engine) == 1


async def test_keys_do_not_mix(engine: Engine, clock: ManualClock) -> None:
    keys = ["k", "K", "kk", "k-", "'", "%", "k'--"]
    receipts = [await submit(engine, clock, key) for key in keys]
    assert [receipt.outcome for receipt in receipts] == ["stored"] * len(keys), "a key is compared exactly"


async def test_tasks_without_a_key_are_never_the_same(engine: Engine, clock: ManualClock) -> None:
    receipts = [(await engine.submit([make_draft(clock.now())]))[0] for _ in range(3)]
    assert [receipt.outcome for receipt in receipts] == ["stored"] * 3


async def test_of_equal_requests_at_the_same_time_one_is_stored(engine: Engine, clock: ManualClock) -> None:
    receipts = await asyncio.gather(*(submit(engine, clock) for _ in range(32)))
    outcomes = sorted(receipt.outcome for receipt in receipts)
    assert outcomes == ["replayed"] * 31 + ["stored"]
    assert len({receipt.task_id for receipt in receipts}) == 1
    assert await count(engine) == 1


async def test_equal_requests_in_one_submission_are_stored_once(engine: Engine, clock: ManualClock) -> None:
    def drafts(*fingerprints: bytes):
        return [
            make_draft(clock.now(), idempotency=make_key(clock.now(), fingerprint=fingerprint))
            for fingerprint in fingerprints
        ]

    receipts = await engine.submit(drafts(b"a", b"a", b"b"))
    assert [receipt.outcome for receipt in receipts] == ["stored", "replayed", "mismatched"]
    assert len({receipt.task_id for receipt in receipts}) == 1
    assert await count(engine) == 1


async def test_a_replay_among_new_tasks_leaves_them_alone(engine: Engine, clock: ManualClock) -> None:
    first = await submit(engine, clock)
    new = make_draft(clock.now())
    again = make_draft(clock.now(), idempotency=make_key(clock.now(), "k"))
    another = make_draft(clock.now(), idempotency=make_key(clock.now(), "other"))
    receipts = await engine.submit([new, again, another])
    assert [receipt.outcome for receipt in receipts] == ["stored", "replayed", "stored"]
    assert [receipt.task_id for receipt in receipts] == [new.task_id, first.task_id, another.task_id]


async def test_a_key_survives_the_end_of_its_task_and_of_the_process(
    engine: Engine, make_engine, clock: ManualClock
) -> None:
    first = await submit(engine, clock)
    driver = Driver(engine, clock)
    assert await driver.finish(await driver.claim_one(), Succeeded(b"6"))
    assert (await submit(engine, clock)).outcome == "replayed"
    await engine.close()
    again = await make_engine()
    receipt = await submit(again, clock)
    assert (receipt.task_id, receipt.outcome) == (first.task_id, "replayed")
    task = await again.find(first.task_id)
    assert task is not None
    assert task.status is Status.COMPLETED


async def test_a_key_is_kept_for_its_time(engine: Engine, clock: ManualClock) -> None:
    first = await submit(engine, clock, lasts=DAY)
    clock.advance(DAY - INSTANT)
    assert (await submit(engine, clock)).outcome == "replayed"
    clock.advance(2 * INSTANT)
    second = await submit(engine, clock, fingerprint=b"another", reply=b"2", lasts=DAY)
    assert (second.outcome, second.task_id != first.task_id) == ("stored", True)

    third = await submit(engine, clock, fingerprint=b"another")
    assert third == Receipt(second.task_id, "replayed", b"2"), "the newer key took the place of the old one"
    assert await count(engine) == 2


async def test_deleting_an_old_holder_leaves_the_key_to_the_new_one(engine: Engine, clock: ManualClock) -> None:
    first = await submit(engine, clock, lasts=DAY)
    clock.advance(DAY + INSTANT)
    second = await submit(engine, clock, lasts=DAY)
    await engine.cancel(first.task_id)
    await engine.delete(first.task_id)
    assert await submit(engine, clock) == Receipt(second.task_id, "replayed", second.reply or b'{"reply":1}')


async def test_pruning_erases_expired_keys_and_nothing_else(engine: Engine, clock: ManualClock) -> None:
    for number in range(5):
        await submit(engine, clock, f"short-{number}", lasts=timedelta(hours=1))
    await submit(engine, clock, "long", lasts=DAY)
    assert await engine.prune(limit=100) == 0, "nothing is past its time yet"
    clock.advance(timedelta(hours=2))
    assert [await engine.prune(limit=2) for _ in range(4)] == [2, 2, 1, 0]
    assert await count(engine) == 6, "the tasks stay"
    assert (await submit(engine, clock, "long")).outcome == "replayed"
    assert (await submit(engine, clock, "short-0")).outcome == "stored"


@pytest.mark.parametrize("key", ["x" * 255, "!", "~"])
async def test_keys_of_every_length(engine: Engine, clock: ManualClock, key: str) -> None:
    first = await submit(engine, clock, key)
    assert (await submit(engine, clock, key)).task_id == first.task_id


async def put(engine: Engine, clock: ManualClock, task_id: UUID, fingerprint: bytes = b"request", **options) -> Receipt:
    key = make_key(clock.now(), f"PUT {task_id}", fingerprint=fingerprint, reply=b"")
    draft = make_draft(clock.now(), task_id=task_id, idempotency=key, **options)
    [receipt] = await engine.submit([structs.replace(draft, is_chosen=True)])
    return receipt


async def test_an_id_of_the_clients_is_stored_once(engine: Engine, driver: Driver, clock: ManualClock) -> None:
    task_id = uuid4()
    receipts = await asyncio.gather(*(put(engine, clock, task_id) for _ in range(8)))
    assert sorted(receipt.outcome for receipt in receipts) == ["replayed"] * 7 + ["stored"]
    assert {receipt.task_id for receipt in receipts} == {task_id}
    assert (await put(engine, clock, task_id)).outcome == "replayed"
    assert (await put(engine, clock, task_id, b"another")).outcome == "mismatched"
    assert await count(engine) == 1
    await driver.finish(await driver.claim_one(), Succeeded(b"6"))
    await engine.delete(task_id)
    assert (await put(engine, clock, task_id, b"another")).outcome == "stored", "the id is free again"


async def test_of_two_requests_for_one_id_one_is_stored(engine: Engine, clock: ManualClock) -> None:
    task_id = uuid4()
    receipts = await asyncio.gather(*(put(engine, clock, task_id, b"%d" % number) for number in range(8)))
    assert sorted(receipt.outcome for receipt in receipts) == ["mismatched"] * 7 + ["stored"]


async def test_an_id_of_a_task_that_was_submitted_otherwise_is_refused(
    engine: Engine, driver: Driver, clock: ManualClock
) -> None:
    task_id = await driver.submit()
    beside = asyncio.gather(driver.submit(), driver.submit())
    with pytest.raises(Conflict, match=str(task_id)):
        await put(engine, clock, task_id)
    await beside
    assert await count(engine) == 3
    await driver.finish(await driver.claim_one(), Succeeded(b"6"))
    await engine.delete(task_id)
    assert (await put(engine, clock, task_id)).outcome == "stored", "the refused request left no key behind"
