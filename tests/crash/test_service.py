"""The service really killed, drained and doubled; a client's journal has what it accepted."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from pathlib import Path
from time import monotonic, sleep

import psutil
import pytest

from tests.crash.fire import TASKS, Client, Load, check_runs, read_journal
from tests.crash.fleet import kill_amid, settle, until
from tests.server import clean_environment, run_server

pytestmark = [pytest.mark.crash, pytest.mark.timeout(280)]

KILLS = 5


def test_kills_at_random_moments_lose_nothing(tmp_path: Path) -> None:
    """`kill -9` under load, again and again: every accepted task ends, and each extra run has its cause."""
    accepted: dict[str, str] = {}
    unknown: list[tuple[str, str, int]] = []
    for kill in range(KILLS):
        with run_server(tmp_path, str(TASKS)) as server, Load(server) as load:
            sleep(random.uniform(0.3, 1.5))  # the moment is the point: no event stands for it
            server.kill() if kill else kill_amid(server, tmp_path)
        assert load.accepted, "nothing was accepted before the kill: this run proves nothing"
        accepted |= load.accepted
        unknown += load.unknown
    with run_server(tmp_path, str(TASKS)) as server, Client(server) as client:
        settle(client, unknown, accepted)
        tasks = [client.end(task_id) for task_id in accepted.values()]
        listed = client.all_ids()
        client.check_stats()
    assert {task["status"] for task in tasks} == {"completed"}
    assert listed == set(accepted.values()), "each key is one task, and there is no other"
    endings = check_runs(tasks, read_journal(tmp_path))
    assert endings["interrupted"], "no attempt was cut off"


@pytest.mark.long
def test_a_long_task_survives_six_kills(tmp_path: Path) -> None:
    """Cut off six times, it uses up no try; the seventh attempt, the first that may end, completes it."""
    with run_server(tmp_path, str(TASKS)) as server, Client(server) as client:
        task_id = client.submit("gated", [])
        (tmp_path / f"{task_id}.7.open").touch()
        _until_started(tmp_path, 1)
        server.kill()
    for attempt in range(2, 7):
        with run_server(tmp_path, str(TASKS)) as server, Client(server) as client:
            _until_started(tmp_path, attempt)
            assert client.get(task_id)["tries_left"] == 1
            server.kill()
    with run_server(tmp_path, str(TASKS)) as server, Client(server) as client:
        done = client.end(task_id)
    assert (done["status"], done["attempt"]) == ("completed", 7)
    assert [attempt["ending"] for attempt in done["attempts"]] == ["interrupted"] * 6 + ["succeeded"]


def test_the_death_of_a_child_is_an_attempt_that_crashed(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    with run_server(tmp_path, str(TASKS)) as server, Client(server) as client:
        task_id = client.submit("tell_pid", [str(gate)])
        first = _read_pid(gate)
        os.kill(first, signal.SIGKILL)
        gate.touch()
        done = client.end(task_id)
        assert client.status("/readyz") == 200
    assert done["status"] == "completed"
    assert done["result"] != first
    assert [attempt["ending"] for attempt in done["attempts"]] == ["crashed", "succeeded"]
    assert "SIGKILL" in done["attempts"][0]["error"]["detail"]


def test_a_poison_pill_stops_after_three_crashes_and_others_go_on(tmp_path: Path) -> None:
    with run_server(tmp_path, str(TASKS)) as server, Client(server) as client:
        pill, once = client.submit("poison", []), client.submit("poison_once", [])
        others = [client.submit("in_child", [1]) for _ in range(10)]
        assert {client.end(other)["status"] for other in others} == {"completed"}
        dead, dead_once = client.end(pill), client.end(once)
    assert (dead["status"], dead["attempt"], dead["error"]["type"]) == ("failed", 3, "/problems/worker-crashed")
    assert (dead_once["status"], dead_once["attempt"]) == ("failed", 1)
    starts = [line["task_id"] for line in read_journal(tmp_path)]
    assert starts.count(pill) == 3
    assert starts.count(once) == 1


def test_a_task_that_kills_the_service_ends_alone_in_a_child(tmp_path: Path) -> None:
    """After three ends of the service it runs alone in a child, and can kill only that."""
    with run_server(tmp_path, str(TASKS)) as server, Client(server) as client:
        pill = client.submit("poison_on_loop", [], delay=0.5)
        server.process.wait(30)
    for _ in range(2):
        _start_and_see_it_die(tmp_path)
    with run_server(tmp_path, str(TASKS)) as server, Client(server) as client:
        dead = client.end(pill)
        other = client.submit("on_loop", [1])
        assert client.end(other)["status"] == "completed"
    assert dead["status"] == "failed"
    endings = [attempt["ending"] for attempt in dead["attempts"]]
    assert endings == ["interrupted"] * 3 + ["crashed"] * 3


def test_a_drain_lets_tasks_end_and_gives_the_rest_back_at_once(tmp_path: Path) -> None:
    with run_server(tmp_path, str(TASKS), "--drain", "4") as server, Client(server) as client:
        short, long = client.submit("gated", []), client.submit("steps", [600])
        child = client.submit("tell_pid", [str(tmp_path / "never")])
        for task_id in (short, long, child):
            client.until(task_id, lambda task: task["status"] == "running")
        pid = _read_pid(tmp_path / "never")
        server.process.terminate()
        until(lambda: "worker.draining" in server.text(), "it does not drain")
        (tmp_path / f"{short}.1.open").touch()
        assert server.process.wait(30) == 0
    assert not psutil.pid_exists(pid)
    with run_server(tmp_path, str(TASKS), "--drain", "0.1") as server, Client(server) as client:
        assert client.get(short)["status"] == "completed"
        again = client.until(long, lambda task: task["status"] == "running" and task["attempt"] == 2)
        assert again["attempts"][0]["ending"] == "released"
        assert again["tries_left"] == 1
        assert client.get(child)["attempts"][0]["ending"] == "released"


def test_a_second_server_on_the_same_file_names_the_first(tmp_path: Path) -> None:
    with run_server(tmp_path) as server, Client(server) as client:
        second = subprocess.run(
            [sys.executable, "-m", "tasker", "serve", "--port", "0", "--data-dir", str(server.data_dir)],
            capture_output=True, text=True, timeout=60, env=clean_environment(), cwd=tmp_path,
        )  # fmt: skip
        assert second.returncode != 0
        assert f"process {server.process.pid}" in second.stderr
        assert client.end(client.submit("sum", [4, 2]))["result"] == 6


def test_a_stop_does_not_wait_for_those_who_wait(tmp_path: Path) -> None:
    """Open long-polls return when the service stops, with the task as it is."""
    with run_server(tmp_path, str(TASKS)) as server, Client(server) as client:
        task_id = client.submit("sum", [4, 2], delay=600)
        waiting = [
            subprocess.Popen(
                ["curl", "-s", "-o", os.devnull, "-w", "%{http_code}", f"{server.url}/task/{task_id}?wait=60"],
                stdout=subprocess.PIPE,
            )
            for _ in range(20)
        ]
        process = psutil.Process(server.process.pid)
        until(lambda: len(process.net_connections("tcp")) >= 21, "the clients do not connect")
        begun = monotonic()
        assert server.stop() == 0
        assert monotonic() - begun < 30, "the stop waited for the waits, which were for 60 s"
        assert {process.communicate()[0] for process in waiting} == {b"200"}


def _until_started(folder: Path, attempt: int) -> None:
    limit = monotonic() + 30
    while not any(line["attempt"] == attempt for line in read_journal(folder)):
        assert monotonic() < limit, f"attempt {attempt} never started"
        sleep(0.02)


def _start_and_see_it_die(folder: Path) -> None:
    try:
        with run_server(folder, str(TASKS)) as server:
            server.process.wait(30)
    except AssertionError as error:
        assert "before it was ready" in str(error)  # noqa: PT017  it may die that soon


def _read_pid(gate: Path) -> int:
    file, limit = gate.with_name(gate.name + ".pid"), monotonic() + 30
    while not file.exists() or not file.read_text():
        assert monotonic() < limit, "the task never started"
        sleep(0.02)
    return int(file.read_text())
