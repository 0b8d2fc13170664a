"""State in memory after the transaction that it was read in is rolled back."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import apsw
from tests.stores import open_store

from tasker.engines.sqlite import SqliteEngine
from tasker.errors import Unavailable
from tasker.rules.lifecycle import MAX_INTERRUPTIONS, Interrupted
from tasker.testing import Driver, ManualClock


async def test_suspects_are_looked_for_again_after_a_rollback(tmp_path: Path) -> None:
    clock = ManualClock()
    async with open_store(tmp_path / "tasker.db", clock) as engine:
        driver = Driver(engine, clock)
        task_id = await driver.submit()
        for _ in range(MAX_INTERRUPTIONS):
            await driver.finish(await driver.claim_one(), Interrupted())
        with full_disk(engine):
            cancelled = engine.cancel(task_id)
            looking = driver.claim(0, suspects=1)  # in the same transaction: it finds none
            told = await asyncio.gather(cancelled, looking, return_exceptions=True)
        assert isinstance(told[0], Unavailable)
        assert [claim.task_id for claim in await driver.claim(0, suspects=1)] == [task_id]


class full_disk:
    """Let the next commit fail as on a full disk."""

    def __init__(self, engine: SqliteEngine) -> None:
        self._commits: Any = engine._commits

    def __enter__(self) -> None:
        self._real = self._commits._connection
        self._commits._connection = _Refusing(self._real)

    def __exit__(self, *_: object) -> None:
        self._commits._connection = self._real


class _Refusing(SimpleNamespace):
    """A connection that refuses one COMMIT."""

    def __init__(self, real: apsw.Connection) -> None:
        super().__init__(real=real, refused=False)

    def execute(self, statement: str, *more: Any) -> Any:
        if statement == "COMMIT" and not self.refused:
            self.refused = True
            raise apsw.FullError("no space")
        return self.real.execute(statement, *more)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.real, name)
