"""The QueueBook of the embedded engine."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable
from typing import Any

import apsw

from tasker.clock import Clock, to_micros
from tasker.engines.sqlite.limits import find_settings, read_states, store_settings, tokens_now
from tasker.engines.sqlite.lines import Lines
from tasker.model.queues import QueueChange, QueueSettings, QueueState, tokens_after

_UNPARK = 1000
"""Tasks that go back into line with a change; the others do with the sweeps that follow."""


class SqliteQueues:
    """read: runs a query on the reading connection; write: does work in a transaction of the writing one."""

    def __init__(
        self,
        read: Callable[..., Awaitable[Any]],
        write: Callable[[Callable[[apsw.Connection], Any]], Awaitable[Any]],
        lines: Lines,
        clock: Clock,
    ) -> None:
        self._read = read
        self._write = write
        self._lines = lines
        self._clock = clock

    async def find_all(self) -> list[QueueState]:
        states: list[QueueState] = await self._read(read_states, to_micros(self._clock.now()))
        return states

    async def change(self, name: str, change: QueueChange) -> QueueSettings:
        settings: QueueSettings = await self._write(functools.partial(self._change, name=name, change=change))
        return settings

    def _change(self, connection: apsw.Connection, *, name: str, change: QueueChange) -> QueueSettings:
        now = to_micros(self._clock.now())
        old, tokens, since = find_settings(connection, name)
        new = change.apply(old)
        store_settings(connection, new, tokens_after(old, new, tokens_now(old.rate, tokens, since, now)), now)
        self._lines.settings_changed()
        if new.concurrency_per_key != old.concurrency_per_key:
            self._lines.unpark_many(connection, _UNPARK)
        return new
