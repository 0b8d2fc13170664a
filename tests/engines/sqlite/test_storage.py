"""The database file: its permissions, its lock, how it is opened and migrated."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path
from uuid import UUID

import apsw
import msgspec
import pytest
from structlog.testing import capture_logs

from tasker.clock import SystemClock
from tasker.engines.sqlite import open_sqlite, storage
from tasker.engines.sqlite.sql import migrations
from tasker.engines.sqlite.storage import connect, open_writer
from tasker.errors import ConfigError
from tasker.model.keys import ANYBODY
from tasker.testing import Driver, ManualClock

LATEST = migrations()[-1][0]
MAKERS: list[tuple[str, list[list[str]], tuple[str, ...]]] = [
    ("", [], ("submit",)),
    ("no keys", [], ("submit",)),
    ("weak", [["submit"], ["admin"]], ("submit",)),
    ("reads", [["submit", "read"], ["admin"], ["control"]], ("submit", "read")),
    ("strong", [["submit", "control"], ["admin"], ["read"]], ("submit", "control")),
    ("all", [["admin"]], ("submit", "read", "control")),
]
"""Owners of schedules, the scopes of their keys, and what their schedules may do."""
APPLICATION_ID = 0x7A5C3E12


def mode(path: Path) -> str:
    return oct(stat.S_IMODE(path.stat().st_mode))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data" / "tasker.db"


async def open_and_close(path: Path) -> None:
    async with open_sqlite(path, ManualClock()):
        pass


def write_database(path: Path, *scripts: str) -> None:
    path.parent.mkdir(exist_ok=True)
    connection = apsw.Connection(str(path))
    for script in scripts:
        connection.execute(script).fetchall()
    connection.close()


# safe for its owner alone


async def test_folder_and_files_are_for_their_owner_alone(path: Path) -> None:
    old = os.umask(0)
    try:
        async with open_sqlite(path, ManualClock()) as engine:
            await Driver(engine, ManualClock()).submit()
            files = {file.name: mode(file) for file in path.parent.iterdir()}
    finally:
        os.umask(old)
    assert mode(path.parent) == "0o700"
    assert {"tasker.db", "tasker.db-wal", "tasker.db-shm"} <= set(files)
    assert set(files.values()) == {"0o600"}, files


async def test_the_process_keeps_its_umask(path: Path) -> None:
    old = os.umask(0o027)
    try:
        await open_and_close(path)
        assert os.umask(0o027) == 0o027
    finally:
        os.umask(old)


async def test_a_closed_store_is_one_file_and_its_lock(path: Path) -> None:
    await open_and_close(path)
    assert {file.name for file in path.parent.iterdir()} == {"tasker.db", "tasker.lock"}, "the WAL was not folded in"


# safe against loss


def test_the_writer_is_durable_at_every_commit(path: Path) -> None:
    path.parent.mkdir()
    connection, _ = open_writer(path)
    settings = {
        name: connection.pragma(name)
        for name in ("journal_mode", "synchronous", "mmap_size", "trusted_schema", "auto_vacuum", "secure_delete")
    }
    connection.close()
    assert settings == {
        "journal_mode": "wal",
        "synchronous": 2,  # FULL
        "mmap_size": 0,
        "trusted_schema": 0,
        "auto_vacuum": 2,  # incremental
        "secure_delete": 1,
    }


def test_a_log_that_a_reader_made_grow_is_cut_again(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage, "LOG_SIZE", 100_000)
    path.parent.mkdir()
    writer, _ = open_writer(path)
    writer.pragma("wal_autocheckpoint", 10)
    reader = connect(path, read_only=True)
    log = path.with_name(f"{path.name}-wal")

    def write(times: int) -> int:
        for number in range(times):
            writer.execute("REPLACE INTO queue (seq, name) VALUES (1, ?)", (f"{number}" + "x" * 20_000,))
        return log.stat().st_size

    with reader:
        assert reader.execute("SELECT count(*) FROM queue").get == 0
        assert write(50) > 1_000_000
    assert write(3) <= 100_000
    reader.close()
    writer.close()


def test_a_reader_cannot_write(path: Path) -> None:
    path.parent.mkdir()
    open_writer(path)[0].close()
    reader = connect(path, read_only=True)
    with pytest.raises(apsw.ReadOnlyError):
        reader.execute("DELETE FROM task")
    assert (reader.pragma("mmap_size"), reader.pragma("trusted_schema")) == (0, 0)
    reader.close()


def test_this_version_of_sqlite_cannot_corrupt_a_wal() -> None:
    version = tuple(int(part) for part in apsw.sqlite_lib_version().split("."))
    assert version >= (3, 51, 3), "earlier ones have the WAL-reset bug (sqlite.org/wal.html#walresetbug)"


_LIVE = """
import asyncio, os, sys
from datetime import timedelta
from pathlib import Path

path = Path(sys.argv[1])
touched = []
started = False

def hook(event, args):
    if started and event.split(".")[0] in ("open", "os", "shutil", "mmap") and args:
        touched.extend(str(a) for a in args if isinstance(a, (str, bytes, os.PathLike)) and ".db" in os.fsdecode(a))

from tasker.engines.sqlite import open_sqlite
from tasker.rules.lifecycle import Succeeded
from tasker.model import Report, TaskFilter
from tasker.testing import Driver, ManualClock

async def live():
    clock = ManualClock()
    async with open_sqlite(path, clock) as engine:
        driver = Driver(engine, clock)
        task_id = await driver.submit()
        claim = await driver.claim_one()
        await engine.heartbeat([claim.lease], timedelta(seconds=30))
        await engine.record(claim.lease, Report())
        await driver.finish(claim, Succeeded(b"6"))
        await engine.find_many(TaskFilter(), limit=10)
        await engine.find_attempts(task_id)
        await engine.find_events(task_id)
        await engine.find_expired(limit=10)
        await engine.stats.open_counts()
        await engine.check()
        await engine.prune(limit=10)
        await engine.delete(task_id)

sys.addaudithook(hook)
started = True
if len(sys.argv) > 2:
    open(path, "a").close()  # control: the hook sees this
asyncio.run(live())
print("touched", sorted(set(touched)))
"""


@pytest.mark.parametrize("control", [False, True], ids=["engine", "control"])
def test_python_never_opens_the_database_file(path: Path, control: bool) -> None:
    """POSIX drops the process's locks on a file when any descriptor of it is closed: later commits can be lost."""
    path.parent.mkdir()
    arguments = [sys.executable, "-c", _LIVE, str(path), *(["control"] if control else [])]
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == f"touched {[str(path)] if control else []}"


# one holder


async def test_a_second_engine_is_refused_with_the_name_of_the_holder(path: Path) -> None:
    async with open_sqlite(path, ManualClock()) as first:
        with pytest.raises(ConfigError, match=rf"\b{os.getpid()}\b.*TASKER_DATA_DIR") as refusal:
            await open_and_close(path)
        assert str(path.parent) in str(refusal.value)
        await Driver(first, ManualClock()).submit()
        with pytest.raises(ConfigError, match=rf"\b{os.getpid()}\b"):
            await open_and_close(path)
    await open_and_close(path)


async def test_another_process_is_refused_with_the_name_of_the_holder(path: Path) -> None:
    async with open_sqlite(path, ManualClock()):
        script = (
            "import asyncio, sys; from pathlib import Path; from tasker.clock import SystemClock;"
            "from tasker.engines.sqlite import open_sqlite;"
            "asyncio.run(open_sqlite(Path(sys.argv[1]), SystemClock()).__aenter__())"
        )
        command = [sys.executable, "-c", script, path]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode != 0
    assert "StoreInUse" in done.stderr
    assert f"process {os.getpid()}" in done.stderr


@pytest.mark.parametrize("kind", ["link", "pipe", "folder"])
async def test_a_lock_that_is_no_plain_file_is_left_alone(path: Path, tmp_path: Path, kind: str) -> None:
    """The target of a link would be overwritten; opening a pipe may wait for ever."""
    path.parent.mkdir()
    lock, victim = path.with_name("tasker.lock"), tmp_path / "victim"
    victim.write_text("not to be written to")
    {"link": lambda: lock.symlink_to(victim), "pipe": lambda: os.mkfifo(lock), "folder": lock.mkdir}[kind]()
    with pytest.raises(ConfigError, match=r"tasker\.lock: expected a plain file"):
        await open_and_close(path)
    assert victim.read_text() == "not to be written to"


async def test_a_failed_start_releases_the_lock(path: Path) -> None:
    write_database(path, f"PRAGMA user_version = {LATEST + 1}")
    with pytest.raises(ConfigError):
        await open_and_close(path)
    path.unlink()
    await open_and_close(path)


# migrations


def schema(path: Path) -> set[tuple[str, str, str]]:
    connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
    rows = connection.execute("SELECT type, name, sql FROM sqlite_schema WHERE name NOT LIKE 'sqlite_%'").fetchall()
    found = {(*row, f"version {connection.pragma('user_version')}") for row in rows}
    connection.close()
    return found


@pytest.mark.parametrize("version", range(LATEST))
async def test_every_older_version_becomes_the_newest(tmp_path: Path, version: int) -> None:
    """Version 0 is an empty file."""
    new, old = tmp_path / "new" / "tasker.db", tmp_path / "old" / "tasker.db"
    await open_and_close(new)
    scripts = [script for number, script in migrations() if number <= version]
    application_id = apsw.Connection(str(new)).pragma("application_id")
    write_database(old, *scripts, f"PRAGMA user_version = {version}", f"PRAGMA application_id = {application_id}")
    await open_and_close(old)
    assert schema(old) == schema(new)


async def test_a_webhook_of_an_older_version_has_the_standard_format(path: Path) -> None:
    scripts = [script for number, script in migrations() if number < 14]
    webhook_id = UUID(int=7)
    write_database(path, *scripts, "PRAGMA user_version = 13", f"PRAGMA application_id = {APPLICATION_ID}")
    connection = apsw.Connection(str(path))
    connection.execute(
        "INSERT INTO webhook (webhook_id, url, events, created_at, owner, status, secrets)"
        " VALUES (?, 'https://example.com/', ?, 0, '', 'active', ?)", (webhook_id.bytes, b'["failed"]', b"[]"),
    )  # fmt: skip
    connection.close()
    async with open_sqlite(path, ManualClock()) as engine:
        found = await engine.webhooks.find(webhook_id)
    assert found is not None
    assert (found.format, found.events) == ("standard", ("failed",))


async def test_a_schedule_of_an_older_version_gets_the_scopes_that_all_keys_of_its_owner_share(path: Path) -> None:
    scripts = [script for number, script in migrations() if number < 17]
    write_database(path, *scripts, "PRAGMA user_version = 16", f"PRAGMA application_id = {APPLICATION_ID}")
    connection = apsw.Connection(str(path))
    for number, (owner, scopes, _) in enumerate(MAKERS):
        connection.execute(
            "INSERT INTO schedule (schedule_id, owner, name, type, time_zone, missed, overlap, paused, anchor,"
            " created_at, updated_at, version, recent, task)"
            " VALUES (?, ?, 's', 'sum', 'UTC', 'once', 'allow', 0, 0, 0, 0, 1, ?, ?)",
            (UUID(int=number).bytes, owner, b"[]", b"{}"),
        )  # fmt: skip
        for place, one in enumerate(scopes):
            connection.execute(
                "INSERT INTO api_key (key_id, name, owner, scopes, digest, created_at) VALUES (?, '', ?, ?, ?, 0)",
                (f"{number} {place}", owner, msgspec.json.encode(one), b""),
            )
    connection.close()
    async with open_sqlite(path, ManualClock()) as engine:
        found = [await engine.schedules.find(UUID(int=number)) for number in range(len(MAKERS))]
    assert [None if one is None else one.scopes for one in found] == [expected for *_, expected in MAKERS]
    assert found[0] is not None
    assert found[0].caller == ANYBODY


async def test_opening_again_migrates_nothing_and_loses_nothing(path: Path) -> None:
    clock = ManualClock()
    async with open_sqlite(path, clock) as engine:
        task_id = await Driver(engine, clock).submit()
    before = schema(path)
    await open_and_close(path)
    assert schema(path) == before
    async with open_sqlite(path, SystemClock()) as again:
        assert await again.find(task_id) is not None


async def test_a_file_of_a_newer_version_is_refused_and_left_alone(path: Path) -> None:
    write_database(path, "CREATE TABLE future (x)", f"PRAGMA user_version = {LATEST + 1}")
    before = schema(path)
    with pytest.raises(ConfigError, match=f"newer.*{LATEST + 1}.*upgrade"):
        await open_and_close(path)
    assert schema(path) == before


async def test_the_database_of_another_program_is_refused_and_left_alone(path: Path) -> None:
    write_database(path, "CREATE TABLE theirs (x)", "PRAGMA user_version = 1", "PRAGMA application_id = 42")
    before = schema(path)
    with pytest.raises(ConfigError, match="not a Tasker database"):
        await open_and_close(path)
    assert schema(path) == before


async def test_a_database_without_an_application_id_is_refused_too(path: Path) -> None:
    write_database(path, "CREATE TABLE task (theirs)")
    before = schema(path)
    with pytest.raises(ConfigError, match="not a Tasker database"):
        await open_and_close(path)
    assert schema(path) == before


async def test_a_file_that_is_no_database_is_refused_and_left_alone(path: Path) -> None:
    path.parent.mkdir()
    path.write_bytes(b"These are my notes. " * 100)
    with pytest.raises(ConfigError, match=r"tasker\.db"):
        await open_and_close(path)
    assert path.read_bytes() == b"These are my notes. " * 100


async def test_a_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("a file where the folder should be")
    with pytest.raises(ConfigError, match="TASKER_DATA_DIR"):
        await open_and_close(tmp_path / "data" / "tasker.db")


@pytest.mark.parametrize(
    ("place", "mode", "fix"),
    [
        (".", 0o755, None), (".", 0o700, None), (".", 0o775, "chmod go-w"), (".", 0o757, "chmod go-w"),
        (".", 0o1777, "a folder of its own"), ("tasker.db", 0o644, None), ("tasker.db", 0o666, "chmod go-w"),
        ("results", 0o770, "chmod go-w"), ("..", 0o777, "chmod go-w"), ("..", 0o1777, None),
    ],
)  # fmt: skip
async def test_a_place_that_others_may_write_to_is_logged(
    tmp_path: Path, place: str, mode: int, fix: str | None
) -> None:
    path = tmp_path / "above" / "data" / "tasker.db"
    await open_and_close(path)
    (path.parent / "results").mkdir(mode=0o700, exist_ok=True)
    changed = (path.parent / place).resolve()
    changed.chmod(mode)
    with capture_logs() as logs:
        await open_and_close(path)
    told = [line for line in logs if line["event"] == "store.writable_by_others"]
    assert (str(changed) in {line["path"] for line in told}) is (fix is not None)
    assert all(fix is not None and fix in line["fix"] for line in told), "nothing else is"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives a folder to another user")
async def test_a_folder_of_another_user_is_logged(tmp_path: Path) -> None:
    path = tmp_path / "data" / "tasker.db"
    await open_and_close(path)
    os.chown(path.parent, 12345, -1)
    with capture_logs() as logs:
        await open_and_close(path)
    [told] = [line for line in logs if line["event"] == "store.owned_by_another_user"]
    assert (told["path"], told["owner"]) == (str(path.parent), 12345)


async def test_an_existing_folder_keeps_its_mode(tmp_path: Path) -> None:
    """It may have other uses: TASKER_DATA_DIR=/tmp must not lock everyone out of /tmp."""
    folder = tmp_path / "shared"
    folder.mkdir()
    folder.chmod(0o755)
    await open_and_close(folder / "tasker.db")
    assert folder.stat().st_mode & 0o777 == 0o755
    assert (folder / "tasker.db").stat().st_mode & 0o777 == 0o600
