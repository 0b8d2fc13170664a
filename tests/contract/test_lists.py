"""Engine.find_many, stats: what lists and counts show."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

import pytest
from msgspec import Raw, structs

from tasker.engines.protocol import Engine
from tasker.engines.shared.cursors import to_cursor
from tasker.errors import Invalid
from tasker.model import Draft, PartitionStats, Status, TaskFilter
from tasker.model.tasks import PREVIEW_BYTES
from tasker.rules.lifecycle import Cancelled, Failed, Snoozed, Succeeded, problem
from tasker.testing import Driver, ManualClock, make_draft

SECOND = timedelta(seconds=1)
MINUTE = timedelta(minutes=1)
EVERYTHING = TaskFilter()


async def submit(engine: Engine, clock: ManualClock, count: int) -> list[UUID]:
    """Submit `count` tasks, three to a moment, and return their ids, newest submission first."""
    drafts: list[Draft] = []
    for number in range(count):
        drafts.append(make_draft(clock.now(), params=b"[%d]" % number))
        if number % 3 == 2:
            clock.advance(SECOND)
    await engine.submit(drafts)
    return [draft.task_id for draft in reversed(drafts)]


async def listed(engine: Engine, where: TaskFilter, limit: int = 1000) -> list[UUID]:
    return [task.task_id for task in (await engine.find_many(where, limit=limit)).items]


async def walk(engine: Engine, where: TaskFilter, limit: int) -> list[list[UUID]]:
    """Return the ids of every page; the pages are bounded, so that a cursor that goes round fails."""
    pages, cursor = [], None
    for _ in range(100):
        page = await engine.find_many(where, limit=limit, cursor=cursor)
        pages.append([task.task_id for task in page.items])
        cursor = page.next_cursor
        if cursor is None:
            return pages
    raise AssertionError(f"no end after 100 pages of {limit}: {pages[:3]}...")


async def test_the_newest_submission_comes_first(engine: Engine, clock: ManualClock) -> None:
    newest_first = await submit(engine, clock, 10)
    assert await listed(engine, EVERYTHING) == newest_first


async def test_an_empty_list_is_one_empty_page(engine: Engine) -> None:
    page = await engine.find_many(EVERYTHING, limit=10)
    assert (page.items, page.next_cursor) == ([], None)


async def test_a_listed_task_is_the_task(driver: Driver, clock: ManualClock) -> None:
    await driver.engine.submit([make_draft(clock.now(), tags=("t",)), make_draft(clock.now(), delay=MINUTE)])
    await driver.finish(await driver.claim_one(), Succeeded(b"6"))
    for task in (await driver.engine.find_many(EVERYTHING, limit=10)).items:
        assert task == await driver.get(task.task_id)


@pytest.mark.parametrize("limit", [1, 3, 4, 10, 11])
async def test_pages_join_to_the_whole(engine: Engine, clock: ManualClock, limit: int) -> None:
    newest_first = await submit(engine, clock, 10)
    pages = await walk(engine, EVERYTHING, limit)
    assert [task_id for page in pages for task_id in page] == newest_first
    assert all(len(page) == limit for page in pages[:-1])
    assert pages[-1], "a cursor leads to something"


async def test_newcomers_do_not_shift_the_next_page(engine: Engine, clock: ManualClock) -> None:
    newest_first = await submit(engine, clock, 6)
    page = await engine.find_many(EVERYTHING, limit=3)
    await submit(engine, clock, 4)
    rest = await engine.find_many(EVERYTHING, limit=10, cursor=page.next_cursor)
    assert [task.task_id for task in [*page.items, *rest.items]] == newest_first


async def test_a_cursor_survives_the_erasing_of_what_it_stands_on(
    driver: Driver, engine: Engine, clock: ManualClock
) -> None:
    newest_first = await submit(engine, clock, 5)
    page = await engine.find_many(EVERYTHING, limit=2)
    for task_id in newest_first[1:3]:
        await engine.cancel(task_id)
        await engine.delete(task_id)
    rest = await engine.find_many(EVERYTHING, limit=10, cursor=page.next_cursor)
    assert [task.task_id for task in rest.items] == newest_first[3:]


async def test_a_cursor_survives_the_end_of_the_process(engine: Engine, make_engine, clock: ManualClock) -> None:
    newest_first = await submit(engine, clock, 4)
    page = await engine.find_many(EVERYTHING, limit=2)
    await engine.close()
    again = await make_engine()
    rest = await again.find_many(EVERYTHING, limit=2, cursor=page.next_cursor)
    assert [task.task_id for task in rest.items] == newest_first[2:]


@pytest.mark.parametrize(
    "cursor",
    [
        "",
        "0",
        "-1",
        "x",
        "null",
        "=",
        "AAAA",
        "é",
        "' OR 1=1 --",
        "0" * 5000,
        "\0",
        "9" * 30,
        to_cursor(2**63),
        to_cursor(2**64 - 1),
    ],
)
async def test_a_cursor_that_no_page_gave_out_is_invalid(engine: Engine, clock: ManualClock, cursor: str) -> None:
    await submit(engine, clock, 3)
    with pytest.raises(Invalid):
        await engine.find_many(EVERYTHING, limit=2, cursor=cursor)


@pytest.mark.parametrize("edit", [lambda c: c[:-1], lambda c: c + "A", lambda c: c[1:], lambda c: c.swapcase()])
async def test_a_cursor_that_was_damaged_is_invalid(engine: Engine, clock: ManualClock, edit) -> None:
    await submit(engine, clock, 5)
    cursor = (await engine.find_many(EVERYTHING, limit=2)).next_cursor
    assert cursor is not None
    with pytest.raises(Invalid):
        await engine.find_many(EVERYTHING, limit=2, cursor=edit(cursor))


@pytest.fixture
async def mixed(driver: Driver, clock: ManualClock) -> dict[str, UUID]:
    """One task of each kind, in this order, a second apart."""
    ends = {"completed": Succeeded(b"6"), "failed": Failed(problem("task-failed", "no")), "cancelled": Cancelled()}
    tasks = {}
    for status, outcome in ends.items():
        tasks[status] = await driver.submit(make_draft(clock.now(), queue="old", tags=("a", status)))
        await driver.finish(await driver.claim_one(), outcome)
        clock.advance(SECOND)
    tasks["running"] = await driver.submit(make_draft(clock.now(), type="gpt", tags=("a",)))
    await driver.claim_one(types=["gpt"])
    clock.advance(SECOND)
    tasks["pending"] = await driver.submit(make_draft(clock.now(), type="gpt", queue="llm"))
    clock.advance(SECOND)
    tasks["scheduled"] = await driver.submit(make_draft(clock.now(), delay=MINUTE, queue="llm", tags=("b",)))
    return tasks


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        (TaskFilter(), "scheduled pending running cancelled failed completed"),
        (TaskFilter(status=(Status.PENDING,)), "scheduled pending"),
        (TaskFilter(status=(Status.RUNNING,)), "running"),
        (TaskFilter(status=(Status.COMPLETED,)), "completed"),
        (TaskFilter(status=(Status.FAILED,)), "failed"),
        (TaskFilter(status=(Status.CANCELLED,)), "cancelled"),
        (TaskFilter(status=(Status.FAILED, Status.RUNNING)), "running failed"),
        (TaskFilter(status=tuple(Status)), "scheduled pending running cancelled failed completed"),
        (TaskFilter(types=("gpt",)), "pending running"),
        (TaskFilter(types=("unknown",)), ""),
        (TaskFilter(queues=("llm",)), "scheduled pending"),
        (TaskFilter(queues=("default",)), "running"),
        (TaskFilter(tag="a"), "running cancelled failed completed"),
        (TaskFilter(tag="b"), "scheduled"),
        (TaskFilter(tag="%"), ""),
        (TaskFilter(tag="a", status=(Status.FAILED, Status.PENDING)), "failed"),
        (TaskFilter(tag="a", types=("gpt",)), "running"),
        (TaskFilter(tag="a", queues=("old",), types=("sum",), status=(Status.COMPLETED,)), "completed"),
        (TaskFilter(types=("gpt",), queues=("llm",), status=(Status.PENDING,)), "pending"),
        (TaskFilter(types=("gpt",), status=(Status.COMPLETED,)), ""),
    ],
    ids=repr,
)
async def test_every_given_field_must_hold(
    engine: Engine, mixed: dict[str, UUID], where: TaskFilter, expected: str
) -> None:
    names = {task_id: name for name, task_id in mixed.items()}
    for limit in (1, 100):
        pages = await walk(engine, where, limit)
        assert [names[task_id] for page in pages for task_id in page] == expected.split(), f"in pages of {limit}"


async def test_lists_between_two_times(engine: Engine, clock: ManualClock) -> None:
    start = clock.now()
    newest_first = await submit(engine, clock, 9)  # three each at start, start + 1 s, start + 2 s
    middle = newest_first[3:6]
    between = TaskFilter(created_after=start + SECOND / 2, created_before=start + SECOND * 3 / 2)
    assert await listed(engine, between) == middle
    assert await listed(engine, TaskFilter(created_after=start + SECOND / 2)) == newest_first[:6]
    assert await listed(engine, TaskFilter(created_before=start + SECOND / 2)) == newest_first[6:]
    assert await listed(engine, TaskFilter(created_after=start + MINUTE)) == []
    assert await listed(engine, TaskFilter(created_before=start - SECOND)) == []
    pages = await walk(engine, between, 2)
    assert [task_id for page in pages for task_id in page] == middle


async def test_a_list_follows_the_status(driver: Driver, engine: Engine) -> None:
    task_id = await driver.submit()
    pending, running = TaskFilter(status=(Status.PENDING,)), TaskFilter(status=(Status.RUNNING,))
    failed = TaskFilter(status=(Status.FAILED,))
    assert await listed(engine, pending) == [task_id]
    claim = await driver.claim_one()
    assert (await listed(engine, pending), await listed(engine, running)) == ([], [task_id])
    await driver.finish(claim, Failed(problem("task-failed", "no")))
    assert (await listed(engine, running), await listed(engine, failed)) == ([], [task_id])
    await engine.retry(task_id)
    assert (await listed(engine, failed), await listed(engine, pending)) == ([], [task_id])


# stats


async def test_no_open_tasks_no_counts(driver: Driver, engine: Engine) -> None:
    assert await engine.stats.open_counts() == []
    await driver.submit()
    await driver.finish(await driver.claim_one(), Succeeded(b"6"))
    assert [line for line in await engine.stats.open_counts() if line.pending or line.scheduled or line.running] == []


async def test_open_tasks_are_counted_by_queue_and_type(driver: Driver, engine: Engine, clock: ManualClock) -> None:
    start = clock.now()
    await engine.submit([make_draft(start, queue="a") for _ in range(3)])
    clock.advance(SECOND)
    await engine.submit([make_draft(clock.now(), queue="a"), make_draft(clock.now(), queue="b", delay=MINUTE)])
    await engine.submit([make_draft(clock.now(), queue="a", type="gpt"), make_draft(start, queue="c", type="gpt")])
    await driver.claim(queues=["c"], types=["gpt"])
    lines = await engine.stats.open_counts()
    assert sorted(lines, key=lambda line: (line.queue, line.type)) == [
        PartitionStats(queue="a", type="gpt", pending=1, oldest_due_at=clock.now()),
        PartitionStats(queue="a", type="sum", pending=4, oldest_due_at=start),
        PartitionStats(queue="b", type="sum", scheduled=1),
        PartitionStats(queue="c", type="gpt", running=1),
    ]


async def test_a_task_counts_as_waiting_from_when_it_is_due(driver: Driver, engine: Engine, clock: ManualClock) -> None:
    due_at = clock.now() + MINUTE
    await driver.submit(make_draft(clock.now(), delay=MINUTE))
    clock.advance(2 * MINUTE)
    line = PartitionStats(queue="default", type="sum", pending=1, oldest_due_at=due_at)
    assert await engine.stats.open_counts() == [line]
    await driver.finish(await driver.claim_one(), Snoozed(MINUTE))
    assert await engine.stats.open_counts() == [PartitionStats(queue="default", type="sum", scheduled=1)]


async def test_the_oldest_due_task_counts_whatever_its_priority(engine: Engine, clock: ManualClock) -> None:
    start = clock.now()
    await engine.submit([make_draft(start, priority=-5)])
    clock.advance(SECOND)
    await engine.submit([make_draft(clock.now(), priority=5), make_draft(clock.now(), priority=9, delay=MINUTE)])
    [line] = await engine.stats.open_counts()
    assert line == PartitionStats(queue="default", type="sum", pending=2, scheduled=1, oldest_due_at=start)


async def test_an_owners_tasks(engine: Engine, clock: ManualClock) -> None:
    owners = ["alice", "", "bob", "alice", "o'hara %"]
    drafts = [structs.replace(make_draft(clock.now()), owner=owner) for owner in owners]
    await engine.submit(drafts)
    for owner in set(owners):
        expected = [draft.task_id for draft in reversed(drafts) if draft.owner == owner]
        for status in ((), (Status.PENDING,), (Status.PENDING, Status.COMPLETED)):
            where = TaskFilter(owner=owner, status=status)
            assert await listed(engine, where) == expected
            assert [task_id for page in await walk(engine, where, 1) for task_id in page] == expected
    assert await listed(engine, TaskFilter(owner="nobody")) == []


@pytest.mark.parametrize("size", [PREVIEW_BYTES - 1, PREVIEW_BYTES, PREVIEW_BYTES + 1, 5000, 1_000_000])
async def test_a_list_has_what_long_params_and_results_begin_with(driver: Driver, size: int) -> None:
    text = b'"%b"' % (b"x" * (size - 2))
    task_id = await driver.submit(make_draft(driver.clock.now(), params=text))
    await driver.finish(await driver.claim_one(), Succeeded(text))
    [task] = (await driver.engine.find_many(EVERYTHING, limit=5)).items
    whole = await driver.get(task_id)
    if size <= PREVIEW_BYTES:
        assert task == whole
        return
    begin = text[:PREVIEW_BYTES].decode()
    assert task == structs.replace(whole, params=Raw(b"null"), result=None, params_preview=begin, result_preview=begin)


async def test_a_preview_ends_before_a_character_that_is_cut_off(driver: Driver) -> None:
    text = '"' + "é" * PREVIEW_BYTES + '"'
    await driver.submit(make_draft(driver.clock.now(), params=text.encode()))
    [task] = (await driver.engine.find_many(EVERYTHING, limit=5)).items
    assert task.params_preview == '"' + "é" * ((PREVIEW_BYTES - 1) // 2)
