"""The chores of a store go on in another process when the one that does them dies, freezes or stops."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from tests.crash.fire import Client
from tests.crash.fleet import Fleet, until
from tests.postgres import Cluster

pytestmark = [pytest.mark.crash, pytest.mark.timeout(120)]


class Chores:
    """What is seen of them in the database: who leads, and that a schedule with a tick each second is fired."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet

    @property
    def leader(self) -> str:
        """The leader's name; "nobody" after it has given up the lead."""
        [[holder]] = self._fleet.sql("SELECT coalesce(nullif(holder, ''), 'nobody') FROM tasker.lead")
        return holder

    @property
    def fired(self) -> int:
        [[count]] = self._fleet.sql("SELECT count(*) FROM tasker.task")
        return int(count)

    def until_led_by_another(self, than: str) -> str:
        """Wait until another process leads and has fired; return its name."""
        until(lambda: self.leader not in ("nobody", than), "nobody takes over")
        fired = self.fired
        until(lambda: self.fired > fired, "the new leader does not fire")
        return self.leader


def test_another_process_takes_over_from_one_that_freezes_dies_or_stops(tmp_path: Path, cluster: Cluster) -> None:
    fleet = Fleet(tmp_path, cluster)
    chores = Chores(fleet)
    with fleet.api() as server, Client(server) as client:
        body = {"name": "s", "interval": 1, "missed": "all", "task": {"type": "on_loop", "params": [1]}}
        assert client.post("/schedule", body, timeout=10).status_code == 201
        api = chores.until_led_by_another("nobody")
        with fleet.worker() as worker:
            os.kill(server.process.pid, signal.SIGSTOP)
            leader = chores.until_led_by_another(api)
            os.kill(server.process.pid, signal.SIGCONT)
            worker.kill()
        assert chores.until_led_by_another(leader) == api
        with fleet.worker():
            assert server.stop() == 0
            chores.until_led_by_another(api)
            [[tasks, ticks]] = fleet.sql("SELECT count(*), count(DISTINCT extra) FROM tasker.task")
            assert tasks == ticks, "a tick was fired twice"
