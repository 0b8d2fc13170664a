"""`tasker export` and `tasker import` as people run them: from SQLite to PostgreSQL, also when the import is killed."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tasker.clock import SystemClock
from tasker.engines.sqlite import open_sqlite
from tasker.testing import make_draft
from tests.cli.command import tasker
from tests.crash.fire import TASKS, Client, check_runs, read_journal
from tests.crash.fleet import Fleet, until
from tests.crash.proxy import Proxy
from tests.postgres import Cluster, database_of
from tests.server import clean_environment, run_server

pytestmark = [pytest.mark.crash, pytest.mark.timeout(280)]


@pytest.fixture
def fleet(tmp_path: Path, cluster: Cluster) -> Fleet:
    return Fleet(tmp_path, cluster)


@pytest.mark.long
def test_a_service_moves_to_postgresql_with_all_its_tasks(fleet: Fleet) -> None:
    folder = fleet.folder
    data, archive = ("--data-dir", str(folder / "data")), str(folder / "archive.jsonl")
    with run_server(folder, str(TASKS)) as server, Client(server) as client:
        ended = [client.submit("on_loop", [1], tags=["moved"]) for _ in range(20)]
        before = [client.end(task_id) for task_id in ended]
        refused = tasker("export", archive, *data)
        assert (refused.code, "in use by process" in refused.err) == (2, True), "it would change meanwhile"
        opened = [client.submit("in_child", [3000]) for _ in range(4)]
        later = client.submit("on_loop", [1], delay=3600)
        fleet.until_noted("start", opened[0])
        server.kill()
    exported = tasker("export", archive, *data)
    assert (exported.code, exported.out, exported.err) == (
        0,
        "",
        f"exported 25 tasks of {folder / 'data' / 'tasker.db'}\n",
    )
    assert not Path(f"{archive}.part").exists()
    url = {"TASKER_DATABASE_URL": fleet.url, "TASKER_LOG_LEVEL": "error"}
    imported = tasker("import", archive, env=url)
    there = f"PostgreSQL/{database_of(fleet.url)} at 127.0.0.1"
    told = f"imported 25 tasks and 1 other records into {there}; counts and digest agree\n"
    assert (imported.code, imported.err) == (0, told)
    with fleet.api() as server, fleet.worker(), Client(server) as client:
        assert [client.get(task["task_id"]) for task in before] == before
        done = [client.end(task_id) for task_id in opened]
        check_runs([*before, *done], read_journal(folder))
        assert any(task["attempts"][0]["ending"] == "interrupted" for task in done)
        assert client.get(later)["reason"] == "scheduled"
        assert client.all_ids() == {*ended, *opened, later}
    again = tasker("import", archive, env=url)
    assert (again.code, again.err) == (
        0, f"imported 0 tasks into {there}, 25 existed already (4 of them have changed since); counts and digest"
        " agree\n",
    )  # fmt: skip


@pytest.mark.long
def test_an_import_that_is_killed_is_done_again(fleet: Fleet) -> None:
    asyncio.run(_fill(fleet.folder / "data" / "tasker.db", 1000))
    piped = tasker("export", "--data-dir", str(fleet.folder / "data"))
    assert piped.code == 0
    (fleet.folder / "archive.jsonl").write_text(piped.out)
    env = {"TASKER_LOG_LEVEL": "error"}
    assert tasker("migrate", env=env | {"TASKER_DATABASE_URL": fleet.url}).code == 0
    with Proxy(fleet.url) as proxy:
        proxy.delay = 0.02
        command = [sys.executable, "-m", "tasker", "import", str(fleet.folder / "archive.jsonl")]
        importing = subprocess.Popen(command, env=clean_environment(TASKER_DATABASE_URL=proxy.url, **env))
        try:
            until(lambda: _count(fleet) > 0, "nothing is imported")
        finally:
            importing.kill()
            importing.wait()
    assert 0 < _count(fleet) < 1000
    again = tasker("import", input=piped.out, env=env | {"TASKER_DATABASE_URL": fleet.url})
    assert again.code == 0, again.err
    assert "existed already; counts and digest agree" in again.err
    back = tasker("export", env=env | {"TASKER_DATABASE_URL": fleet.url})
    assert back.out == piped.out


async def _fill(path: Path, number: int) -> None:
    async with open_sqlite(path, SystemClock()) as engine:
        now = datetime.now(UTC)
        await engine.submit(
            [make_draft(now, delay=timedelta(hours=1), params=json.dumps([n]).encode()) for n in range(number)]
        )


def _count(fleet: Fleet) -> int:
    return int(fleet.sql("SELECT count(*) FROM tasker.task")[0][0])
