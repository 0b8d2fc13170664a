"""The service's own secrets, and tasks that look for them."""

import http.client
import json
from pathlib import Path

import pytest

from tests.server import run_server

TOKEN = "not-to-be-found-by-any-task"
_TASKS = """
import os
from pathlib import Path

from tasker import task


def _shown(pid: int) -> list[str]:
    return [*os.environ.values(), *Path(f"/proc/{pid}/environ").read_text().split("\\0")]


@task
def look_at_parent() -> list[str]:
    return _shown(os.getppid())


@task
async def look_at_service() -> list[str]:
    return _shown(os.getpid())
"""


@pytest.mark.parametrize("type", ["look_at_parent", "look_at_service"])
def test_no_task_finds_the_token_in_the_environment_of_the_service(tmp_path: Path, type: str) -> None:
    (tmp_path / "mine.py").write_text(_TASKS)
    with run_server(tmp_path, "mine.py", env={"TASKER_TOKEN": TOKEN, "PLAIN": "plain to see"}) as server:
        connection = http.client.HTTPConnection("127.0.0.1", server.port)
        headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"}
        connection.request("POST", "/task?wait=20", json.dumps({"type": type, "params": []}), headers)
        task = json.load(connection.getresponse())
        connection.close()
    assert task["status"] == "completed", task
    assert any("plain to see" in value for value in task["result"])
    assert not any(TOKEN in value for value in task["result"])
