"""`tasker backup` beside a running service under load, and `tasker restore` of what it wrote."""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import subprocess
import sys
import tarfile
import threading
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID, uuid4

import apsw
import httpx2
import pytest

from tasker.cli import main
from tasker.client import Tasker
from tasker.engines.sqlite import backups
from tests.cli.command import tasker
from tests.server import clean_environment, run_server

LARGE = 400_000
"""Characters of a result that gets a file of its own."""


class Load:
    """Submits tasks, and deletes some with large results, all the time; `accepted` are those that nobody deletes."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._over = threading.Event()
        self.accepted: list[str] = []
        self.failures: list[str] = []
        self._threads = [threading.Thread(target=self._guarded, args=(work,)) for work in (self._submit, self._churn)]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    def _guarded(self, work: object) -> None:
        with Tasker(self._url) as client:
            try:
                while not self._over.is_set():
                    work(client)  # type: ignore[operator]
            except Exception as error:
                self.failures.append(repr(error))

    def _submit(self, client: Tasker) -> None:
        self.accepted.append(str(client.submit("sum", 1, 2).task_id))

    def _churn(self, client: Tasker) -> None:
        """Make a large result and erase it: its file comes and goes while the backup is made."""
        task_id = client.submit("reverse", "x" * LARGE).task_id
        client.wait(task_id)
        httpx2.delete(f"{self._url}/task/{task_id}").raise_for_status()


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str], str]:
    """A backup that was made under load, the tasks that had been accepted before, and one with a large result."""
    folder = tmp_path_factory.mktemp("backup")
    with run_server(folder) as server:
        with Tasker(server.url) as client, Load(server.url) as load:
            large = client.submit("reverse", "ab" * LARGE).task_id
            client.wait(large)
            before = list(load.accepted)
            done = tasker("backup", "made.tar", "--data-dir", "data", folder=folder)
            after = len(load.accepted)
        assert (done.code, done.out) == (0, "")
        assert "verified" in done.err
        assert load.failures == []
        assert after > len(before) > 0, "nothing was submitted meanwhile: this run proves nothing"
    return folder / "made.tar", before, str(large)


def test_a_restored_backup_has_every_task_that_was_accepted_before(
    made: tuple[Path, list[str], str], tmp_path: Path
) -> None:
    file, accepted, large = made
    assert oct(file.stat().st_mode & 0o777) == "0o600"
    assert main(["restore", str(file), "--data-dir", str(tmp_path / "data")]) == 0
    assert {path.name for path in (tmp_path / "data").iterdir()} == {"tasker.db", "results", "tasker.lock"}
    with run_server(tmp_path) as server, Tasker(server.url) as client:
        assert client.wait(large).result == "ba" * LARGE
        assert {client.wait(task_id).result for task_id in accepted} == {3}
        assert "ERROR" not in server.text()
        done = tasker("restore", str(file), "--data-dir", "data", folder=tmp_path)
        assert (done.code, "in use by process" in done.err) == (2, True)


def test_a_restore_overwrites_nothing(
    made: tuple[Path, list[str], str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "tasker.db").write_text("precious")
    assert main(["restore", str(made[0]), "--data-dir", str(tmp_path)]) == 2
    assert "nothing is overwritten" in capsys.readouterr().err
    assert (tmp_path / "tasker.db").read_text() == "precious"


def test_a_restore_that_was_cut_off_can_be_repeated(made: tuple[Path, list[str], str], tmp_path: Path) -> None:
    (tmp_path / ".restoring").mkdir()
    (tmp_path / ".restoring" / "tasker.db").write_text("half of it")
    (tmp_path / "results").mkdir()
    assert main(["restore", str(made[0]), "--data-dir", str(tmp_path)]) == 0
    assert not (tmp_path / ".restoring").exists()
    assert len(list((tmp_path / "results").iterdir())) >= 1


def _flipped(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


def _with_member(content: bytes, name: str) -> bytes:
    file = io.BytesIO(content)
    with tarfile.open(fileobj=file, mode="a") as archive:
        archive.addfile(tarfile.TarInfo(name), io.BytesIO())
    return file.getvalue()


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (_flipped, "is not as it was written"),
        (lambda content: content[: len(content) * 9 // 10], "cannot be read as a backup"),
        (lambda content: b"my notes", "cannot be read as a backup"),
        (lambda content: _with_member(content, "../evil"), "expected the files of a backup, got '../evil'"),
        (lambda content: _with_member(content, f"results/{uuid4()}.0123456789ab"), "is not as it was written"),
    ],
)
def test_a_damaged_backup_is_refused_and_changes_nothing(
    damage: object,
    said: str,
    made: tuple[Path, list[str], str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    bad = tmp_path / "bad.tar"
    bad.write_bytes(damage(made[0].read_bytes()))  # type: ignore[operator]
    assert main(["restore", str(bad), "--data-dir", str(tmp_path / "data")]) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "data").exists()


def test_a_backup_that_is_killed_leaves_no_file_of_that_name(
    made: tuple[Path, list[str], str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path / "data"
    assert main(["restore", str(made[0]), "--data-dir", str(data)]) == 0
    target = tmp_path / "made.tar"
    process = subprocess.Popen(
        [sys.executable, "-m", "tasker", "backup", str(target), "--data-dir", str(data)], env=clean_environment()
    )
    while not list(data.glob(".backup-*")) and process.poll() is None:
        pass
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, "it had ended: this run proves nothing"
    assert not target.exists()
    capsys.readouterr()
    assert main(["backup", str(target), "--data-dir", str(data), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["format"] == 1
    assert not [*data.glob(".backup-*"), *tmp_path.glob(".backup-*"), *tmp_path.glob("*.part")]
    assert main(["backup", str(target), "--data-dir", str(data)]) == 2, "an existing file is not replaced"
    assert main(["backup", str(target), "--data-dir", str(data), "--force"]) == 0


def test_a_result_that_is_damaged_is_named(
    made: tuple[Path, list[str], str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["restore", str(made[0]), "--data-dir", str(tmp_path / "data")]) == 0
    result = next((tmp_path / "data" / "results").glob(f"{made[2]}*"))
    result.write_bytes(b'"other"')
    assert main(["backup", str(tmp_path / "made.tar"), "--data-dir", str(tmp_path / "data")]) == 2
    assert f"results/{result.name} is damaged" in capsys.readouterr().err
    assert not list(tmp_path.glob("made.tar*"))


def _damage_an_index(database: Path) -> None:
    with contextlib.closing(apsw.Connection(str(database))) as connection:
        find = "SELECT rootpage FROM sqlite_schema WHERE name = 'webhook_delivery_due'"
        page, size = connection.execute(find).get, connection.pragma("page_size")
    with database.open("r+b") as file:
        file.seek((page - 1) * size)
        file.write(bytes(size))


def test_a_database_that_is_damaged_is_neither_kept_nor_put_back(
    made: tuple[Path, list[str], str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, data = tmp_path / "made.tar", tmp_path / "data"
    assert main(["restore", str(made[0]), "--data-dir", str(data)]) == 0
    _damage_an_index(data / "tasker.db")
    assert main(["backup", str(file), "--data-dir", str(data)]) == 2
    assert "the database is damaged" in capsys.readouterr().err
    assert not file.exists()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(backups, "_check_database", lambda *_: None)
        assert main(["backup", str(file), "--data-dir", str(data)]) == 0
    assert main(["restore", str(file), "--data-dir", str(tmp_path / "other")]) == 2
    assert "the database is damaged" in capsys.readouterr().err
    assert not (tmp_path / "other" / "tasker.db").exists()


@pytest.mark.parametrize(
    ("known", "said"),
    [
        ({"_FORMAT": 2}, "expected format 2, got 1: upgrade Tasker"),
        ({"migrations": lambda: [(1, "")]}, "it is of a newer Tasker"),
    ],
)
def test_a_backup_of_another_release_is_refused(
    known: dict[str, object],
    said: str,
    made: tuple[Path, list[str], str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in known.items():
        monkeypatch.setattr(backups, name, value)
    assert main(["restore", str(made[0]), "--data-dir", str(tmp_path / "data")]) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "data").exists()


def test_a_result_that_is_erased_just_now_is_in_no_backup(
    made: tuple[Path, list[str], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its row is in the first snapshot, and its file has gone before it was linked: another snapshot is taken."""
    data = tmp_path / "data"
    assert main(["restore", str(made[0]), "--data-dir", str(data)]) == 0
    link_all, calls = backups._link_all, []

    def erase_at_the_second(results: Path, links: Path) -> None:
        calls.append(results)
        if len(calls) == 2:
            with contextlib.closing(apsw.Connection(str(data / "tasker.db"))) as connection:
                connection.execute("DELETE FROM task WHERE task_id = ?", (UUID(made[2]).bytes,))
            for file in [*results.glob(f"{made[2]}*"), *links.glob(f"{made[2]}*")]:
                file.unlink()
        else:
            link_all(results, links)

    monkeypatch.setattr(backups, "_link_all", erase_at_the_second)
    assert main(["backup", str(tmp_path / "made.tar"), "--data-dir", str(data)]) == 0
    assert len(calls) == 4
    with tarfile.open(tmp_path / "made.tar") as archive:
        assert not [name for name in archive.getnames() if made[2] in name]


def test_a_result_that_is_erased_while_the_database_is_copied_is_in_the_backup(
    made: tuple[Path, list[str], str], tmp_path: Path
) -> None:
    data = tmp_path / "data"
    assert main(["restore", str(made[0]), "--data-dir", str(data)]) == 0

    def erase(what: str, _done: int, _total: int) -> None:
        if what == "copied":
            for file in (data / "results").glob(f"{made[2]}*"):
                file.unlink()

    backups.back_up(data / "tasker.db", tmp_path / "made.tar", now=datetime.now(UTC), progress=erase)
    with tarfile.open(tmp_path / "made.tar") as archive:
        assert [name for name in archive.getnames() if made[2] in name]


def test_what_cannot_be_backed_up_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["backup", str(tmp_path / "made.tar"), "--data-dir", str(tmp_path)]) == 2
    assert "expected the tasks of a service, got no such file" in capsys.readouterr().err
    assert main(["backup", str(tmp_path / "nowhere" / "made.tar"), "--data-dir", str(tmp_path)]) == 2
    assert "there is no folder" in capsys.readouterr().err
    monkeypatch.setenv("TASKER_DATABASE_URL", "postgresql://user:hidden@127.0.0.1/tasks")
    assert main(["backup", str(tmp_path / "made.tar")]) == 2
    shown = capsys.readouterr().err
    assert "pg_dump" in shown
    assert main(["restore", str(tmp_path / "made.tar")]) == 2
    assert "name it by --data-dir" in capsys.readouterr().err
    assert "hidden" not in shown


def test_two_backups_at_once_write_one_file_after_the_other(made: tuple[Path, list[str], str], tmp_path: Path) -> None:
    backups.restore(made[0], tmp_path / "data", lambda *_: None)
    database, target, at = tmp_path / "data" / "tasker.db", tmp_path / "made.tar", datetime.now(UTC)
    begun: list[str] = []

    def begin_another(what: str, *_: int) -> None:
        if what == "verified" and not begun:
            begun.append(what)
            backups.back_up(database, target, now=at, progress=lambda *_: None)

    manifest = backups.back_up(database, target, now=at, progress=begin_another)
    assert begun
    assert backups.verify(target, lambda *_: None) == manifest
    assert [file.name for file in tmp_path.iterdir() if file.name != "data"] == ["made.tar"]
