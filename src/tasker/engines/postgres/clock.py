"""The database's time, used throughout the process: the wall clock of this machine may be wrong, or be set."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

from tasker.clock import since_boot
from tasker.engines.postgres.connections import Connections
from tasker.engines.postgres.transaction import Connection


class DatabaseClock:
    """A Clock that starts from the database's last answer and advances with the monotonic clock."""

    def __init__(self) -> None:
        self._last = datetime.now(UTC)
        self._at = time.monotonic()

    def now(self) -> datetime:
        return self._last + timedelta(seconds=time.monotonic() - self._at)

    def monotonic(self) -> float:
        return time.monotonic()

    def elapsed(self) -> float:
        return since_boot()

    async def set(self, connections: Connections) -> None:
        """Ask the database for its time. Raises Unavailable."""

        async def ask(connection: Connection) -> tuple[datetime, float]:
            asked = time.monotonic()
            answer = await connection.fetchval("SELECT clock_timestamp()")
            return answer, (asked + time.monotonic()) / 2

        self._last, self._at = await connections.read(ask)
