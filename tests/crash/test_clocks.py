"""Machines whose clocks are wrong, or are set: leases and durations stay right (rows 30 and 31)."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.crash.fire import TASKS, Client, Watch
from tests.crash.fleet import Fleet, until
from tests.postgres import Cluster
from tests.server import run_server

pytestmark = [
    pytest.mark.crash,
    pytest.mark.timeout(280),
    pytest.mark.skipif(shutil.which("faketime") is None, reason="faketime is not installed: apt install faketime"),
]


def _wrong(offset: str) -> dict[str, str]:
    """Return a command prefix that gives a process another wall clock, and the true monotonic one."""
    library = next(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"))
    return {"LD_PRELOAD": str(library), "FAKETIME": offset, "DONT_FAKE_MONOTONIC": "1", "FAKETIME_DONT_RESET": "1"}


def _set_by(file: Path) -> dict[str, str]:
    """The same, by an offset in a file, which may change at any time."""
    told = {"FAKETIME_TIMESTAMP_FILE": str(file), "FAKETIME_NO_CACHE": "1"}
    return {name: value for name, value in _wrong("").items() if name != "FAKETIME"} | told


def _set(file: Path, offset: str) -> None:
    """Set the clock at once: a process that reads a file half written takes it for no offset at all."""
    fresh = file.with_suffix(".fresh")
    fresh.write_text(offset)
    fresh.replace(file)


def _hours_ahead(client: Client) -> int:
    """Return how wrong the clock of the worker is that takes the next task."""
    return round((float(client.end(client.submit("tell_time", []))["result"]) - time.time()) / 3600)


@pytest.mark.long
@pytest.mark.parametrize(("server_is", "worker_is"), [("-1h", "+1h"), ("+1h", "-1h")])
def test_wrong_clocks_start_nothing_early_late_or_twice(
    tmp_path: Path, cluster: Cluster, server_is: str, worker_is: str
) -> None:
    fleet = Fleet(tmp_path, cluster)
    with fleet.api(env=_wrong(server_is)) as server, Client(server) as client:
        with fleet.worker(env=_wrong(worker_is)), fleet.worker(env=_wrong(server_is)):
            began = datetime.now(UTC)
            now, soon = client.submit("on_loop", [3000]), client.submit("on_loop", [1], delay=2)
            done, later = fleet.check(client, {"now": now, "soon": soon})
            assert _hours_ahead(client) in (-1, 1), "the clocks are right: this run proves nothing"
            until(lambda: client.status("/readyz") == 200, "it is not ready")
    assert [attempt["ending"] for attempt in done["attempts"]] == ["succeeded"], "it outlived its lease of 2 s"
    assert [attempt["ending"] for attempt in later["attempts"]] == ["succeeded"]
    started = datetime.fromisoformat(later["started_at"]) - began
    assert timedelta(seconds=2) <= started < timedelta(seconds=30), "not early, and not an hour late"
    for task in (done, later):
        assert abs(datetime.fromisoformat(task["created_at"]) - began) < timedelta(minutes=1), "by the database's time"


@pytest.mark.long
def test_a_clock_that_jumps_ends_no_lease_and_starts_nothing_early(tmp_path: Path, cluster: Cluster) -> None:
    """Row 30: an hour ahead and then an hour back, while one task runs and another waits."""
    fleet = Fleet(tmp_path, cluster)
    offset = tmp_path / "offset"
    _set(offset, "+0")
    with fleet.api() as server, Client(server) as client, fleet.worker(env=_set_by(offset)):
        running, waiting = client.submit("gated", []), client.submit("on_loop", [1], delay=600)
        fleet.until_noted("start", running)
        for jump in (1, -1):
            _set(offset, f"{jump:+}h")
            assert _hours_ahead(client) == jump, "the clock did not jump: this run proves nothing"
            soon = client.submit("on_loop", [1], delay=2.5)  # longer than a lease, and than a round of the reaper
            assert len(client.end(soon)["attempts"]) == 1
        assert client.get(waiting)["status"] == "pending", "it started ten minutes early"
        fleet.open_gate(running)
        done = client.end(running)
    assert [attempt["ending"] for attempt in done["attempts"]] == ["succeeded"], "the jump ended a lease"


@pytest.mark.long
def test_of_two_workers_an_hour_or_two_apart_only_the_later_attempt_counts(tmp_path: Path, cluster: Cluster) -> None:
    """Row 31: for the database the lease is over, while its worker thinks that it has an hour left; and the reverse."""
    fleet = Fleet(tmp_path, cluster)
    with fleet.api() as server, Client(server) as client, Watch(server):
        with fleet.worker(env=_wrong("-1h")) as behind:
            task_id = client.submit("gated", [])
            fleet.until_noted("start", task_id)
            os.kill(behind.process.pid, signal.SIGSTOP)
            with fleet.worker(env=_wrong("+1h")):
                fleet.until_noted("start", task_id, attempt=2)
                fleet.open_gate(task_id)
                os.kill(behind.process.pid, signal.SIGCONT)
                until(lambda: "attempt_superseded" in behind.text(), "its late result was not refused")
                fleet.open_gate(task_id, attempt=2)
                [done] = fleet.check(client, {"only": task_id})
    assert done["result"] == fleet.nonce(task_id, 2)
    assert [attempt["ending"] for attempt in done["attempts"]] == ["interrupted", "succeeded"]


STEPS = ("+15s", "-10m", "+1h", "+15s", "-1h", "+1h", "+3653d", "-3653d", "-3653d", "+3653d", "+15s", "-10m")
UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


TRIES = 5
"""libfaketime is not made for threads: one may for a moment read no offset while another reads it anew."""


@pytest.mark.long
def test_steps_of_the_clock_rerun_nothing_and_start_nothing_early_or_late(tmp_path: Path) -> None:
    """Row 30 where the service has its store alone: while two attempts run, and one task waits for its delay."""
    folders = [tmp_path / str(number) for number in range(TRIES)]
    assert any(map(_keeps_delays, folders)), "the clock was never set by these steps alone: this run proves nothing"


def _keeps_delays(folder: Path) -> bool:
    """Set the clock again and again; return False if it was set otherwise, too, and nothing is proven."""
    folder.mkdir()
    offset, seconds, made = folder / "offset", 0, [0]
    _set(offset, "+0")
    env = _set_by(offset) | {"TASKER_LEASE": "4", "TASKER_HEARTBEAT": "2"}
    with run_server(folder, str(TASKS), env=env) as server, Client(server) as client:
        running = [client.submit("gated", []) for _ in range(2)]
        for task_id in running:
            client.until(task_id, lambda task: task["status"] == "running")
        for step in STEPS:
            begun = time.monotonic()
            waiting = client.submit("on_loop", [1], delay=2.5)  # longer than a round of the reaper
            made.append(int(step[:-1]) * UNITS[step[-1]])
            seconds += made[-1]
            _set(offset, f"{seconds:+}")
            wrong_by = float(client.end(client.submit("tell_time", []))["result"]) - time.time()
            ended, took = client.end(waiting), time.monotonic() - begun
            if any(min(abs(seen - one) for one in made) > 1 for seen in _steps_in(server.text())):
                return False
            if abs(wrong_by - seconds) >= 5:  # the offset was lost when the task looked
                return False
            assert len(ended["attempts"]) == 1
            assert 2.5 <= took < 30, f"a step of {step} changed how long a delay takes"
        for task_id in running:
            (folder / f"{task_id}.1.open").touch()
        done = [client.end(task_id) for task_id in running]
    assert [[attempt["ending"] for attempt in task["attempts"]] for task in done] == [["succeeded"]] * 2
    return True


def _steps_in(text: str) -> list[float]:
    """Return the steps of the clock that a log tells of, in seconds."""
    return [float(json.loads(line)["seconds"]) for line in text.splitlines() if '"clock.was_set"' in line]
