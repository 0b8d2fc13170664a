"""The reader: scans never hold up other queries, and end."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import apsw
import pytest

from tasker.engines.sqlite.reader import READERS, Reader
from tasker.engines.sqlite.storage import connect, open_writer
from tasker.errors import Unavailable

ENDLESS = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n"


def make_reader(folder: Path, *, longest: float = 60.0) -> Reader:
    path = folder / "tasker.db"
    open_writer(path)[0].close()
    return Reader([connect(path, read_only=True) for _ in range(READERS)], longest=longest)


def count_tables(connection: apsw.Connection) -> int:
    return int(connection.execute("SELECT count(*) FROM sqlite_schema WHERE name = 'task'").get)


async def test_scans_on_all_their_connections_hold_up_no_other_query(tmp_path: Path) -> None:
    reader, may_end, begun = make_reader(tmp_path), threading.Event(), threading.Semaphore(0)

    def scan(connection: apsw.Connection) -> int:
        begun.release()
        assert may_end.wait(20)
        return count_tables(connection)

    scans = [reader.scan(scan) for _ in range(READERS + 1)]
    for _ in range(1, READERS):
        assert await asyncio.to_thread(begun.acquire, timeout=10)
    async with asyncio.timeout(10):
        assert await reader(count_tables) == 1
    assert not any(one.done() for one in scans)
    assert not begun.acquire(blocking=False), "a scan has taken the connection of the other queries"
    may_end.set()
    assert await asyncio.gather(*scans) == [1] * len(scans)
    reader.close()


async def test_a_scan_that_takes_too_long_is_given_up(tmp_path: Path) -> None:
    reader = make_reader(tmp_path, longest=0.0)
    for _ in range(READERS):
        with pytest.raises(Unavailable):
            await reader.scan(lambda connection: connection.execute(ENDLESS).get)
    assert await reader.scan(count_tables) == 1
    reader.close()
