"""Task types that an API process does not have, and workers on the same database have published."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.crash.fire import Client
from tests.crash.fleet import Fleet, until
from tests.postgres import Cluster
from tests.server import Server

pytestmark = [pytest.mark.crash, pytest.mark.timeout(280)]

FAR = '''
from typing import Annotated
from msgspec import Struct
from tasker import Context, secret, task

@task(queue="far", retry=3, timeout=17, priority=5, retention=3600)
async def resize(name: str, width: int = 100, *sizes: int) -> list:
    """Make it smaller."""
    return [name, width, *sizes]

@task
async def login(token: Annotated[str, secret]) -> int:
    return len(token)

class Even(Struct):
    number: int

    def __post_init__(self) -> None:
        if self.number % 2:
            raise ValueError("expected an even number")

@task
async def halve(even: Even) -> int:
    return even.number // 2
'''

NEAR = "from tasker import task\n@task\nasync def near() -> int:\n    return 1\n"


@pytest.fixture
def fleet(tmp_path: Path, cluster: Cluster) -> Fleet:
    return Fleet(tmp_path, cluster)


def ask(server: Server, path: str, body: Any = None) -> tuple[int, Any]:
    method = "GET" if body is None else "POST"
    reply = httpx2.request(method, server.url + path, json=body, timeout=30, trust_env=False)
    return reply.status_code, reply.json()


@pytest.mark.long
def test_a_type_that_only_a_worker_has_can_be_submitted(fleet: Fleet) -> None:
    (fleet.folder / "far.py").write_text(FAR)
    (fleet.folder / "near.py").write_text(NEAR)
    near, far = fleet.folder / "near.py", fleet.folder / "far.py"
    with fleet.api(tasks=near) as server, Client(server) as client:
        status, refused = ask(server, "/task", {"type": "resize", "params": ["a"]})
        assert (status, refused["type"]) == (422, "/problems/unknown-type")
        assert "task files of servers and workers" in refused["detail"]
        with fleet.worker(tasks=far):
            until(lambda: ask(server, "/type/resize")[0] == 200, "the API process never heard of the worker's types")
            known = ask(server, "/type/resize")[1]
            assert (known["queue"], known["timeout"], known["priority"]) == ("far", 17, 5)
            assert (known["retry"]["max_attempts"], known["missing_since"]) == (3, None)
            assert {"resize", "login", "halve", "sum"} <= {one["name"] for one in ask(server, "/type")[1]["items"]}
            assert "/type/resize/task" in ask(server, "/openapi.json")[1]["paths"]
            wrong = {"type": "resize", "params": {"name": 5, "wdth": 1}}
            status, refused = ask(server, "/task", wrong)
            assert (status, [fault["pointer"] for fault in refused["errors"]]) == (
                422,
                ["/params/name", "/params/wdth"],
            )
            assert ask(server, "/type/resize/task", [5])[0] == 422
            assert ask(server, "/task", {"type": "resise", "params": ["a"]})[1]["detail"].count("'resize'") == 1
            done = client.end(client.submit("resize", ["a", 7, 8, 9]))
            assert (done["status"], done["result"], done["queue"], done["priority"]) == (
                "completed", ["a", 7, 8, 9], "far", 5,
            )  # fmt: skip
            assert done["tries_left"] == 2
            hidden = client.end(client.submit("login", {"token": "hunter2"}))
            assert (hidden["result"], hidden["params"]) == (7, {"token": "***"})
            late = client.end(client.submit("halve", [{"number": 3}]))  # what the schema alone cannot tell
            assert (late["status"], late["error"]["type"]) == ("failed", "/problems/invalid-params")
        waiting = client.submit("resize", ["later"])
    with fleet.api(tasks=near) as server, Client(server) as client:
        assert ask(server, "/type/resize")[0] == 200, "a type is known when no worker is there, and after a restart"
        assert client.get(waiting)["status"] == "pending"
        fleet.sql("UPDATE tasker.published_type SET seen_at = now() - interval '1 hour'")
        until(lambda: ask(server, "/type/resize")[1]["missing_since"] is not None, "nobody noticed that it is missing")
        with fleet.worker(tasks=far):
            assert client.end(waiting)["result"] == ["later", 100]
            until(lambda: ask(server, "/type/resize")[1]["missing_since"] is None, "nobody noticed that it is back")


@pytest.mark.long
def test_the_newest_word_counts_and_ones_own_before_it(fleet: Fleet) -> None:
    text = "from tasker import task\n@task\nasync def shared({param}: int) -> int:\n    return {param}\n"
    for name in ("old", "new", "own"):
        (fleet.folder / f"{name}.py").write_text(text.format(param=name))
    (fleet.folder / "near.py").write_text(NEAR)

    def takes(server: Server) -> list[str]:
        return list(ask(server, "/type/shared")[1].get("input_schema", {}).get("properties", ()))

    with fleet.api(tasks=fleet.folder / "near.py") as server, fleet.worker(tasks=fleet.folder / "old.py"):
        until(lambda: takes(server) == ["old"], "the first worker's word was not heard")
        with fleet.worker(tasks=fleet.folder / "new.py"):
            until(lambda: takes(server) == ["new"], "the newest word does not count")
            with fleet.api(tasks=fleet.folder / "own.py") as other:
                assert takes(other) == ["own"]
