"""Engine.record, find_events, watch: reports of attempts, and notifications."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import timedelta

import msgspec
import pytest
from tests.contract.conftest import open_after_the_end

from tasker.engines.protocol import Engine
from tasker.model import Change, Event, NewEvent, Progress, Report, RetryPolicy, Status, new_task_id
from tasker.rules.lifecycle import Cancelled, Failed, Released, Succeeded, problem
from tasker.testing import Driver, ManualClock, make_draft

SECOND = timedelta(seconds=1)
SPOKEN = ("progress", "output", "log")


def output(clock: ManualClock, text: str) -> NewEvent:
    return NewEvent(type="output", time=clock.now(), data=msgspec.json.encode({"chunk": text}))


def chunks(events: list[Event]) -> list[str]:
    return [msgspec.json.decode(event.data)["chunk"] for event in events if event.type == "output"]


async def test_events_are_kept_in_order_and_unchanged(driver: Driver, clock: ManualClock) -> None:
    task_id = await driver.submit()
    claim = await driver.claim_one()
    start = clock.now()
    said = [
        NewEvent(type="progress", time=start, data=b'{"fraction": 0.10}'),
        NewEvent(type="output", time=start + SECOND, data=b'{"chunk":"Once \\u0000 upon"}'),
        NewEvent(type="log", time=start + 2 * SECOND, data=b'{"level":"info","message":"a"}'),
    ]
    assert await driver.engine.record(claim.lease, Report(events=tuple(said[:2])))
    assert await driver.engine.record(claim.lease, Report(events=tuple(said[2:])))

    events = [event for event in await driver.engine.find_events(task_id) if event.type in SPOKEN]
    assert [(event.type, event.time, bytes(event.data)) for event in events] == [
        (event.type, event.time, event.data) for event in said
    ]
    assert {(event.task_id, event.attempt) for event in events} == {(task_id, 1)}


async def test_sequences_only_grow(driver: Driver, clock: ManualClock) -> None:
    first, second = await driver.submit(), await driver.submit()
    claims = await driver.claim(2)
    for number in range(5):
        for claim in claims:
            assert await driver.engine.record(claim.lease, Report(events=(output(clock, str(number)),)))
    for task_id in (first, second):
        events = await driver.engine.find_events(task_id)
        sequences = [event.sequence for event in events]
        assert sequences == sorted(set(sequences))
        assert all(sequence > 0 for sequence in sequences), "after=0 must show every event"
        assert chunks(events) == ["0", "1", "2", "3", "4"]


async def test_events_are_read_on_from_a_sequence(driver: Driver, clock: ManualClock) -> None:
    task_id = await driver.submit()
    claim = await driver.claim_one()
    await driver.engine.record(claim.lease, Report(events=tuple(output(clock, str(number)) for number in range(25))))
    everything = await driver.engine.find_events(task_id)
    read: list[Event] = []
    while portion := await driver.engine.find_events(task_id, after=read[-1].sequence if read else 0, limit=10):
        assert len(portion) <= 10
        read += portion
    assert read == everything
    assert await driver.engine.find_events(task_id, after=everything[-1].sequence) == []


async def test_an_unknown_task_has_no_events_and_no_attempts(engine: Engine, clock: ManualClock) -> None:
    assert await engine.find_events(new_task_id(clock.now())) == []
    assert await engine.find_attempts(new_task_id(clock.now())) == []


async def test_events_of_every_attempt_are_kept(driver: Driver, clock: ManualClock) -> None:
    task_id = await driver.submit(make_draft(clock.now(), retry=RetryPolicy(max_attempts=3, initial=timedelta(0))))
    for number in (1, 2):
        claim = await driver.claim_one()
        await driver.engine.record(claim.lease, Report(events=(output(clock, str(number)),)))
        await driver.finish(claim, Failed(problem("task-failed", "busy", retryable=True)))
    events = [event for event in await driver.engine.find_events(task_id) if event.type == "output"]
    assert [event.attempt for event in events] == [1, 2]


async def test_the_last_report_comes_after_the_earlier_ones(driver: Driver, clock: ManualClock) -> None:
    task_id = await driver.submit()
    claim = await driver.claim_one()
    assert await driver.engine.record(claim.lease, Report(events=(output(clock, "a"), output(clock, "b"))))
    assert await driver.finish(claim, Succeeded(b"6"), Report(events=(output(clock, "c"),)))
    assert chunks(await driver.engine.find_events(task_id)) == ["a", "b", "c"]


async def test_reports_sent_at_the_same_time_keep_their_order(driver: Driver, clock: ManualClock) -> None:
    task_id = await driver.submit()
    claim = await driver.claim_one()
    reports = [driver.engine.record(claim.lease, Report(events=(output(clock, str(n)),))) for n in range(20)]
    assert await asyncio.gather(*reports, driver.finish(claim, Succeeded(b"6"))) == [True] * 21
    assert chunks(await driver.engine.find_events(task_id)) == [str(number) for number in range(20)]


async def test_events_survive_the_end_of_the_process(
    driver: Driver, engine: Engine, make_engine, clock: ManualClock
) -> None:
    task_id = await driver.submit()
    claim = await driver.claim_one()
    await engine.record(claim.lease, Report(events=(output(clock, "a"),)))
    before = await engine.find_events(task_id)
    await engine.close()
    again = await open_after_the_end(make_engine, clock)
    assert await again.find_events(task_id) == before
    driver = Driver(again, clock)
    await driver.reap()
    assert await again.record((await driver.claim_one()).lease, Report(events=(output(clock, "b"),)))
    events = await again.find_events(task_id)
    assert chunks(events) == ["a", "b"]
    assert events[-1].sequence > before[-1].sequence


async def test_the_newest_progress_and_usage_are_shown(driver: Driver) -> None:
    task_id = await driver.submit()
    claim = await driver.claim_one()
    assert await driver.engine.record(claim.lease, Report(progress=Progress(fraction=0.25, message="¼")))
    assert await driver.engine.record(claim.lease, Report(usage=b'{"input_tokens":3}'))
    assert await driver.engine.record(claim.lease, Report(progress=Progress(current=5, total=10)))
    task = await driver.get(task_id)
    assert task.progress == Progress(current=5, total=10), "progress is told as a whole"
    assert msgspec.json.decode(task.usage) == {"input_tokens": 3}, "a report without usage leaves it as it was"


async def test_an_empty_report_tells_whether_the_lease_is_current(driver: Driver) -> None:
    await driver.submit()
    claim = await driver.claim_one()
    assert await driver.engine.record(claim.lease, Report())
    assert await driver.finish(claim, Succeeded(b"6"))
    assert not await driver.engine.record(claim.lease, Report())


# watch


async def test_every_change_of_a_task_is_notified(driver: Driver, clock: ManualClock, changes) -> None:
    task_id = await driver.submit()
    await changes.until(Change(task_id, Status.PENDING))
    claim = await driver.claim_one()
    await changes.until(Change(task_id, Status.RUNNING))
    assert await driver.finish(claim, Succeeded(b"6"))
    await changes.until(Change(task_id, Status.COMPLETED))
    statuses = [change.status for change in changes.heard]
    assert statuses == sorted(statuses, key=[Status.PENDING, Status.RUNNING, Status.COMPLETED].index), (
        "changes are told in the order in which they happened"
    )


@pytest.mark.parametrize(
    ("outcome", "status"),
    [
        (Failed(problem("task-failed", "no")), Status.FAILED),
        (Cancelled(), Status.CANCELLED),
        (Released(), Status.PENDING),
    ],
    ids=lambda value: str(value.value) if isinstance(value, Status) else None,
)
async def test_every_end_is_notified(driver: Driver, changes, outcome, status: Status) -> None:
    task_id = await driver.submit()
    claim = await driver.claim_one()
    await changes.until(Change(task_id, Status.RUNNING))
    changes.heard.clear()
    assert await driver.finish(claim, outcome)
    await changes.until(Change(task_id, status))


async def test_cancels_and_retries_are_notified(driver: Driver, changes) -> None:
    waiting = await driver.submit()
    await driver.engine.cancel(waiting)
    await changes.until(Change(waiting, Status.CANCELLED))
    changes.heard.clear()
    await driver.engine.retry(waiting)
    await changes.until(Change(waiting, Status.PENDING))
    await driver.claim_one()
    await driver.engine.cancel(waiting)
    await changes.until(Change(waiting, Status.RUNNING, cancel_requested=True))


async def test_notifications_come_on_the_event_loop(driver: Driver, engine: Engine) -> None:
    loops = []
    told = asyncio.Event()

    def listen(batch: Sequence[Change]) -> None:
        loops.append(asyncio.get_running_loop())
        told.set()

    engine.watch(listen)
    await driver.submit()
    async with asyncio.timeout(30):
        await told.wait()
    assert set(loops) == {asyncio.get_running_loop()}


async def test_a_notified_change_can_be_read(driver: Driver, engine: Engine) -> None:
    """Changes are committed before they are notified: a woken reader finds the task changed."""
    woken: asyncio.Queue[Change] = asyncio.Queue()
    engine.watch(lambda batch: [woken.put_nowait(change) for change in batch] and None)
    task_id = await driver.submit()
    finishing = asyncio.create_task(driver.finish(await driver.claim_one(), Succeeded(b"6")))
    async with asyncio.timeout(30):
        while (change := await woken.get()).status is not Status.COMPLETED:
            pass
    assert change.task_id == task_id
    assert (await driver.get(task_id)).status is Status.COMPLETED
    assert await finishing


async def test_a_stopped_listener_gets_no_notification(driver: Driver, engine: Engine, changes) -> None:
    heard: list[Change] = []
    stop = engine.watch(heard.extend)
    first = await driver.submit()
    await changes.until(Change(first, Status.PENDING))
    stop()
    stop()
    before = list(heard)
    second = await driver.submit()
    await changes.until(Change(second, Status.PENDING))
    assert heard == before
    assert Change(first, Status.PENDING) in before


async def test_a_listener_that_raises_harms_no_other(driver: Driver, engine: Engine, caplog) -> None:
    """A fault of one listener must not stop the others, nor the store."""
    heard: asyncio.Queue[Change] = asyncio.Queue()
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda *_: None)

    def broken(batch: Sequence[Change]) -> None:
        raise RuntimeError("a listener's own fault")

    engine.watch(broken)
    engine.watch(lambda batch: [heard.put_nowait(change) for change in batch] and None)
    async with asyncio.timeout(30):
        first = await driver.submit()
        assert (await heard.get()).task_id == first
        second = await driver.submit()
        while (await heard.get()).task_id != second:
            pass


async def test_a_refused_write_is_not_notified(driver: Driver, changes) -> None:
    task_id = await driver.submit()
    claim = await driver.claim_one()
    assert await driver.finish(claim, Succeeded(b"6"))
    await changes.until(Change(task_id, Status.COMPLETED))
    changes.heard.clear()
    assert not await driver.finish(claim, Failed(problem("task-failed", "stale")))
    other = await driver.submit()
    await changes.until(Change(other, Status.PENDING))
    assert {change.task_id for change in changes.heard} == {other}
