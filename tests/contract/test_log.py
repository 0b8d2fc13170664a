"""A task's log is read from its end, by level, page by page."""

from __future__ import annotations

from uuid import UUID, uuid4

import msgspec
import pytest

from tasker.engines.protocol import Engine
from tasker.engines.shared import task_log
from tasker.model import NewEvent, Report
from tasker.testing import Driver, ManualClock, make_draft

LEVELS = ("debug", "info", "warning", "error")


async def logged(driver: Driver, clock: ManualClock, count: int = 12, size: int = 0) -> UUID:
    """Run a task that reports so many records, of one level after the other, with output between them."""
    task_id = await driver.submit(make_draft(clock.now()))
    claim = await driver.claim_one()
    events: list[NewEvent] = []
    for number in range(count):
        said = {"level": LEVELS[number % 4], "message": f"{number}" + "x" * size, "fields": {"n": number}}
        events.append(NewEvent(type="log", time=clock.now(), data=msgspec.json.encode(said)))
        events.append(NewEvent(type="output", time=clock.now(), data=b'{"chunk":"level warning"}'))
    assert await driver.engine.record(claim.lease, Report(events=tuple(events)))
    return task_id


def numbers(events: list[object]) -> list[int]:
    return [msgspec.json.decode(event.data)["fields"]["n"] for event in events]  # type: ignore[attr-defined]


async def walk(engine: Engine, task_id: UUID, **options: object) -> list[list[int]]:
    """Return the numbers on each page, from the end."""
    found, before = [], None
    for _ in range(50):
        page = await engine.find_log(task_id, before=before, **options)  # type: ignore[arg-type]
        found.append(numbers(page.events))  # type: ignore[arg-type]
        before = page.before
        if before is None:
            return found
    raise AssertionError("no end")


async def test_the_end_of_a_log(driver: Driver, engine: Engine, clock: ManualClock) -> None:
    task_id = await logged(driver, clock)
    page = await engine.find_log(task_id, limit=3)
    assert numbers(page.events) == [9, 10, 11]  # type: ignore[arg-type]
    assert {event.type for event in page.events} == {"log"}
    assert page.events[0].sequence < page.events[1].sequence
    assert [event for event in await engine.find_events(task_id) if event.type == "log"][-3:] == page.events
    assert await walk(engine, task_id, limit=5) == [[7, 8, 9, 10, 11], [2, 3, 4, 5, 6], [0, 1]]
    assert await walk(engine, task_id, limit=12) == [list(range(12))]


async def test_a_log_by_level(driver: Driver, engine: Engine, clock: ManualClock) -> None:
    task_id = await logged(driver, clock)
    assert await walk(engine, task_id, levels=("warning", "error"), limit=4) == [[6, 7, 10, 11], [2, 3]]
    assert await walk(engine, task_id, levels=("critical",)) == [[]]


async def test_a_record_with_a_nul_has_a_level(driver: Driver, engine: Engine, clock: ManualClock) -> None:
    task_id = await driver.submit()
    claim = await driver.claim_one()
    texts = ("a\0b", "a\\u0000b", '\\\0"')
    data = [msgspec.json.encode({"level": "info", "message": text, "fields": {"n": n}}) for n, text in enumerate(texts)]
    events = tuple(NewEvent(type="log", time=clock.now(), data=one) for one in data)
    assert await engine.record(claim.lease, Report(events=events))
    assert await walk(engine, task_id, levels=("info",)) == [[0, 1, 2]]
    assert await walk(engine, task_id, levels=("error",)) == [[]]


async def test_another_tasks_log_is_not_read(driver: Driver, engine: Engine, clock: ManualClock) -> None:
    await logged(driver, clock)
    other = await driver.submit()
    for task_id in (other, uuid4()):
        assert await engine.find_log(task_id) == ([], None)


async def test_a_page_looks_at_so_many_events(
    driver: Driver, engine: Engine, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    task_id = await logged(driver, clock)
    monkeypatch.setattr(task_log, "MOST_EVENTS", 6)
    pages = await walk(engine, task_id, levels=("error",))
    assert [one for page in pages for one in page] == [11, 7, 3]
    assert len(pages) == 5, "24 events in looks of 6, and one that finds the begin"


async def test_a_page_has_a_limited_size(driver: Driver, engine: Engine, clock: ManualClock) -> None:
    task_id = await logged(driver, clock, size=100_000)
    pages = await walk(engine, task_id)
    assert [len(page) for page in pages] == [2] * 6
    assert [one for page in reversed(pages) for one in page] == list(range(12))
