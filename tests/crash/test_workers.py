"""Workers on PostgreSQL really killed, frozen, drained and raced; a client's journal has what was accepted."""

from __future__ import annotations

import os
import random
import signal
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import monotonic, sleep

import psutil
import pytest

from tests.crash.fire import TASKS, Client, Load, Watch, check_runs, read_journal
from tests.crash.fleet import Fleet, kill_amid, settle, until
from tests.crash.proxy import Proxy
from tests.postgres import Cluster
from tests.server import Server

pytestmark = [pytest.mark.crash, pytest.mark.timeout(280)]

LONG = {"TASKER_LEASE": "30", "TASKER_HEARTBEAT": "5"}
"""Settings where no attempt may be cut off, however busy the machine is."""


@pytest.fixture
def fleet(tmp_path: Path, cluster: Cluster) -> Fleet:
    return Fleet(tmp_path, cluster)


def _freeze(pid: int) -> None:
    os.kill(pid, signal.SIGSTOP)


def _thaw(pid: int) -> None:
    os.kill(pid, signal.SIGCONT)


def _stop_inside(*workers: Server) -> None:
    """Stop workers that run under a command which keeps their signals from them."""
    for worker in workers:
        [inside] = psutil.Process(worker.process.pid).children()
        inside.terminate()
        assert worker.process.wait(20) == 0


def test_workers_killed_under_load_lose_nothing(fleet: Fleet) -> None:
    """Row 3: `kill -9` at random moments, before and after the function's own end; each extra run is recorded."""
    with fleet.api() as server, fleet.worker(), Client(server) as client:
        with Load(server) as load:
            for _ in range(2):
                with fleet.worker() as worker:
                    sleep(random.uniform(0.2, 0.8))  # the moment is the point: no event stands for it
                    worker.kill()
            with fleet.worker() as worker:
                kill_amid(worker, fleet.folder)
        assert load.accepted, "nothing was accepted: this run proves nothing"
        settle(client, load.unknown, load.accepted)
        tasks = fleet.check(client, load.accepted)
        client.check_stats()
    assert any(len(task["attempts"]) > 1 for task in tasks), "no attempt was cut off"


def test_an_api_killed_under_load_keeps_what_it_accepted(fleet: Fleet) -> None:
    """Rows 1 and 2, in the distributed engine: an answer was given only for what is in the database."""
    accepted: dict[str, str] = {}
    unknown: list[tuple[str, str, int]] = []
    with fleet.worker():
        for _ in range(3):
            with fleet.api() as server, Load(server) as load:
                until(lambda load=load: len(load.accepted) > 50, "nothing is accepted")
                server.kill()
            accepted |= load.accepted
            unknown += load.unknown
        with fleet.api() as server, Client(server) as client:
            settle(client, unknown, accepted)
            fleet.check(client, accepted)
            assert client.all_ids() == set(accepted.values()), "each key is one task, and there is no other"
            client.check_stats()


@pytest.mark.parametrize(
    ("type", "when"),
    [("gated", "before"), pytest.param("gated_in_child", "before", marks=pytest.mark.long), ("gated", "after")],
)
def test_a_worker_killed_between_the_end_and_its_record_runs_the_task_again(fleet: Fleet, type: str, when) -> None:
    """Row 4: the function has ended, and its result has not reached the database when the worker is killed.

    If the result is stored but not yet answered, it counts: the task does not run again.
    """
    with fleet.api() as server, Client(server) as client, Proxy(fleet.url) as proxy:
        with fleet.worker(url=proxy.url) as doomed:
            task_id = client.submit(type, [])
            fleet.until_noted("start", task_id)
            proxy.cut(when, "SET status = ended.status", hold=True)
            fleet.open_gate(task_id)
            fleet.until_noted("end", task_id)
            until(lambda: proxy.held == 1, "its result never came to the database")
            doomed.kill()
        proxy.drop_all()
        fleet.open_gate(task_id, attempt=2)
        with fleet.worker():
            [done] = fleet.check(client, {"only": task_id})
    endings = ["interrupted", "succeeded"] if when == "before" else ["succeeded"]
    assert [attempt["ending"] for attempt in done["attempts"]] == endings
    ends = [line["attempt"] for line in read_journal(fleet.folder) if line["what"] == "end"]
    assert ends == list(range(1, len(endings) + 1)), "each run had its effect, and is told of"


@pytest.mark.parametrize(
    ("type", "wakes"),
    [("gated", "after"), pytest.param("gated", "during", marks=pytest.mark.long), ("gated_in_child", "during")],
)
def test_a_frozen_worker_that_wakes_changes_nothing(fleet: Fleet, type: str, wakes: str) -> None:
    """Rows 5 and 6: stopped past its lease; its function ends after the second attempt has, or while that runs."""
    with fleet.api() as server, Client(server) as client, Watch(server), fleet.worker() as frozen:
        task_id = client.submit(type, [])
        fleet.until_noted("start", task_id)
        _freeze(frozen.process.pid)
        with fleet.worker():
            fleet.until_noted("start", task_id, attempt=2)
            if wakes == "after":
                fleet.open_gate(task_id, attempt=2)
            before = client.end(task_id) if wakes == "after" else client.get(task_id)
            fleet.open_gate(task_id)
            if type == "gated_in_child":  # which is not frozen, and which a worker that wakes may end before its end
                fleet.until_noted("end", task_id)
            _thaw(frozen.process.pid)
            fleet.until_noted("end", task_id)
            until(lambda: "attempt_superseded" in frozen.text(), "its late result was not refused")
            assert client.get(task_id) == before, "it has changed the task"
            fleet.open_gate(task_id, attempt=2)
            [done] = fleet.check(client, {"only": task_id})
    assert done["result"] == fleet.nonce(task_id, 2)
    assert [attempt["ending"] for attempt in done["attempts"]] == ["interrupted", "succeeded"]


@pytest.mark.long
def test_a_worker_killed_at_default_settings_is_soon_replaced(fleet: Fleet) -> None:
    """All that the killed worker ran goes on elsewhere; the other worker comes late, so that it has none of it."""
    default = {"TASKER_LEASE": "", "TASKER_HEARTBEAT": ""}
    with ExitStack() as stack:
        client = stack.enter_context(Client(stack.enter_context(fleet.api(env=default))))
        doomed = stack.enter_context(fleet.worker(env=default))
        tasks = [client.submit("gated", []) for _ in range(20)]
        for task_id in tasks:
            fleet.until_noted("start", task_id)
        stack.enter_context(fleet.worker(env=default))
        for task_id in tasks:
            fleet.open_gate(task_id, attempt=2)
        doomed.kill()
        killed_at = monotonic()
        done = [client.end(task_id) for task_id in tasks]
        elapsed = monotonic() - killed_at
    assert all([a["ending"] for a in task["attempts"]] == ["interrupted", "succeeded"] for task in done)
    print(f"resumed and done {elapsed:.1f} s after the kill")
    assert elapsed < 30, "12 s for lease and reaper, and what a busy machine takes"


def test_a_poison_pill_ends_after_three_crashes_and_the_worker_lives(fleet: Fleet) -> None:
    """Rows 9 and 10: a child killed as the kernel kills for memory; others go on."""
    with fleet.api() as server, Client(server) as client, fleet.worker() as worker:
        pill, once = client.submit("poison", []), client.submit("poison_once", [])
        others = [client.submit("in_child", [1]) for _ in range(10)]
        assert {client.end(other)["status"] for other in others} == {"completed"}
        dead, dead_once = client.end(pill), client.end(once)
        assert worker.process.poll() is None
        assert client.status("/readyz") == 200
    assert (dead["status"], dead["attempt"], dead["error"]["type"]) == ("failed", 3, "/problems/worker-crashed")
    assert (dead_once["status"], dead_once["attempt"]) == ("failed", 1)


@pytest.mark.long
def test_a_task_that_kills_workers_ends_alone_in_a_child(fleet: Fleet) -> None:
    with fleet.api() as server, Client(server) as client:
        pill = client.submit("poison_on_loop", [])
        for deaths in range(1, 4):
            with ExitStack() as stack:
                try:
                    stack.enter_context(fleet.worker()).process.wait(30)
                except AssertionError as error:
                    assert "before it was ready" in str(error)  # noqa: PT017  it may die that soon
            until(lambda n=deaths: client.get(pill)["attempts"][-1]["ending"] == "interrupted", "it is not given back")
        with fleet.worker() as worker:
            dead = client.end(pill)
            assert worker.process.poll() is None
    assert dead["status"] == "failed"
    assert [attempt["ending"] for attempt in dead["attempts"]] == ["interrupted"] * 3 + ["crashed"] * 3


@pytest.mark.long
def test_a_coroutine_that_blocks_its_loop_for_longer_than_a_lease_runs_once(fleet: Fleet) -> None:
    """Heartbeats do not run on the loop that tasks can block: neither this task nor the others are taken over."""
    lease = {"TASKER_LEASE": "3"}  # a busy machine has more time for a heartbeat
    with (
        fleet.api(env=lease) as server, fleet.worker(env=lease), fleet.worker(env=lease), Client(server) as client,
    ):  # fmt: skip
        accepted = {"blocks": client.submit("block_the_loop", [6.5])}  # more than two leases
        fleet.until_noted("start", accepted["blocks"])
        accepted |= {f"child {number}": client.submit("in_child", [3000]) for number in range(2)}
        accepted |= {f"loop {number}": client.submit("on_loop", [1]) for number in range(10)}
        tasks = fleet.check(client, accepted)
    assert {task["attempt"] for task in tasks} == {1}


@pytest.mark.long
def test_many_workers_run_each_task_once(fleet: Fleet) -> None:
    """Row 29: a race for 2,000 tasks, due at the same moment, without any fault."""
    with fleet.api(env=LONG) as server, Client(server) as client, ExitStack() as stack:
        for _ in range(4):
            stack.enter_context(fleet.worker(env=LONG))
        moment = (datetime.now(UTC) + timedelta(seconds=3)).isoformat()
        accepted = client.submit_many("on_loop", [0], 2000, run_at=moment)
        tasks = fleet.check(client, accepted)
    assert {len(task["attempts"]) for task in tasks} == {1}
    assert len({task["attempts"][0]["worker"] for task in tasks}) > 1, "one worker took everything: no race"


def test_a_drained_worker_gives_back_what_it_could_not_end(fleet: Fleet) -> None:
    """Row 34: SIGTERM lets short tasks end and releases the rest at once, not after a lease; a second forces it."""
    long_lease = {"TASKER_LEASE": "60", "TASKER_HEARTBEAT": "5", "TASKER_DRAIN": "30"}
    with fleet.api(env=long_lease) as server, Client(server) as client:
        with fleet.worker(env=long_lease) as worker:
            short, long = client.submit("on_loop", [700]), client.submit("steps", [600])
            for task_id in (short, long):
                fleet.until_noted("start", task_id)
            worker.process.terminate()
            assert client.end(short)["status"] == "completed"
            until(lambda: "draining" in str(client.list("/worker")), "it does not say that it drains")
            worker.process.terminate()
            assert worker.process.wait(20) == 0
        assert client.list("/worker") == [], "it has withdrawn"
        with fleet.worker(env=long_lease | {"TASKER_DRAIN": "0.1"}):
            fleet.until_noted("start", long, attempt=2)
            again = client.get(long)
    assert again["attempts"][0]["ending"] == "released"
    assert again["tries_left"] == 1


@pytest.mark.long
def test_workers_drained_forced_and_killed_under_load_hand_over_at_once(fleet: Fleet) -> None:
    """Row 34: TERM and its grace, TERM twice, and KILL when the grace is over: a lease of a minute is never waited for.

    One task that never ends by itself goes from worker to worker, under a load of short ones.
    """
    minute = {"TASKER_LEASE": "60", "TASKER_HEARTBEAT": "2"}
    with fleet.api(env=minute) as server, Client(server) as client, Watch(server), ExitStack() as stack:

        def successor(drain: str) -> Server:
            return stack.enter_context(fleet.worker(env=minute | {"TASKER_DRAIN": drain}))

        def taken_over_by(attempt: int) -> None:
            until(lambda: client.get(task_id)["attempt"] == attempt, "the lease was waited for", limit=50)

        first = successor(drain="0.5")
        task_id = client.submit("gated", [])
        with Load(server, threads=2) as load:
            taken_over_by(1)
            second = successor(drain="30")
            first.process.terminate()
            taken_over_by(2)
            third = successor(drain="30")
            second.process.terminate()
            until(lambda: "draining" in str(client.list("/worker")), "it does not say that it drains")
            second.process.terminate()
            taken_over_by(3)
            successor(drain="0.5")
            third.process.terminate()
            until(lambda: "draining" in str(client.list("/worker")), "it does not say that it drains")
            third.kill()
            taken_over_by(4)
        fleet.open_gate(task_id, attempt=4)
        settle(client, load.unknown, load.accepted)
        fleet.check(client, load.accepted | {"from hand to hand": task_id})
        done = client.get(task_id)
        assert (first.process.wait(20), second.process.wait(20)) == (0, 0)
    assert [attempt["ending"] for attempt in done["attempts"]] == ["released", "released", "interrupted", "succeeded"]


@pytest.mark.root
def test_tasks_of_an_api_killed_at_once_do_not_wait_for_a_frozen_worker(fleet: Fleet) -> None:
    """Some were left to the frozen worker, and the process that would look after them is gone."""
    with fleet.worker() as frozen, fleet.worker():
        with fleet.api() as server, Client(server) as client:
            until(lambda: fleet.sql("SELECT count(*) FROM tasker.worker") == [["2"]], "not both are there")
            accepted = {"first": client.submit("on_loop", [0])}
            client.end(accepted["first"])
            _freeze(frozen.process.pid)
            accepted |= {str(number): client.submit("on_loop", [0]) for number in range(4)}
            server.kill()
        with fleet.api() as server, Client(server) as client:
            fleet.check(client, accepted)
        _thaw(frozen.process.pid)


@pytest.mark.long
def test_two_workers_of_one_host_name_and_process_id_are_two(fleet: Fleet) -> None:
    """As in containers, where every worker is process 1: neither takes, extends or ends the other's attempts."""
    as_process_1 = ("unshare", "--pid", "--fork", "--kill-child")
    with fleet.api() as server, Client(server) as client:
        with fleet.worker(under=as_process_1) as one, fleet.worker(under=as_process_1) as other:
            workers = client.list("/worker")
            assert [worker["pid"] for worker in workers] == [1, 1]
            assert len({worker["worker_id"] for worker in workers}) == 2
            accepted = {str(number): client.submit("on_loop", [20]) for number in range(200)}
            tasks = fleet.check(client, accepted)
            _stop_inside(one, other)
        with fleet.worker(under=as_process_1) as one_again:
            [again] = client.list("/worker")
            _stop_inside(one_again)
    assert again["worker_id"] not in {worker["worker_id"] for worker in workers}, "an id is never used again"
    assert {len(task["attempts"]) for task in tasks} == {1}
    assert {task["attempts"][0]["worker"] for task in tasks} == {worker["worker_id"] for worker in workers}


def test_a_new_version_works_together_with_the_old_one(fleet: Fleet, tmp_path: Path) -> None:
    """Row 35: under load a migration adds a column, and a worker comes that knows one more type."""
    newer = tmp_path / "newer_tasks.py"
    newer.write_text(TASKS.read_text() + "\n\n@task\ndef brand_new() -> str:\n    return 'new'\n")
    with fleet.worker(env=LONG), fleet.api(env=LONG) as old, Client(old) as client, Watch(old):
        with Load(old) as load:
            until(lambda: len(load.accepted) > 50, "nothing is accepted")
            fleet.sql("ALTER TABLE tasker.task ADD COLUMN colour text; ALTER TABLE tasker.pgqueuer ADD COLUMN hue text")
            fleet.sql("INSERT INTO tasker.migration (name) VALUES ('9999_newer')")
            so_far = len(load.accepted)
            until(lambda: len(load.accepted) > so_far + 50, "nothing is accepted after the migration")
        with fleet.api(tasks=newer, env=LONG) as new, Client(new) as new_client:
            unknown_here = new_client.submit("brand_new", [])
            settle(client, load.unknown, load.accepted)
            tasks = [client.end(task_id) for task_id in load.accepted.values()]
            assert client.get(unknown_here)["status"] == "pending", "nobody here has this type"
            with fleet.worker(tasks=newer, env=LONG):
                assert client.end(unknown_here)["result"] == "new"
    assert {task["status"] for task in tasks} == {"completed"}
    assert set(check_runs(tasks, read_journal(fleet.folder))) == {"succeeded"}, "an attempt was cut off: by what?"
