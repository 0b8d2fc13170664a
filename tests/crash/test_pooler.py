"""Processes that reach their database through a real PgBouncer in transaction mode, which is killed meanwhile."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.crash.fire import Client, Load
from tests.crash.fleet import Fleet, settle, until
from tests.pooler import Pooler, run_pooler
from tests.postgres import Cluster, database_of

pytestmark = [pytest.mark.crash, pytest.mark.timeout(180)]


@pytest.fixture
def pooler(cluster: Cluster) -> Iterator[Pooler]:
    with run_pooler(cluster) as pooler:
        yield pooler


@pytest.fixture
def fleet(tmp_path: Path, cluster: Cluster, pooler: Pooler) -> Fleet:
    """Its processes go through the pooler; `sql` asks the database itself."""
    fleet = Fleet(tmp_path, cluster)
    fleet.go_through(pooler.url_of(database_of(fleet.url)))
    return fleet


@pytest.mark.long
def test_everything_works_through_a_pooler(fleet: Fleet) -> None:
    with fleet.api() as server, fleet.worker(), fleet.worker(), Client(server) as client:
        waited = client.post("/task?wait=30", {"type": "on_loop", "params": [1]}, timeout=40).json()
        assert waited["status"] == "completed", "its end was heard"
        stopped = client.submit("gated", [])
        fleet.until_noted("start", stopped)
        assert client.post(f"/task/{stopped}/cancel", {}, timeout=10).is_success
        assert client.end(stopped)["status"] == "cancelled"
        body = {"name": "each-second", "interval": 1, "task": {"type": "on_loop", "params": [1]}}
        assert client.post("/schedule", body, timeout=10).status_code == 201
        until(lambda: _ended_of_schedules(client) >= 2, "the schedule does not fire")
        locked = "SELECT count(*) FROM tasker.worker WHERE locked"
        until(lambda: fleet.sql(locked) == [["2"]], "the workers do not hold the locks on their names")


def test_a_pooler_killed_under_load_loses_nothing(fleet: Fleet, pooler: Pooler) -> None:
    with fleet.worker(), fleet.worker(), fleet.api() as server, Client(server) as client:
        with Load(server) as load:
            for _ in range(2):
                so_far = len(load.accepted)
                until(lambda so_far=so_far: len(load.accepted) > so_far + 50, "nothing is accepted")
                pooler.kill()
                pooler.start()
            so_far = len(load.accepted)
            until(lambda: len(load.accepted) > so_far + 50, "it did not come back by itself")
        settle(client, load.unknown, load.accepted)
        fleet.check(client, load.accepted)
        assert client.all_ids() == set(load.accepted.values()), "each key is one task, and there is no other"


def _ended_of_schedules(client: Client) -> int:
    return sum(task["status"] == "completed" and "scheduled_for" in task for task in client.all_tasks())
