"""Put a secret into a real service, and look for it in all of its output."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx2
import pytest

from tests.server import Server, clean_environment, run_server

CANARY = 'canary-"7f3a\\é-9c21'
TASKS = """
import logging
import os
import subprocess
import sys
import threading
from typing import Annotated
from urllib.parse import quote
import structlog
import tasker
from tasker import Context, task

Token = Annotated[str, tasker.secret]


def tell(context: Context, token: str) -> None:
    context.log("the token", token=token, shown=repr(token))
    context.progress(message=f"with {token}")
    context.output(f"it is {token}")


@task
def in_child(token: Token, expected: int, *more: Token, context: Context) -> int:
    print("printed", token, *more)
    logging.getLogger("own").warning("logged %r", token)
    os.write(2, f"written {token}\\n".encode())
    subprocess.run(["echo", "shown", token])
    print(quote(token), quote(token, safe="").lower())
    tell(context, token)
    if len(token) != expected:
        raise ValueError(f"wrong {token!r} {more}")
    return len(token) + sum(map(len, more))


@task
async def on_loop(context: Context, token: Token, expected: int) -> int:
    tell(context, token)
    logging.getLogger("own").warning("on the loop %r", token, extra={"url": quote(token)})
    structlog.get_logger().warning("bound", token={"deep": [token]})
    print("printed on the loop", token)
    print("and as an error", token, file=sys.stderr)
    print("and there", token, file=sys.__stderr__)
    thread = threading.Thread(target=logging.getLogger("own").error, args=("in a thread %s", token))
    thread.start()
    thread.join()
    try:
        raise LookupError(token)
    except LookupError:
        logging.getLogger("own").exception("caught")
    if len(token) != expected:
        raise KeyError(token)
    return len(token)


@task
async def asleep(token: Token) -> None:
    import asyncio
    await asyncio.sleep(60)
"""


@pytest.fixture
def server(tmp_path: Path) -> Any:
    (tmp_path / "own.py").write_text(TASKS)
    with run_server(tmp_path, "--tasks", str(tmp_path / "own.py"), env={"TASKER_LOG_FORMAT": "json"}) as server:
        yield server


def submit(server: Server, type: str, params: Any, wait: int = 20, **headers: str) -> Any:
    body = {"type": type, "params": params, "tags": ["t"]}
    reply = httpx2.post(f"{server.url}/task?wait={wait}", json=body, headers=headers, timeout=30)
    assert reply.status_code in (200, 202), reply.text
    return reply.json() | {"text": reply.text}


LEVELS = {"stdout": "info", "stderr": "warning"}


def logged(server: Server, task_id: str) -> list[dict[str, Any]]:
    """Return the records of a task's log."""
    lines = httpx2.get(f"{server.url}/task/{task_id}/events").text.splitlines()
    logged = [data for event, data in pairwise(lines) if event == "event: log"]
    records = [json.loads(data.removeprefix("data: ")) for data in logged]
    return [{name: record[name] for name in ("message", "level", "fields")} for record in records]


def variants() -> list[str]:
    plain = [CANARY, repr(CANARY)[1:-1], json.dumps(CANARY)[1:-1], json.dumps(CANARY, ensure_ascii=False)[1:-1]]
    plain += [quote(CANARY), quote(CANARY, safe="").lower()]
    return plain + [json.dumps(one)[1:-1] for one in plain] + ["7f3a", "9c21"]


def assert_clean(text: str, what: str) -> None:
    for variant in variants():
        assert variant not in text, f"{what} tells the secret: {text[:2000]}"


def test_a_secret_appears_nowhere(server: Server, tmp_path: Path) -> None:
    size = len(CANARY)
    done = [
        submit(server, "in_child", [CANARY, size]),
        submit(server, "in_child", {"token": CANARY, "expected": size, "more": [CANARY]}),
        submit(server, "in_child", [CANARY, 0, CANARY]),
        submit(server, "on_loop", {"token": CANARY, "expected": size}, **{"idempotency-key": "k"}),
        submit(server, "on_loop", {"token": CANARY, "expected": size}, **{"idempotency-key": "k"}),
        submit(server, "on_loop", [CANARY, 0]),
        submit(server, "asleep", [CANARY], wait=0),
    ]
    assert [task["result"] for task in done[:2]] == [size, 2 * size], "the function gets the value"
    assert done[1]["params"] == {"token": "***", "expected": size, "more": "***"}
    endings = ["completed", "completed", "failed", "completed", "completed", "failed", "pending"]
    assert [task["status"] for task in done] == endings
    assert "***" in done[2]["error"]["detail"]
    pages = ["/task", "/task?tag=t", "/type", "/openapi.json", "/audit", "/worker", "/queue", "/metrics", "/usage"]
    for task in done:
        at = f"/task/{task['task_id']}"
        assert_clean(task["text"], "a submission's reply")
        pages += [at, f"{at}?include=attempts", f"{at}/result"] + ([] if task is done[-1] else [f"{at}/events"])
    for page in pages:
        assert_clean(httpx2.get(server.url + page, timeout=30).text, page)
    events = httpx2.get(f"{server.url}/task/{done[0]['task_id']}/events").text
    assert "it is ***" in events
    assert "with ***" in events
    printed = {"in_child": (0, ("printed ***", "stdout"), ("shown ***", "stdout")),
               "on_loop": (3, ("printed on the loop ***", "stdout"), ("and as an error ***", "stderr"),
                           ("and there ***", "stderr"))}  # fmt: skip
    for place, *lines in printed.values():
        log = logged(server, done[place]["task_id"])
        for line, stream in lines:
            assert {"message": line, "level": LEVELS[stream], "fields": {"stream": stream}} in log
    for status, path, body in (
        (409, f"/task/{done[2]['task_id']}/retry", None),
        (422, "/task", {"type": "on_loop", "params": done[3]["params"]}),
        (422, "/task", {"type": "on_loop", "params": [[CANARY], 1]}),
        (422, "/schedule", {"name": "s", "interval": 60, "task": {"type": "on_loop", "params": [CANARY, 1]}}),
    ):
        reply = httpx2.post(server.url + path, json=body)
        assert reply.status_code == status, reply.text
        assert_clean(reply.text, path)
    assert httpx2.post(f"{server.url}/task/{done[-1]['task_id']}/cancel").status_code in (200, 202)
    log = server.text()
    for said in ("printed", "written", "shown", "printed on the loop", "and there", "in a thread"):
        assert f"{said} ***" in log, "reports of a function are logged"
    assert_clean(server.text(), "the log")
    time.sleep(0.2)
    server.process.terminate()
    server.process.wait(30)
    archive = subprocess.run(
        [sys.executable, "-m", "tasker", "export", "--data-dir", str(server.data_dir)],
        capture_output=True,
        text=True,
        env=clean_environment(PYTHONPATH=os.environ.get("PYTHONPATH", "")),
        check=True,
        cwd=tmp_path,
    ).stdout
    assert len(archive.splitlines()) > 6
    assert_clean(archive, "the archive")
