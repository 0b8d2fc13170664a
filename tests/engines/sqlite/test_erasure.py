"""Erased data is gone from the database's pages, its WAL and all files next to it."""

from __future__ import annotations

import subprocess
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from uuid import uuid4

import pytest
from msgspec import structs
from tests.marks import unusually
from tests.stores import open_store

from tasker.engines.sqlite import retention
from tasker.engines.sqlite.storage import connect
from tasker.model import Extra, NewEvent, Progress, Report, RetryPolicy, TaskFilter
from tasker.model.webhooks import Webhook
from tasker.rules.lifecycle import Failed, Outcome, Snoozed, Succeeded, problem
from tasker.testing import Driver, ManualClock, make_draft, make_key

CANARY = "canary-7f1e0b52"
HOUR = timedelta(hours=1)
EVERYTHING = TaskFilter(types=("sum",))


_KEPT = {"clock", "cursor_key", "tombstone", "usage_by_day", "webhook_dispatch", "journal", "journal_name", "task_span",
         "failure", "failure_hour", "task_change"}  # fmt: skip
"""Tables that keep nothing of a task but its id, owner, type, queue and times, and how it failed without any text."""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data" / "tasker.db"


@pytest.fixture
async def driver(path: Path) -> AsyncIterator[Driver]:
    clock = ManualClock()
    async with open_store(path, clock, spill_over=4000) as engine:
        yield Driver(engine, clock)


def found(path: Path) -> list[str]:
    """Return the files that contain the canary. Another process looks, for this one must not open the database."""
    done = subprocess.run(["grep", "-rl", CANARY, path.parent], capture_output=True, text=True, check=False)
    return [Path(name).name for name in done.stdout.split()]


async def sing(driver: Driver, outcome: Outcome | None = None) -> None:
    """Run a task with the canary in every field; end it so that it expires in an hour."""
    now, word = driver.clock.now(), f'{{"word":"{CANARY}"}}'.encode()
    draft = make_draft(
        now, params=word, metadata=word, tags=(CANARY,), retention=HOUR, unique_key=CANARY,
        retry=RetryPolicy(max_attempts=9), idempotency=make_key(now, reply=word), extra=Extra(schedule_id=uuid4()),
    )  # fmt: skip
    hook = Webhook(webhook_id=uuid4(), url=f"https://{CANARY}", events=(), created_at=now, task_id=draft.task_id)
    await driver.submit(structs.replace(draft, webhook=hook, secrets=word))
    said = NewEvent(type="output", time=now, data=word)
    report = Report(events=(said,) * 50, progress=Progress(message=CANARY), usage=word)
    await driver.finish(await driver.claim_one(), Snoozed(timedelta(0)), report)
    failed = Failed(problem("task-failed", CANARY, retryable=True))
    await driver.finish(await driver.claim_one(), failed, report)
    driver.clock.advance(timedelta(minutes=1))  # type: ignore[attr-defined]
    await driver.finish(await driver.claim_one(), outcome or Succeeded(word), report)


async def crowd(driver: Driver) -> None:
    """Fill pages with other tasks, so that the canary shares its pages."""
    for _ in range(60):
        await driver.submit(make_draft(driver.clock.now(), params=b'["' + b"x" * 300 + b'"]', type="other"))


async def prune(driver: Driver) -> None:
    while await driver.engine.prune(limit=20):
        pass


OUTCOMES = [
    Succeeded(f'{{"word":"{CANARY}"}}'.encode()),
    Succeeded(f'{{"word":"{CANARY * 200}"}}'.encode()),
    Succeeded(f'{{"word":"{CANARY * 2000}"}}'.encode()),
    Failed(problem("task-failed", CANARY)),
]


@pytest.mark.parametrize("outcome", OUTCOMES, ids=["small", "in more pages", "in a file", "failed"])
@pytest.mark.parametrize("how", ["deleted", "expired"])
async def test_nothing_is_left_of_a_task(driver: Driver, path: Path, outcome: Outcome, how: str) -> None:
    await crowd(driver)
    await sing(driver, outcome)
    await crowd(driver)
    [task] = (await driver.engine.find_many(EVERYTHING, limit=1)).items
    assert found(path), "there was nothing to be found at all"
    if how == "deleted":
        await driver.engine.delete(task.task_id)
    else:
        driver.clock.advance(HOUR)  # type: ignore[attr-defined]
    await prune(driver)
    assert found(path) == []
    await driver.engine.close()
    assert found(path) == []


async def test_every_table_that_names_a_task_is_emptied(driver: Driver, path: Path) -> None:
    """A new table that stores something of tasks must be erased with them."""
    await sing(driver, Failed(problem("task-failed", CANARY)))
    [task] = (await driver.engine.find_many(EVERYTHING, limit=1)).items
    await driver.engine.delete(task.task_id)
    connection = connect(path, read_only=True)
    tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")]
    counts = {name: connection.execute(f"SELECT count(*) FROM {name}").get for name in tables}
    connection.close()
    left = {name for name, count in counts.items() if count} - _KEPT
    assert {name for name in left if not name.startswith("sqlite_")} == set()


@pytest.mark.parametrize("is_slow", unusually([False, True], True), ids=["quick", "slow"])
async def test_free_pages_are_returned_to_the_disk(
    driver: Driver, path: Path, monkeypatch: pytest.MonkeyPatch, is_slow: bool
) -> None:
    """On a slow machine too, where the time of a step is over before it comes to the free pages."""
    if is_slow:
        monkeypatch.setattr(retention, "_STEP", 0.0)
    size = b'["' + b"x" * 3000 + b'"]'
    for _ in range(20):
        drafts = [make_draft(driver.clock.now(), params=size, retention=HOUR) for _ in range(100)]
        await driver.engine.submit(drafts)
        for claim in await driver.claim(100):
            await driver.finish(claim, Succeeded(b"1"))
    driver.clock.advance(HOUR)  # type: ignore[attr-defined]
    largest = path.stat().st_size
    steps = 0
    while await driver.engine.prune(limit=500):
        steps += 1
    assert path.stat().st_size < largest / 3
    assert steps > 6, "in one go it would keep others waiting"
