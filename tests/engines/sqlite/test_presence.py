"""Files that are deleted, moved, replaced or cut short while the service runs."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import apsw
import pytest

from tasker.engines.sqlite import SqliteEngine, open_sqlite
from tasker.engines.sqlite.transaction import Transaction
from tasker.errors import Unavailable
from tasker.rules.lifecycle import Succeeded
from tasker.testing import Driver, ManualClock, make_draft


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "data"


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def engine(folder: Path, clock: ManualClock) -> AsyncIterator[SqliteEngine]:
    async with open_sqlite(folder / "tasker.db", clock) as engine:
        yield engine


@pytest.fixture
def driver(engine: SqliteEngine, clock: ManualClock) -> Driver:
    return Driver(engine, clock)


def _delete_folder(folder: Path) -> None:
    shutil.rmtree(folder)


def _move_folder(folder: Path) -> None:
    folder.rename(folder.with_name("moved"))


def _replace_folder(folder: Path) -> None:
    shutil.copytree(folder, folder.with_name("copy"))
    shutil.rmtree(folder)
    folder.with_name("copy").rename(folder)


def _delete(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


def _replace(name: str) -> Callable[[Path], None]:
    def replace(folder: Path) -> None:
        shutil.copy(folder / name, folder / "other")
        (folder / "other").replace(folder / name)

    return replace


def _cut(name: str, length: int) -> Callable[[Path], None]:
    return lambda folder: os.truncate(folder / name, length)


def _forbid(folder: Path) -> None:
    """Replace the folder by a loop of links: `stat` fails, though nothing is missing."""
    folder.rename(folder.with_name("moved"))
    folder.symlink_to(folder)


LOSSES = {
    "folder deleted": (_delete_folder, r"data folder \(TASKER_DATA_DIR\) was deleted or moved; put it back"),
    "folder moved": (_move_folder, r"data folder \(TASKER_DATA_DIR\) was deleted or moved; put it back"),
    "folder replaced": (_replace_folder, r"tasker\.db in the data folder was replaced by another file; put it back"),
    "folder unreadable": (_forbid, r"tasker\.db in the data folder cannot be looked at"),
    "database deleted": (_delete("tasker.db"), r"tasker\.db in the data folder was deleted or moved; put it back"),
    "database replaced": (_replace("tasker.db"), r"tasker\.db .* was replaced by another file"),
    "database emptied": (_cut("tasker.db", 0), r"tasker\.db .* was cut short"),
    "database cut": (_cut("tasker.db", 8192), r"tasker\.db .* was cut short"),
    "log deleted": (_delete("tasker.db-wal"), r"tasker\.db-wal .* was deleted or moved; restart the service"),
    "log replaced": (_replace("tasker.db-wal"), r"tasker\.db-wal .* was replaced by another file; restart"),
    "log emptied": (_cut("tasker.db-wal", 0), r"tasker\.db-wal .* was cut short"),
    "log cut": (_cut("tasker.db-wal", 5000), r"tasker\.db-wal .* was cut short"),
}


@pytest.mark.parametrize("name", LOSSES)
async def test_a_loss_is_reported_and_nothing_more_is_accepted(
    engine: SqliteEngine, driver: Driver, folder: Path, name: str
) -> None:
    lose, reason = LOSSES[name]
    await driver.submit()
    if name.startswith("database"):
        await engine._commits.empty_log()  # so that the database has more than one page
        await engine.check()
    lose(folder)
    with pytest.raises(Unavailable, match=reason) as refusal:
        await driver.submit()
    assert refusal.value.retry_after is not None
    assert str(folder) not in refusal.value.detail, "clients need not know where the service keeps its files"
    with pytest.raises(Unavailable, match=reason):
        await engine.check()
    with pytest.raises(Unavailable, match=reason):
        await driver.submit()


@pytest.mark.parametrize("name", ["folder deleted", "database emptied", "log deleted"])
async def test_a_check_notices_a_loss_before_any_write(
    engine: SqliteEngine, driver: Driver, folder: Path, name: str
) -> None:
    lose, reason = LOSSES[name]
    await driver.submit()
    lose(folder)
    with pytest.raises(Unavailable, match=reason):
        await engine.check()


async def test_a_check_notices_a_lost_shared_memory_file(engine: SqliteEngine, folder: Path) -> None:
    (folder / "tasker.db-shm").unlink()
    with pytest.raises(Unavailable, match=r"tasker\.db-shm .* was deleted or moved; restart"):
        await engine.check()


async def test_a_loss_during_a_commit_is_noticed_before_the_answer(
    engine: SqliteEngine, driver: Driver, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The commit succeeds, in a file that is lost."""
    before_commit = engine._commits._before_commit

    def lose(tx: Transaction) -> None:
        """The files were checked, and the transaction is complete except for COMMIT."""
        before_commit(tx)
        shutil.rmtree(folder)

    monkeypatch.setattr(engine._commits, "_before_commit", lose)
    commits = engine.commits
    with pytest.raises(Unavailable, match="deleted or moved"):
        await driver.submit()
    assert engine.commits == commits + 1, "this run proves nothing: the commit itself has failed"


async def test_items_of_a_failed_batch_are_not_acknowledged_either(
    engine: SqliteEngine, driver: Driver, folder: Path, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One bad item makes the others be tried alone, each in its own commit."""
    known = await driver.submit()
    rolled_back = engine._commits._after_rollback

    def lose() -> None:
        """The batch was checked and rolled back; its items come next."""
        shutil.rmtree(folder, ignore_errors=True)
        rolled_back()

    monkeypatch.setattr(engine._commits, "_after_rollback", lose)
    replies = await asyncio.gather(
        driver.submit(), driver.submit(make_draft(clock.now(), task_id=known)), return_exceptions=True
    )
    assert [type(reply) for reply in replies] == [Unavailable, Unavailable]


async def test_the_store_goes_on_when_its_folder_is_moved_back(
    engine: SqliteEngine, driver: Driver, folder: Path, clock: ManualClock
) -> None:
    before = await driver.submit()
    _move_folder(folder)
    with pytest.raises(Unavailable):
        await driver.submit()
    assert (await driver.get(before)).task_id == before, "what is open can still be read"
    folder.with_name("moved").rename(folder)
    await engine.check()
    claim = await driver.claim_one()
    assert await driver.finish(claim, Succeeded(b"6"))
    await driver.submit()


async def test_a_deleted_log_loses_nothing(engine: SqliteEngine, driver: Driver, folder: Path) -> None:
    """Data of the log is in the database as soon as the loss is noticed: kill -9 then loses nothing."""
    task_id = await driver.submit()
    (folder / "tasker.db-wal").unlink()
    with pytest.raises(Unavailable):
        await engine.check()
    shutil.copytree(folder, folder.with_name("after"))
    found = apsw.Connection(str(folder.with_name("after") / "tasker.db"))
    assert found.execute("SELECT count(*) FROM task WHERE task_id = ?", (task_id.bytes,)).get == 1
    found.close()


async def test_closing_leaves_the_files_of_another_service_alone(folder: Path, clock: ManualClock) -> None:
    """Another service may have been started meanwhile, in a new folder of the same name."""
    async with open_sqlite(folder / "tasker.db", clock) as old:
        await Driver(old, clock).submit()
        _move_folder(folder)
        async with open_sqlite(folder / "tasker.db", clock) as new:
            kept = await Driver(new, clock).submit()
            await old.close()
            await new.check()
            assert (await Driver(new, clock).get(kept)).task_id == kept
    async with open_sqlite(folder.with_name("moved") / "tasker.db", clock) as moved:
        assert len(await Driver(moved, clock).claim(10)) == 1, "what was accepted before is in the moved folder"


async def test_files_that_sqlite_itself_shrinks_are_no_loss(engine: SqliteEngine, driver: Driver, folder: Path) -> None:
    """The log shrinks when it is emptied, and the database when free pages are returned, also by another program."""
    large = b'["' + b"x" * 2000 + b'"]'
    ids = [await driver.submit(make_draft(driver.clock.now(), params=large)) for _ in range(300)]
    other = apsw.Connection(str(engine.path))
    other.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
    await engine.check()
    for task_id in ids:
        await engine.cancel(task_id)
        await engine.delete(task_id)
    before = engine.path.stat().st_size
    other.execute("PRAGMA incremental_vacuum").fetchall()  # it may empty the log too
    other.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
    assert engine.path.stat().st_size < before, "this run proves nothing: the file has not shrunk"
    await engine.check()
    await driver.submit()
    other.close()
