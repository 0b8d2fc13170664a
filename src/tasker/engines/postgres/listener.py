"""The connection by which a process listens for notifications, holds its worker's lock, and announces the worker."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Collection
from typing import Any

import asyncpg
import structlog

from tasker.engines.postgres.connections import ANSWER_WITHIN, LOST, Connections
from tasker.engines.postgres.notifications import CHANNEL, process_channel, read_notification
from tasker.engines.postgres.transaction import Connection
from tasker.model import Change

LOCKS = 0x7461736B
"""The class of our advisory locks: "task"."""
_CHECK_EVERY = 5.0
"""Seconds of silence after which the connection is checked: a half-open one would stay silent for ever."""
_AGAIN_AFTER = 0.5
"""Seconds between attempts to reconnect."""

Heard = Callable[[Collection[str], list[Change], bool], None]
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
        self._wakes: dict[str, Callable[[], None]] = {}
        """What is called for a notification of further channels."""
        self._one_at_a_time = asyncio.Lock()
        self._answered_at = float("-inf")
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
            with contextlib.suppress(*LOST, asyncpg.PostgresError):
                async with self._one_at_a_time:
                    await self._hold_on(self._connection, name, channel)
                self._names[name] = channel
        return name in self._names and self.is_connected

    async def listen(self, channel: str, wake: Callable[[], None]) -> None:
        """Call `wake` for each notification of a channel, and after a broken connection, until `unlisten`."""
        self._wakes[channel] = wake
        await self._with_connection(lambda connection: connection.add_listener(channel, self._on_wake))

    async def unlisten(self, channel: str) -> None:
        """End what `listen` began."""
        self._wakes.pop(channel, None)
        await self._with_connection(lambda connection: connection.remove_listener(channel, self._on_wake))

    async def _with_connection(self, use: Callable[[Connection], Awaitable[None]]) -> None:
        """Use the connection; where it is broken, the next one is made as is wanted then."""
        if self.is_connected:
            with contextlib.suppress(*LOST, asyncpg.PostgresError):
                async with self._one_at_a_time:
                    await use(self._connection)

    async def execute(self, statement: str, *values: Any) -> bool:
        """Run a statement on this connection, whose commits do not wait for the disk; return whether it was stored."""
        if not self.is_connected:
            return False
        connection = self._connection
        try:
            async with self._one_at_a_time:
                with self._connections.contact.measured():
                    await self._connections.prepare_use(connection)
                    await connection.execute(statement, *values, timeout=ANSWER_WITHIN)
        except (*LOST, asyncpg.PostgresError):
            connection.terminate()
            return False
        self._answered_at = asyncio.get_running_loop().time()
        return True

    async def _connect(self) -> Connection:
        connection = await self._connections.connect({"synchronous_commit": "off"})
        connection.add_termination_listener(lambda _: self._broken.set())
        try:
            await _lock(connection, self._connections.sender)  # a leader's name is seen to be dead without it
            for channel in (CHANNEL, process_channel(self._connections.sender)):
                await connection.add_listener(channel, self._on_notification)
            for name, channel in self._names.items():
                await self._hold_on(connection, name, channel)
            for channel in self._wakes:
                await connection.add_listener(channel, self._on_wake)
        except BaseException:  # also a cancellation: no one else can close it
            connection.terminate()
            raise
        return connection

    async def _hold_on(self, connection: Connection, name: str, channel: str) -> None:
        await _lock(connection, name)
        await connection.add_listener(channel, self._on_notification)

    def _on_wake(self, _connection: Any, _pid: int, channel: str, _payload: object) -> None:
        self._answered_at = asyncio.get_running_loop().time()
        if channel in self._wakes:
            self._wakes[channel]()

    def _on_notification(self, _connection: Any, _pid: int, channel: str, payload: object) -> None:
        self._answered_at = asyncio.get_running_loop().time()
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
        silent_for = asyncio.get_running_loop().time() - self._answered_at
        return self.is_connected and (silent_for < _CHECK_EVERY or await self.execute("SELECT 1"))

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
        for wake in self._wakes.values():
            wake()


async def _lock(connection: Connection, name: str) -> None:
    await connection.execute("SELECT pg_advisory_lock_shared($1, hashtext($2))", LOCKS, name)
