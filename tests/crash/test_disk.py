"""A disk that is full or broken for a while: the service says 503, loses nothing, and goes on by itself."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from time import monotonic, sleep

import httpx2
import pytest

from tests.cli.command import tasker
from tests.crash.fire import TASKS, Client
from tests.server import Server, run_server

pytestmark = [pytest.mark.crash, pytest.mark.root, pytest.mark.timeout(280)]

LIMIT = 60


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 24 MiB in memory."""
    folder = tmp_path / "data"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", folder], check=True)
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


def test_a_full_disk_refuses_new_tasks_and_loses_none(tmp_path: Path, small_disk: Path) -> None:
    with run_server(tmp_path, str(TASKS)) as server, Client(server) as client:
        held = client.submit("on_loop", [3000])  # runs while the disk fills: its end must not be lost
        client.until(held, lambda task: task["status"] == "running")
        accepted, refusal = _fill(server)
        assert accepted, "the disk was full before anything was accepted"
        assert refusal.json()["type"] == "/problems/unavailable"
        assert int(refusal.headers["Retry-After"]) > 0
        assert client.status("/readyz") == 503
        assert client.status("/livez") == 200
        assert client.get(accepted[0])["task_id"] == accepted[0], "what is there can be read"
        subprocess.run(["mount", "-o", "remount,size=64m", small_disk], check=True)
        _until_ready(client)
        assert client.end(held)["status"] == "completed"
        assert {client.end(task_id)["status"] for task_id in accepted} == {"completed"}
        assert client.all_ids() == {held, *accepted}, "a refused task was stored all the same"


def test_a_disk_that_fails_to_write_is_reported_and_survived(tmp_path: Path) -> None:
    """The kernel answers EIO to a run of fdatasync calls, as a failing disk would."""
    strace = shutil.which("strace")
    assert strace is not None, "this test needs strace (apt-get install strace)"
    inject = (strace, "-D", "-f", "-qq", "-o", str(tmp_path / "strace.log"), "-e", "trace=fdatasync",
              "-e", "inject=fdatasync:error=EIO:when=40..44")  # fmt: skip
    with run_server(tmp_path, str(TASKS), under=inject) as server, Client(server) as client:
        accepted, refusals = [], 0
        while len(accepted) < 60:
            reply = httpx2.post(f"{server.url}/task", json={"type": "on_loop", "params": [0]}, timeout=30)
            if reply.status_code == 202:
                accepted.append(str(reply.json()["task_id"]))
            else:
                assert reply.status_code == 503, reply.text
                refusals += 1
            assert refusals < 50, "it never recovered"
        assert "EIO" in (tmp_path / "strace.log").read_text(), "no fault was injected: this run proves nothing"
        assert {client.end(task_id)["status"] for task_id in accepted} == {"completed"}
        assert client.all_ids() == set(accepted)
        server.kill()
    with run_server(tmp_path, str(TASKS)) as server, Client(server) as client:
        assert client.all_ids() == set(accepted), "something acknowledged did not outlive the process"


@pytest.mark.parametrize("free", [0, 100], ids=["full", "nearly full"])
def test_a_start_on_a_full_disk_is_one_line(tmp_path: Path, small_disk: Path, free: int) -> None:
    with contextlib.suppress(OSError), (small_disk / "filler").open("wb", buffering=0) as filler:
        while filler.write(bytes(4096)):
            pass
    os.truncate(small_disk / "filler", (small_disk / "filler").stat().st_size - free * 1024)
    done = tasker("serve", "--port", "0", "--data-dir", str(small_disk), folder=tmp_path)
    assert (done.code, done.out) == (5, ""), done.err
    assert "TASKER_DATA_DIR: expected space on the disk, got a full one" in done.err
    assert done.err.count("\n") == 1, done.err
    subprocess.run(["mount", "-o", "remount,size=64m", small_disk], check=True)
    with run_server(tmp_path) as server, Client(server) as client:
        assert client.status("/readyz") == 200, "a start that failed must leave nothing in the way of the next"


def test_a_disk_that_cannot_be_written_to_is_one_line(tmp_path: Path, small_disk: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    for folder in (small_disk, small_disk / "sub"):
        done = tasker("serve", "--port", "0", "--data-dir", str(folder), folder=tmp_path)
        assert (done.code, done.out) == (2, ""), done.err
        assert "TASKER_DATA_DIR: expected a folder that" in done.err
        assert done.err.count("\n") == 1, done.err


def test_a_data_folder_that_is_deleted_is_noticed_without_being_asked(tmp_path: Path) -> None:
    """The log reports it at once. From then on writes get 503, reads go on, and the service can be stopped."""
    with run_server(tmp_path, str(TASKS)) as server, Client(server) as client:
        before = client.submit("on_loop", [0])
        assert client.end(before)["status"] == "completed"
        held = client.submit("on_loop", [2000])
        client.until(held, lambda task: task["status"] == "running")
        shutil.rmtree(server.data_dir)
        _until(lambda: "store.files_lost" in server.text(), "the log never told")
        for _ in range(2):
            refusal = httpx2.post(f"{server.url}/task", json={"type": "on_loop", "params": [0]}, timeout=30)
            assert refusal.status_code == 503, refusal.text
            assert "data folder (TASKER_DATA_DIR) was deleted or moved" in refusal.json()["detail"]
            assert int(refusal.headers["Retry-After"]) > 0
        ready = httpx2.get(f"{server.url}/readyz", timeout=30)
        assert ready.status_code == 503
        assert "was deleted or moved" in ready.json()["checks"]["store"]
        assert client.status("/livez") == 200
        assert client.get(before)["status"] == "completed"
        assert server.text().count("store.files_lost") == 1, "told once, not with each look"
        server.process.terminate()
        assert server.process.wait(timeout=LIMIT) is not None


def test_a_data_folder_that_is_moved_back_goes_on_and_has_all(tmp_path: Path) -> None:
    with run_server(tmp_path, str(TASKS)) as server, Client(server) as client:
        held = client.submit("on_loop", [1000])
        client.until(held, lambda task: task["status"] == "running")
        server.data_dir.rename(tmp_path / "moved")
        _until(lambda: client.status("/readyz") == 503, "it never noticed")
        (tmp_path / "moved").rename(server.data_dir)
        _until_ready(client)
        after = client.submit("on_loop", [0])
        assert {client.end(task_id)["status"] for task_id in (held, after)} == {"completed"}
        server.kill()
    with run_server(tmp_path, str(TASKS)) as server, Client(server) as client:
        assert client.all_ids() == {held, after}


def _fill(server: Server) -> tuple[list[str], httpx2.Response]:
    """Submit large tasks until one is refused; return the ids of those taken, and the refusal."""
    accepted: list[str] = []
    body = {"type": "on_loop", "params": [0], "metadata": {"weight": "x" * 15_000}}
    with httpx2.Client(base_url=server.url, timeout=30) as http:
        while (reply := http.post("/task", json=body)).status_code == 202:
            accepted.append(str(reply.json()["task_id"]))
            assert len(accepted) < 5000, "the disk never filled"
    assert reply.status_code == 503, reply.text
    return accepted, reply


def _until_ready(client: Client) -> None:
    _until(lambda: client.status("/readyz") == 200, "it did not recover by itself")


def _until(is_so: Callable[[], bool], otherwise: str) -> None:
    end = monotonic() + LIMIT
    while not is_so():
        assert monotonic() < end, otherwise
        sleep(0.1)
