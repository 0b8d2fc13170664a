"""Machines whose clocks are wrong: leases and moments are by the database's time alone (rows 30 and 31)."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.crash.fire import Client
from tests.crash.fleet import Fleet, until
from tests.postgres import Cluster

pytestmark = [
    pytest.mark.crash,
    pytest.mark.timeout(180),
    pytest.mark.skipif(shutil.which("faketime") is None, reason="faketime is not installed: apt install faketime"),
]


def _wrong(offset: str) -> dict[str, str]:
    """Return what makes a process see another wall clock, and the true monotonic one."""
    library = next(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"))
    return {"LD_PRELOAD": str(library), "FAKETIME": offset, "DONT_FAKE_MONOTONIC": "1", "FAKETIME_DONT_RESET": "1"}


@pytest.mark.parametrize(("server_is", "worker_is"), [("-1h", "+1h"), ("+1h", "-1h")])
def test_wrong_clocks_start_nothing_early_late_or_twice(
    tmp_path: Path, cluster: Cluster, server_is: str, worker_is: str
) -> None:
    fleet = Fleet(tmp_path, cluster)
    with fleet.api(env=_wrong(server_is)) as server, Client(server) as client:
        with fleet.worker(env=_wrong(worker_is)), fleet.worker(env=_wrong(server_is)):
            began = datetime.now(UTC)
            now, soon = client.submit("on_loop", [3000]), client.submit("on_loop", [1], delay=2)
            done, later = client.end(now), client.end(soon)
            until(lambda: client.status("/readyz") == 200, "it is not ready")
    assert [attempt["ending"] for attempt in done["attempts"]] == ["succeeded"], "it outlived its lease of 2 s"
    started = datetime.fromisoformat(later["started_at"]) - began
    assert timedelta(seconds=2) <= started < timedelta(seconds=30), "not early, and not an hour late"
    for task in (done, later):
        assert abs(datetime.fromisoformat(task["created_at"]) - began) < timedelta(minutes=1), "by the database's time"
