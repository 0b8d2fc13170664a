"""Which chores a process runs: its own always, those of the store while it has the lead."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from random import Random
from typing import Any

import pytest

from tasker.chores import lead
from tasker.chores.plan import process_chores, run_all
from tasker.engines.sqlite import SqliteEngine
from tasker.service import Service
from tasker.testing import ManualClock

OF_STORE = {"find_expired", "fail_overdue", "sweep", "prune", "webhooks.prune", "secrets.find_ended", "audit.prune",
            "schedules.find_due"}  # fmt: skip
OF_PROCESS = {"peers.follow_clock", "keys.version"}


class Calls:
    """The methods of an engine that chores have called, and who has the lead."""

    def __init__(self, engine: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        self.has_lead = False
        self.seen: set[str] = set()
        monkeypatch.setattr(engine.lead, "hold", self._hold)
        monkeypatch.setattr(engine, "is_shared", True)
        for name in OF_STORE | OF_PROCESS | {"workers.find_types"}:
            store, _, method = name.rpartition(".")
            owner = getattr(engine, store) if store else engine
            monkeypatch.setattr(owner, method, self._noting(name, getattr(owner, method)))

    async def _hold(self) -> bool:
        return self.has_lead

    def _noting(self, name: str, method: Any) -> Any:
        async def call(*given: Any, **named: Any) -> Any:
            self.seen.add(name)
            return await method(*given, **named)

        return call

    async def until(self, expected: set[str]) -> None:
        async with asyncio.timeout(5):
            while not expected <= self.seen:
                await asyncio.sleep(0.001)


@pytest.fixture
def calls(engine: SqliteEngine, monkeypatch: pytest.MonkeyPatch) -> Calls:
    monkeypatch.setattr(lead, "_HOLD_EVERY", 0.001)
    monkeypatch.setattr(lead, "_LOOK_EVERY", 0.001)
    return Calls(engine, monkeypatch)


@pytest.fixture(params=[True, False], ids=["api", "worker"])
async def api(
    request: pytest.FixtureRequest, calls: Calls, engine: SqliteEngine, service: Service, clock: ManualClock
) -> AsyncIterator[bool]:
    """Run the chores of a process of one kind."""

    async def dispatch() -> None:
        calls.seen.add("dispatch")
        await asyncio.Event().wait()

    chores = run_all(engine, service, clock, Random(), api=request.param, dispatch=dispatch)
    running = asyncio.create_task(chores)
    yield request.param
    running.cancel()
    await asyncio.wait([running])


async def test_a_process_without_the_lead_runs_only_its_own(calls: Calls, api: bool) -> None:
    await calls.until(OF_PROCESS)
    await asyncio.sleep(0.02)
    assert calls.seen == OF_PROCESS | ({"workers.find_types"} if api else set())


async def test_the_leader_runs_those_of_the_store_and_fires_every_type(calls: Calls, api: bool) -> None:
    calls.has_lead = True
    await calls.until(OF_PROCESS | OF_STORE | {"workers.find_types", "dispatch"})


async def test_an_idle_worker_hardly_asks_for_keys(calls: Calls, engine: SqliteEngine, service: Service) -> None:
    every = [
        {chore.name: chore.every.total_seconds() for chore in process_chores(engine, service, api=api)}["keys"]
        for api in (True, False)
    ]
    assert every == [1, 60]
