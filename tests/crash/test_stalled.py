"""The memory of a real service with clients that do not read, and functions that report faster than is stored."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psutil
import pytest

from tests.crash.fire import Client
from tests.crash.test_streams import follow
from tests.server import Server, run_server

pytestmark = [pytest.mark.crash, pytest.mark.timeout(280)]

MIB = 2**20
READERS = 50
RESULTS = 16
"""Number of results of 1 MB: several times what a stalled reader may take."""
TASKS = '''
import time
from tasker import Context, task

@task
async def blob() -> str:
    """Return a megabyte."""
    return "x" * 1_000_000

@task
def shout(context: Context, seconds: float) -> int:
    """Say as much as can be said in this time."""
    end, count = time.monotonic() + seconds, 0
    while time.monotonic() < end:
        context.output("x" * 10_000)
        count += 1
    return count

@task
async def shout_async(context: Context, seconds: float) -> int:
    """The same on a loop."""
    end, count = time.monotonic() + seconds, 0
    while time.monotonic() < end:
        context.output("x" * 10_000)
        count += 1
    return count
'''


@contextmanager
def service(folder: Path, **env: str) -> Iterator[tuple[Server, Client, psutil.Process]]:
    (folder / "mine.py").write_text(TASKS)
    with run_server(folder, "mine.py", env=env) as server, Client(server) as client:
        yield server, client, psutil.Process(server.process.pid)


def peak(process: psutil.Process) -> int:
    """Return the most that the process has held since `forget_peak`."""
    lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))


def forget_peak(process: psutil.Process) -> int:
    """Reset the peak memory; return the present memory of the process."""
    Path(f"/proc/{process.pid}/clear_refs").write_text("5")
    return int(process.memory_info().rss)


def ask_and_stand_still(server: Server, path: str) -> socket.socket:
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.connect(("127.0.0.1", server.port))
    connection.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    return connection


@pytest.mark.parametrize("path", ["/events?after=oldest", "/task?limit=500"])
def test_readers_that_stand_still_cost_little(tmp_path: Path, path: str) -> None:
    """Each used to take a page with all its results: 12 MB and more, several times."""
    with service(tmp_path) as (server, client, process), ExitStack() as stack:
        for task_id in [client.submit("blob", []) for _ in range(RESULTS)]:
            client.end(task_id)
        held = forget_peak(process)
        for _ in range(READERS):
            stack.enter_context(ask_and_stand_still(server, path))
        _until_still(process)
        assert client.status("/livez") == 200
        assert peak(process) - held < 120 * MIB


@pytest.mark.long
@pytest.mark.parametrize("how", ["shout", "shout_async"])
def test_a_function_that_says_too_much_waits_for_the_store(tmp_path: Path, how: str) -> None:
    with service(tmp_path, TASKER_MAX_OUTPUT="10GiB") as (_, client, process):
        client.end(client.submit(how, [0.1]))
        held = forget_peak(process)
        ended = client.end(client.submit(how, [4.0]))
        assert ended["status"] == "completed"
        assert ended["result"] * 10_000 > 4 * MIB, "this run proves nothing"
        assert peak(process) - held < 80 * MIB


@pytest.mark.parametrize("how", ["shout", "shout_async"])
def test_what_is_beyond_the_limit_is_not_kept_and_the_task_goes_on(tmp_path: Path, how: str) -> None:
    with service(tmp_path, TASKER_MAX_OUTPUT="1MiB") as (server, client, _):
        task_id = client.submit(how, [1.0])
        assert client.end(task_id)["status"] == "completed"
        events = [*follow(server, task_id)]
        assert sum(len(event["chunk"]) for event in events if event["type"] == "output") <= MIB
        told = [event["message"] for event in events if event["type"] == "log"]
        assert told == ["output cut off at 1,048,576 bytes: TASKER_MAX_OUTPUT; the task goes on"]


def _until_still(process: psutil.Process) -> None:
    """Wait until the service does nothing more for the stalled readers."""
    still, used = 0, -1.0
    limit = time.monotonic() + 60
    while still < 5 and time.monotonic() < limit:
        time.sleep(0.2)
        times = process.cpu_times()
        now = times.user + times.system
        still = still + 1 if now - used < 0.03 else 0
        used = now
