"""Streams of events over real connections: live, across kills and processes, and with stalled readers."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx2
import psutil
import pytest

from tests.crash.fire import TASKS, Client
from tests.crash.fleet import Fleet, until
from tests.postgres import Cluster
from tests.server import Server, run_server

pytestmark = [pytest.mark.crash, pytest.mark.timeout(280)]

LINES = {"accept": "application/jsonl"}


def follow(server: Server, task_id: str, after: int = 0) -> Iterator[dict[str, Any]]:
    """Yield the events of a task until it ends or the connection breaks."""
    headers = {**LINES, "last-event-id": str(after)}
    try:
        with httpx2.stream("GET", f"{server.url}/task/{task_id}/events", headers=headers, timeout=30) as reply:
            assert reply.status_code in (200, 204), reply.read()
            yield from (json.loads(line) for line in reply.iter_lines() if line)
    except httpx2.TransportError:
        return


def open_gate(folder: Path, task_id: str, attempt: int) -> None:
    """Let this attempt end, once it has said all."""
    (folder / f"{task_id}.{attempt}.open").touch()


def words(events: list[dict[str, Any]], attempt: int) -> str:
    return "".join(event["chunk"] for event in events if event["type"] == "output" and event["attempt"] == attempt)


def check_whole(events: list[dict[str, Any]], said: int) -> None:
    """Check that there is no gap and no repeat, and that the last attempt's events are complete."""
    assert [event["sequence"] for event in events] == [*range(1, len(events) + 1)]
    assert events[-1]["type"] == "completed"
    assert words(events, events[-1]["attempt"]) == "".join(f"{number} " for number in range(said))


def test_events_arrive_while_the_task_runs(tmp_path: Path) -> None:
    with run_server(tmp_path, str(TASKS)) as server, Client(server) as client:
        task_id = client.submit("talk_at_a_gate", [100, 20])
        seen = []
        for event in follow(server, task_id):
            if event["type"] == "output" and not any(one["type"] == "output" for one in seen):
                assert client.get(task_id)["status"] == "running"
                open_gate(tmp_path, task_id, 1)
            seen.append(event)
    check_whole(seen, 100)
    assert sum(event["type"] == "output" for event in seen) < 100, "words are gathered for some milliseconds"


def test_a_stream_goes_on_after_a_kill(tmp_path: Path) -> None:
    seen = []
    with run_server(tmp_path, str(TASKS)) as server, Client(server) as client:
        task_id = client.submit("talk_at_a_gate", [60, 20])
        open_gate(tmp_path, task_id, 2)
        for event in follow(server, task_id):
            seen.append(event)
            if len(seen) == 6:
                server.kill()
    with run_server(tmp_path, str(TASKS)) as server:
        seen += follow(server, task_id, after=seen[-1]["sequence"])
        assert [*follow(server, task_id)] == seen, "an event was changed"
    check_whole(seen, 60)
    assert [event["ending"] for event in seen if event["type"] == "retrying"] == ["interrupted"]


def follow_all(server: Server, after: str) -> Iterator[dict[str, Any]]:
    """Yield the events of all tasks behind a cursor ("": all that are kept) until the connection breaks."""
    url = f"{server.url}/events?after=oldest"
    try:
        with httpx2.stream("GET", url, headers={**LINES, "last-event-id": after}, timeout=30) as got:
            yield from (json.loads(line) for line in got.iter_lines() if line)
    except httpx2.TransportError:
        return


def check_all(seen: list[dict[str, Any]], server: Server, task_ids: list[str]) -> None:
    """No gap and no repeat: the received events of each task are its log."""
    for task_id in task_ids:
        told = [event for event in seen if event["task_id"] == task_id]
        assert [(event["sequence"], event["type"]) for event in told] == [
            (event["sequence"], event["type"]) for event in follow(server, task_id)
        ]


@pytest.mark.long
def test_the_stream_of_everything_goes_on_after_a_kill(tmp_path: Path) -> None:
    """Reference row 40."""
    seen = []
    with run_server(tmp_path, str(TASKS)) as server, Client(server) as client:
        task_ids = [client.submit("talk", [40, 20]) for _ in range(3)]
        for event in follow_all(server, ""):
            seen.append(event)
            if len(seen) == 20:
                server.kill()
    with run_server(tmp_path, str(TASKS)) as server, Client(server) as client:
        for event in follow_all(server, seen[-1]["cursor"]):
            seen.append(event)
            if sum(one["type"] == "completed" for one in seen) == 3:
                break
        check_all(seen, server, task_ids)


@pytest.mark.long
def test_the_stream_of_everything_passes_from_process_to_process(tmp_path: Path, cluster: Cluster) -> None:
    fleet = Fleet(tmp_path, cluster)
    with fleet.api() as one, fleet.api() as other, fleet.worker(), Client(one) as client, Client(other) as second:
        task_ids = [on.submit("talk", [20, 20]) for on in (client, second, client, second)]
        seen: list[dict[str, Any]] = [next(follow_all(one, ""))]
        for turn in range(1000):
            for event, _ in zip(follow_all((one, other)[turn % 2], seen[-1]["cursor"]), range(7), strict=False):
                seen.append(event)
                if sum(past["type"] == "completed" for past in seen) == 4:
                    break
            if sum(event["type"] == "completed" for event in seen) == 4:
                break
        check_all(seen, one, task_ids)


def test_a_stream_passes_from_process_to_process(tmp_path: Path, cluster: Cluster) -> None:
    """Two API processes and a worker on PostgreSQL: the reader goes from one to the other after each few events."""
    fleet = Fleet(tmp_path, cluster)
    with fleet.api() as one, fleet.api() as other, fleet.worker(), Client(one) as client:
        task_id = client.submit("talk", [60, 20])
        seen: list[dict[str, Any]] = []
        while not seen or seen[-1]["type"] != "completed":
            after = seen[-1]["sequence"] if seen else 0
            server = one if len(seen) % 2 else other
            for event, _ in zip(follow(server, task_id, after), range(5), strict=False):
                seen.append(event)
    check_whole(seen, 60)


def test_a_stop_ends_streams_at_once(tmp_path: Path) -> None:
    with run_server(tmp_path, str(TASKS)) as server, Client(server) as client:
        events = follow(server, client.submit("on_loop", [1], delay=3600))
        assert next(events)["type"] == "created"
        assert server.stop(timeout=25) == 0, "it waited for the stream"
        assert [*events] == []


@pytest.mark.long
def test_readers_that_stand_still_cost_a_bounded_amount(tmp_path: Path) -> None:
    """Each has at most one portion of the log in memory; others are served meanwhile, and the log is whole."""
    readers, said = 30, 400
    with (
        run_server(tmp_path, str(TASKS), env={"TASKER_MAX_OUTPUT": "64MiB"}) as server,
        Client(server) as client,
        ExitStack() as stack,
    ):
        task_id = client.submit("shout", [said, 64])
        for _ in range(readers):
            still = stack.enter_context(socket.create_connection(("127.0.0.1", server.port)))
            still.sendall(f"GET /task/{task_id}/events HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        before = psutil.Process(server.process.pid).memory_info().rss
        assert client.end(task_id)["status"] == "completed"
        grown = psutil.Process(server.process.pid).memory_info().rss - before
        assert grown < readers * said * 64 * 1024 / 4, "the log is in memory for each of them"
        events = [*follow(server, task_id)]
        assert sum(len(event.get("chunk", "")) for event in events) == said * 64 * 1024
        stack.close()
        until(lambda: client.status("/readyz") == 200, "it is not ready")
