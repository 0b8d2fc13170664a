"""The cost of a notification: its listeners, and the lock that lets one commit notify at a time."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import asyncpg

from bench.scale.meter import Place, cluster, place
from bench.scale.tasks import Figures
from tasker.engines.postgres.notifications import CHANNEL, read_notification

_PAYLOAD = '["0123456789ab",["default/noop"],""]'
_AT_ONCE = 20


async def connect(url: str, count: int) -> list[Any]:
    """Open connections, a few at a time."""
    opened: list[Any] = []
    for start in range(0, count, _AT_ONCE):
        opened += await asyncio.gather(*(asyncpg.connect(url) for _ in range(min(_AT_ONCE, count - start))))
    return opened


async def listeners(at: Place, count: int, *, channel: str = CHANNEL, notices: int = 100) -> Figures:
    """Return the cost of a notification by the number of listeners, on their channel or on another one."""
    heard = 0

    def on_notice(_connection: Any, _pid: int, _channel: str, payload: object) -> None:
        nonlocal heard
        read_notification(str(payload))
        heard += 1

    opened = await connect(at.url, count)
    for connection in opened:
        await connection.add_listener(channel, on_notice)
    before = await at.used()
    for number in range(1, notices + 1):
        await at.control.execute(f"NOTIFY {CHANNEL}, '{_PAYLOAD}'")
        await asyncio.sleep(0.005 + count / 20_000)  # one by one: a wake-up handles all that came before it
        while channel == CHANNEL and heard < number * count:
            await asyncio.sleep(0.005)
    used = (await at.used()).since(before).each(notices)
    assert heard == (count * notices if channel == CHANNEL else 0), heard
    for connection in opened:
        connection.terminate()
    return {"listeners": count, "database_us": used.database * 1e6, "client_us": used.client * 1e6}


async def commits(at: Place, writers: int, *, notify: bool, seconds: float = 2.0) -> Figures:
    """Return how many small durable transactions a second the connections commit, with or without a notification."""
    await at.control.execute("CREATE TABLE IF NOT EXISTS written (number int)")
    opened = await connect(at.url, writers)
    tell = f"NOTIFY {CHANNEL}, '{_PAYLOAD}';" if notify else ""
    statement = f"BEGIN; INSERT INTO written VALUES (1); {tell} COMMIT"
    until, done = time.monotonic() + seconds, 0

    async def write(connection: Any) -> None:
        nonlocal done
        while time.monotonic() < until:
            await connection.execute(statement)
            done += 1

    before = await at.used()
    await asyncio.gather(*(write(connection) for connection in opened))
    used = (await at.used()).since(before)
    for connection in opened:
        await connection.close()
    await asyncio.sleep(0.1)
    syncs = (await at.used()).syncs - before.syncs
    return {
        "writers": writers, "notify": notify, "per_second": done / used.seconds, "syncs": syncs / done,
        "database_us": used.database / done * 1e6,
    }  # fmt: skip


def measure(most: int = 1000) -> Figures:
    return asyncio.run(_measure(most))


async def _measure(most: int) -> Figures:
    figures: Figures = {"listeners": [], "other_channel": [], "commits": []}
    with cluster(max_connections=most + 50) as database:
        for count in (0, 1, 10, 100, 190, 500, 1000):
            if count <= most:
                async with place(database) as at:
                    figures["listeners"].append(await listeners(at, count))
        for count in (100, 190):
            async with place(database) as at:
                figures["other_channel"].append(await listeners(at, count, channel="another"))
        for writers in (1, 4, 16, 64):
            for notify in (False, True):
                async with place(database) as at:
                    figures["commits"].append(await commits(at, writers, notify=notify))
    return figures
