"""Engine.prune, Engine.tombstones: a task exists until it expires, not a moment longer, and is erased in steps."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from uuid import UUID

import pytest
from msgspec import structs
from tests.contract.conftest import MakeEngine

from tasker.archive import files as archive
from tasker.engines.protocol import Engine
from tasker.errors import Conflict, Expired, NotFound
from tasker.model import NewEvent, Report, RetryPolicy, Status, TaskFilter, Tombstone
from tasker.model.keeping import FOREVER, KEEP_TOMBSTONES_FOR
from tasker.rules.lifecycle import Cancelled, Failed, Interrupted, Outcome, Snoozed, Succeeded, problem
from tasker.testing import Driver, ManualClock, make_draft, make_key

SECOND = timedelta(seconds=1)
HOUR = timedelta(hours=1)
INSTANT = timedelta(microseconds=1)
NO = Failed(problem("task-failed", "no"))
End = Callable[[Driver, UUID], Awaitable[object]]


async def prune(engine: Engine, limit: int = 100) -> int:
    """Prune until there is nothing left to do; return how much was done."""
    done = 0
    while step := await engine.prune(limit=limit):
        done += step
    return done


async def ended(driver: Driver, outcome: Outcome | None = None, **options: object) -> UUID:
    """Return a task that has ended just now, and is kept for an hour."""
    draft = make_draft(driver.clock.now(), **{"retention": HOUR, **options})  # type: ignore[arg-type]
    task_id = await driver.submit(draft)
    await driver.finish(await driver.claim_one(), outcome or Succeeded(b"6"))
    return task_id


def _with(outcome: Outcome, report: Report | None = None) -> End:
    async def end(driver: Driver, _: UUID) -> None:
        assert await driver.finish(await driver.claim_one(), outcome, report)

    return end


async def _cancelled_while_pending(driver: Driver, task_id: UUID) -> None:
    await driver.engine.cancel(task_id)


async def _cancelled_instead_of_retried(driver: Driver, task_id: UUID) -> None:
    claim = await driver.claim_one()
    await driver.engine.cancel(task_id)
    await driver.finish(claim, Snoozed(SECOND))


async def _cancelled_by_the_reaper(driver: Driver, task_id: UUID) -> None:
    await driver.claim_one()
    await driver.engine.cancel(task_id)
    driver.clock.advance(driver.lease_for + SECOND)  # type: ignore[attr-defined]
    [_] = await driver.reap()


SAID = Report(events=(NewEvent(type="output", time=ManualClock().now(), data=b"{}"),))
ENDS: dict[str, End] = {
    "completed": _with(Succeeded(b"6")),
    "completed with words": _with(Succeeded(b"6"), SAID),
    "failed": _with(NO),
    "cancelled": _with(Cancelled()),
    "cancelled while pending": _cancelled_while_pending,
    "cancelled instead of retried": _cancelled_instead_of_retried,
    "cancelled by the reaper": _cancelled_by_the_reaper,
}


@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS)
async def test_every_end_sets_the_time_it_is_kept_until(driver: Driver, clock: ManualClock, end: End) -> None:
    task_id = await driver.submit(make_draft(clock.now(), retention=HOUR))
    clock.advance(SECOND)
    await end(driver, task_id)
    task = await driver.get(task_id)
    assert task.status.is_terminal
    assert task.expires_at == clock.now() + HOUR


@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS)
async def test_a_task_without_a_retention_never_expires(driver: Driver, clock: ManualClock, end: End) -> None:
    task_id = await driver.submit()
    await end(driver, task_id)
    clock.advance(timedelta(days=10_000))
    await prune(driver.engine)
    assert (await driver.get(task_id)).expires_at is None


async def test_an_open_task_has_no_time(driver: Driver, clock: ManualClock) -> None:
    retry = RetryPolicy(max_attempts=3, initial=timedelta(0))
    task_id = await driver.submit(make_draft(clock.now(), retention=SECOND, retry=retry))
    for outcome in (Snoozed(SECOND), Interrupted(), Failed(problem("task-failed", "busy", retryable=True))):
        claim = await driver.claim_one()
        assert (await driver.get(task_id)).expires_at is None
        await driver.finish(claim, outcome)
        clock.advance(HOUR)
        assert await prune(driver.engine) == 0
        assert (await driver.get(task_id)).expires_at is None


async def test_a_retry_takes_the_time_away(driver: Driver, clock: ManualClock) -> None:
    task_id = await ended(driver, NO)
    assert (await driver.engine.retry(task_id)).expires_at is None
    clock.advance(2 * HOUR)
    assert await prune(driver.engine) == 0
    await driver.finish(await driver.claim_one(), Succeeded(b"6"))
    assert (await driver.get(task_id)).expires_at == clock.now() + HOUR


async def test_it_is_there_until_its_time_and_gone_from_then_on(driver: Driver, clock: ManualClock) -> None:
    engine, moment = driver.engine, clock.now() + HOUR
    task_id = await ended(driver, NO, tags=("t",))
    clock.set(moment - INSTANT)
    assert await prune(engine) == 0
    await check_there(engine, task_id)
    clock.set(moment)
    await check_expired(engine, task_id, Tombstone(task_id=task_id, owner="", expired_at=moment))
    assert await prune(engine) == 1
    await check_expired(engine, task_id, Tombstone(task_id=task_id, owner="", expired_at=moment))


async def check_there(engine: Engine, task_id: UUID) -> None:
    assert await engine.find(task_id) is not None
    assert await engine.tombstones.find(task_id) is None
    assert len(await engine.find_attempts(task_id)) == 1
    assert len(await engine.find_events(task_id)) == 3
    for where in LISTS:
        assert [task.task_id for task in (await engine.find_many(where, limit=10)).items] == [task_id]


async def check_expired(engine: Engine, task_id: UUID, tombstone: Tombstone) -> None:
    assert await engine.find(task_id) is None
    assert await engine.tombstones.find(task_id) == tombstone
    assert await engine.find_attempts(task_id) == []
    assert await engine.find_events(task_id) == []
    for where in LISTS:
        assert (await engine.find_many(where, limit=10)).items == []
    for step in (engine.cancel, engine.retry, engine.delete):
        with pytest.raises(Expired):
            await step(task_id)


LISTS = (
    TaskFilter(), TaskFilter(tag="t"), TaskFilter(types=("sum",)), TaskFilter(status=(Status.FAILED,)),
    TaskFilter(status=(Status.PENDING, Status.FAILED)), TaskFilter(status=(Status.COMPLETED, Status.FAILED)),
)  # fmt: skip


async def test_a_page_is_full_whatever_has_expired_in_between(driver: Driver, clock: ManualClock) -> None:
    kept = []
    for number in range(12):
        task_id = await ended(driver, NO, retention=SECOND if number % 3 else HOUR)
        kept += [] if number % 3 else [task_id]
    clock.advance(2 * SECOND)
    for status in ((), (Status.FAILED,), (Status.FAILED, Status.PENDING), (Status.FAILED, Status.COMPLETED)):
        where = TaskFilter(status=status)
        page = await driver.engine.find_many(where, limit=3)
        rest = await driver.engine.find_many(where, limit=3, cursor=page.next_cursor)
        assert [task.task_id for task in page.items + rest.items] == kept[::-1]
        assert rest.next_cursor is None


@pytest.mark.parametrize("retention", [HOUR, 40 * HOUR])
async def test_a_tombstone_is_kept_as_long_as_the_task_and_at_least_a_day(
    driver: Driver, clock: ManualClock, retention: timedelta
) -> None:
    task_id = await ended(driver, retention=retention)
    clock.advance(retention)
    await prune(driver.engine)
    clock.advance(max(retention, KEEP_TOMBSTONES_FOR) - INSTANT)
    await prune(driver.engine)
    assert await driver.engine.tombstones.find(task_id) is not None
    clock.advance(INSTANT)
    assert await driver.engine.tombstones.find(task_id) is None, "also before it is erased"
    with pytest.raises(NotFound) as refusal:
        await driver.engine.cancel(task_id)
    assert not isinstance(refusal.value, Expired)
    await prune(driver.engine)
    clock.set(clock.now() - retention)
    assert await driver.engine.tombstones.find(task_id) is None, "it was erased"


async def test_an_erased_task_has_not_expired(driver: Driver, clock: ManualClock) -> None:
    task_id = await ended(driver)
    await driver.engine.delete(task_id)
    assert await driver.engine.tombstones.find(task_id) is None
    with pytest.raises(NotFound) as refusal:
        await driver.engine.retry(task_id)
    assert not isinstance(refusal.value, Expired)


async def test_a_key_outlives_its_task_and_makes_no_other(driver: Driver, clock: ManualClock) -> None:
    key = make_key(clock.now(), lasts=timedelta(hours=24))
    task_id = await ended(driver, idempotency=key)
    clock.advance(HOUR)
    assert await prune(driver.engine) == 1
    clock.advance(timedelta(hours=22))
    again = make_draft(clock.now(), idempotency=make_key(clock.now()))
    [receipt] = await driver.engine.submit([again])
    assert (receipt.task_id, receipt.outcome, receipt.reply) == (task_id, "replayed", b""), "what it was told is erased"
    assert await driver.engine.tombstones.find(task_id) is not None, "and so the client is told"
    clock.advance(HOUR)
    [receipt] = await driver.engine.submit([again])
    assert receipt.outcome == "stored"


async def test_a_chosen_id_is_free_once_its_task_is_forgotten(driver: Driver, clock: ManualClock) -> None:
    key = make_key(clock.now(), "PUT", lasts=timedelta(days=3650))
    task_id = await ended(driver, idempotency=key)
    draft = make_draft(clock.now(), task_id=task_id, idempotency=make_key(key="PUT 2"))
    chosen = structs.replace(draft, is_chosen=True)
    with pytest.raises(Conflict):
        await driver.engine.submit([chosen])
    clock.advance(HOUR)
    for _ in range(2):
        with pytest.raises(Expired):
            await driver.engine.submit([chosen])
        await prune(driver.engine)
    clock.advance(KEEP_TOMBSTONES_FOR)
    await prune(driver.engine)  # its key goes with the memory of it
    [receipt] = await driver.engine.submit([structs.replace(chosen, idempotency=make_key(clock.now(), "PUT"))])
    assert receipt.outcome == "stored"


async def test_tasks_go_in_small_steps_the_longest_over_first(driver: Driver, clock: ManualClock) -> None:
    first = [await ended(driver) for _ in range(5)]
    clock.advance(SECOND)
    second = [await ended(driver) for _ in range(5)]
    clock.advance(2 * HOUR)
    counts = [await driver.engine.prune(limit=3) for _ in range(5)]
    assert sum(counts) == 10
    assert max(counts) <= 3
    assert all([await driver.engine.tombstones.find(task_id) for task_id in first + second])


async def test_a_long_log_goes_in_steps_of_its_own(driver: Driver, clock: ManualClock) -> None:
    task_id = await driver.submit(make_draft(clock.now(), retention=HOUR))
    said = NewEvent(type="output", time=clock.now(), data=b"{}")
    await driver.finish(await driver.claim_one(), Succeeded(b"6"), Report(events=(said,) * 95))
    clock.advance(HOUR)
    steps = 0
    while await driver.engine.prune(limit=3):
        steps += 1
    assert steps >= 4
    assert await driver.engine.tombstones.find(task_id) is not None


async def test_what_belongs_to_other_tasks_is_kept(driver: Driver, clock: ManualClock) -> None:
    """Tasks are erased many at a time: those in between keep all that is theirs."""
    engine, kept = driver.engine, []
    said = NewEvent(type="output", time=clock.now(), data=b"{}")
    for number in range(20):
        retry = RetryPolicy(max_attempts=3, initial=timedelta(0))
        task_id = await driver.submit(
            make_draft(
                clock.now(),
                retention=(1 + number % 2) * HOUR,
                tags=("t",),
                retry=retry,
                idempotency=make_key(clock.now(), str(number)),
            )
        )
        await driver.finish(await driver.claim_one(), Failed(problem("task-failed", "busy", retryable=True)))
        await driver.finish(await driver.claim_one(), Succeeded(b"6"), Report(events=(said,)))
        if number % 2:
            kept.append(task_id)

    async def owned() -> list[object]:
        return [
            (await engine.find_events(one), await engine.find_attempts(one), await engine.find(one)) for one in kept
        ]

    before = await owned()
    clock.advance(HOUR)
    assert await prune(engine) >= 10
    assert await owned() == before
    page = await engine.find_many(TaskFilter(tag="t"), limit=100)
    assert [task.task_id for task in page.items] == kept[::-1]


async def test_what_comes_meanwhile_is_not_harmed(driver: Driver, clock: ManualClock) -> None:
    over = [await ended(driver) for _ in range(30)]
    clock.advance(HOUR)
    prunes = [driver.engine.prune(limit=2) for _ in range(9)]
    others = await asyncio.gather(*(driver.submit() for _ in range(30)), *prunes)
    await prune(driver.engine)
    page = await driver.engine.find_many(TaskFilter(), limit=100)
    assert {task.task_id for task in page.items} == set(others[:30])
    assert all([await driver.engine.find(task_id) is None for task_id in over])


async def test_of_a_prune_and_a_retry_one_wins(driver: Driver, clock: ManualClock) -> None:
    """At the very moment of expiry: a retry in time is not undone, and a late one is refused."""
    for _ in range(5):
        task_id = await ended(driver, NO)
        clock.advance(HOUR - INSTANT)
        retried, _ = await asyncio.gather(driver.engine.retry(task_id), driver.engine.prune(limit=10))
        clock.advance(INSTANT)
        await prune(driver.engine)
        assert (await driver.get(task_id)).status is retried.status is Status.PENDING
        await driver.engine.cancel(task_id)


async def test_tasks_expire_over_an_end_of_the_service(
    driver: Driver, clock: ManualClock, make_engine: MakeEngine
) -> None:
    task_id = await ended(driver)
    await driver.engine.close()
    clock.advance(HOUR)
    again = await make_engine()
    assert await again.find(task_id) is None
    assert await prune(again) == 1
    assert (await again.tombstones.find(task_id)) is not None


async def test_time_that_passes_before_the_first_prune_of_a_process_is_no_jump(
    driver: Driver, clock: ManualClock, make_engine: MakeEngine
) -> None:
    await prune(driver.engine)  # it stores by what time things were erased
    await ended(driver, retention=2 * HOUR)
    await driver.engine.close()
    again = await make_engine()
    clock.advance(3 * HOUR)
    assert await prune(again) == 1


async def test_several_processes_prune_everything_once(
    driver: Driver, clock: ManualClock, make_engine: MakeEngine
) -> None:
    if not driver.engine.is_shared:
        pytest.skip("one process has the store")
    other = await make_engine()
    for _ in range(20):
        await ended(driver)
    clock.advance(HOUR)
    done = 0
    while step := sum(await asyncio.gather(*(engine.prune(limit=3) for engine in (driver.engine, other) * 2))):
        done += step
    assert done == 20


# archives


async def exported(engine: Engine) -> list[bytes]:
    return [line async for line in archive.write(engine.archive)]


async def test_what_has_expired_is_not_exported(driver: Driver, clock: ManualClock) -> None:
    over, kept = await ended(driver), await ended(driver, retention=2 * HOUR)
    clock.advance(HOUR)
    text = b"".join(await exported(driver.engine))
    assert str(kept).encode() in text
    assert str(over).encode() not in text


@pytest.mark.parametrize("how", ["deleted", "expired", "expired and erased"])
async def test_an_import_brings_nothing_back_that_was_erased(driver: Driver, clock: ManualClock, how: str) -> None:
    task_id = await driver.submit(make_draft(clock.now(), retention=HOUR))
    lines = await exported(driver.engine)
    await driver.finish(await driver.claim_one(), Succeeded(b"6"))
    if how == "deleted":
        await driver.engine.delete(task_id)
    else:
        clock.advance(HOUR)
    if how == "expired and erased":
        await prune(driver.engine)
    done = await archive.read(driver.engine.archive, lines, clock=clock)
    assert done.stored == 0
    assert await driver.engine.find(task_id) is None
    assert await driver.claim() == []


async def test_an_import_leaves_out_what_has_expired_on_the_way(driver: Driver, clock: ManualClock) -> None:
    task_id = await ended(driver)
    lines = await exported(driver.engine)
    await driver.engine.delete(task_id)
    clock.advance(FOREVER + HOUR)
    await prune(driver.engine)
    assert await archive.read(driver.engine.archive, lines, clock=clock) == archive.Imported(0, 0, 0, erased=1)
    assert await driver.engine.find(task_id) is None


@pytest.mark.parametrize(("retention", "remembered"), [(HOUR, KEEP_TOMBSTONES_FOR), (40 * HOUR, 40 * HOUR)])
async def test_what_was_deleted_is_remembered_for_its_retention_and_a_day_at_least(
    driver: Driver, clock: ManualClock, retention: timedelta, remembered: timedelta
) -> None:
    """For that time an archive in which it is open does not bring it back; afterwards it counts as new."""
    task_id = await driver.submit(make_draft(clock.now(), retention=retention))
    lines = await exported(driver.engine)
    await driver.finish(await driver.claim_one(), Succeeded(b"6"))
    await driver.engine.delete(task_id)
    clock.advance(remembered - INSTANT)
    await prune(driver.engine)
    assert (await archive.read(driver.engine.archive, lines, clock=clock)).erased == 1
    clock.advance(INSTANT)
    assert (await archive.read(driver.engine.archive, lines, clock=clock)).stored == 1, "also before that is forgotten"


# lists while it is pruned


async def test_a_reader_of_lists_sees_whole_tasks_alone(driver: Driver, clock: ManualClock) -> None:
    """Purge while listing: what a list shows is whole, and what was gone never comes back."""
    engine = driver.engine
    ids = []
    for number in range(60):
        clock.advance(SECOND)
        said = NewEvent(type="output", time=clock.now(), data=b"{}")
        ids.append(await driver.submit(make_draft(clock.now(), retention=number % 7 * SECOND + HOUR, tags=("t",))))
        await driver.finish(await driver.claim_one(), Succeeded(b"6"), Report(events=(said,)))
    gone: set[UUID] = set()

    async def read() -> None:
        shown, cursor = [], None
        while True:
            page = await engine.find_many(TaskFilter(tag="t"), limit=7, cursor=cursor)
            shown += page.items
            cursor = page.next_cursor
            if cursor is None:
                break
        assert len({task.task_id for task in shown}) == len(shown)
        assert [task.task_id for task in shown] == sorted((task.task_id for task in shown), key=ids.index, reverse=True)
        for task in shown:
            assert task.task_id not in gone, "it came back"
            assert (task.status, bytes(task.result or b"")) == (Status.COMPLETED, b"6")
            events, attempts = await asyncio.gather(
                engine.find_events(task.task_id), engine.find_attempts(task.task_id)
            )
            assert [event.type for event in events] in (["created", "started", "output", "completed"], [])
            assert len(attempts) in (0, 1)
            if not events or not attempts:
                assert await engine.find(task.task_id) is None
        gone.update(set(ids) - {task.task_id for task in shown})

    clock.advance(HOUR - 65 * SECOND)
    for _ in range(15):
        clock.advance(5 * SECOND)
        await asyncio.gather(read(), *(engine.prune(limit=2) for _ in range(5)))
    assert gone == set(ids)
