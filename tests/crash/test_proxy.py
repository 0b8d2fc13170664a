"""The proxy itself: each way to break a link works, or the tests that use it would prove nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

import asyncpg
import pytest

from tests.crash.proxy import Proxy
from tests.postgres import Cluster

LOST = (asyncpg.PostgresConnectionError, asyncpg.InterfaceError, OSError)


@pytest.fixture
def proxy(cluster: Cluster) -> Iterator[Proxy]:
    url = cluster.fresh_database()
    with Proxy(url) as proxy:
        yield proxy
    cluster.drop_database(url)


@pytest.fixture
async def link(proxy: Proxy) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(proxy.url)
    await connection.execute("CREATE TABLE kept (n int)")
    yield connection
    proxy.heal()
    connection.terminate()


async def _kept(proxy: Proxy) -> list[int]:
    connection = await asyncpg.connect(proxy.url)
    try:
        return [row["n"] for row in await connection.fetch("SELECT n FROM kept ORDER BY n")]
    finally:
        await connection.close()


async def _insert(link: asyncpg.Connection, n: int) -> None:
    async with link.transaction():
        await link.execute("INSERT INTO kept VALUES ($1)", n)


@pytest.mark.parametrize(("when", "rows"), [("before", [1]), ("after", [1, 2])])
async def test_a_commit_is_cut_off(proxy: Proxy, link: asyncpg.Connection, when: str, rows: list[int]) -> None:
    await _insert(link, 1)
    proxy.cut(when, "INSERT INTO kept")
    with pytest.raises(LOST):
        await _insert(link, 2)
    assert proxy.cut_off == 1
    assert await _kept(proxy) == rows


@pytest.mark.parametrize(("when", "rows"), [("before", []), ("after", [2])])
async def test_a_write_that_commits_by_itself_is_cut_off(
    proxy: Proxy, link: asyncpg.Connection, when: str, rows: list[int]
) -> None:
    proxy.cut(when)
    with pytest.raises(LOST):
        await link.execute("INSERT INTO kept VALUES ($1)", 2)
    assert await _kept(proxy) == rows


async def test_only_what_is_meant_is_cut_off(proxy: Proxy, link: asyncpg.Connection) -> None:
    proxy.cut("before", "INSERT INTO other")
    await _insert(link, 1)
    assert proxy.cut_off == 0
    assert await _kept(proxy) == [1]


async def test_a_half_open_link_says_nothing_and_goes_on_when_healed(proxy: Proxy, link: asyncpg.Connection) -> None:
    proxy.half_open()
    asking = asyncio.ensure_future(link.fetchval("SELECT 1"))
    done, _ = await asyncio.wait([asking], timeout=0.3)
    assert not done
    proxy.heal()
    assert await asyncio.wait_for(asking, 30) == 1


async def test_refused_connections_come_back_when_healed(proxy: Proxy, link: asyncpg.Connection) -> None:
    proxy.refuse()
    with pytest.raises(LOST):
        await link.fetchval("SELECT 1")
    with pytest.raises(OSError):  # noqa: PT011  what counts is that nobody listens
        await asyncpg.connect(proxy.url)
    proxy.heal()
    assert await _kept(proxy) == []


async def test_resets_come_at_random(proxy: Proxy, link: asyncpg.Connection) -> None:
    proxy.reset_chance = 1.0
    with pytest.raises(LOST):
        await link.fetchval("SELECT 1")
    assert proxy.resets == 1


async def test_each_unit_is_delayed(proxy: Proxy, link: asyncpg.Connection) -> None:
    await link.fetchval("SELECT 1")
    proxy.delay = 0.2
    with pytest.raises(TimeoutError):
        await link.fetchval("SELECT 1", timeout=0.1)
