"""The database really killed, paused, slow or unreachable: nothing is lost, and nothing is done twice unnoticed."""

from __future__ import annotations

import os
import random
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from time import sleep

import pytest

from tests import postgres
from tests.crash.fire import Client, Load
from tests.crash.fleet import Fleet, settle, until
from tests.crash.proxy import Proxy
from tests.postgres import Cluster, database_of

pytestmark = [pytest.mark.crash, pytest.mark.timeout(280)]


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """A durable cluster for these tests alone: it is small, so it recovers fast after a crash."""
    made = postgres.new_cluster(durable=True)
    yield made
    postgres.end(made)


@pytest.fixture
def fleet(tmp_path: Path, cluster: Cluster) -> Iterator[Fleet]:
    yield Fleet(tmp_path, cluster)
    cluster.ensure_running()


@pytest.fixture
def proxy(fleet: Fleet) -> Iterator[Proxy]:
    with Proxy(fleet.url) as proxy:
        yield proxy


@pytest.mark.long
def test_a_database_that_crashes_again_and_again_loses_nothing(fleet: Fleet, cluster: Cluster) -> None:
    """Row 21: `kill -9` of a backend ends every session; then an immediate stop, and a start."""
    with fleet.worker(), fleet.api() as server, Client(server) as client:
        with Load(server) as load:
            until(lambda: len(load.accepted) > 50, "nothing is accepted")
            os.kill(random.choice(cluster.backends(database_of(fleet.url))), signal.SIGKILL)
            so_far = len(load.accepted)
            until(lambda: len(load.accepted) > so_far + 50, "it did not come back by itself")
            cluster.stop("immediate")
            sleep(0.5)  # while it is away the clients go on asking
            cluster.start()
            so_far = len(load.accepted)
            until(lambda: len(load.accepted) > so_far + 50, "it did not come back by itself")
        until(lambda: client.status("/readyz") == 200, "it is not ready again")
        settle(client, load.unknown, load.accepted)
        fleet.check(client, load.accepted)
        assert client.all_ids() == set(load.accepted.values())


@pytest.mark.parametrize("when", ["after", pytest.param("before", marks=pytest.mark.long)])
def test_commits_cut_off_at_random_lose_nothing(fleet: Fleet, proxy: Proxy, when) -> None:
    """Rows 22 and 23: replies to COMMIT that are lost, and COMMITs that never arrive, for servers and workers."""
    with fleet.worker(url=proxy.url), fleet.api(url=proxy.url) as server, Client(server) as client:
        with Load(server) as load:
            proxy.cut(when, times=40, chance=0.2)
            until(lambda: proxy.cut_off >= 40, "nothing is cut off")
            so_far = len(load.accepted)
            until(lambda: len(load.accepted) > so_far + 50, "it did not come back by itself")
        settle(client, load.unknown, load.accepted)
        fleet.check(client, load.accepted)
        assert client.all_ids() == set(load.accepted.values()), "each key is one task, and there is no other"


@pytest.mark.long
def test_resets_at_random_lose_nothing(fleet: Fleet, proxy: Proxy) -> None:
    """Row 26."""
    with fleet.worker(url=proxy.url), fleet.api(url=proxy.url) as server, Client(server) as client:
        with Load(server) as load:
            until(lambda: len(load.accepted) > 50, "nothing is accepted")
            proxy.reset_chance = 0.02
            until(lambda: proxy.resets >= 30, "nothing is reset")
            proxy.heal()
            so_far = len(load.accepted)
            until(lambda: len(load.accepted) > so_far + 50, "it did not come back by itself")
        settle(client, load.unknown, load.accepted)
        fleet.check(client, load.accepted)


@pytest.mark.long
def test_a_dead_link_is_noticed_and_refused_with_a_word(fleet: Fleet, proxy: Proxy) -> None:
    """Row 24, half-open: the connection stays open without answers. 503 in bounded time; it recovers by itself."""
    with fleet.worker(), fleet.api(url=proxy.url) as server, Client(server) as client:
        kept = client.submit("on_loop", [1])
        assert client.end(kept)["status"] == "completed"
        proxy.half_open()
        until(lambda: client.status("/readyz") == 503, "it still says that it is ready")
        reply = client.post("/task", {"type": "sum", "params": [4, 2]}, timeout=30)
        assert reply.status_code == 503
        assert int(reply.headers["retry-after"]) >= 1
        proxy.heal()
        until(lambda: client.status("/readyz") == 200, "it is not ready again")
        assert client.end(client.submit("on_loop", [1]))["status"] == "completed"


@pytest.mark.long
def test_a_partitioned_worker_is_replaced_and_its_result_refused(fleet: Fleet, proxy: Proxy) -> None:
    """Row 25, by a link that goes silent: longer than the lease, then it heals."""
    with fleet.api() as server, Client(server) as client, fleet.worker(url=proxy.url) as cut_off:
        task_id = client.submit("on_loop", [4000])
        fleet.until_noted("start", task_id)
        proxy.half_open()
        with fleet.worker():
            fleet.until_noted("start", task_id, attempt=2)
            proxy.heal()
            done = client.end(task_id)
            assert cut_off.process.poll() is None
            after = client.submit("on_loop", [1])
            assert client.end(after)["status"] == "completed"
        assert client.get(task_id) == done
    assert [attempt["ending"] for attempt in done["attempts"]] == ["interrupted", "succeeded"]


@pytest.mark.long
def test_a_database_that_stands_still_ends_no_lease_of_the_living(fleet: Fleet, cluster: Cluster) -> None:
    """Row 27: paused for longer than the lease. Clients are refused in bounded time; running tasks go on."""
    with fleet.worker(), fleet.api() as server, Client(server) as client:
        running = [client.submit("on_loop", [9000]) for _ in range(10)]
        for task_id in running:
            fleet.until_noted("start", task_id)
        cluster.pause()
        with ThreadPoolExecutor(40) as crowd:  # more than there are connections: nobody waits for more than one answer
            sum_up = partial(client.post, "/task", {"type": "sum", "params": [4, 2]}, timeout=30)
            replies = list(crowd.map(lambda _: sum_up(), range(40)))
        assert {reply.status_code for reply in replies} == {503}
        assert client.status("/readyz") == 503
        cluster.resume()
        until(lambda: client.status("/readyz") == 200, "it is not ready again")
        done = [client.end(task_id) for task_id in running]
    assert [attempt["ending"] for task in done for attempt in task["attempts"]] == ["succeeded"] * 10


@pytest.mark.long
def test_a_slow_database_is_served_without_a_false_alarm(fleet: Fleet, proxy: Proxy) -> None:
    """Row 27: every message takes half a second, so that a heartbeat takes longer than a lease."""
    with fleet.worker(url=proxy.url), fleet.api(url=proxy.url) as server, Client(server) as client:
        first = client.submit("gated", [])
        fleet.until_noted("start", first)
        proxy.delay = 0.5
        accepted: dict[str, str] = {"first": first}
        settle(client, [("slow", "on_loop", 1)], accepted)
        fleet.open_gate(first)
        tasks = [client.end(task_id) for task_id in accepted.values()]
        proxy.heal()
        fleet.check(client, accepted)
    assert [len(task["attempts"]) for task in tasks] == [1, 1]
