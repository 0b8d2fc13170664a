"""The StatsStore of the distributed engine. Triggers on the tasks' table note the changes (migration 0027)."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from tasker.engines.postgres.connections import Connections
from tasker.engines.postgres.tables import PostgresDatabase
from tasker.engines.postgres.transaction import Transaction
from tasker.engines.shared.rollup import TaskChange, values_of, window_rows
from tasker.engines.shared.stats import partition_stats
from tasker.engines.shared.stores import stats as shared
from tasker.model import PartitionStats
from tasker.model.stats import COUNTS, StatsFilter, StatsRow


@dataclass
class PostgresStats:
    """The statistics, on the tables of one schema."""

    _connections: Connections
    _queries: dict[str, str]
    _database: PostgresDatabase

    async def window(self, where: StatsFilter) -> list[StatsRow]:
        values = [values_of(where)[name] for name in _WINDOW_VALUES]
        rows = await self._connections.read(lambda connection: connection.fetch(self._queries["window"], *values))
        stored = [(row["step"], row["name"], row["sums"]) for row in rows if row["minute"] is None]
        return window_rows(where, stored, [_new(row) for row in rows if row["minute"] is not None])

    async def open_counts(
        self, owner: str | None = None, *, queues: Collection[str] | None = None
    ) -> list[PartitionStats]:
        name, whose = ("open_counts", ()) if owner is None else ("own_open_counts", (owner,))
        values = None if queues is None else list(queues), *whose
        rows = await self._connections.read(lambda connection: connection.fetch(self._queries[name], *values))
        return partition_stats(
            [(row["queue"], row["type"], row["pending"], row["scheduled"], row["oldest"]) for row in rows],
            [(row["queue"], row["type"], row["running"]) for row in rows],
        )

    async def fold(self, *, limit: int) -> int:
        async def work(tx: Transaction) -> int:
            rows = await tx.fetch(self._queries["take_changes"], limit)
            if rows:
                await shared.fold(self._database.rows_of(tx), [TaskChange(*row.values()) for row in rows])
            return len(rows)

        return await self._connections.transact(work)

    async def prune(self, *, limit: int) -> int:
        return await self._database.write(lambda rows: shared.prune(self._database, rows, limit))


_WINDOW_VALUES = ("first", "before", "until", "step", "unit", "group", "owner", "type", "queue")
"""The parameters of the query `window`, in order."""


def _new(row: Any) -> TaskChange:
    """Return a change that is not in the sums yet, without the numbers of open tasks."""
    key = row["minute"], row["owner"], row["type"], row["queue"]
    counts = dict(zip(COUNTS, row["sums"], strict=True))
    return TaskChange(*key, **counts, runs=row["runs"], waits=row["waits"])
