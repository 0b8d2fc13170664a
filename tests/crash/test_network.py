"""Processes whose network is taken away, by the kernel's own means: partitions, loss and resets (rows 25 and 26)."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from time import sleep

import pytest

from tests.crash.fire import Client, Load, Watch
from tests.crash.fleet import Fleet, settle, until
from tests.crash.island import Island
from tests.postgres import Cluster

pytestmark = [pytest.mark.crash, pytest.mark.root, pytest.mark.timeout(280)]


@pytest.fixture
def fleet(tmp_path: Path, cluster: Cluster) -> Fleet:
    return Fleet(tmp_path, cluster)


@pytest.fixture
def island(fleet: Fleet) -> Iterator[Island]:
    with Island(fleet.url) as island:
        yield island


def test_a_worker_cut_off_for_longer_than_its_lease_is_replaced_and_refused(fleet: Fleet, island: Island) -> None:
    """Row 25: its task runs elsewhere; the end of its own run is refused when it is back, and it goes on."""
    with fleet.api() as server, Client(server) as client, Watch(server):
        with fleet.worker(**island.options) as cut_off, Client(cut_off) as probe:
            task_id = client.submit("gated", [])
            fleet.until_noted("start", task_id)
            island.cut()
            with fleet.worker():
                fleet.until_noted("start", task_id, attempt=2)
                fleet.open_gate(task_id)
                fleet.until_noted("end", task_id)
                accepted = {str(number): client.submit("on_loop", [1]) for number in range(20)}
                assert {client.end(other)["status"] for other in accepted.values()} == {"completed"}
                assert probe.status("/livez") == 200
                assert probe.status("/readyz") == 503, "it does not say that it is cut off"
                assert island.stopped() > 0, "nothing was stopped: this run proves nothing"
                island.heal()
                until(lambda: "attempt_superseded" in cut_off.text(), "its late result was not refused")
                assert client.get(task_id)["status"] == "running", "attempt 2 has not ended yet"
                fleet.open_gate(task_id, attempt=2)
                done = client.end(task_id)
            until(lambda: probe.status("/readyz") == 200, "it is not ready again")
            accepted |= {"cut off": task_id, "at work again": client.submit("on_loop", [1])}
            fleet.check(client, accepted)
    assert done["result"] == fleet.nonce(task_id, 2)
    assert [attempt["ending"] for attempt in done["attempts"]] == ["interrupted", "succeeded"]


def _lose_packets(island: Island) -> None:
    island.lose(0.3)
    until(lambda: island.stopped() > 40, "nothing is stopped: this run proves nothing")
    island.heal()


def _reset_connections(island: Island) -> None:
    reset = 0
    while reset < 40:
        sleep(random.uniform(0.05, 0.2))  # the moment is the point: no event stands for it
        reset += island.reset()


@pytest.mark.parametrize("harm", [_lose_packets, pytest.param(_reset_connections, marks=pytest.mark.long)])
def test_a_bad_network_loses_no_task_and_doubles_none(fleet: Fleet, island: Island, harm) -> None:
    """Row 26: servers and workers whose packets from the database are lost, or whose connections are reset."""
    with fleet.api(**island.options) as server, fleet.worker(**island.options), Client(server) as client:
        with Load(server) as load:
            until(lambda: len(load.accepted) > 20, "nothing is accepted")
            harm(island)
            so_far = len(load.accepted)
            until(lambda: len(load.accepted) > so_far + 20, "it did not come back by itself")
        until(lambda: client.status("/readyz") == 200, "it is not ready again")
        settle(client, load.unknown, load.accepted)
        fleet.check(client, load.accepted)
        assert client.all_ids() == set(load.accepted.values()), "each key is one task, and there is no other"
