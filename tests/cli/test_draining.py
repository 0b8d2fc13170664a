"""Submissions while the service drains: stored, with the reply that they run after the restart."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2
import pytest

from tasker.client import AwaitsRestart, Tasker
from tests.cli.command import tasker
from tests.server import Server, run_server

TASKS = str(Path(__file__).parent.parent / "sample_tasks.py")
SUM = {"type": "sum", "params": [4, 2]}


@pytest.fixture(params=["sqlite", "postgres"])
def store(request: pytest.FixtureRequest) -> dict[str, str]:
    """Return the settings of a store of its own, of each engine."""
    if request.param == "sqlite":
        return {}
    return {"TASKER_DATABASE_URL": request.getfixturevalue("cluster").fresh_database()}


@contextmanager
def draining(folder: Path, store: dict[str, str]) -> Iterator[Server]:
    """Provide a service that was asked to stop, and goes on because a task runs; the task ends last."""
    with run_server(folder, TASKS, "--drain", "60", env=store) as server:
        file = folder / "content"
        waits = {"type": "wait_for_file", "params": [str(file)]}
        task_id = httpx2.post(f"{server.url}/task", json=waits).json()["task_id"]
        while httpx2.get(f"{server.url}/task/{task_id}").json()["status"] != "running":
            pass
        server.process.terminate()
        while [worker["status"] for worker in httpx2.get(f"{server.url}/worker").json()["items"]] != ["draining"]:
            pass
        yield server
        file.write_text("here")
        assert server.process.wait(30) == 0


def test_the_reply_says_that_the_task_runs_after_the_restart(tmp_path: Path, store: dict[str, str]) -> None:
    with draining(tmp_path, store) as server:
        env = {"TASKER_URL": server.url}
        ran = tasker("run", "sum", "4", "2", env=env)
        assert (ran.code, ran.out) == (75, "")
        first = ran.err.split()[6]
        assert ran.err == (
            f"tasker: the service is stopping: task {first} is stored, and runs after the restart\n"
            f"Wait for it: tasker get {first} --wait\n"
        )
        detached = tasker("run", "sum", "4", "2", "--detach", env=env)
        assert detached.code == 0
        with Tasker(server.url) as client:
            handle = client.submit("sum", 4, 2)
            assert handle.awaits_restart
            with pytest.raises(AwaitsRestart) as caught:
                client.run("sum", 4, 2)
        ids = [first, detached.out.strip(), str(handle.task_id), str(caught.value.task_id)]
        for headers in ({"prefer": "wait=30"}, {"accept": "text/event-stream"}, {"accept": "application/jsonl"}, {}):
            reply = httpx2.post(f"{server.url}/task", json=SUM, headers=headers)
            assert (reply.status_code, reply.headers["content-type"]) == (202, "application/json")
            assert "preference-applied" not in reply.headers
            assert (reply.json()["reason"], reply.json()["waiting_for"]) == ("restart", "restart of the service")
            ids.append(reply.json()["task_id"])
        asked = httpx2.get(f"{server.url}/task/{first}?wait=30").json()
        assert (asked["status"], asked["reason"]) == ("pending", "restart")
    with run_server(tmp_path, TASKS, env=store) as server:
        for task_id in ids:
            assert httpx2.get(f"{server.url}/task/{task_id}?wait=30", timeout=40).json()["result"] == 6
