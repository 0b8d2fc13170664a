"""The oracles can fail: with one guard removed from a query, they see what it prevents."""

from __future__ import annotations

import pytest
from tests.contract.test_fence import assert_not_kept_alive, assert_refused, overtaken

from tasker.engines.postgres import PostgresEngine
from tasker.rules.lifecycle import Succeeded
from tasker.testing import Driver, ManualClock


async def test_without_the_attempt_in_its_fence_an_overtaken_one_is_taken(
    driver: Driver, engine: PostgresEngine, clock: ManualClock, monkeypatch
) -> None:
    silent, _ = await overtaken(driver, clock)
    _take_out(engine, monkeypatch, "end_attempts", " AND task.attempt = ended.attempt")
    with pytest.raises(AssertionError, match="a stale"):
        await assert_refused(driver, clock, silent.lease, silent)


async def test_without_the_attempt_in_its_fence_a_stale_heartbeat_is_taken(
    driver: Driver, engine: PostgresEngine, clock: ManualClock, monkeypatch
) -> None:
    silent, current = await overtaken(driver, clock)
    _take_out(engine, monkeypatch, "extend_leases", " AND task.attempt = lease.attempt")
    with pytest.raises(AssertionError, match="a stale"):
        await assert_not_kept_alive(driver, clock, silent, current)


@pytest.mark.parametrize(("query", "guard"), [
    ("end_attempts", " AND task.status = 'running'"),
    ("lock_running", "WHERE task.status = 'running'"),
    ("extend_leases", " AND task.status = 'running'"),
])  # fmt: skip
async def test_without_the_status_in_its_fence_an_ended_attempt_goes_on(
    driver: Driver, engine: PostgresEngine, clock: ManualClock, monkeypatch, query: str, guard: str
) -> None:
    await driver.submit()
    claim = await driver.claim_one()
    assert await driver.finish(claim, Succeeded(b"6"))
    _take_out(engine, monkeypatch, query, guard)
    with pytest.raises(AssertionError, match="a stale"):
        await assert_refused(driver, clock, claim.lease, claim)


def _take_out(engine: PostgresEngine, monkeypatch: pytest.MonkeyPatch, query: str, guard: str) -> None:
    whole = engine._queries[query]
    assert guard in whole, "the guard has another form now: take out that one"
    monkeypatch.setitem(engine._queries, query, whole.replace(guard, ""))
