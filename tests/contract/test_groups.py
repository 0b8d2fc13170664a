"""Groups: their counts, their ends, and the tasks that wait for them."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from msgspec import json, structs
from tests.contract.conftest import Changes, MakeEngine
from tests.contract.webhooks import make_webhook
from tests.stores import open_store

from tasker.engines.protocol import Engine
from tasker.errors import Conflict, Invalid
from tasker.model import AfterGroup, Change, Draft, Extra, Receipt, RetryPolicy, Status, TaskFilter
from tasker.model.archive import StoredTask
from tasker.model.events import GROUP_ENDED
from tasker.model.groups import Group, GroupCounts, GroupEnd
from tasker.rules.lifecycle import Cancelled, Failed, Snoozed, Succeeded, problem
from tasker.testing import Driver, ManualClock, make_draft, make_key

FOR_GOOD = Failed(problem("task-failed", "for good"))
RETRYABLE = Failed(problem("task-failed", "once more", retryable=True))
SETTLED_AT_ONCE = 24


def in_group(driver: Driver, name: str = "import-7", *, after: AfterGroup | None = None, **options: Any) -> Draft:
    return make_draft(driver.clock.now(), extra=Extra(group=name, depends_on_group=after), **options)


def waits_for(driver: Driver, name: str = "import-7", when: Any = "completed", **options: Any) -> Draft:
    extra = Extra(depends_on_group=AfterGroup(name, when))
    return make_draft(driver.clock.now(), extra=extra, **options)


async def give(driver: Driver, *drafts: Draft) -> list[UUID]:
    receipts = await driver.engine.submit(drafts)
    assert {receipt.outcome for receipt in receipts} == {"stored"}
    return [receipt.task_id for receipt in receipts]


async def group_of(engine: Engine, name: str = "import-7", owner: str = "") -> Group:
    """Return a group, after a check that its counts are those of its stored tasks."""
    group = await engine.groups.find(owner, name)
    assert group is not None
    for status in Status:
        counted = await engine.control.count(TaskFilter(group=name, owner=owner, status=(status,)))
        assert getattr(group.tasks, status.value) == counted.count, status
    return group


async def counts(engine: Engine, name: str = "import-7", owner: str = "") -> dict[str, int]:
    """Return the counts that are not 0."""
    tasks = structs.asdict((await group_of(engine, name, owner)).tasks)
    return {status: number for status, number in tasks.items() if number}


async def status_of(driver: Driver, task_id: UUID) -> tuple[Status, str | None]:
    task = await driver.get(task_id)
    return task.status, task.reason if task.error is None else task.error.type.removeprefix("/problems/")


# counts


async def test_a_group_counts_its_tasks_by_status(driver: Driver, engine: Engine) -> None:
    ids = await give(driver, *(in_group(driver) for _ in range(5)))
    assert await counts(engine) == {"pending": 5}
    for outcome in (Succeeded(b"1"), FOR_GOOD):
        await driver.finish(await driver.claim_one(), outcome)
    running = await driver.claim_one()
    await engine.cancel(ids[3])
    assert await counts(engine) == {"pending": 1, "running": 1, "completed": 1, "failed": 1, "cancelled": 1}
    group = await group_of(engine)
    assert (group.oldest_open, group.ended_at) == (ids[2], None)
    [failure] = group.failures
    assert (failure.task_id, failure.type, failure.detail) == (ids[1], "sum", "for good")
    await driver.finish(running, Cancelled())
    await driver.finish(await driver.claim_one(), Snoozed(timedelta(hours=1)))
    assert await counts(engine) == {"pending": 1, "completed": 1, "failed": 1, "cancelled": 2}


async def test_a_group_belongs_to_its_owner(driver: Driver, engine: Engine) -> None:
    await give(driver, in_group(driver, owner="ann"), in_group(driver, owner="ann"), in_group(driver, owner="ben"))
    assert await counts(engine, owner="ann") == {"pending": 2}
    assert await counts(engine, owner="ben") == {"pending": 1}
    assert await engine.groups.find("", "import-7") is None
    page = await engine.groups.find_many(owner="ben", limit=10)
    assert [group.owner for group in page.items] == ["ben"]
    assert len((await engine.groups.find_many(owner=None, limit=10)).items) == 2


async def test_a_task_shows_its_group(driver: Driver, engine: Engine) -> None:
    [member] = await give(driver, in_group(driver))
    [waiting] = await give(driver, waits_for(driver, when="ended"))
    assert (await driver.get(member)).group == "import-7"
    task = await driver.get(waiting)
    assert (task.group, task.depends_on_group, task.reason) == (None, AfterGroup("import-7", "ended"), "dependencies")


async def test_retries_count_once(driver: Driver, engine: Engine) -> None:
    [task_id] = await give(driver, in_group(driver, retry=RetryPolicy(max_attempts=2)))
    await driver.finish(await driver.claim_one(), RETRYABLE)
    assert await counts(engine) == {"pending": 1}
    driver.clock.advance(timedelta(hours=1))
    await driver.finish(await driver.claim_one(), RETRYABLE)
    assert await counts(engine) == {"failed": 1}
    ended = await group_of(engine)
    assert ended.ended_at is not None
    await engine.retry(task_id)
    assert await counts(engine) == {"pending": 1}
    assert (await group_of(engine)).ended_at is None
    await driver.finish(await driver.claim_one(), Succeeded(b"1"))
    assert await counts(engine) == {"completed": 1}


async def test_a_replaced_task_counts_as_cancelled(driver: Driver, engine: Engine) -> None:
    await give(driver, in_group(driver, unique_key="one"))
    await give(driver, in_group(driver, unique_key="one", on_conflict="replace"))
    assert await counts(engine) == {"pending": 1, "cancelled": 1}
    [receipt] = await engine.submit([in_group(driver, "other", unique_key="one")])
    assert receipt.outcome == "joined"
    assert await engine.groups.find("", "other") is None, "no task of it was stored"


async def test_a_repeated_submission_counts_once(driver: Driver, engine: Engine, clock: ManualClock) -> None:
    for _ in range(2):
        await engine.submit([in_group(driver, idempotency=make_key(clock.now(), "again"))])
    assert await counts(engine) == {"pending": 1}


async def test_a_deadline_counts_as_a_failure(driver: Driver, engine: Engine, clock: ManualClock) -> None:
    await give(driver, in_group(driver, deadline=clock.now() + timedelta(seconds=1)))
    clock.advance(timedelta(seconds=2))
    await engine.fail_overdue(limit=10)
    assert await counts(engine) == {"failed": 1}
    assert (await group_of(engine)).ended_at is not None


async def test_a_claim_that_finds_a_deadline_passed_counts_it(
    driver: Driver, engine: Engine, clock: ManualClock, changes: Changes
) -> None:
    [task_id] = await give(driver, in_group(driver, deadline=clock.now() + timedelta(seconds=1)))
    clock.advance(timedelta(seconds=2))
    assert await driver.claim(1) == []
    await changes.until(Change(task_id, Status.FAILED))
    assert await counts(engine) == {"failed": 1}


async def test_a_group_goes_with_its_last_task(driver: Driver, engine: Engine, clock: ManualClock) -> None:
    first, second = await give(driver, in_group(driver, retention=timedelta(hours=1)), in_group(driver))
    for _ in range(2):
        await driver.finish(await driver.claim_one(), Succeeded(b"1"))
    clock.advance(timedelta(hours=2))
    while await engine.prune(limit=100):
        pass
    assert await engine.find(first) is None
    assert await counts(engine) == {"completed": 1}
    await engine.delete(second)
    assert await engine.groups.find("", "import-7") is None
    assert (await engine.groups.find_many(owner=None, limit=10)).items == []
    await give(driver, in_group(driver))
    assert await counts(engine) == {"pending": 1}


async def test_groups_with_open_tasks_come_first(driver: Driver, engine: Engine) -> None:
    for name in ("a", "b", "c", "d"):
        await give(driver, in_group(driver, name))
    claims = {claim.task_id: claim for claim in await driver.claim(4)}
    for name in ("b", "d"):
        [task] = (await engine.find_many(TaskFilter(group=name), limit=10)).items
        await driver.finish(claims[task.task_id], Succeeded(b"1"))
    names, cursor = [], None
    for _ in range(4):
        page = await engine.groups.find_many(owner=None, limit=1, cursor=cursor)
        names += [group.name for group in page.items]
        cursor = page.next_cursor
    assert (names, cursor) == (["c", "a", "d", "b"], None)
    with pytest.raises(Invalid):
        await engine.groups.find_many(owner=None, limit=1, cursor="nonsense")


async def test_a_list_shows_the_tasks_of_a_group(driver: Driver, engine: Engine) -> None:
    ids = await give(driver, *(in_group(driver) for _ in range(3)), in_group(driver, "other"))
    page = await engine.find_many(TaskFilter(group="import-7"), limit=2)
    assert [task.task_id for task in page.items] == [ids[2], ids[1]]
    rest = await engine.find_many(TaskFilter(group="import-7"), limit=2, cursor=page.next_cursor)
    assert [task.task_id for task in rest.items] == [ids[0]]
    assert (await engine.find_many(TaskFilter(group="none"), limit=2)).items == []


async def test_counts_survive_a_restart(make_engine: MakeEngine, clock: ManualClock) -> None:
    engine = await make_engine()
    await give(Driver(engine, clock), *(in_group(Driver(engine, clock)) for _ in range(3)))
    other = await make_engine() if engine.is_shared else engine
    assert await counts(other) == {"pending": 3}


# ends


async def test_everybody_hears_of_the_end_of_a_group(driver: Driver, engine: Engine, changes: Changes) -> None:
    await give(driver, in_group(driver), in_group(driver))
    group_id = (await group_of(engine)).group_id
    claims = await driver.claim(2)
    await driver.finish(claims[0], Succeeded(b"1"))
    assert Change(group_id, Status.COMPLETED) not in changes.heard
    await driver.finish(claims[1], FOR_GOOD)
    await changes.until(Change(group_id, Status.COMPLETED))


async def ends_of(engine: Engine, webhook_id: UUID) -> list[GroupEnd]:
    page = await engine.webhooks.find_deliveries(webhook_id, status=None, limit=100)
    assert all(one.event == GROUP_ENDED and one.group_end is not None for one in page.items)
    return [json.decode(one.group_end or b"", type=GroupEnd) for one in reversed(page.items)]


async def test_each_end_of_a_group_becomes_a_delivery(driver: Driver, engine: Engine, clock: ManualClock) -> None:
    mine = make_webhook(clock.now(), events=(GROUP_ENDED, "failed"))
    for webhook in (
        mine,
        other := make_webhook(clock.now(), events=(GROUP_ENDED,), owner="ben"),
        everything := make_webhook(clock.now(), events=(GROUP_ENDED,), owner="ben", all_owners=True),
        filtered := make_webhook(clock.now(), events=(GROUP_ENDED,), type="sum"),
        unasked := make_webhook(clock.now(), events=("completed",)),
    ):
        await engine.webhooks.create(webhook, most=10)
    task_id, _ = await give(driver, in_group(driver), in_group(driver))
    claims = await driver.claim(2)
    await driver.finish(claims[0], FOR_GOOD)
    assert await ends_of(engine, mine.webhook_id) == []
    await driver.finish(claims[1], Succeeded(b"1"))
    [end] = await ends_of(engine, mine.webhook_id)
    assert (end.name, end.owner, end.number, end.tasks) == ("import-7", "", 1, GroupCounts(completed=1, failed=1))
    assert [end] == await ends_of(engine, everything.webhook_id)
    for webhook in (other, filtered, unasked):
        assert await ends_of(engine, webhook.webhook_id) == []
    await engine.retry(task_id)
    await engine.cancel(task_id)
    assert [(one.number, one.tasks.cancelled) for one in await ends_of(engine, mine.webhook_id)] == [(1, 0), (2, 1)]
    due = await engine.webhooks.find_due(full=(), each=10, limit=10)
    assert len({one.delivery.message_id for one in due if one.webhook == mine}) == 2


# tasks that wait for a group


async def test_a_task_waits_until_no_task_of_a_group_is_open(driver: Driver, engine: Engine, changes: Changes) -> None:
    await give(driver, in_group(driver), in_group(driver))
    [waiting] = await give(driver, waits_for(driver))
    claims = await driver.claim(3)
    assert len(claims) == 2
    await driver.finish(claims[0], Succeeded(b"1"))
    assert await status_of(driver, waiting) == (Status.PENDING, "dependencies")
    changes.heard.clear()
    await driver.finish(claims[1], Succeeded(b"1"))
    await changes.until(Change(waiting, Status.PENDING))
    assert (await driver.claim_one()).task_id == waiting


@pytest.mark.parametrize("is_cancelled", [False, True])
async def test_a_task_that_needs_a_whole_group_fails_with_a_part_of_it(
    driver: Driver, engine: Engine, changes: Changes, is_cancelled: bool
) -> None:
    first, second = await give(driver, in_group(driver), in_group(driver))
    [strict] = await give(driver, waits_for(driver))
    [next_one] = await give(driver, make_draft(driver.clock.now(), extra=Extra(depends_on=(strict,))))
    [any_end] = await give(driver, waits_for(driver, when="ended"))
    claims = await driver.claim(2)
    if is_cancelled:
        await engine.cancel(first)
        await driver.finish(next(one for one in claims if one.task_id == first), Cancelled())
    else:
        await driver.finish(next(one for one in claims if one.task_id == first), FOR_GOOD)
    assert await status_of(driver, strict) == (Status.PENDING, "dependencies"), "not before the last one has ended"
    await driver.finish(next(one for one in claims if one.task_id == second), Succeeded(b"1"))
    await changes.until(Change(strict, Status.FAILED), Change(next_one, Status.FAILED))
    assert await status_of(driver, strict) == (Status.FAILED, "dependency-failed")
    error = (await driver.get(strict)).error
    assert error is not None
    assert error.detail == "of the group 'import-7', on which this task depends, 1 " + (
        "cancelled" if is_cancelled else "failed"
    )
    assert (await driver.claim_one()).task_id == any_end


async def test_an_ended_group_decides_at_once(driver: Driver, engine: Engine) -> None:
    await give(driver, in_group(driver))
    await driver.finish(await driver.claim_one(), FOR_GOOD)
    [strict] = await give(driver, waits_for(driver))
    assert await status_of(driver, strict) == (Status.FAILED, "dependency-failed")
    [any_end] = await give(driver, waits_for(driver, when="ended"))
    assert await status_of(driver, any_end) == (Status.PENDING, "queued")
    assert (await driver.claim_one()).task_id == any_end


async def test_a_group_must_exist(driver: Driver, engine: Engine) -> None:
    await give(driver, in_group(driver, owner="ann"))
    [receipt] = await engine.submit([waits_for(driver)])
    assert receipt.outcome == "refused"
    assert isinstance(receipt.refusal, Invalid)
    assert receipt.refusal.faults[0].pointer == "/depends_on/group"


async def test_a_group_and_its_dependant_may_come_together(driver: Driver, engine: Engine) -> None:
    *_, last = await give(driver, in_group(driver), in_group(driver), waits_for(driver))
    assert await status_of(driver, last) == (Status.PENDING, "dependencies")
    assert await counts(engine) == {"pending": 2}


async def test_the_end_of_a_group_may_end_another(driver: Driver, engine: Engine, changes: Changes) -> None:
    await give(driver, in_group(driver, "first"))
    [second] = await give(driver, in_group(driver, "second", after=AfterGroup("first")))
    [third] = await give(driver, waits_for(driver, "second", when="ended"))
    changes.heard.clear()
    await driver.finish(await driver.claim_one(), FOR_GOOD)
    await changes.until(Change(second, Status.FAILED), Change(third, Status.PENDING))
    assert await counts(engine, "second") == {"failed": 1}
    assert (await driver.claim_one()).task_id == third


async def test_a_member_that_fails_at_once_counts(driver: Driver, engine: Engine) -> None:
    await give(driver, in_group(driver, "first"))
    await driver.finish(await driver.claim_one(), FOR_GOOD)
    await give(driver, in_group(driver, "second", after=AfterGroup("first")))
    assert await counts(engine, "second") == {"failed": 1}
    assert (await group_of(engine, "second")).ended_at is not None


async def test_a_cancelled_dependant_does_not_come_back(driver: Driver, engine: Engine) -> None:
    await give(driver, in_group(driver))
    [waiting] = await give(driver, waits_for(driver))
    await engine.cancel(waiting)
    await driver.finish(await driver.claim_one(), FOR_GOOD)
    assert await status_of(driver, waiting) == (Status.CANCELLED, None)
    with pytest.raises(Conflict, match="import-7"):
        await engine.retry(waiting)


async def test_a_retried_dependant_waits_again(driver: Driver, engine: Engine, changes: Changes) -> None:
    [first] = await give(driver, in_group(driver))
    [waiting] = await give(driver, waits_for(driver))
    await driver.finish(await driver.claim_one(), FOR_GOOD)
    await changes.until(Change(waiting, Status.FAILED))
    await engine.retry(first)
    await engine.retry(waiting)
    assert await status_of(driver, waiting) == (Status.PENDING, "dependencies")
    changes.heard.clear()
    await driver.finish(await driver.claim_one(), Succeeded(b"1"))
    await changes.until(Change(waiting, Status.PENDING))
    assert (await driver.claim_one()).task_id == waiting


async def test_however_many_wait_for_a_group_all_of_them_go_on(
    driver: Driver, engine: Engine, changes: Changes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasker.engines.postgres.transaction.SETTLED_AT_ONCE", SETTLED_AT_ONCE)
    monkeypatch.setattr("tasker.engines.sqlite.partitions.SETTLED_AT_ONCE", SETTLED_AT_ONCE)
    await give(driver, in_group(driver))
    waiting = await give(driver, *(waits_for(driver) for _ in range(3 * SETTLED_AT_ONCE + 5)))
    claim = await driver.claim_one()
    changes.heard.clear()
    await driver.finish(claim, Succeeded(b"1"))
    await changes.until(*(Change(task_id, Status.PENDING) for task_id in waiting))
    assert {claim.task_id for claim in await driver.claim(len(waiting))} == set(waiting)


async def test_a_receipt_of_a_refused_draft_leaves_no_group(driver: Driver, engine: Engine) -> None:
    draft = structs.replace(in_group(driver), refusal=Conflict("no"))
    [receipt] = await engine.submit([draft])
    assert receipt == Receipt(draft.task_id, "refused", refusal=draft.refusal)
    assert await engine.groups.find("", "import-7") is None


# moved, or interrupted


@pytest.mark.parametrize("is_ended", [False, True])
async def test_groups_are_imported_with_their_tasks(
    make_engine: MakeEngine, clock: ManualClock, tmp_path: Path, is_ended: bool
) -> None:
    """What waits for a group goes on there, even if the tasks of the group come after it."""
    async with open_store(tmp_path / "source" / "tasker.db", clock) as source:
        driver = Driver(source, clock)
        await give(driver, in_group(driver), in_group(driver))
        [waiting] = await give(driver, waits_for(driver, when="ended"))
        await give(driver, in_group(driver))
        await driver.finish(await driver.claim_one(), FOR_GOOD)
        tasks = [one async for page in source.archive.read(at_once=1, size=1) for one in page]
    moved = [one for one in tasks if isinstance(one, StoredTask) and not (is_ended and one.is_open and one.group)]
    engine = await make_engine()
    for _ in range(2):
        for task in moved:  # each in a commit of its own
            await engine.archive.put([task], rehearsal=True)
            await engine.archive.put([task])
    expected = {"failed": 1} if is_ended else {"failed": 1, "pending": 2}
    assert await counts(engine) == expected
    if not engine.is_shared:  # an import has the file to itself, and the service opens it afterwards
        await engine.close()
        engine = await make_engine()
    there = Driver(engine, clock)
    for claim in [] if is_ended else await there.claim(2):
        await there.finish(claim, Succeeded(b"1"))
    changes = Changes(engine)
    await engine.sweep(limit=100)
    if (await there.get(waiting)).reason == "dependencies":
        await changes.until(Change(waiting, Status.PENDING))
    assert (await there.claim_one()).task_id == waiting
