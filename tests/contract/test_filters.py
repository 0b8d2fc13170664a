"""Lists by what tasks say, by their schedule, their ends, several types and queues; and counts that stop early."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from msgspec import structs
from tests.contract.engines import ENGINES

from tasker.engines.protocol import Engine
from tasker.engines.shared.looks import TEXT_BYTES, Bounds
from tasker.model import Extra, Status, TaskFilter
from tasker.rules.lifecycle import Failed, Succeeded, problem
from tasker.testing import Driver, ManualClock, make_draft

SECOND = timedelta(seconds=1)
ROWS = 40


async def listed(engine: Engine, **where: object) -> list[UUID]:
    """Return all tasks of a filter, page by page."""
    found: list[UUID] = []
    cursor = None
    for _ in range(100):
        page = await engine.find_many(TaskFilter(**where), limit=20, cursor=cursor)  # type: ignore[arg-type]
        found += [task.task_id for task in page.items]
        cursor = page.next_cursor
        if cursor is None:
            return found
    raise AssertionError("no end")


@pytest.fixture(params=sorted(ENGINES))
async def small(request: pytest.FixtureRequest, tmp_path: Path, clock: ManualClock) -> AsyncIterator[Engine]:
    """An engine that looks at few tasks at a time."""
    async with ENGINES[request.param](tmp_path, clock, bounds=Bounds(rows=ROWS, first=ROWS // 4, seconds=60)) as engine:
        yield engine


# Several types and queues


async def test_a_task_matches_any_of_several_values(engine: Engine, clock: ManualClock) -> None:
    drafts = {
        (type_, queue): make_draft(clock.now(), type=type_, queue=queue)
        for type_ in "abc"
        for queue in ("default", "q", "r")
    }
    await engine.submit(list(drafts.values()))

    def of(types: str, *queues: str) -> list[UUID]:
        return [one.task_id for (type_, queue), one in reversed(drafts.items()) if type_ in types and queue in queues]

    every = ("default", "q", "r")
    assert await listed(engine, types=("a", "c")) == of("ac", *every)
    assert await listed(engine, types=("no", "c")) == of("c", *every)
    assert await listed(engine, queues=("r", "q")) == of("abc", "r", "q")
    assert await listed(engine, queues=("r", "default")) == of("abc", "r", "default")
    assert await listed(engine, types=("b", "a"), queues=("q", "r")) == of("ab", "q", "r")
    assert await listed(engine, types=("a", "c"), queues=("q",), status=(Status.PENDING,)) == of("ac", "q")


async def test_several_values_lead_past_any_number_of_other_tasks(small: Engine, clock: ManualClock) -> None:
    rare = [make_draft(clock.now(), type=name, queue=name) for name in ("r1", "r2", "r3")]
    await small.submit([*rare, *(make_draft(clock.now(), type="other", queue="other") for _ in range(3 * ROWS))])
    for where in ({"types": ("r3", "r1")}, {"queues": ("r1", "r3", "no")}):
        page = await small.find_many(TaskFilter(**where), limit=5)  # type: ignore[arg-type]
        assert [task.task_id for task in page.items] == [rare[2].task_id, rare[0].task_id]
        assert page.next_cursor is None


async def test_together_several_values_look_at_no_more_than_one(small: Engine, clock: ManualClock) -> None:
    names = [f"t{number}" for number in range(4)]
    await small.submit([make_draft(clock.now(), type=names[number % 4]) for number in range(8 * ROWS)])
    for where in ({"types": tuple(names)}, {"types": ("t0", "no")}):
        page = await small.find_many(TaskFilter(status=(Status.COMPLETED,), **where), limit=5)  # type: ignore[arg-type]
        assert (page.items, page.next_cursor is None) == ([], False)
    counted = await small.control.count(TaskFilter(types=tuple(names)))
    assert counted.count <= ROWS + len(names)
    assert len(await listed(small, types=tuple(names))) == 8 * ROWS


# Schedules


def of_schedule(schedule_id: UUID) -> Extra:
    return Extra(schedule_id=schedule_id)


async def test_a_list_by_schedule(driver: Driver, engine: Engine, clock: ManualClock) -> None:
    one, other = uuid4(), uuid4()
    mine = [await driver.submit(make_draft(clock.now(), extra=of_schedule(one))) for _ in range(3)]
    await driver.submit(make_draft(clock.now(), extra=of_schedule(other)))
    await driver.submit(make_draft(clock.now(), extra=Extra(replay_of=one)))
    await driver.submit()
    assert await listed(engine, schedule_id=one) == mine[::-1]
    assert await listed(engine, schedule_id=one, status=(Status.RUNNING,)) == []
    assert await listed(engine, schedule_id=uuid4()) == []
    for task_id in mine[:2]:
        await engine.cancel(task_id)
    await engine.delete(mine[0])
    assert await listed(engine, schedule_id=one) == mine[:0:-1]
    assert await listed(engine, schedule_id=one, status=(Status.CANCELLED,)) == mine[1:2]


async def test_a_schedule_leads_past_any_number_of_other_tasks(small: Engine, clock: ManualClock) -> None:
    schedule_id = uuid4()
    mine = make_draft(clock.now(), extra=of_schedule(schedule_id))
    await small.submit([mine, *(make_draft(clock.now()) for _ in range(3 * ROWS))])
    page = await small.find_many(TaskFilter(schedule_id=schedule_id), limit=5)
    assert ([task.task_id for task in page.items], page.next_cursor) == ([mine.task_id], None)


async def test_imported_tasks_have_their_schedule(engine: Engine, clock: ManualClock) -> None:
    schedule_id = uuid4()
    draft = make_draft(clock.now(), extra=of_schedule(schedule_id))
    await engine.submit([draft])
    [task] = await engine.archive.find_many([draft.task_id])
    assert task is not None
    copy = structs.replace(task, task_id=uuid4())
    await engine.archive.put([copy])
    assert await listed(engine, schedule_id=schedule_id) == [copy.task_id, draft.task_id]


# Ends


async def test_a_list_by_the_time_of_the_end(driver: Driver, engine: Engine, clock: ManualClock) -> None:
    start, done = clock.now(), []
    late = await driver.submit(make_draft(start, type="late"))
    for _ in range(3):
        done.append(await driver.submit())
        clock.advance(SECOND)
        await driver.finish(await driver.claim_one(types=["sum"]), Succeeded(b"6"))
    cancelled = await driver.submit()
    await engine.cancel(cancelled)
    clock.advance(SECOND)
    await driver.finish(await driver.claim_one(types=["late"]), Failed(problem("task-failed", "no")))
    await driver.submit()
    every = [cancelled, *done[::-1], late]
    assert await listed(engine, ended_after=start) == every
    assert await listed(engine, ended_after=start + SECOND) == [cancelled, *done[:0:-1], late]
    assert await listed(engine, ended_before=start + SECOND * 1.5) == done[:1]
    assert await listed(engine, ended_after=start + SECOND, ended_before=start + 3 * SECOND) == [done[1]]
    assert await listed(engine, ended_after=start + 3.5 * SECOND) == [late]
    assert await listed(engine, ended_after=start, status=(Status.FAILED,)) == [late]
    assert await listed(engine, ended_after=start, status=(Status.PENDING,)) == []
    await engine.retry(late)
    assert await listed(engine, ended_after=start + 3.5 * SECOND) == []


async def test_an_end_leads_past_any_number_of_newer_tasks(small: Engine, clock: ManualClock) -> None:
    driver = Driver(small, clock)
    task_id = await driver.submit()
    await driver.finish(await driver.claim_one(), Succeeded(b"6"))
    clock.advance(timedelta(hours=1))
    before = clock.now()
    clock.advance(timedelta(hours=1))
    await small.submit([make_draft(clock.now()) for _ in range(512 + 20 * ROWS)])
    found = await small.find_many(TaskFilter(ended_before=before), limit=5)
    pages = 1
    while found.next_cursor is not None and not found.items:
        found, pages = (
            await small.find_many(TaskFilter(ended_before=before), limit=5, cursor=found.next_cursor),
            pages + 1,
        )
    assert [task.task_id for task in found.items] == [task_id]
    assert pages <= 512 // ROWS + 2, "only the block that the task is in"


# Texts


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("hello", "params"), ("HELLO wor", "params"), ("world", "params"), ("Hello  world", ""),
        ("no such row", "error"), ("valueerror", "error"), ("É", "accents"), ("é", ""), ("Über", "escaped"),
        ("ÜBER", "escaped"), ("über", ""), ('say "hi"', "quoted"),
        ("back\\slash", "quoted"), ("two\nlines", "quoted"), ("%", ""), ("_", ""), ('{"a":', "object"), ("result", ""),
    ],
)  # fmt: skip
async def test_a_list_by_a_text(driver: Driver, engine: Engine, clock: ManualClock, text: str, found: str) -> None:
    params = {
        "params": '["Hello World"]', "accents": '["É"]', "escaped": json.dumps(["Über"]),
        "quoted": json.dumps(['say "hi"', "back\\slash", "two\nlines"]), "object": '{"a":1}',
    }  # fmt: skip
    drafts = {name: make_draft(clock.now(), params=one.encode(), type=name) for name, one in params.items()}
    drafts["error"] = make_draft(clock.now(), type="error")
    await engine.submit(list(drafts.values()))
    await driver.finish(
        await driver.claim_one(types=["error"]), Failed(problem("task-failed", "ValueError: No such row"))
    )
    await driver.finish(await driver.claim_one(types=["params"]), Succeeded(b'"result"'))
    names = {draft.task_id: name for name, draft in drafts.items()}
    assert [names[task_id] for task_id in await listed(engine, text=text)] == found.split()


async def test_long_params_are_not_searched(engine: Engine, clock: ManualClock) -> None:
    short, long = (b'["%b needle"]' % (b"x" * size) for size in (TEXT_BYTES - 11, TEXT_BYTES - 10))
    assert (len(short), len(long)) == (TEXT_BYTES, TEXT_BYTES + 1)
    drafts = [make_draft(clock.now(), params=params) for params in (short, long)]
    await engine.submit(drafts)
    assert await listed(engine, text="needle") == [drafts[0].task_id]


async def test_a_text_is_looked_for_in_so_many_tasks(small: Engine, clock: ManualClock) -> None:
    needle = make_draft(clock.now(), params=b'["needle"]')
    await small.submit([needle, *(make_draft(clock.now()) for _ in range(3 * ROWS))])
    page = await small.find_many(TaskFilter(text="needle"), limit=5)
    assert (page.items, page.next_cursor is None, page.searched_back_to) == ([], False, clock.now())
    assert await listed(small, text="needle") == [needle.task_id]


# Counts


async def test_a_count_is_exact_up_to_its_limit(engine: Engine, clock: ManualClock) -> None:
    await engine.submit([make_draft(clock.now(), type="a" if number % 2 else "b") for number in range(30)])
    assert await engine.count(TaskFilter()) == (30, True)
    assert await engine.count(TaskFilter(types=("a",))) == (15, True)
    assert await engine.count(TaskFilter(types=("no",))) == (0, True)
    assert await engine.count(TaskFilter(), at_most=30) == (30, True)
    assert await engine.count(TaskFilter(), at_most=29) == (29, False)


async def test_a_count_looks_at_so_many_tasks(small: Engine, clock: ManualClock) -> None:
    await small.submit([make_draft(clock.now()) for _ in range(3 * ROWS)])
    assert await small.count(TaskFilter()) == (ROWS, False)
    assert await small.count(TaskFilter(status=(Status.COMPLETED,))) == (0, False)
    assert await small.count(TaskFilter(status=(Status.FAILED,))) == (0, True)
