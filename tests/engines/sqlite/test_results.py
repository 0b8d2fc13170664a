"""Large results are files next to the database. No row lacks its file, and no file stays without a row."""

from __future__ import annotations

import asyncio
import contextlib
import os
import stat
import threading
from collections.abc import AsyncIterator, Iterable
from datetime import timedelta
from pathlib import Path

import apsw
import pytest
from msgspec import structs
from tests.contract.bulk import act
from tests.stores import open_store

from tasker.archive import files as archive
from tasker.engines.sqlite import SqliteEngine
from tasker.engines.sqlite.storage import connect
from tasker.errors import Unavailable
from tasker.model import Claim, Status, TaskFilter
from tasker.model.tasks import PREVIEW_BYTES
from tasker.rules.lifecycle import Succeeded
from tasker.testing import Driver, ManualClock, make_draft

OVER = 2000
LARGE = b'"' + b"x" * OVER + b'"'
HOUR = timedelta(hours=1)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data" / "tasker.db"


@pytest.fixture
async def driver(path: Path) -> AsyncIterator[Driver]:
    async with opened(path, ManualClock()) as driver:
        yield driver


@contextlib.asynccontextmanager
async def opened(path: Path, clock: ManualClock) -> AsyncIterator[Driver]:
    async with open_store(path, clock, spill_over=OVER) as engine:
        yield Driver(engine, clock)


async def claimed(driver: Driver) -> Claim:
    await driver.submit(make_draft(driver.clock.now(), retention=HOUR))
    return await driver.claim_one()


def files(path: Path) -> list[Path]:
    folder = path.with_name("results")
    return list(folder.iterdir()) if folder.exists() else []


async def test_a_large_result_has_a_file_and_is_read_like_any_other(driver: Driver, path: Path) -> None:
    claim = await claimed(driver)
    assert await driver.finish(claim, Succeeded(LARGE))
    [file] = files(path)
    assert file.read_bytes() == LARGE
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    task = await driver.get(claim.task_id)
    assert task.result is not None
    assert bytes(task.result) == LARGE
    shown = structs.replace(task, result=None, result_preview=LARGE[:PREVIEW_BYTES].decode())
    assert (await driver.engine.find_many(TaskFilter(), limit=5)).items == [shown]
    connection = connect(path, read_only=True)
    assert connection.execute("SELECT length(result) < 100 FROM task").get == 1
    connection.close()


async def test_small_results_have_no_file(driver: Driver, path: Path) -> None:
    claim = await claimed(driver)
    await driver.finish(claim, Succeeded(LARGE[2:]))
    assert files(path) == []
    assert not path.with_name("results").exists()


@pytest.mark.parametrize("how", ["delete", "bulk", "prune"])
async def test_a_file_is_removed_with_its_task(driver: Driver, path: Path, how: str) -> None:
    claim = await claimed(driver)
    await driver.finish(claim, Succeeded(LARGE))
    if how == "delete":
        await driver.engine.delete(claim.task_id)
    elif how == "bulk":
        assert await act(driver.engine, "delete", [claim.task_id]) == 1
    else:
        driver.clock.advance(HOUR)  # type: ignore[attr-defined]
        assert await driver.engine.prune(limit=10) == 1
    assert files(path) == []


async def test_a_file_is_removed_even_if_the_caller_is_cancelled(driver: Driver, path: Path) -> None:
    claim = await claimed(driver)
    await driver.finish(claim, Succeeded(LARGE))
    deleting = asyncio.create_task(driver.engine.delete(claim.task_id))
    await asyncio.sleep(0)
    deleting.cancel()
    await asyncio.wait([deleting])
    await driver.engine.close()
    assert files(path) == []


async def test_an_attempt_that_lost_its_lease_leaves_no_file(driver: Driver, path: Path) -> None:
    claim = await claimed(driver)
    assert await driver.finish(claim, Succeeded(LARGE))
    kept = files(path)
    assert not await driver.finish(claim, Succeeded(LARGE))
    assert files(path) == kept


async def test_a_commit_that_fails_keeps_the_file_for_the_next_try(driver: Driver, path: Path, monkeypatch) -> None:
    claim, engine = await claimed(driver), driver.engine
    end = engine._end

    async def failing(*_: object) -> bool:
        raise Unavailable("the disk is full")

    monkeypatch.setattr(engine, "_end", failing)
    for _ in range(3):
        with pytest.raises(Unavailable):
            await driver.finish(claim, Succeeded(LARGE))
    assert len(files(path)) == 1
    monkeypatch.setattr(engine, "_end", end)
    assert await driver.finish(claim, Succeeded(LARGE))
    assert len(files(path)) == 1
    assert (await driver.get(claim.task_id)).result is not None


@pytest.mark.parametrize("broken", ["fsync", "write"])
async def test_a_disk_that_fails_changes_nothing(driver: Driver, path: Path, monkeypatch, broken: str) -> None:
    claim = await claimed(driver)

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync" if broken == "fsync" else "open", fail)
        with pytest.raises(Unavailable):
            await driver.finish(claim, Succeeded(LARGE))
    assert files(path) == []
    assert (await driver.get(claim.task_id)).status is Status.RUNNING
    assert await driver.finish(claim, Succeeded(LARGE))


async def test_the_file_is_durable_before_the_row_refers_to_it(driver: Driver, path: Path, monkeypatch) -> None:
    claim, done = await claimed(driver), []
    end, fsync = driver.engine._end, os.fsync

    def noted(descriptor: int) -> None:
        done.append(os.readlink(f"/proc/self/fd/{descriptor}"))
        fsync(descriptor)

    async def ending(*arguments):
        done.append("row")
        return await end(*arguments)

    monkeypatch.setattr(os, "fsync", noted)
    monkeypatch.setattr(driver.engine, "_end", ending)
    await driver.finish(claim, Succeeded(LARGE))
    [file] = files(path)
    assert done == [str(file.parent.parent), str(file), str(file.parent), "row"]


async def test_only_files_that_a_crash_has_left_are_swept(driver: Driver, path: Path) -> None:
    claim = await claimed(driver)
    await driver.finish(claim, Succeeded(LARGE))
    [kept] = files(path)
    left = [kept.with_name(f"{claim.task_id}.{'0' * 12}"), kept.with_name(f"{'1' * 8}{kept.name[8:]}")]
    yours = kept.with_name("notes.txt")
    for file in (*left, yours):
        file.write_bytes(LARGE)
    assert await driver.engine.sweep(limit=10) == 0, "what came while it ran is its own"
    await driver.engine.close()
    async with opened(path, ManualClock()) as again:
        assert sum([await again.engine.sweep(limit=2) for _ in range(3)]) == 2
        assert set(files(path)) == {kept, yours}
        assert bytes((await again.get(claim.task_id)).result or b"") == LARGE


async def test_a_lost_file_is_reported(driver: Driver, path: Path) -> None:
    claim = await claimed(driver)
    await driver.finish(claim, Succeeded(LARGE))
    [file] = files(path)
    file.unlink()
    with pytest.raises(Unavailable, match=f"results/{file.name}"):
        await driver.engine.find(claim.task_id)
    with pytest.raises(Unavailable):
        [line async for line in archive.write(driver.engine.archive)]
    [task] = (await driver.engine.find_many(TaskFilter(), limit=5)).items
    assert task.result is None, "one loss does not keep the rest of the list away"
    await driver.engine.delete(claim.task_id)


def _cut(file: Path) -> None:
    file.write_bytes(LARGE[:-5])


def _swapped(file: Path) -> None:
    file.write_bytes(b'{"paid":true}')


def _link(file: Path) -> None:
    file.rename(file.with_name("moved"))
    file.symlink_to(file.with_name("moved"))


def _pipe(file: Path) -> None:
    file.unlink()
    os.mkfifo(file)


def _folder(file: Path) -> None:
    file.unlink()
    file.mkdir()


@pytest.mark.parametrize("spoil", [_cut, _swapped, _link, _pipe, _folder])
async def test_a_changed_file_is_never_returned(driver: Driver, path: Path, spoil) -> None:
    claim = await claimed(driver)
    await driver.finish(claim, Succeeded(LARGE))
    [file] = files(path)
    spoil(file)
    with pytest.raises(Unavailable, match=f"missing or damaged .results/{file.name}"):
        await driver.engine.find(claim.task_id)
    [task] = (await driver.engine.find_many(TaskFilter(), limit=5)).items
    assert task.result is None
    with pytest.raises(Unavailable):
        [line async for line in archive.write(driver.engine.archive)]


@pytest.mark.parametrize("name", ["../../etc/hostname", "../secret", "/etc/hostname", "", "x" * 300, "\udcff", "."])
async def test_a_reference_can_only_name_result_files(driver: Driver, path: Path, name: str) -> None:
    """Even one that was written into the database by hand, and even when it is erased."""
    secret = path.with_name("secret")
    secret.write_bytes(b'"read"')
    claim = await claimed(driver)
    await driver.finish(claim, Succeeded(LARGE))
    reference = b"\0" + name.encode("utf-8", "surrogateescape")
    await driver.engine._commits.run(lambda tx: tx.execute("UPDATE task SET result = ?", (reference,)))
    with pytest.raises(Unavailable, match="no name of a result's file"):
        await driver.engine.find(claim.task_id)
    assert (await driver.engine.find_many(TaskFilter(), limit=5)).items[0].result is None
    await driver.engine.delete(claim.task_id)
    assert secret.exists()


@pytest.mark.parametrize(("text", "is_told"), [(LARGE, True), (LARGE[:-5], False), (b"", False), (b"[" * 9999, False)])
async def test_a_file_of_an_earlier_version_is_checked_to_be_json(
    driver: Driver, path: Path, text: bytes, is_told: bool
) -> None:
    claim = await claimed(driver)
    await driver.finish(claim, Succeeded(LARGE))
    [file] = files(path)
    old = file.with_name(file.name.rpartition(".")[0])
    file.rename(old)
    old.write_bytes(text)
    reference = b"\0" + old.name.encode()
    await driver.engine._commits.run(lambda tx: tx.execute("UPDATE task SET result = ?", (reference,)))
    if is_told:
        assert bytes((await driver.get(claim.task_id)).result or b"") == text
        await driver.engine.delete(claim.task_id)
        assert files(path) == []
    else:
        with pytest.raises(Unavailable):
            await driver.engine.find(claim.task_id)


async def test_a_read_during_erasure_finds_the_whole_result_or_no_task(driver: Driver) -> None:
    for _ in range(20):
        claim = await claimed(driver)
        await driver.finish(claim, Succeeded(LARGE))
        found, page, _ = await asyncio.gather(
            driver.engine.find(claim.task_id),
            driver.engine.find_many(TaskFilter(), limit=5),
            driver.engine.delete(claim.task_id),
        )
        assert found is None or bytes(found.result or b"") == LARGE
        assert {task.result_preview for task in page.items} <= {LARGE[:PREVIEW_BYTES].decode()}


@pytest.mark.parametrize("is_cancelled", [False, True], ids=["", "of a caller that has gone"])
async def test_a_file_stays_while_a_query_may_still_see_its_row(
    driver: Driver, monkeypatch: pytest.MonkeyPatch, is_cancelled: bool
) -> None:
    engine = driver.engine
    assert isinstance(engine, SqliteEngine)
    claim = await claimed(driver)
    await driver.finish(claim, Succeeded(LARGE))
    begun, go_on, done, remove = threading.Event(), threading.Event(), [], engine._results.remove

    def look(_: apsw.Connection) -> None:
        begun.set()
        go_on.wait(20)
        done.append("looked")

    async def noted(references: Iterable[bytes]) -> None:
        done.append("removed")
        await remove(references)

    monkeypatch.setattr(engine._results, "remove", noted)
    looking = engine._read.scan(look)
    assert await asyncio.to_thread(begun.wait, 20)
    if is_cancelled:
        looking.cancel()
    commits = engine.commits
    deleting = asyncio.create_task(engine.delete(claim.task_id))
    while engine.commits == commits:
        await asyncio.sleep(0)
    for _ in range(20):  # it would be removed by now
        await asyncio.sleep(0)
    go_on.set()
    await deleting
    assert done == ["looked", "removed"]


async def test_archives_contain_large_results(driver: Driver, tmp_path: Path) -> None:
    claim = await claimed(driver)
    await driver.finish(claim, Succeeded(LARGE))
    lines = [line async for line in archive.write(driver.engine.archive)]
    async with opened(tmp_path / "other" / "tasker.db", driver.clock) as other:  # type: ignore[arg-type]
        for stored in (1, 0):
            assert (await archive.read(other.engine.archive, lines, clock=driver.clock)).stored == stored
            assert len(files(tmp_path / "other" / "tasker.db")) == 1
        assert await other.get(claim.task_id) == await driver.get(claim.task_id)


async def test_files_are_not_read_on_the_event_loop(driver: Driver, monkeypatch) -> None:
    claim = await claimed(driver)
    await driver.finish(claim, Succeeded(LARGE))
    opening, threads = os.open, []

    def noted(path, *arguments, **more):
        if "results" in str(path):
            threads.append(threading.current_thread() is threading.main_thread())
        return opening(path, *arguments, **more)

    monkeypatch.setattr(os, "open", noted)
    await driver.get(claim.task_id)
    await driver.engine.find_many(TaskFilter(), limit=5)
    assert threads == [False, False]
