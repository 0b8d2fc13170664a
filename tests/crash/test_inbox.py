"""Kill the process that takes submissions in from the inbox: none is lost, and none becomes two tasks."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path
from time import monotonic, sleep

import asyncpg
import psycopg
import pytest

from tasker.builtin import builtin_registry
from tasker.engines.postgres import migrate, open_postgres
from tasker.postgres import submit
from tasker.service import Service
from tasker.service.hub import Hub
from tests.postgres import Cluster, database_of
from tests.server import run_server

pytestmark = [pytest.mark.crash, pytest.mark.timeout(280)]

AT_ONCE = 20
LIMIT = 120.0
LEFT = "SELECT count(*) + (SELECT count(*) FROM tasker.inbox) FROM tasker.task WHERE status IN ('pending', 'running')"
POINTS = ["it has read them", "its commit", "its answer"]
"""What the drainer does not come to."""
DRAINER = """
import asyncio, os, signal, sys
from tasker.builtin import builtin_registry
from tasker.engines.postgres import open_postgres
from tasker.service import Service
from tasker.service.hub import Hub

def die(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)
    signal.pause()

async def main(url, point):
    async with open_postgres(url) as engine:
        service = Service(engine, builtin_registry(None), Hub(), engine.clock, health=None)
        if point == "it has read them":
            engine.inbox.take_in = die
        elif point == "its commit":
            engine._connections.write_counts = die
        else:
            engine._connections.on_commit = die
        await service.inbox.run_once()

asyncio.run(main(*sys.argv[1:]))
"""


async def test_a_kill_at_any_point_loses_none_and_doubles_none(cluster: Cluster) -> None:
    url = cluster.fresh_database()
    await migrate(url)
    connection = await asyncpg.connect(url)
    ids = []
    for point in POINTS:
        for number in range(AT_ONCE):  # of a group, so that its counts are written right before the commit
            ids.append(await submit(connection, "sum", [len(ids), number], group="g"))
        done = await asyncio.to_thread(
            subprocess.run, [sys.executable, "-c", DRAINER, url, point], capture_output=True, text=True, check=False
        )
        assert done.returncode == -signal.SIGKILL, done.stderr
    stored = await connection.fetchval("SELECT count(*) FROM tasker.task")
    assert stored == 3 * AT_ONCE, "the last one has taken in what the others left"
    async with open_postgres(url) as engine:
        service = Service(engine, builtin_registry(None), Hub(), engine.clock, health=None)
        assert await service.inbox.run_once() == 0
        assert [(await engine.find(task_id)) is not None for task_id in ids] == [True] * len(ids)
    assert await connection.fetchval("SELECT pending FROM (SELECT count(*) AS pending FROM tasker.inbox) AS one") == 0
    await connection.close()
    cluster.drop_database(url)


@pytest.mark.long
def test_what_is_committed_runs_and_nothing_else_while_services_die(cluster: Cluster, tmp_path: Path) -> None:
    """Programs submit all the time, commit or roll back, while the service is killed again and again."""
    url = cluster.fresh_database()
    asyncio.run(migrate(url))
    kept: list[str] = []
    lost: list[str] = []
    enough = threading.Event()

    def program(number: int) -> None:
        with psycopg.connect(url) as connection:
            turn = 0
            while not enough.is_set():
                turn += 1
                ids = [str(submit(connection, "sum", [number, turn])) for _ in range(3)]
                if turn % 3:
                    connection.commit()
                    kept.extend(ids)
                else:
                    connection.rollback()
                    lost.extend(ids)
                enough.wait(0.05)

    programs = [threading.Thread(target=program, args=(number,)) for number in range(3)]
    for one in programs:
        one.start()
    settings = {"TASKER_DATABASE_URL": url, "TASKER_LEASE": "2", "TASKER_HEARTBEAT": "0.5"}
    try:
        for kill in range(2):
            with run_server(tmp_path, env=settings, name=f"killed-{kill}") as server:
                before = len(kept)
                while len(kept) < before + 60 and all(one.is_alive() for one in programs):
                    enough.wait(0.01)
                with suppress(ProcessLookupError):
                    os.kill(server.process.pid, signal.SIGKILL)
                server.process.wait()
    finally:
        enough.set()
        for one in programs:
            one.join()
    with run_server(tmp_path, env=settings, name="last"):
        deadline = monotonic() + LIMIT
        while cluster.sql(LEFT, database_of(url)) != [["0"]]:
            assert monotonic() < deadline, "some are still open"
            sleep(0.1)
    stored = {task_id for (task_id,) in cluster.sql("SELECT task_id FROM tasker.task", database_of(url))}
    assert stored == set(kept), "those that were rolled back never were there"
    assert cluster.sql("SELECT DISTINCT status FROM tasker.task", database_of(url)) == [["completed"]]
    assert len(kept) > 100
    assert lost
    cluster.drop_database(url)
