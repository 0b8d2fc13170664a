"""A client that records what the service has accepted, and the oracles that check these promises."""

from __future__ import annotations

import itertools
import json
import threading
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from time import monotonic, sleep
from typing import Any
from uuid import uuid4

import httpx2

from tests.server import Server

TASKS = Path(__file__).with_name("tasks_under_fire.py")
ENDED = {"completed", "failed", "cancelled"}
EXPLAINED = {"interrupted", "crashed", "released"}


class Client:
    """Plain HTTP calls to one service; a reply that never came is None."""

    def __init__(self, server: Server) -> None:
        self._http = httpx2.Client(base_url=server.url, timeout=30, trust_env=False)

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def submit(self, type: str, params: list[Any], **more: Any) -> str:
        """Submit one task that must be accepted; return its id."""
        reply = self._http.post("/task", json={"type": type, "params": params} | more)
        assert reply.status_code == 202, reply.text
        return str(reply.json()["task_id"])

    def submit_many(self, type: str, params: list[Any], number: int, **more: Any) -> dict[str, str]:
        """Submit equal tasks in one batch, all of which must be accepted; return their ids, by number."""
        reply = self._http.post("/batch", json=[{"type": type, "params": params} | more] * number)
        assert reply.status_code == 200, reply.text
        return {str(item["index"]): item["task_id"] for item in reply.json()["items"]}

    def offer(self, type: str, params: list[Any], key: str) -> str | None:
        """Submit with a key while the service may die; return the task's id, or None if the outcome is unknown."""
        try:
            reply = self._http.post("/task", json={"type": type, "params": params}, headers={"Idempotency-Key": key})
        except httpx2.HTTPError:
            return None
        return str(reply.json()["task_id"]) if reply.status_code == 202 else None

    def get(self, task_id: str) -> dict[str, Any]:
        reply = self._http.get(f"/task/{task_id}", params={"include": "attempts"})
        assert reply.status_code == 200, reply.text
        return dict(reply.json())

    def until(self, task_id: str, is_so: Callable[[dict[str, Any]], bool], limit: float = 60) -> dict[str, Any]:
        """Ask until `is_so`; a time limit tells what it was instead."""
        end = monotonic() + limit
        while not is_so(task := self.get(task_id)):
            assert monotonic() < end, f"the task never came so far: {task}"
            sleep(_ASK_EVERY)
        return task

    def end(self, task_id: str, limit: float = 60) -> dict[str, Any]:
        return self.until(task_id, lambda task: task["status"] in ENDED, limit)

    def all_tasks(self) -> Iterator[dict[str, Any]]:
        """Yield every task as the list shows it, page by page."""
        query: dict[str, Any] | None = {"limit": 500}
        while query is not None:
            reply = self._http.get("/task", params=query)
            assert reply.status_code == 200, reply.text
            page = reply.json()
            yield from page["items"]
            query = {"limit": 500, "cursor": page["next_cursor"]} if page["next_cursor"] else None

    def all_ids(self) -> set[str]:
        return {task["task_id"] for task in self.all_tasks()}

    def check_stats(self) -> None:
        """Check that the statistics are what a count of all tasks gives, while nothing happens.

        No task may have been erased, or retried by hand.
        """
        reply = self._http.get("/stats", params={"window": "24h"})
        assert reply.status_code == 200, reply.text
        tasks = list(self.all_tasks())
        total, open_, statuses = reply.json()["total"], reply.json()["open"], Counter(task["status"] for task in tasks)
        assert {name: total[name] for name in ENDED} == {name: statuses[name] for name in ENDED}
        assert (total["submitted"], total["started"]) == (len(tasks), sum(task["attempt"] for task in tasks))
        assert (open_["pending"] + open_["later"], open_["running"]) == (statuses["pending"], statuses["running"])

    def list(self, path: str) -> list[dict[str, Any]]:
        """Return the items of a list that has one page."""
        return list(self._http.get(path).json()["items"])

    def post(self, path: str, body: dict[str, Any], timeout: float) -> httpx2.Response:
        return self._http.post(path, json=body, timeout=timeout)

    def status(self, path: str) -> int:
        return int(self._http.get(path).status_code)


_ASK_EVERY = 0.05


class Load:
    """Threads that submit until stopped, each submission under its own key."""

    def __init__(self, server: Server, threads: int = 4) -> None:
        self.accepted: dict[str, str] = {}
        self.unknown: list[tuple[str, str, int]] = []
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._submit, args=(server,)) for _ in range(threads)]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _submit(self, server: Server) -> None:
        with Client(server) as client:
            for count in itertools.count(1):
                if self._stop.is_set():
                    return
                key, type = uuid4().hex, "in_child" if count % 20 == 0 else "on_loop"
                task_id = client.offer(type, [count % 40], key)
                if task_id is not None:
                    self.accepted[key] = task_id
                else:
                    self.unknown.append((key, type, count % 40))
                    self._stop.wait(_ASK_EVERY)


class Watch:
    """T: a thread that reads every task again and again, and must never see an impossible step.

    What has ended stays as it ended, attempts only count up, and to run or to end takes a new one.
    """

    def __init__(self, server: Server) -> None:
        self._server = server
        self._seen: dict[str, tuple[str, int]] = {}
        self._looks = 0
        self._wrong: list[str] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        assert not self._wrong, f"steps that there are not: {self._wrong}"
        assert self._looks, "it saw nothing: this run proves nothing"

    def _watch(self) -> None:
        with Client(self._server) as client:
            while not self._stop.wait(_ASK_EVERY):
                for task in client.all_tasks():
                    self._look(task["task_id"], (task["status"], task["attempt"]))
                self._looks += 1

    def _look(self, task_id: str, now: tuple[str, int]) -> None:
        before = self._seen.get(task_id, ("pending", 0))
        self._seen[task_id] = now
        if now != before and not _is_step(before, now):
            self._wrong.append(f"{task_id}: {before} -> {now}")


def _is_step(before: tuple[str, int], now: tuple[str, int]) -> bool:
    """Tell whether one (status, attempt) may become the other, in one or more steps."""
    (status, attempt), (next_status, next_attempt) = before, now
    if status in ENDED:
        return False
    if status == "pending" and next_status != "cancelled":
        return next_attempt > attempt
    return next_attempt >= attempt


def read_journal(folder: Path) -> list[dict[str, Any]]:
    """Return what the tasks wrote; the last line may have been cut off by a kill."""
    journal = folder / "journal.jsonl"
    lines = journal.read_text().splitlines() if journal.exists() else []
    return [json.loads(line) for line in lines if line.endswith("}")]


def check_runs(tasks: list[dict[str, Any]], journal: list[dict[str, Any]]) -> Counter[str]:
    """Hold every ended task to the promises; return how its attempts ended, counted.

    D: each start in the journal is an attempt that the service tells of, none twice, and every attempt but the last
    has a cause. F: the stored result is that of the last attempt.
    """
    starts: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for line in journal:
        if line["what"] == "start":
            starts[line["task_id"]].append(line)
    endings: Counter[str] = Counter()
    for task in tasks:
        attempts = {attempt["attempt"]: attempt for attempt in task["attempts"]}
        assert sorted(attempts) == list(range(1, task["attempt"] + 1)), task
        *extra, last = (attempts[number]["ending"] for number in sorted(attempts))
        assert set(extra) <= EXPLAINED, task
        assert last == "succeeded", task
        endings.update([*extra, last])
        ran = Counter(line["attempt"] for line in starts[task["task_id"]])
        assert set(ran) <= set(attempts), (ran, task)
        assert max(ran.values()) == 1, f"an attempt ran twice: {ran} {task}"
        nonces = {line["nonce"] for line in starts[task["task_id"]] if line["attempt"] == task["attempt"]}
        assert {task["result"]} == nonces, f"not the last attempt's result: {nonces} {task}"
    unexpected = set(starts) - {task["task_id"] for task in tasks}
    assert not unexpected, f"ran, but nobody submitted them: {unexpected}"
    return endings
