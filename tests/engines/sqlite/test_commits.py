"""Group commit: many submissions in one disk write, and batches that fail."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from datetime import timedelta
from pathlib import Path
from typing import Any

import apsw
import pytest
from msgspec import Raw, structs
from tests.contract.test_schedules import make_firing, make_schedule

from tasker.engines.shared import batches
from tasker.engines.sqlite import SqliteEngine, open_sqlite
from tasker.errors import Conflict, NotFound, Unavailable
from tasker.model import Status, TaskFilter, new_task_id
from tasker.model.schedules import Schedule
from tasker.rules.lifecycle import Succeeded
from tasker.testing import Driver, ManualClock, make_draft, make_key


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def engine(tmp_path: Path, clock: ManualClock) -> AsyncIterator[SqliteEngine]:
    async with open_sqlite(tmp_path / "data" / "tasker.db", clock) as engine:
        yield engine


@pytest.fixture
def driver(engine: SqliteEngine, clock: ManualClock) -> Driver:
    return Driver(engine, clock)


async def test_simultaneous_submissions_share_a_commit(engine: SqliteEngine, driver: Driver) -> None:
    before = engine.commits
    await asyncio.gather(*(driver.submit() for _ in range(64)))
    assert 1 <= engine.commits - before <= 4, "64 submissions, each waited for by its own client"


TEXT = b'"%b"' % (b"x" * 1_000)
LARGE_SCHEDULE = {"task": Raw(b'{"type":"sum","params":[%b]}' % TEXT)}
AT_ONCE = 12
Large = Callable[[SqliteEngine, Driver], Awaitable[list[Coroutine[Any, Any, Any]]]]


async def large_params(engine: SqliteEngine, driver: Driver) -> list[Coroutine[Any, Any, Any]]:
    return [engine.submit([make_draft(params=TEXT)]) for _ in range(AT_ONCE)]


async def large_metadata(engine: SqliteEngine, driver: Driver) -> list[Coroutine[Any, Any, Any]]:
    return [engine.submit([make_draft(metadata=TEXT)]) for _ in range(AT_ONCE)]


async def large_secrets(engine: SqliteEngine, driver: Driver) -> list[Coroutine[Any, Any, Any]]:
    return [engine.submit([make_draft(secrets=TEXT)]) for _ in range(AT_ONCE)]


async def large_replies(engine: SqliteEngine, driver: Driver) -> list[Coroutine[Any, Any, Any]]:
    keys = [make_key(key=str(number), reply=TEXT) for number in range(AT_ONCE)]
    return [engine.submit([make_draft(idempotency=key)]) for key in keys]


async def large_together(engine: SqliteEngine, driver: Driver) -> list[Coroutine[Any, Any, Any]]:
    return [engine.submit([make_draft(params=TEXT[:500] + b'"') for _ in range(2)]) for _ in range(AT_ONCE)]


async def large_results(engine: SqliteEngine, driver: Driver) -> list[Coroutine[Any, Any, Any]]:
    for _ in range(AT_ONCE):
        await driver.submit()
    return [driver.finish(claim, Succeeded(TEXT)) for claim in await driver.claim(AT_ONCE)]


def schedules(driver: Driver) -> list[Schedule]:
    now = driver.clock.now()
    return [make_schedule(now, name=str(number), **LARGE_SCHEDULE) for number in range(AT_ONCE)]


async def large_schedules(engine: SqliteEngine, driver: Driver) -> list[Coroutine[Any, Any, Any]]:
    return [engine.schedules.create(schedule) for schedule in schedules(driver)]


async def large_changes(engine: SqliteEngine, driver: Driver) -> list[Coroutine[Any, Any, Any]]:
    made = schedules(driver)
    for schedule in made:
        await engine.schedules.create(schedule)
    return [engine.schedules.update(structs.replace(schedule, version=2)) for schedule in made]


async def large_firings(engine: SqliteEngine, driver: Driver) -> list[Coroutine[Any, Any, Any]]:
    await asyncio.gather(*await large_schedules(engine, driver))
    now = driver.clock.now() + timedelta(minutes=1)
    due = (await engine.schedules.find_many(limit=AT_ONCE)).items
    return [engine.schedules.fire(make_firing(schedule, now)) for schedule in due]


async def large_triggers(engine: SqliteEngine, driver: Driver) -> list[Coroutine[Any, Any, Any]]:
    made = schedules(driver)
    for schedule in made:
        await engine.schedules.create(schedule)
    return [engine.schedules.trigger(schedule.schedule_id, make_draft(params=TEXT)) for schedule in made]


@pytest.mark.parametrize(
    "large",
    [
        large_params, large_metadata, large_secrets, large_replies, large_together, large_results, large_schedules,
        large_changes, large_firings, large_triggers,
    ],
)  # fmt: skip
async def test_large_items_share_a_commit_with_few_others(
    engine: SqliteEngine, driver: Driver, monkeypatch: pytest.MonkeyPatch, large: Large
) -> None:
    """Other work runs between two commits."""
    monkeypatch.setattr(batches, "COMMIT_BYTES", 3_500)
    steps = await large(engine, driver)
    before = engine.commits
    await asyncio.gather(*steps)
    assert engine.commits - before >= AT_ONCE / 3


async def test_items_that_do_not_fit_go_into_the_next_commit_in_order(
    engine: SqliteEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batches, "COMMIT_BYTES", 3_500)
    sizes = [2_000, 2_000, 9_000, 10, 3_000, 3_000, 10]
    drafts = [make_draft(params=b'["%b"]' % (b"x" * size)) for size in sizes]
    before = engine.commits
    await asyncio.gather(*(engine.submit([draft]) for draft in drafts))
    assert engine.commits - before == 5, "2,000 - 2,000 - 9,000 - 10 and 3,000 - 3,000 and 10"
    found = (await engine.find_many(TaskFilter(), limit=9)).items
    assert [task.task_id for task in reversed(found)] == [draft.task_id for draft in drafts]


async def test_a_reply_comes_after_its_own_commit(engine: SqliteEngine, driver: Driver) -> None:
    for _ in range(5):
        before = engine.commits
        await driver.submit()
        assert engine.commits > before, "a receipt without a commit is not durable"


async def test_acknowledged_writes_are_visible_to_another_connection(engine: SqliteEngine, driver: Driver) -> None:
    task_id = await driver.submit()
    other = apsw.Connection(str(engine.path), flags=apsw.SQLITE_OPEN_READONLY)
    assert other.execute("SELECT status FROM task WHERE task_id = ?", (task_id.bytes,)).get == "pending"
    await driver.claim_one()
    assert other.execute("SELECT status FROM task WHERE task_id = ?", (task_id.bytes,)).get == "running"
    other.close()


async def test_every_step_may_share_a_commit(engine: SqliteEngine, driver: Driver, clock: ManualClock) -> None:
    """Refused steps among them get their refusal, and harm no other."""
    done, cancelled = await driver.submit(), await driver.submit()
    [first, _] = await driver.claim(2)
    before = engine.commits
    replies = await asyncio.gather(
        driver.finish(first, Succeeded(b"6")),
        engine.cancel(cancelled),
        driver.submit(),
        engine.cancel(new_task_id(clock.now())),
        engine.retry(cancelled),
        engine.heartbeat([first.lease], timedelta(seconds=30)),
        driver.submit(),
        return_exceptions=True,
    )
    assert engine.commits - before <= 2
    assert replies[0] is True
    assert isinstance(replies[3], NotFound)
    assert isinstance(replies[4], Conflict)
    assert replies[5] == ({first.lease}, set())
    assert len((await engine.find_many(TaskFilter(), limit=10)).items) == 4
    assert (await driver.get(done)).status is Status.COMPLETED


async def test_one_bad_submission_does_not_spoil_others(
    engine: SqliteEngine, driver: Driver, clock: ManualClock
) -> None:
    """An existing id is no fault of the disk: the others of the batch are stored."""
    known = await driver.submit()
    good = [make_draft(clock.now()) for _ in range(10)]
    bad = [make_draft(clock.now()), make_draft(clock.now(), task_id=known, params=b"[9]")]
    submissions = [[draft] for draft in good]
    submissions.insert(5, bad)
    replies = await asyncio.gather(*(engine.submit(drafts) for drafts in submissions), return_exceptions=True)
    failed = replies.pop(5)
    assert isinstance(failed, Exception), f"a submission with a known id was answered with {failed!r}"
    assert [reply[0].task_id for reply in replies if isinstance(reply, list)] == [draft.task_id for draft in good]
    assert await engine.find(bad[0].task_id) is None, "half of a submission was stored"
    assert bytes((await driver.get(known)).params) == b"[4,2]"
    assert len(await driver.claim(100)) == 11


async def test_a_bad_submission_while_a_claim_waits(engine: SqliteEngine, driver: Driver, clock: ManualClock) -> None:
    """The claim gets the task of the failed batch again, once."""
    known = await driver.submit(make_draft(clock.now(), type="other"))
    waiting = asyncio.create_task(driver.claim(wait_for=timedelta(minutes=1)))
    while engine.commits < 2:  # until it has looked and waits
        await asyncio.sleep(0)
    draft = make_draft(clock.now())
    replies = await asyncio.gather(
        engine.submit([draft]), engine.submit([make_draft(clock.now(), task_id=known)]), return_exceptions=True
    )
    assert not isinstance(replies[0], Exception)
    assert isinstance(replies[1], Exception)
    async with asyncio.timeout(30):
        [claim] = await waiting
    assert (claim.task_id, claim.attempt) == (draft.task_id, 1)
    assert [attempt.attempt for attempt in await engine.find_attempts(draft.task_id)] == [1]


async def test_a_write_waits_while_another_program_has_the_write_lock(engine: SqliteEngine, driver: Driver) -> None:
    """A backup tool or a shell: the loop goes on, reads are answered, and later the write."""
    known = await driver.submit()
    other = apsw.Connection(str(engine.path))
    other.execute("BEGIN IMMEDIATE")
    submitting = asyncio.create_task(driver.submit())
    for _ in range(20):
        await asyncio.sleep(0)
        assert (await driver.get(known)).task_id == known
    assert not submitting.done()
    other.execute("ROLLBACK")
    other.close()
    async with asyncio.timeout(30):
        assert (await driver.get(await submitting)).status is Status.PENDING


async def test_a_write_lock_that_is_never_released_is_reported(
    engine: SqliteEngine, driver: Driver, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasker.engines.sqlite.commits._BUSY_LIMIT", 0.1)
    other = apsw.Connection(str(engine.path))
    other.execute("BEGIN IMMEDIATE")
    drafts = [make_draft(clock.now()) for _ in range(5)]
    async with asyncio.timeout(30):
        replies = await asyncio.gather(*(engine.submit([draft]) for draft in drafts), return_exceptions=True)
    assert [type(reply) for reply in replies] == [Unavailable] * 5
    other.execute("ROLLBACK")
    other.close()
    assert [await engine.find(draft.task_id) for draft in drafts] == [None] * 5
    assert (await driver.get(await driver.submit())).status is Status.PENDING


_FULL_DISK = """
import asyncio, json, resource, sys
from datetime import timedelta
from pathlib import Path
from tasker.engines.sqlite import open_sqlite
from tasker.errors import Unavailable
from tasker.rules.lifecycle import Succeeded
from tasker.model import TaskFilter
from tasker.testing import Driver, ManualClock, make_draft

def limit_files(bytes):
    resource.setrlimit(resource.RLIMIT_FSIZE, (bytes, resource.RLIM_INFINITY))

async def fill(engine, clock):
    accepted, refused, others = [], [], []
    while not refused:
        drafts = [make_draft(clock.now(), params=b'["' + b"x" * 10_000 + b'"]') for _ in range(64)]
        replies = await asyncio.gather(*(engine.submit([draft]) for draft in drafts), return_exceptions=True)
        for draft, reply in zip(drafts, replies):
            kind = refused if isinstance(reply, Unavailable) else others if isinstance(reply, Exception) else accepted
            kind.append(str(draft.task_id))
    return accepted, refused, others

async def reply_of(step):
    try:
        return repr(await step)
    except Exception as error:
        return type(error).__name__

async def main():
    clock = ManualClock()
    async with open_sqlite(Path(sys.argv[1]), clock) as engine:
        driver = Driver(engine, clock)
        held = await driver.submit()
        claim = await driver.claim_one()
        heard = []
        engine.watch(heard.extend)
        limit_files(2_000_000)
        accepted, refused, others = await fill(engine, clock)
        limit_files(4096)
        while_full = {
            "complete": await reply_of(driver.finish(claim, Succeeded(b"6"))),
            "cancel": await reply_of(engine.cancel(held)),
            "heartbeat": await reply_of(engine.heartbeat([claim.lease], timedelta(seconds=30))),
            "submit": await reply_of(driver.submit()),
            "check": await reply_of(engine.check()),
            "claim": await reply_of(driver.claim()),
            "status": (await driver.get(held)).status,
            "readable": len((await engine.find_many(TaskFilter(), limit=10_000)).items),
        }
        limit_files(resource.RLIM_INFINITY)
        await engine.check()
        recovered = str(await driver.submit())
        ended = await driver.finish(claim, Succeeded(b"6"))
        claimed = len(await driver.claim(10_000))
        await asyncio.sleep(0)
    Path(sys.argv[2]).write_text(json.dumps(dict(
        accepted=accepted, refused=refused, others=others, while_full=while_full, recovered=recovered, held=str(held),
        ended=ended, claimed=claimed, heard=[str(change.task_id) for change in heard],
    )))

asyncio.run(main())
"""


@pytest.fixture(scope="module")
def full_disk(tmp_path_factory: pytest.TempPathFactory) -> dict:
    """Return the report of a process whose files may not grow for a while: its writes fail as on a full disk."""
    folder = tmp_path_factory.mktemp("full")
    path, told = folder / "data" / "tasker.db", folder / "told.json"
    done = subprocess.run(
        [sys.executable, "-c", _FULL_DISK, path, told], capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(told.read_bytes()) | {"path": path, "output": done.stdout + done.stderr}


def test_a_batch_that_cannot_be_written_is_refused_as_a_whole(full_disk: dict) -> None:
    assert full_disk["accepted"], "nothing was accepted before the disk was full"
    assert len(full_disk["refused"]) >= 2, "the failed commit had many waiters, and each must be told"
    assert full_disk["others"] == [], "each refusal is Unavailable"


def test_every_write_is_refused_while_the_disk_is_full_and_reads_go_on(full_disk: dict) -> None:
    told = dict(full_disk["while_full"])
    assert told.pop("readable") == len(full_disk["accepted"]) + 1
    assert told.pop("status") == "running"
    assert told.pop("claim") in ("Unavailable", "[]"), "a claim that could not be stored was handed out"
    assert set(told.values()) == {"Unavailable"}, told


def test_the_store_goes_on_by_itself_when_there_is_space_again(full_disk: dict) -> None:
    assert full_disk["ended"] is True
    assert full_disk["claimed"] == len(full_disk["accepted"]) + 1


async def test_accepted_tasks_are_stored_and_refused_ones_are_not(full_disk: dict, clock: ManualClock) -> None:
    async with open_sqlite(full_disk["path"], clock) as engine:
        stored = {str(task.task_id): task for task in (await engine.find_many(TaskFilter(), limit=10_000)).items}
    assert set(stored) == {*full_disk["accepted"], full_disk["recovered"], full_disk["held"]}
    assert stored[full_disk["held"]].status is Status.COMPLETED


def test_refused_changes_are_not_reported_to_listeners(full_disk: dict) -> None:
    assert set(full_disk["heard"]).isdisjoint(full_disk["refused"])
    assert set(full_disk["accepted"]) <= set(full_disk["heard"])


def test_no_refusal_is_logged_by_the_event_loop(full_disk: dict) -> None:
    """Work that no one awaits (a claim, a released task) fails without a log entry of the event loop."""
    assert "never retrieved" not in full_disk["output"], full_disk["output"]


def test_the_database_passes_an_integrity_check_afterwards(full_disk: dict) -> None:
    connection = apsw.Connection(str(full_disk["path"]))
    assert connection.pragma("integrity_check") == "ok"
    connection.close()


async def test_keys_of_a_refused_submission_are_free(
    engine: SqliteEngine, driver: Driver, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A refusal changes nothing: the client sends the same again, and it is stored."""
    monkeypatch.setattr("tasker.engines.sqlite.commits._BUSY_LIMIT", 0.1)
    draft = make_draft(clock.now(), idempotency=make_key(clock.now()))
    other = apsw.Connection(str(engine.path))
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(Unavailable):
        await engine.submit([draft])
    other.execute("ROLLBACK")
    other.close()
    assert [receipt.outcome for receipt in await engine.submit([draft])] == ["stored"]
