"""Settles in the background what the transaction of a task's end has left to others."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Collection
from uuid import UUID

import structlog

from tasker.engines.postgres.connections import Connections
from tasker.engines.postgres.families import Families
from tasker.engines.postgres.ties import TiedTasks
from tasker.engines.postgres.transaction import SETTLED_AT_ONCE, Transaction
from tasker.errors import Unavailable

_PAUSE = 0.05
"""Seconds between attempts to lock rows that others have locked."""
_log = structlog.get_logger(__name__)


class Settler:
    """Settles dependants and children that were too many, and families with rows that were locked."""

    def __init__(self, connections: Connections, ties: TiedTasks, families: Families) -> None:
        self._connections = connections
        self._ties = ties
        self._families = families
        self._ended: set[UUID] = set()
        self._parents: set[int] = set()
        self._task: asyncio.Task[None] | None = None
        self._closed = False

    def add(self, ended: Collection[UUID], parents: Collection[int]) -> None:
        """Settle the dependants and children of these ended tasks soon, and attend to these parents, given by seq."""
        self._ended.update(ended)
        self._parents.update(parents)
        if self._task is None and not self._closed:
            self._task = asyncio.create_task(self._run())

    async def close(self) -> None:
        """Finish the transaction under way; sweeps of other processes find the rest."""
        self._closed = True
        if self._task is not None:
            await asyncio.wait([self._task])

    async def _run(self) -> None:
        try:
            while (self._ended or self._parents) and not self._closed:
                parents, self._parents = self._parents, set()
                for parent in parents:
                    await self._connections.transact(functools.partial(self._families.attend, parent=parent))
                some, self._ended = list(self._ended), set()
                is_full = bool(some) and await self._connections.transact(functools.partial(self._settle, ended=some))
                if not is_full and (self._ended or self._parents):
                    await asyncio.sleep(_PAUSE)
        except Unavailable as error:  # the sweeps find the rest
            _log.warning("store.dependants_not_settled", reason=error.detail)
        finally:
            self._task = None

    async def _settle(self, tx: Transaction, ended: list[UUID]) -> bool:
        """Settle some; return whether this was all that one transaction may settle."""
        await self._ties.settle_rest(tx, ended)
        return tx.left_to_settle < SETTLED_AT_ONCE // 2
