"""export and import on SQLite: which files are read, written and left alone; messages and exit codes."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
from datetime import timedelta
from pathlib import Path

import pytest
from msgspec import structs

from tasker.archive import files as archive
from tasker.clock import SystemClock
from tasker.model.archive import StoredTask
from tasker.testing import make_draft
from tests.cli.command import Done, on_terminal, tasker
from tests.stores import open_store

NOWHERE = {"TASKER_DATABASE_URL": "postgresql://nobody@127.0.0.1:1/nothing", "TASKER_LOG_LEVEL": "error"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder whose `data` holds three tasks."""
    asyncio.run(_fill(tmp_path / "data" / "tasker.db"))
    return tmp_path


async def _fill(path: Path) -> None:
    clock = SystemClock()
    async with open_store(path, clock) as engine:
        await engine.submit([make_draft(clock.now(), delay=timedelta(hours=1)) for _ in range(3)])


def run(folder: Path, *args: str, data: str = "data", input: str = "") -> Done:
    """Run it in `folder`, whose `.env` names a database that does not exist: --data-dir wins."""
    return tasker(*args, "--data-dir", data, env=NOWHERE, folder=folder, input=input)


def test_a_file_is_written_completely_and_only_for_its_owner(folder: Path) -> None:
    done = run(folder, "export", "all.jsonl")
    assert done == Done(0, "", f"exported 3 tasks of {folder}/data/tasker.db\n")
    assert (folder / "all.jsonl").stat().st_mode & 0o777 == 0o600
    assert sorted(path.name for path in folder.iterdir()) == ["all.jsonl", "data"]
    assert run(folder, "export").out == (folder / "all.jsonl").read_text()
    (folder / "device").symlink_to("/dev/stdout")  # by a link: a fault would cost the link, not the device
    assert run(folder, "export", "device").out == (folder / "all.jsonl").read_text()
    imported = run(folder, "import", "all.jsonl", data="other")
    assert imported == Done(0, "", f"imported 3 tasks into {folder}/other/tasker.db; counts and digest agree\n")


def test_a_file_is_only_for_its_owner_whatever_was_there_before(folder: Path) -> None:
    """Also if an export that was cut off left a file there, or another user a link."""
    secret = folder / "secret"
    secret.write_text("not to be written to")
    for before in ("all.jsonl", "all.jsonl.part"):
        (folder / before).write_text("")
        (folder / before).chmod(0o666)
        assert run(folder, "export", "all.jsonl").code == 0
        assert (folder / "all.jsonl").stat().st_mode & 0o777 == 0o600, before
    (folder / "all.jsonl.part").symlink_to(secret)
    assert run(folder, "export", "all.jsonl").code == 0
    assert secret.read_text() == "not to be written to"
    assert sorted(path.name for path in folder.iterdir()) == ["all.jsonl", "data", "secret"]


def test_a_failed_write_is_reported_and_leaves_nothing(folder: Path) -> None:
    (folder / "full").symlink_to("/dev/full")
    full = run(folder, "export", "full")
    assert (full.code, "full could not be written: " in full.err) == (7, True)
    assert (folder / "full").is_char_device()
    (folder / "full").unlink()
    (folder / "taken").mkdir()
    for file in ("taken", "missing/all.jsonl"):
        done = run(folder, "export", file)
        assert (done.code, "expected a file that can be used" in done.err) == (2, True)
    (folder / "data" / "tasker.db").write_bytes(b"no database at all")
    assert run(folder, "export", "all.jsonl").code == 2
    assert sorted(path.name for path in folder.iterdir()) == ["data", "taken"]


@pytest.mark.parametrize("command", ["export", "import"])
@pytest.mark.parametrize("name", ["tasker.db", "tasker.db-wal", "tasker.lock"])
def test_the_database_is_not_an_archive(folder: Path, command: str, name: str) -> None:
    before = (folder / "data" / "tasker.db").read_bytes()
    done = run(folder, command, f"data/{name}")
    assert (done.code, "the database itself: name its folder by --data-dir" in done.err) == (2, True)
    assert (folder / "data" / "tasker.db").read_bytes() == before


def test_a_folder_without_tasks_is_not_exported(folder: Path) -> None:
    done = run(folder, "export", "all.jsonl", data="elsewhere")
    assert (done.code, f"{folder}/elsewhere/tasker.db: expected the tasks of a service" in done.err) == (2, True)
    assert sorted(path.name for path in folder.iterdir()) == ["data"]


@pytest.mark.parametrize("name", ["cut.jsonl", "-"])
def test_a_damaged_file_changes_nothing(folder: Path, name: str) -> None:
    cut = folder / "cut.jsonl"
    cut.write_text("".join(run(folder, "export").out.splitlines(keepends=True)[:-1]))
    command = [sys.executable, "-m", "tasker", "import", name, "--data-dir", "other"]
    with cut.open() as file:
        done = subprocess.run(command, stdin=file, cwd=folder, capture_output=True, text=True, check=False)
    assert (done.returncode, "it was cut off; copy it again, or export again" in done.stderr) == (2, True)
    assert not (folder / "other").exists()
    assert "No such file" in run(folder, "import", "missing").err


def test_a_damaged_pipe_is_reported_at_its_end(folder: Path) -> None:
    """Also if a path leads to it: `tasker import <(zcat all.jsonl.gz)`."""
    text = run(folder, "export").out
    cut = text[: text.rindex('{"kind"')]
    done = run(folder, "import", data="other", input=cut)
    assert (done.code, "it was cut off" in done.err) == (2, True)
    assert not (folder / "other").exists(), "a pipe too is read to its end before anything is stored"
    os.mkfifo(folder / "pipe")
    threading.Thread(target=(folder / "pipe").write_text, args=(text,), daemon=True).start()
    again = run(folder, "import", "pipe", data="other")
    assert (again.code, "imported 3 tasks" in again.err, "; counts and digest agree" in again.err) == (0, True, True)


def test_a_stored_task_with_other_content_is_exit_code_6(folder: Path) -> None:
    _, *lines, _ = run(folder, "export").out.encode().splitlines(keepends=True)
    tasks = [archive._decode_task(line) for line in lines]
    other = asyncio.run(_archive_of([*tasks[:2], structs.replace(tasks[2], params="[7]")]))
    done = run(folder, "import", input=other)
    assert (done.code, f"task {tasks[2].task_id} is stored with other content" in done.err) == (6, True)
    assert "delete the one that you do not want, or import into another database" in done.err


async def _archive_of(tasks: list[StoredTask]) -> str:
    from tests.unit.test_archive import Shelf

    shelf = Shelf()
    await shelf.put(tasks)
    return b"".join([line async for line in archive.write(shelf)]).decode()


def test_a_terminal_shows_the_progress(folder: Path) -> None:
    with on_terminal("export", "all.jsonl", "--data-dir", "data", folder=folder) as terminal:
        terminal.wait_for("\r\x1b[Kexported 3 tasks\r\x1b[Kexported 3 tasks of ")
        assert terminal.end() == 0


def test_a_database_that_does_not_answer_is_reported(folder: Path) -> None:
    done = tasker("export", env=NOWHERE)
    assert (done.code, done.out) == (2, "")
    assert "TASKER_DATABASE_URL: expected a PostgreSQL database that answers" in done.err
