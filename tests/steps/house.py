"""A whole service with tasks that have steps, on either engine, and its client."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import httpx2

from tests.postgres import Cluster
from tests.server import Server, run_server, run_worker

TASKS = Path(__file__).with_name("tasks.py")
ENDED = {"completed", "failed", "cancelled"}
EXPLAINED = {"interrupted", "crashed", "released", "failed"}
"""Endings of attempts that may have died between an effect and its store."""
LIMIT = 60.0


class House:
    """Starts the processes of one store: on SQLite one service, on PostgreSQL an API and a worker."""

    def __init__(self, folder: Path, cluster: Cluster | None, **env: str) -> None:
        self.folder = folder
        self._env = env
        if cluster is not None:
            self._env = {"TASKER_DATABASE_URL": cluster.fresh_database(), **env}
        self.is_shared = cluster is not None
        self._starts = 0

    @contextmanager
    def open(self) -> Iterator[tuple[Home, Server]]:
        """Start all; yield a client, and the process that runs tasks: its pid is in the file service.pid."""
        self._starts += 1
        with ExitStack() as stack:
            if self.is_shared:
                api = stack.enter_context(run_server(self.folder, "--no-worker", str(TASKS), env=self._env, name="api"))
                runs = stack.enter_context(self.worker())
            else:
                runs = api = stack.enter_context(run_server(self.folder, str(TASKS), env=self._env))
                self._note_pid(runs)
            yield stack.enter_context(Home(api)), runs

    @contextmanager
    def worker(self, name: str = "worker") -> Iterator[Server]:
        with run_worker(self.folder, str(TASKS), env=self._env, name=name) as worker:
            self._note_pid(worker)
            yield worker

    def _note_pid(self, server: Server) -> None:
        (self.folder / "service.pid").write_text(str(server.process.pid))

    def effects(self) -> list[dict[str, Any]]:
        """Return the lines of effects.jsonl."""
        file = self.folder / "effects.jsonl"
        return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


class Home:
    """Plain calls to the API."""

    def __init__(self, server: Server) -> None:
        self._http = httpx2.Client(base_url=server.url, timeout=30, trust_env=False)

    def __enter__(self) -> Home:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def submit(self, type: str, *params: Any, **more: Any) -> str:
        reply = self._http.post("/task", json={"type": type, "params": list(params)} | more)
        assert reply.status_code == 202, reply.text
        return str(reply.json()["task_id"])

    def get(self, task_id: str) -> dict[str, Any]:
        reply = self._http.get(f"/task/{task_id}", params={"include": "attempts,steps"})
        assert reply.status_code == 200, reply.text
        return dict(reply.json())

    def children(self, task_id: str) -> list[dict[str, Any]]:
        """Return all children of a task, the newest first."""
        found: list[dict[str, Any]] = []
        query: dict[str, Any] | None = {"parent": task_id, "limit": 500}
        while query is not None:
            reply = self._http.get("/task", params=query)
            assert reply.status_code == 200, reply.text
            page = reply.json()
            found += page["items"]
            query = {**query, "cursor": page["next_cursor"]} if page["next_cursor"] else None
        return found

    def post(self, path: str, body: Any = None) -> httpx2.Response:
        return self._http.post(path, json={} if body is None else body)

    def answer(self, task_id: str, name: str, value: Any) -> None:
        reply = self.post(f"/task/{task_id}/input", {"name": name, "value": value})
        assert reply.status_code == 200, reply.text

    def until(self, task_id: str, is_so: Callable[[dict[str, Any]], Any], limit: float = LIMIT) -> dict[str, Any]:
        """Ask until `is_so`; a time limit, or the end of an open task, tells what it was instead."""
        end, was_open = monotonic() + limit, False
        while not is_so(task := self.get(task_id)):
            is_open = task["status"] not in ENDED
            assert is_open or not was_open, f"the task ended before that: {task}"
            assert monotonic() < end, f"the task never came so far: {task}"
            was_open = is_open
            sleep(0.03)
        return task

    def end(self, task_id: str, limit: float = LIMIT) -> dict[str, Any]:
        return self.until(task_id, lambda task: task["status"] in ENDED, limit)

    def events(self, task_id: str) -> list[dict[str, Any]]:
        """Return all events of a task that has ended."""
        reply = self._http.get(f"/task/{task_id}/events", headers={"Accept": "application/jsonl"})
        assert reply.status_code == 200, reply.text
        return [json.loads(line) for line in reply.text.splitlines() if line.strip()]


def until(is_so: Callable[[], bool], otherwise: str, limit: float = LIMIT) -> None:
    """Poll until the condition holds; after `limit` seconds fail with this message."""
    end = monotonic() + limit
    while not is_so():
        assert monotonic() < end, otherwise
        sleep(0.02)


def check_effects(effects: list[dict[str, Any]], tasks: dict[str, dict[str, Any]]) -> int:
    """Check that each effect was recorded once, or that an attempt died between it and its store; return how many died.

    tasks: all of them, by id, with their attempts. An effect that a later attempt repeated was lost with its own one.
    """
    seen: dict[tuple[str, str], list[int]] = {}
    for line in effects:
        seen.setdefault((line["task_id"], line["what"]), []).append(line["attempt"])
    again = 0
    for (task_id, what), attempts in seen.items():
        endings = {one["attempt"]: one["ending"] for one in tasks[task_id]["attempts"]}
        assert len(set(attempts)) == len(attempts), f"{what} of {task_id} twice in one attempt: {attempts}"
        for attempt in attempts[:-1]:
            assert endings[attempt] in EXPLAINED, f"{what} of {task_id} again after {endings[attempt]}: {attempts}"
            again += 1
    return again
