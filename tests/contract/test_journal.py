"""Engine.journal: the events of all tasks in one order, without gap or repeat."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta

import msgspec
import pytest
from tests.contract.conftest import open_after_the_end
from tests.contract.journal import by_task, read_all

from tasker.engines.protocol import Engine
from tasker.errors import Invalid
from tasker.model import NewEvent, Report, RetryPolicy, Status
from tasker.rules.lifecycle import Cancelled, Failed, Released, Snoozed, Succeeded, problem
from tasker.testing import Driver, ManualClock, make_draft

HOUR = timedelta(hours=1)
AGAIN = RetryPolicy(max_attempts=2, initial=timedelta(0), jitter=False)


def said(clock: ManualClock, *texts: str) -> Report:
    data = [msgspec.json.encode({"chunk": text}) for text in texts]
    return Report(events=tuple(NewEvent(type="output", time=clock.now(), data=one) for one in data))


async def succeed(driver: Driver, clock: ManualClock) -> None:
    await driver.finish(await driver.claim_one(), Succeeded(b"6"))


async def speak(driver: Driver, clock: ManualClock) -> None:
    claim = await driver.claim_one()
    assert await driver.engine.record(claim.lease, said(clock, "a", "b", "c"))
    assert await driver.engine.record(claim.lease, said(clock, "d"))
    await driver.finish(claim, Succeeded(b"6"), said(clock, "e"))


async def fail_and_succeed(driver: Driver, clock: ManualClock) -> None:
    claim = await driver.claim_one()
    await driver.finish(claim, Failed(problem("task-raised", "no", retryable=True)), said(clock, "a"))
    await succeed(driver, clock)


async def be_run_again(driver: Driver, clock: ManualClock) -> None:
    claim = await driver.claim_one()
    assert await driver.engine.record(claim.lease, said(clock, "a"))
    await driver.finish(claim, Failed(problem("task-raised", "no")))
    await driver.engine.retry(claim.task_id)
    await driver.finish(await driver.claim_one(), Cancelled())
    await driver.engine.retry(claim.task_id)
    await driver.engine.cancel(claim.task_id)
    await driver.engine.retry(claim.task_id)
    await driver.engine.cancel(claim.task_id)


async def snooze_and_be_cancelled(driver: Driver, clock: ManualClock) -> None:
    claim = await driver.claim_one()
    await driver.finish(claim, Snoozed(timedelta(hours=1)), said(clock, "a", "b"))
    await driver.engine.cancel(claim.task_id)


async def be_cancelled_while_running(driver: Driver, clock: ManualClock) -> None:
    claim = await driver.claim_one()
    await driver.engine.cancel(claim.task_id)
    await driver.finish(claim, Released())


LIVES = [succeed, speak, fail_and_succeed, be_run_again, snooze_and_be_cancelled, be_cancelled_while_running]


@pytest.mark.parametrize("life", LIVES, ids=lambda life: life.__name__)
async def test_it_tells_what_the_log_tells(
    driver: Driver, clock: ManualClock, life: Callable[[Driver, ManualClock], Awaitable[None]]
) -> None:
    """Read as it happens, and read long after."""
    start = await driver.engine.journal.tail()
    task_id = await driver.submit(make_draft(clock.now(), retry=AGAIN))
    live = await read_all(driver.engine, start)
    living = asyncio.create_task(life(driver, clock))
    while not living.done():
        await asyncio.sleep(0.001)
        live += await read_all(driver.engine, live[-1].cursor)
    await living
    live += await read_all(driver.engine, live[-1].cursor)
    log = await driver.engine.find_events(task_id)
    assert [entry.event for entry in live] == log
    assert [entry.event for entry in await read_all(driver.engine, start)] == log


async def test_events_of_all_tasks_stand_in_one_line(driver: Driver, clock: ManualClock) -> None:
    ids = [await driver.submit() for _ in range(20)]
    for claim in await driver.claim(20):
        await driver.finish(claim, Succeeded(b"6"), said(clock, "a", "b"))
    entries = await read_all(driver.engine)
    found = by_task(entries)
    assert list(found) == ids
    for task_id, events in found.items():
        assert events == await driver.engine.find_events(task_id)
    assert len({entry.cursor for entry in entries}) == len(entries)


@pytest.mark.parametrize("limit", [1, 2, 3, 7, 1000])
async def test_it_is_read_on_from_any_event(driver: Driver, clock: ManualClock, limit: int) -> None:
    await asyncio.gather(*(driver.submit() for _ in range(5)))
    for claim in await driver.claim(5):
        await driver.finish(claim, Succeeded(b"6"), said(clock, *"abcd"))
    everything = await read_all(driver.engine)
    assert len(everything) == 5 * 7
    assert await read_all(driver.engine, limit=limit) == everything
    for place in range(0, len(everything), 4):
        assert await read_all(driver.engine, everything[place].cursor, limit=limit) == everything[place + 1 :]
    assert everything[-1].cursor == await driver.engine.journal.tail()


async def test_an_entry_tells_of_its_task(driver: Driver, clock: ManualClock) -> None:
    draft = make_draft(clock.now(), queue="mail", tags=("a", "b"))
    task_id = await driver.submit(draft)
    claim = await driver.claim_one()
    await driver.finish(claim, Failed(problem("task-raised", "no")))
    *others, last = await read_all(driver.engine)
    assert {(entry.type, entry.queue, entry.tags, entry.owner) for entry in [*others, last]} == {
        ("sum", "mail", ("a", "b"), "")
    }
    assert [entry.task for entry in others] == [None, None]
    assert last.task == await driver.get(task_id)
    await driver.engine.retry(task_id)
    assert [entry.task for entry in await read_all(driver.engine)] == [None] * 4, "it is not the task as it is now"


async def test_events_of_an_expired_task_are_left_out(driver: Driver, clock: ManualClock) -> None:
    """From the moment of its expiry, though it is erased only later."""
    await driver.submit(make_draft(clock.now(), retention=HOUR))
    await succeed(driver, clock)
    kept = await driver.submit(make_draft(clock.now(), retention=2 * HOUR))
    await succeed(driver, clock)
    clock.advance(HOUR - timedelta(microseconds=1))
    assert len(await read_all(driver.engine)) == 6
    clock.advance(timedelta(microseconds=1))
    assert [entry.event.task_id for entry in await read_all(driver.engine)] == [kept] * 3


async def test_large_events_make_small_pages(driver: Driver, clock: ManualClock) -> None:
    await driver.submit()
    claim = await driver.claim_one()
    start = await driver.engine.journal.tail()
    for _ in range(4):
        assert await driver.engine.record(claim.lease, said(clock, *["x" * 60_000] * 4))
    page = await driver.engine.journal.read(start, limit=1000)
    assert 0 < len(page.entries) < 10
    assert len(await read_all(driver.engine, start, limit=1000)) == 16


async def test_the_tail_is_where_what_comes_begins(driver: Driver) -> None:
    assert await read_all(driver.engine, await driver.engine.journal.tail()) == []
    await driver.submit()
    start = await driver.engine.journal.tail()
    task_id = await driver.submit()
    [entry] = await read_all(driver.engine, start)
    assert (entry.event.task_id, entry.event.type, entry.event.sequence) == (task_id, "created", 1)


async def test_refused_and_repeated_writes_are_not_in_it(driver: Driver, clock: ManualClock) -> None:
    claim, task_id = None, await driver.submit()
    claim = await driver.claim_one()
    assert await driver.finish(claim, Succeeded(b"6"))
    start = await driver.engine.journal.tail()
    assert not await driver.finish(claim, Failed(problem("task-failed", "stale")), said(clock, "a"))
    assert not await driver.engine.record(claim.lease, said(clock, "b"))
    with pytest.raises(Exception, match="completed"):
        await driver.engine.cancel(task_id)
    await driver.engine.heartbeat([claim.lease], HOUR)
    assert await read_all(driver.engine, start) == []


async def test_erased_tasks_are_left_out(driver: Driver, clock: ManualClock) -> None:
    gone, kept = await driver.submit(), await driver.submit()
    for claim in await driver.claim(2):
        await driver.finish(claim, Succeeded(b"6"), said(clock, "a", "b"))
    before = await read_all(driver.engine)
    await driver.engine.delete(gone)
    left = [entry for entry in before if entry.event.task_id == kept]
    for limit in (1, 100):
        assert await read_all(driver.engine, limit=limit) == left
    first = next(entry for entry in before if entry.event.task_id == gone)
    assert await read_all(driver.engine, first.cursor) == [e for e in left if before.index(e) > before.index(first)]


async def test_it_goes_on_after_the_end_of_the_process(
    engine: Engine, make_engine, clock: ManualClock
) -> None:  # fmt: skip
    driver = Driver(engine, clock)
    await driver.submit()
    entries = await read_all(engine)
    await engine.close()
    again = await open_after_the_end(make_engine, clock)
    assert await read_all(again) == entries
    await Driver(again, clock).finish(await Driver(again, clock).claim_one(), Succeeded(b"6"))
    assert [entry.event.type for entry in await read_all(again, entries[-1].cursor)] == ["started", "completed"]


# pruning


async def test_old_entries_are_pruned_and_their_readers_get_a_reset(driver: Driver, clock: ManualClock) -> None:
    journal = driver.engine.journal
    await driver.submit()
    old = await read_all(driver.engine)
    await driver.submit()
    last_old = await journal.tail()
    clock.advance(timedelta(hours=25))
    await driver.submit()
    everything = await read_all(driver.engine)
    assert await driver.engine.prune(limit=500) > 0
    page = await journal.read(old[-1].cursor)
    assert page.was_reset
    assert page.entries == []
    assert await read_all(driver.engine, page.cursor) == everything[2:], "it goes on with the oldest that is kept"
    assert not (await journal.read(last_old)).was_reset, "nothing was lost"
    assert (await journal.read()).entries == everything[2:]
    assert await driver.engine.prune(limit=500) == 0
    clock.advance(timedelta(hours=25))
    await driver.engine.prune(limit=500)
    assert not (await journal.read(everything[-1].cursor)).was_reset, "the newest stays as a mark"


async def test_it_is_pruned_in_small_steps(driver: Driver, clock: ManualClock) -> None:
    for _ in range(10):
        await driver.submit()
    clock.advance(timedelta(hours=25))
    await driver.submit()
    steps = [await driver.engine.journal.prune(limit=4) for _ in range(4)]
    assert steps[:2] == [4, 4]
    assert steps[3] == 0
    assert len(await read_all(driver.engine)) == 1


async def test_it_is_pruned_by_size(driver: Driver, engine: Engine) -> None:
    journal = engine.journal
    for _ in range(20):
        await driver.submit()
    journal._limits = journal._limits._replace(size=400)  # type: ignore[attr-defined]
    assert await journal.prune(limit=500) > 5
    assert 5 < len((await journal.read()).entries) < 16
    journal._limits = journal._limits._replace(size=0)  # type: ignore[attr-defined]
    await journal.prune(limit=500)
    assert len((await journal.read()).entries) == 1


async def test_cursors_of_another_store_are_no_cursors_of_this_one(
    driver: Driver, tmp_path, request: pytest.FixtureRequest, clock: ManualClock
) -> None:  # fmt: skip
    from tests.contract.engines import ENGINES

    await driver.submit()
    name = request.node.callspec.params["make_engine"]
    async with ENGINES[name](tmp_path / "other", clock) as other:
        foreign = await other.journal.tail()
    page = await driver.engine.journal.read(foreign)
    assert page.was_reset
    assert [entry.event.type for entry in await read_all(driver.engine, page.cursor)] == ["created"]


@pytest.mark.parametrize("cursor", ["", "x", "AAAA", "é", "A" * 24, "A" * 1000])
async def test_what_is_no_cursor_is_refused(engine: Engine, cursor: str) -> None:
    with pytest.raises(Invalid) as caught:
        await engine.journal.read(cursor)
    assert [fault.pointer for fault in caught.value.faults] == ["/after"]


async def test_every_notified_status_is_in_the_journal(driver: Driver, clock: ManualClock, changes) -> None:
    await driver.submit()
    await driver.finish(await driver.claim_one(), Succeeded(b"6"))
    told = {change.status for change in changes.heard}
    assert Status.COMPLETED in told
    assert [entry.event.type for entry in await read_all(driver.engine)] == ["created", "started", "completed"]
