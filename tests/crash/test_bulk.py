"""A bulk action whose process is killed: it goes on by itself, and its receipt ends exact."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.crash.fire import Client
from tests.crash.fleet import Fleet, until
from tests.postgres import Cluster
from tests.server import Server, run_server

pytestmark = [pytest.mark.crash, pytest.mark.timeout(280)]

TRIES = 5
"""Actions that are begun until one is killed in its middle; the first one as a rule."""


def fill(client: Client, number: int) -> None:
    """Submit tasks that wait for an hour."""
    for _ in range(number // 100):
        client.submit_many("sum", [4, 2], 100, delay=3600)


def begin(server: Server, action: str) -> threading.Thread:
    """Ask for an action on every task, whose answer need not come."""

    def ask() -> None:
        with contextlib.suppress(httpx2.HTTPError), Client(server) as client:
            client.post("/bulk", {"action": action, "filter": {"type": "sum"}}, timeout=60)

    asking = threading.Thread(target=ask)
    asking.start()
    return asking


def kill_amid(server: Server, client: Client, action: str, known: int) -> None:
    """Begin an action, and kill the process once it has changed some tasks. known: actions before this one."""
    asking = begin(server, action)
    until(lambda: len(client.list("/bulk")) > known and client.list("/bulk")[0]["done"] > 0, "it does not begin")
    os.kill(server.process.pid, signal.SIGKILL)
    server.process.wait(30)
    asking.join()


def ended(client: Client) -> dict[str, Any]:
    """Wait until the newest action is over; return its receipt."""
    until(lambda: client.list("/bulk")[0]["state"] != "running", "it does not go on")
    return client.list("/bulk")[0]


def statuses(client: Client) -> Counter[str]:
    return Counter(task["status"] for task in client.all_tasks())


@pytest.mark.long
def test_an_action_that_is_cut_off_goes_on_and_ends_exact(tmp_path: Path) -> None:
    number = 2000
    with run_server(tmp_path) as server, Client(server) as client:
        fill(client, number)
        server.kill()
    for tried in range(TRIES):
        action, status = (("cancel", "cancelled"), ("retry", "pending"))[tried % 2]
        with run_server(tmp_path) as server, Client(server) as client:
            kill_amid(server, client, action, tried)
        with run_server(tmp_path) as server, Client(server) as client:
            begun = client.list("/bulk")[0]
            after = ended(client)
            found = statuses(client)
        assert (after["state"], after["matched"], after["done"], after["skips"]) == ("done", number, number, {})
        assert (after["bulk_id"], after["to_go"]) == (begun["bulk_id"], 0)
        assert found == {status: number}
        if begun["state"] == "running":
            return
    raise AssertionError("no action was cut off: this run proves nothing")


@pytest.mark.long
def test_another_process_goes_on_with_the_action_of_a_killed_one(tmp_path: Path, cluster: Cluster) -> None:
    number = 400
    fleet = Fleet(tmp_path, cluster)
    with fleet.api() as other, Client(other) as client:
        fill(client, number)
        for tried in range(TRIES):
            action, status = (("cancel", "cancelled"), ("retry", "pending"))[tried % 2]
            with fleet.api() as server:
                kill_amid(server, client, action, tried)
            begun = client.list("/bulk")[0]
            after = ended(client)
            assert (after["state"], after["matched"], after["done"], after["skips"]) == ("done", number, number, {})
            assert statuses(client) == {status: number}
            if begun["state"] == "running":
                return
    raise AssertionError("no action was cut off: this run proves nothing")
