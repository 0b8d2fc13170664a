"""The process ends on a signal, whatever its tasks do; and no task ends it by sys.exit()."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tasker.wiring.shutdown import FORCED
from tests.crash.fire import TASKS, Client, read_journal
from tests.crash.fleet import until
from tests.server import run_server

pytestmark = [pytest.mark.crash, pytest.mark.timeout(280)]

STUBBORN = ("swallow_cancels", "wait_for_a_thread", "spin")


def _start_stubborn(client: Client, folder: Path) -> list[str]:
    task_ids = [client.submit(name, []) for name in STUBBORN]
    until(lambda: len(read_journal(folder)) == len(STUBBORN), "the tasks do not run")
    return task_ids


@pytest.mark.parametrize("signals", [1, 2])
def test_tasks_that_do_not_stop_end_with_the_service_and_run_again(tmp_path: Path, signals: int) -> None:
    """One signal ends it after the drain, two signals end it at once, or the drain of an hour would be waited for."""
    drain = {1: "0.3", 2: "3600"}[signals]
    with run_server(tmp_path, str(TASKS), "--drain", drain) as server, Client(server) as client:
        task_ids = _start_stubborn(client, tmp_path)
        for _ in range(signals):
            server.process.send_signal(signal.SIGTERM)
            until(lambda: "worker.draining" in server.text(), "it does not drain")
        assert server.process.wait(30) == 0
        assert "service.threads_left" in server.text()
    with run_server(tmp_path, str(TASKS), "--drain", "0.1") as server, Client(server) as client:
        for task_id in task_ids:
            task = client.until(task_id, lambda task: task["attempt"] == 2)
            assert task["attempts"][0]["ending"] == "released"
        assert server.stop() == 0


def test_what_a_task_leaves_for_the_interpreters_end_does_not_hold_it_up(tmp_path: Path) -> None:
    """A coroutine that swallows even its closing, and a function of atexit that takes an hour."""
    with run_server(tmp_path, str(TASKS), "--drain", "0.1") as server, Client(server) as client:
        client.end(client.submit("register_at_exit", []))
        client.submit("swallow_all", [])
        until(lambda: len(read_journal(tmp_path)) == 1, "the task does not run")
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(30) == 0


def test_sys_exit_in_a_task_of_a_coroutine_fails_it_and_the_service_goes_on(tmp_path: Path) -> None:
    with run_server(tmp_path, str(TASKS)) as server, Client(server) as client:
        long = client.submit("on_loop", [500])
        failed = client.end(client.submit("exit_in_a_task", []))
        assert failed["error"]["detail"] == "SystemExit: 0"
        assert client.end(long)["attempt"] == 1
        assert server.process.poll() is None


def test_a_process_that_a_task_ends_says_which_and_does_not_look_well(tmp_path: Path) -> None:
    with run_server(tmp_path, str(TASKS)) as server, Client(server) as client:
        task_id = client.submit("exit_at_once", [], delay=0.5)
        assert server.process.wait(30) == FORCED
        [line] = [line for line in server.text().splitlines() if "task.ended_the_service" in line]
        assert task_id in line


BLOCKED = """
import asyncio, time
from datetime import timedelta
from tasker.wiring.shutdown import Shutdown, run

async def service() -> int:
    Shutdown(timedelta(0)).listen()
    print("ready", flush=True)
    while True:
        time.sleep(0.01)  # the service's own loop is blocked

run(service())
"""


def test_a_blocked_service_is_ended_by_force() -> None:
    with subprocess.Popen([sys.executable, "-c", BLOCKED], stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == b"ready\n"
            process.terminate()
            assert process.wait(30) == FORCED
            assert b"service.ended_by_force" in process.stdout.read()
        finally:
            process.kill()
