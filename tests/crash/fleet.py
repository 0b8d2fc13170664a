"""Several real processes on one PostgreSQL database: servers without a worker, and workers, side by side."""

from __future__ import annotations

import itertools
import os
import signal
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import psutil

from tests.crash.fire import TASKS, Client, check_runs, read_journal
from tests.postgres import Cluster, database_of
from tests.server import Server, run_server, run_worker

SHORT = {"TASKER_LEASE": "2", "TASKER_HEARTBEAT": "0.5", "TASKER_DRAIN": "3", "TASKER_PROCESSES": "2"}
"""Settings of processes where the length of a lease is not the point."""
LIMIT = 60.0


class Fleet:
    """Starts processes on one database and in one folder, where their tasks write one journal."""

    def __init__(self, folder: Path, cluster: Cluster) -> None:
        self.folder = folder
        self.cluster = cluster
        self.url = cluster.fresh_database()
        self._ways = {"TASKER_DATABASE_URL": self.url}
        self._numbers = itertools.count(1)

    def api(self, *args: str, tasks: Path = TASKS, **more: Any) -> AbstractContextManager[Server]:
        """Run a server without a worker. url: another way to the database; env: settings; under: another command."""
        return run_server(self.folder, "--no-worker", str(tasks), *args, **self._options("api", more))

    def worker(self, *args: str, tasks: Path = TASKS, **more: Any) -> AbstractContextManager[Server]:
        """Run a worker; `tasks` is the file of its task types, the rest as for `api`."""
        return run_worker(self.folder, str(tasks), *args, **self._options("worker", more))

    def go_through(self, pooler_url: str) -> None:
        """Have the processes that start from now on reach the database through a pooler."""
        self._ways = {"TASKER_DATABASE_URL": pooler_url, "TASKER_LISTEN_URL": self.url}

    def sql(self, statement: str) -> list[list[str]]:
        """Ask the database itself."""
        return self.cluster.sql(statement, database_of(self.url))

    def until_noted(self, what: str, task_id: str, attempt: int = 1) -> None:
        """Wait until a task's function has written this to the journal."""

        def is_noted() -> bool:
            said = ((line["what"], line["task_id"], line["attempt"]) for line in read_journal(self.folder))
            return (what, task_id, attempt) in said

        until(is_noted, f"attempt {attempt} of {task_id} never noted its {what}")

    def open_gate(self, task_id: str, attempt: int = 1) -> None:
        """Let this attempt of a gated task end."""
        (self.folder / f"{task_id}.{attempt}.open").touch()

    def nonce(self, task_id: str, attempt: int) -> str:
        """Return the nonce that an attempt wrote to the journal; the task's result is the nonce of the last attempt."""
        [nonce] = {
            str(line["nonce"])
            for line in read_journal(self.folder)
            if (line["task_id"], line["attempt"]) == (task_id, attempt)
        }
        return nonce

    def check(self, client: Client, accepted: dict[str, str]) -> list[dict[str, Any]]:
        """Compare what the clients were promised with what happened; return the tasks."""
        tasks = [client.end(task_id) for task_id in accepted.values()]
        assert {task["status"] for task in tasks} <= {"completed"}
        assert len(set(accepted.values())) == len(accepted), "two keys share a task"
        check_runs(tasks, read_journal(self.folder))
        until(lambda: self.sql("SELECT count(*) FROM tasker.pgqueuer") == [["0"]], "somebody is still in line")
        return tasks

    def _options(self, kind: str, more: dict[str, Any]) -> dict[str, Any]:
        ways = {"TASKER_DATABASE_URL": more.pop("url")} if "url" in more else self._ways
        env = {**ways, **SHORT, **more.pop("env", {})}
        return {"env": env, "name": f"{kind}-{next(self._numbers)}", **more}


def until(is_so: Callable[[], bool], otherwise: str, limit: float = LIMIT) -> None:
    """Poll until the condition holds; after `limit` seconds fail with this message."""
    end = monotonic() + limit
    while not is_so():
        assert monotonic() < end, otherwise
        sleep(0.02)


def kill_amid(server: Server, folder: Path) -> None:
    """`kill -9` a process at a moment at which a function of its own runs: it is frozen first, and its journal tells.

    What runs while it is frozen can no longer be stored by it, so an attempt is sure to be cut off.
    """
    pid = server.process.pid

    def is_amid() -> bool:
        os.kill(pid, signal.SIGSTOP)
        until(lambda: psutil.Process(pid).status() == psutil.STATUS_STOPPED, "it does not freeze")
        runs = Counter(line["nonce"] for line in read_journal(folder) if line["pid"] == pid)  # a start, and an end
        if 1 not in runs.values():
            os.kill(pid, signal.SIGCONT)
        return 1 in runs.values()

    until(is_amid, "it never had a function under way")
    server.kill()


def settle(client: Client, unknown: list[tuple[str, str, int]], accepted: dict[str, str]) -> None:
    """Repeat every submission whose answer never came, with its key, until an answer comes, as a client should."""

    def is_accepted(key: str, type: str, milliseconds: int) -> bool:
        task_id = client.offer(type, [milliseconds], key)
        if task_id is not None:
            accepted[key] = task_id
        return task_id is not None

    for key, type, milliseconds in unknown:
        until(lambda one=(key, type, milliseconds): is_accepted(*one), f"refused again and again: {key}")
