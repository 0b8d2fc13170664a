"""A list, a count or a choice looks at few tasks at a time; with its cursors it misses none, whatever their times."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from pathlib import Path
from random import Random
from uuid import UUID, uuid4

import pytest
from msgspec import structs
from tests.contract.bulk import act
from tests.contract.engines import ENGINES

from tasker.engines.protocol import Engine
from tasker.engines.shared.looks import Bounds
from tasker.model import Draft, Page, Status, TaskFilter
from tasker.rules.lifecycle import Failed, problem
from tasker.testing import START, Driver, ManualClock, make_draft

SECOND = timedelta(seconds=1)
DAY = timedelta(days=1)
ROWS = 40
BEGIN = START - 500 * DAY
"""Long before the time of the engine: no task was created after that."""


@pytest.fixture(params=sorted(ENGINES))
async def engine(request: pytest.FixtureRequest, tmp_path: Path, clock: ManualClock) -> AsyncIterator[Engine]:
    """An engine that looks at few tasks at a time; never at fewer, however slow the machine is."""
    bounds = Bounds(rows=ROWS, first=ROWS // 4, seconds=60)
    async with ENGINES[request.param](tmp_path, clock, bounds=bounds) as engine:
        yield engine


async def pages(engine: Engine, where: TaskFilter, limit: int = 20) -> list[Page]:
    """Return every page of a list; a cursor that goes round fails."""
    found: list[Page] = []
    cursor = None
    for _ in range(200):
        found.append(await engine.find_many(where, limit=limit, cursor=cursor))
        cursor = found[-1].next_cursor
        if cursor is None:
            return found
    raise AssertionError(f"no end after 200 pages of {where}")


async def listed(engine: Engine, where: TaskFilter, limit: int = 20) -> list[UUID]:
    return [task.task_id for page in await pages(engine, where, limit) for task in page.items]


async def counted(engine: Engine, where: TaskFilter) -> int:
    """Count all tasks, look by look."""
    found = await engine.control.count(where)
    count = found.count
    while found.next_cursor is not None:
        found = await engine.control.count(where, cursor=found.next_cursor)
        count += found.count
    return count


async def chosen(engine: Engine, where: TaskFilter) -> list[UUID]:
    """Choose all tasks, look by look."""
    found = await engine.control.choose(where, limit=7, cursor=None)
    tasks = found.tasks
    while found.next_cursor is not None:
        found = await engine.control.choose(where, limit=7, cursor=found.next_cursor)
        tasks = [*tasks, *found.tasks]
    return [task.task_id for task in tasks]


def one_a_second(start: datetime, count: int, **options: object) -> list[Draft]:
    return [make_draft(start + number * SECOND, **options) for number in range(count)]  # type: ignore[arg-type]


# How far one look goes


async def test_a_page_ends_after_so_many_tasks_and_says_how_far_it_looked(engine: Engine) -> None:
    drafts = one_a_second(BEGIN, 3 * ROWS + 1)
    await engine.submit(drafts)
    found = await pages(engine, TaskFilter(status=(Status.COMPLETED,)))
    assert [page.items for page in found] == [[]] * 4
    ends = [drafts[-number * ROWS].created_at for number in (1, 2, 3)]
    assert [page.searched_back_to for page in found] == [*ends, None]


async def test_a_full_page_looked_no_further_than_its_last_task(engine: Engine) -> None:
    await engine.submit(one_a_second(BEGIN, 3 * ROWS))
    found = await pages(engine, TaskFilter(), limit=10)
    assert [len(page.items) for page in found] == [10] * (3 * ROWS // 10)
    assert {page.searched_back_to for page in found} == {None}


async def test_a_page_may_be_short_in_the_middle_of_a_list(engine: Engine) -> None:
    drafts = [
        make_draft(BEGIN + number * SECOND, metadata=b'{"n":1}', queue="odd" if number in (5, ROWS + 5) else "even")
        for number in range(2 * ROWS)
    ]
    await engine.submit(drafts)
    rare = TaskFilter(queues=("odd",), types=("sum",), status=(Status.PENDING,), created_after=BEGIN - DAY)
    assert await listed(engine, rare) == [drafts[ROWS + 5].task_id, drafts[5].task_id]


async def test_an_index_leads_past_any_number_of_other_tasks(engine: Engine) -> None:
    rare = make_draft(BEGIN, type="rare", queue="rare", tags=("rare",), owner="ada")
    await engine.submit([rare, *one_a_second(BEGIN, 3 * ROWS, tags=("t",), owner="eve", queue="q")])
    for where in ({"types": ("rare",)}, {"queues": ("rare",)}, {"tag": "rare"}, {"owner": "ada"}):
        for more in ({}, {"status": (Status.PENDING,)}, {"created_before": BEGIN + DAY}):
            [page] = await pages(engine, TaskFilter(**where, **more))  # type: ignore[arg-type]
            assert [task.task_id for task in page.items] == [rare.task_id], (where, more)


async def test_of_several_indexes_the_one_that_leads_farthest_is_used(engine: Engine) -> None:
    rare = make_draft(BEGIN, type="common", queue="rare", tags=("common",), owner="ada")
    others = one_a_second(BEGIN, 3 * ROWS, type="common", tags=("common",), owner="ada")
    await engine.submit([rare, *others])
    [page] = await pages(engine, TaskFilter(types=("common",), tag="common", owner="ada", queues=("rare",)))
    assert [task.task_id for task in page.items] == [rare.task_id]


async def test_of_indexes_that_all_have_many_the_one_with_the_oldest_is_used(engine: Engine) -> None:
    drafts = [make_draft(BEGIN + n * SECOND, queue="default" if n % 5 else "fifth") for n in range(10 * ROWS)]
    await engine.submit(drafts)
    page = await engine.find_many(TaskFilter(types=("sum",), queues=("fifth",), status=(Status.COMPLETED,)), limit=5)
    assert page.searched_back_to == drafts[::5][-ROWS].created_at


async def test_the_few_of_a_status_are_found_below_many_others(engine: Engine, driver: Driver) -> None:
    failed = await driver.submit(make_draft(BEGIN, type="bad"))
    await driver.finish(await driver.claim_one(types=["bad"]), Failed(problem("task-failed", "no")))
    await engine.submit(one_a_second(BEGIN, 3 * ROWS))
    for status in ((Status.FAILED,), (Status.FAILED, Status.CANCELLED), (Status.FAILED, Status.RUNNING)):
        assert [task.task_id for task in (await pages(engine, TaskFilter(status=status)))[0].items] == [failed]
    # More are pending than one look may read: their index, which has them in another order, would need all of them.
    assert len(await listed(engine, TaskFilter(status=(Status.PENDING,)))) == 3 * ROWS
    first = TaskFilter(status=(Status.PENDING,), created_before=BEGIN + SECOND / 2)
    assert [len(page.items) for page in await pages(engine, first)] == [0, 0, 1, 0]


async def test_a_time_leads_past_any_number_of_newer_and_older_tasks(engine: Engine) -> None:
    old, middle, new = (one_a_second(BEGIN + days * DAY, 1100) for days in (0, 10, 20))
    for drafts in (old, middle[:30], new):
        await engine.submit(drafts)
    where = TaskFilter(created_after=BEGIN + 9 * DAY, created_before=BEGIN + 19 * DAY)
    first = await engine.find_many(where, limit=50)
    # The spans lead to the block of 512 tasks, of which some are of other times.
    found = await pages(engine, where, limit=50)
    assert [task.task_id for page in found for task in page.items] == [one.task_id for one in reversed(middle[:30])]
    assert len(found) <= 1 + 2 * 512 // ROWS + 1, first
    assert await counted(engine, TaskFilter(created_before=BEGIN - SECOND)) == 0
    assert (await engine.find_many(TaskFilter(created_after=BEGIN + 100 * DAY), limit=5)).next_cursor is None


async def test_an_owner_is_told_of_its_own_tasks_only(engine: Engine) -> None:
    older = one_a_second(BEGIN, 5, owner="ada")
    others = one_a_second(BEGIN + DAY, 2 * ROWS, owner="eve", tags=("t",))
    await engine.submit([*older, *others, *one_a_second(BEGIN + 2 * DAY, 2 * ROWS, owner="ada")])
    page = await engine.find_many(TaskFilter(owner="ada", tag="t"), limit=ROWS)  # in one step
    assert (page.items, page.searched_back_to) == ([], older[-1].created_at), "not when others' tasks were created"
    page = await engine.find_many(TaskFilter(tag="t", status=(Status.COMPLETED,)), limit=5)
    assert page.searched_back_to == others[-ROWS].created_at


async def test_a_count_and_a_choice_go_on_with_their_cursors(engine: Engine) -> None:
    drafts = one_a_second(BEGIN, 3 * ROWS)
    await engine.submit(drafts)
    first = await engine.control.count(TaskFilter(types=("sum",)))
    assert (first.count, first.next_cursor is None) == (ROWS, False)
    assert await counted(engine, TaskFilter(types=("sum",))) == 3 * ROWS
    assert await chosen(engine, TaskFilter(types=("sum",))) == [draft.task_id for draft in reversed(drafts)]
    none = await engine.control.choose(TaskFilter(status=(Status.COMPLETED,)), limit=5, cursor=None)
    assert (none.tasks, none.next_cursor is None) == ([], False)


# Nothing is missed


def random_drafts(random: Random) -> list[Draft]:
    """Some drafts in order of submission: the clock is set back and forth, ids are chosen, and imports are old."""
    drafts: list[Draft] = []
    time = BEGIN
    while len(drafts) < 1300:
        time += random.choice((SECOND, 3 * SECOND, 40 * SECOND, DAY, -DAY, -30 * DAY, -SECOND / 3)) * random.random()
        for number in range(random.choice((1, 5, 100, 200))):
            moment = time + random.choice((0, number, -number)) * SECOND / 10
            draft = make_draft(
                moment, type=random.choice(("sum", "gpt", "rare")), queue=random.choice(("default", "q", "r")),
                tags=random.choice(((), ("a",), ("a", "b"))), owner=random.choice(("", "ada", "eve")),
                task_id=uuid4() if random.random() < 0.1 else None,
            )  # fmt: skip
            drafts.append(structs.replace(draft, is_chosen=random.random() < 0.05))
    return drafts


def random_filter(random: Random, drafts: list[Draft]) -> TaskFilter:
    def times() -> datetime:
        return random.choice(drafts).created_at + random.choice((0, 0, 1, -1)) * random.choice((SECOND, DAY))

    def some(*values: object) -> object:
        return random.choice((None, None, *values))

    return TaskFilter(
        types=random.choice(((), ("sum",), ("gpt", "no"), ("rare", "sum"))),
        queues=random.choice(((), (), ("q",), ("default",), ("q", "r"), ("default", "q"))),
        tag=some("a", "b"), owner=some("", "ada"),
        status=random.choice(((), (), (Status.PENDING,), (Status.CANCELLED,), (Status.PENDING, Status.CANCELLED))),
        created_after=some(times()), created_before=some(times()),
    )  # type: ignore[arg-type]  # fmt: skip


def matches(where: TaskFilter, draft: Draft, status: Status) -> bool:
    return (
        (not where.types or draft.type in where.types)
        and (not where.queues or draft.queue in where.queues)
        and where.owner in (None, draft.owner)
        and (where.tag is None or where.tag in draft.tags)
        and (not where.status or status in where.status)
        and (where.created_after is None or draft.created_at > where.created_after)
        and (where.created_before is None or draft.created_at < where.created_before)
    )


@pytest.mark.parametrize("seed", range(2))
async def test_every_task_is_found_whatever_the_clock_said(engine: Engine, seed: int) -> None:
    random = Random(seed)
    drafts = random_drafts(random)
    for start in range(0, len(drafts), 100):
        await engine.submit(drafts[start : start + 100])
    cancelled = {draft.task_id for draft in random.sample(drafts, 90)}
    await act(engine, "cancel", sorted(cancelled))
    erased = set(random.sample(sorted(cancelled), 30))
    await act(engine, "delete", sorted(erased))
    for number in range(12):
        where = random_filter(random, drafts)
        expected = [
            draft.task_id
            for draft in reversed(drafts)
            if draft.task_id not in erased
            and matches(where, draft, Status.CANCELLED if draft.task_id in cancelled else Status.PENDING)
        ]
        assert await listed(engine, where, random.choice((30, 500))) == expected, where
        if number % 3 == 0:
            assert await counted(engine, where) == len(expected), where


async def test_imported_tasks_are_found_by_the_times_of_their_first_life(engine: Engine) -> None:
    await engine.submit(one_a_second(BEGIN, 3, tags=("t",)))
    found = await engine.archive.find_many(await listed(engine, TaskFilter()))
    old = [
        structs.replace(task, task_id=uuid4(), created_at=BEGIN - 400 * DAY + number * SECOND)
        for number, task in enumerate(found)
        if task is not None
    ]
    await engine.archive.put(old)
    await engine.submit(one_a_second(BEGIN + DAY, 3))
    before = TaskFilter(created_before=BEGIN - DAY)
    assert await listed(engine, before) == [task.task_id for task in reversed(old)]
    assert await listed(engine, TaskFilter(tag="t", created_before=BEGIN - DAY)) == await listed(engine, before)
    assert await counted(engine, TaskFilter(created_after=BEGIN - DAY)) == 6
