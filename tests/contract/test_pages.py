"""Pages are bounded by bytes, in every engine: a reader has at most one page in memory."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, NamedTuple
from uuid import UUID

import pytest
from msgspec import Raw
from tests.contract.test_schedules import make_schedule

from tasker.engines.protocol import Engine
from tasker.model.journal import JournalEntry
from tasker.rules.lifecycle import Succeeded
from tasker.testing import Driver, ManualClock, make_draft

LARGE = b'"%b"' % (b"x" * 400_000)
MANY = 12
MOST = 2 * len(LARGE) + 1_000_000
"""Limit of a page's size, far below the size of all items."""


class Seen(NamedTuple):
    """A page: which items, and how many bytes of what may be large."""

    keys: list[Any]
    size: int


async def results(driver: Driver, clock: ManualClock) -> None:
    """Some are large enough for a file of their own, and some params are large, too."""
    for number in range(MANY):
        draft = make_draft(clock.now(), params=b"[%b]" % LARGE if number % 3 == 0 else b"[]")
        await driver.submit(draft)
        await driver.finish(await driver.claim_one(), Succeeded(LARGE))


async def schedules(driver: Driver, clock: ManualClock) -> None:
    for number in range(MANY):
        task = Raw(b'{"type":"reverse","params":[%b]}' % LARGE)
        await driver.engine.schedules.create(make_schedule(clock.now(), name=f"s{number}", task=task))


async def schedule_pages(engine: Engine) -> AsyncIterator[Seen]:
    cursor = None
    while True:
        page = await engine.schedules.find_many(limit=500, cursor=cursor)
        yield Seen([one.name for one in page.items], sum(len(bytes(one.task)) for one in page.items))
        cursor = page.next_cursor
        if cursor is None:
            return


async def journal_pages(engine: Engine) -> AsyncIterator[Seen]:
    cursor = None
    while True:
        page = await engine.journal.read(cursor, limit=500)
        if not page.entries and page.cursor == cursor:
            return
        yield Seen([(entry.event.task_id, entry.event.sequence) for entry in page.entries], _size(page.entries))
        cursor = page.cursor


def _size(entries: list[JournalEntry]) -> int:
    tasks = [entry.task for entry in entries if entry.task is not None]
    return sum(len(bytes(task.params)) + len(bytes(task.result or b"")) for task in tasks)


Fill = Callable[[Driver, ManualClock], Awaitable[None]]


@pytest.mark.parametrize(
    ("fill", "pages", "count"),
    [(schedules, schedule_pages, MANY), (results, journal_pages, 3 * MANY)],
    ids=["schedules", "journal"],
)
async def test_a_page_is_bounded_by_bytes(
    driver: Driver, clock: ManualClock, fill: Fill, pages: Callable[[Engine], AsyncIterator[Seen]], count: int
) -> None:
    """Whatever its limit of items; and no item is left out or repeated."""
    await fill(driver, clock)
    seen = [page async for page in pages(driver.engine)]
    assert max(page.size for page in seen) <= MOST
    assert sum(page.size for page in seen) > 2 * MOST, "this run proves nothing"
    keys = [key for page in seen for key in page.keys]
    assert len(keys) == len(set(keys)) == count
    assert all(page.keys for page in seen), "an item that is too large for any page still has one"


async def test_one_that_is_larger_than_a_page_is_read(driver: Driver, clock: ManualClock) -> None:
    huge = b'"%b"' % (b"x" * 3_000_000)
    ids: list[UUID] = []
    for _ in range(3):
        ids.append(await driver.submit())
        await driver.finish(await driver.claim_one(), Succeeded(huge))
    told = [key async for page in journal_pages(driver.engine) for key in page.keys]
    assert [task_id for task_id, sequence in told if sequence == 3] == ids
