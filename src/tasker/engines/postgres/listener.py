"""The connection by which a process listens for notifications, and holds the lock on its worker's name."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterable
from typing import Any

import asyncpg
import structlog

from tasker.engines.postgres.connections import ANSWER_WITHIN, LOST, Connections
from tasker.engines.postgres.notifications import CHANNEL, read_notification
from tasker.engines.postgres.transaction import Connection
from tasker.model import Change

LOCKS = 0x7461736B
"""The class of our advisory locks: "task"."""
_CHECK_EVERY = 5.0
"""Seconds between checks that the connection is alive: a half-open one would stay silent for ever."""
_AGAIN_AFTER = 0.5
"""Seconds between attempts to reconnect."""

Heard = Callable[[Iterable[str], list[Change], bool], None]
_log = structlog.get_logger(__name__)


class Listener:
    """Listens until closed, and reconnects whenever its connection breaks.

    on_heard: called with the partitions that got tasks, with changes, and whether this process was chosen for the
    tasks. All are empty after a broken connection, as notifications may be lost.
    """

    def __init__(self, connections: Connections, on_heard: Heard) -> None:
        self._connections = connections
        self._on_heard = on_heard
        self._connection: Connection = None
        self._names: dict[str, str] = {}
        """The held names of workers, and their channels."""
        self._task: asyncio.Task[None] | None = None
        self._broken = asyncio.Event()

    @property
    def is_connected(self) -> bool:
        return self._connection is not None and not self._connection.is_closed()

    async def open(self) -> None:
        self._connection = await self._connect()
        self._task = asyncio.create_task(self._keep())

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        if self._connection is not None:
            self._connection.terminate()

    async def hold(self, name: str, channel: str) -> bool:
        """Lock a worker's name, and listen to its channel, for as long as this process lives.

        Return whether it does so now.
        """
        if name not in self._names and self.is_connected:
            assert self._connection is not None
            with contextlib.suppress(*LOST, asyncpg.PostgresError):
                await self._hold_on(self._connection, name, channel)
                self._names[name] = channel
        return name in self._names and self.is_connected

    async def _connect(self) -> Connection:
        connection = await self._connections.connect()
        connection.add_termination_listener(lambda _: self._broken.set())
        try:
            await connection.add_listener(CHANNEL, self._on_notification)
            for name, channel in self._names.items():
                await self._hold_on(connection, name, channel)
        except BaseException:  # also a cancellation: no one else can close it
            connection.terminate()
            raise
        return connection

    async def _hold_on(self, connection: Connection, name: str, channel: str) -> None:
        await _lock(connection, name)
        await connection.add_listener(channel, self._on_notification)

    def _on_notification(self, _connection: Any, _pid: int, channel: str, payload: object) -> None:
        try:
            sender, partitions, changes = read_notification(str(payload))
        except (ValueError, KeyError):
            _log.warning("store.odd_notice", payload=str(payload)[:100])
            return
        if sender != self._connections.sender:
            self._on_heard(partitions, changes, channel != CHANNEL)

    async def _keep(self) -> None:
        """Check now and then that the connection is alive; reconnect when it is not."""
        while True:
            with contextlib.suppress(TimeoutError):  # not wait_for: Python 3.11's can swallow a cancellation
                async with asyncio.timeout(_CHECK_EVERY):
                    await self._broken.wait()
            self._broken.clear()
            if not await self._is_alive():
                await self._reconnect()

    async def _is_alive(self) -> bool:
        connection = self._connection
        if connection is None or connection.is_closed():
            return False
        try:
            await connection.execute("SELECT 1", timeout=ANSWER_WITHIN)
        except (*LOST, asyncpg.PostgresError):
            connection.terminate()
            return False
        return True

    async def _reconnect(self) -> None:
        _log.warning("store.listener_lost")
        self._connections.contact.broken()
        self._on_heard((), [], False)
        while True:
            try:
                self._connection = await self._connect()
                break
            except (*LOST, asyncpg.PostgresError):
                pass
            except Exception:  # a bug: without a listener all waits of this process would be late for ever
                _log.exception("store.not_listening")
            await asyncio.sleep(_AGAIN_AFTER)
            self._on_heard((), [], False)
        self._on_heard((), [], False)


async def _lock(connection: Connection, name: str) -> None:
    await connection.execute("SELECT pg_advisory_lock_shared($1, hashtext($2))", LOCKS, name)
