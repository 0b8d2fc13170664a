"""Ticks of schedules while processes are killed and clocks are wrong: each submits its one task, none comes early."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import sleep
from typing import Any

import pytest

from tests.crash.fire import Client
from tests.crash.fleet import Fleet, until
from tests.crash.test_clocks import _set, _set_by, _wrong
from tests.postgres import Cluster
from tests.server import run_server

pytestmark = [pytest.mark.crash, pytest.mark.timeout(280)]
needs_faketime = pytest.mark.skipif(shutil.which("faketime") is None, reason="faketime is not installed")

SECOND = timedelta(seconds=1)


def create(client: Client, **fields: Any) -> dict[str, Any]:
    """Make a schedule, by default one with a tick each second that misses none."""
    body = {"name": "s", "interval": 1, "missed": "all", "task": {"type": "sum", "params": [4, 2]}, **fields}
    reply = client.post("/schedule", body, timeout=30)
    assert reply.status_code == 201, reply.text
    return dict(reply.json())


def ticks_of(client: Client) -> list[datetime]:
    return [datetime.fromisoformat(task["scheduled_for"]) for task in client.all_tasks()]


def late(task: dict[str, Any]) -> timedelta:
    """Return how long after its tick a task was submitted."""
    return datetime.fromisoformat(task["created_at"]) - datetime.fromisoformat(task["scheduled_for"])


def check_ticks(client: Client, schedule: dict[str, Any], last: datetime | None = None) -> list[datetime]:
    """Check that there is one task for each second from the schedule's first to its last tick; return the tasks."""
    state = client.list("/schedule")[0]
    last = datetime.fromisoformat(state["last_fired_at"]) if last is None else last
    found = sorted(tick for tick in ticks_of(client) if tick <= last)
    first = datetime.fromisoformat(schedule["next_fire_at"])
    assert found == [first + number * SECOND for number in range(len(found))]
    assert found[-1] == last
    return found


def test_kills_at_random_moments_fire_each_tick_once(tmp_path: Path) -> None:
    """`kill -9` again and again: the restarted service submits missed ticks, and repeats none."""
    with run_server(tmp_path) as server, Client(server) as client:
        schedule = create(client)
        until(lambda: len(ticks_of(client)) >= 2, "it never fired")
        server.kill()
    for _ in range(2):
        with run_server(tmp_path) as server:
            sleep(random.uniform(0, 1.1))  # the moment is the point: no event stands for it
            server.kill()
    sleep(2.1)  # ticks pass while nobody is there
    with run_server(tmp_path) as server, Client(server) as client:
        until(lambda: len(ticks_of(client)) >= 6, "it does not fire any more")
        check_ticks(client, schedule)
        tasks = list(client.all_tasks())
        for task in tasks:
            assert client.end(task["task_id"])["result"] == 6
    assert max(map(late, tasks)) > SECOND, "nothing was missed: this run proves nothing"


@pytest.mark.long
@needs_faketime
def test_two_processes_with_wrong_clocks_fire_each_tick_once_and_on_time(tmp_path: Path, cluster: Cluster) -> None:
    """Rows 30 and 31 on PostgreSQL; then one of the processes is killed, and the other goes on."""
    fleet = Fleet(tmp_path, cluster)
    with fleet.api(env=_wrong("-1h")) as server, Client(server) as client:
        with fleet.worker(env=_wrong("+1h")) as worker:
            schedule = create(client, task={"type": "on_loop", "params": [1]})
            until(lambda: len(ticks_of(client)) >= 4, "nobody fires")
            worker.kill()
        before = max(ticks_of(client))
        until(lambda: max(ticks_of(client)) > before + 2 * SECOND, "the other one does not fire")
        check_ticks(client, schedule)
        for task in client.all_tasks():
            assert timedelta(0) <= late(task) < timedelta(minutes=30), "early, or an hour late"


@pytest.mark.long
@needs_faketime
def test_a_clock_that_jumps_fires_nothing_early_and_nothing_twice(tmp_path: Path) -> None:
    """Row 30 on SQLite: an hour ahead, and an hour back again."""
    offset = tmp_path / "offset"
    _set(offset, "+0")
    with run_server(tmp_path, env=_set_by(offset)) as server, Client(server) as client:
        soon = datetime.now(UTC).minute + 20  # none comes while the test runs
        cron = f"{soon % 60},{(soon + 20) % 60} * * * *"
        schedule = create(client, interval=None, cron=cron, missed="once")

        def is_on(tick: str, hours: int) -> Callable[[], bool]:
            expected = datetime.fromisoformat(tick) + timedelta(hours=hours)
            return lambda: datetime.fromisoformat(client.list("/schedule")[0]["next_fire_at"]) >= expected

        _set(offset, "+1h")
        until(is_on(schedule["next_fire_at"], 1), "it does not see that its ticks have come")
        assert len(ticks_of(client)) == 1, "one task for all that were missed"
        after = client.list("/schedule")
        _set(offset, "+0")
        sleep(2.5)  # longer than it takes to look at the clock, and nothing may happen
        assert client.list("/schedule") == after
        assert len(ticks_of(client)) == 1
