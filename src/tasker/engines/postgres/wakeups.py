"""Telling workers of new tasks: those that are chosen, a few others if these do not take them, and then everybody.

All of it is a hint. If this process dies in between, waiting claims find the tasks by polling.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Collection, Mapping
from datetime import datetime
from typing import Any

import msgspec
import structlog

from tasker.engines.postgres.connections import Connections
from tasker.engines.postgres.notifications import do_fit, for_workers, statements
from tasker.engines.postgres.pacing import Gap, Watch
from tasker.engines.postgres.targeting import Fleet, Presence, member_of
from tasker.engines.postgres.transaction import Told, Transaction
from tasker.engines.postgres.waiters import Waiters
from tasker.errors import Unavailable
from tasker.model.keeping import KEEP_WORKERS_FOR

REFRESH_AFTER = 2.0
"""Seconds after which the workers are read again, while tasks are added."""
_TRUSTED_FOR = 10.0
"""Seconds for which the workers that were read are chosen from."""
_FEW = 3
"""Workers that are told of tasks that the chosen ones have not taken in time: some of them may be dead, too."""
_CLOSE_WITHIN = 1.0
"""Limit in seconds of what is still to be sent at the end."""
_log = structlog.get_logger(__name__)
_decode = msgspec.json.Decoder(Presence).decode


class Wakeups:
    """Decides for each transaction of this process who is told of its new tasks, and looks whether they are taken."""

    def __init__(self, connections: Connections, queries: dict[str, str], waiters: Waiters) -> None:
        self._connections = connections
        self._queries = queries
        self._waiters = waiters
        self._fleet: Fleet | None = None
        self._read_at = self._asked_at = float("-inf")
        self._passed_over: dict[str, datetime] = {}
        """Workers that did not take what they were chosen for, and their latest heartbeats at that time."""
        self._gap = Gap()
        self._watch = Watch()
        self._timer: asyncio.Handle | None = None
        self._timer_at = 0.0
        self._reading: asyncio.Task[None] | None = None
        self._pacing: asyncio.Task[None] | None = None
        self._closed = False

    def route(self, tasks: Mapping[str, int]) -> Told:
        """Say who is told of new tasks, given as numbers by partition; called right before COMMIT.

        Claims that wait in this process come first: they need no notification.
        """
        now = asyncio.get_running_loop().time()
        self._read_if_old(now)
        own = {partition: self._waiters.promise(partition, count) for partition, count in tasks.items()}
        rest = {partition: count - own[partition] for partition, count in tasks.items() if count > own[partition]}
        at_once, held = self._gap.let_through(rest, now)
        earlier = self._gap.held_of(at_once)
        told = self._choose(at_once + earlier, now)
        left_to_own = {partition: () for partition, count in own.items() if count}
        return told._replace(chosen={**left_to_own, **told.chosen}, held=held, no_longer_held=earlier)

    def committed(self, tx: Transaction) -> None:
        """Wake the claims of this process, and see to it that the new tasks of a durable transaction are taken."""
        self._waiters.wake(tx.partitions, is_chosen=True)
        if not self._closed:
            self._watch_chosen(tx.told.chosen)
            self._gap.forget(tx.told.no_longer_held)
            self._gap.hold(tx.told.held)
            self._set_timer()

    async def close(self) -> None:
        """Tell of the held tasks, and stop. A database that does not answer is not waited for."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        if self._pacing is not None:
            await asyncio.wait([self._pacing], timeout=_CLOSE_WITHIN)
        under_way = [task for task in (self._reading, self._pacing) if task is not None]
        for task in under_way:
            task.cancel()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_CLOSE_WITHIN):
                await self._survive(self._tell, self._gap.release_all())
        if under_way:
            await asyncio.wait(under_way)

    # the workers

    def _read_if_old(self, now: float) -> None:
        is_reading = self._reading is not None and not self._reading.done()
        if now - self._asked_at > REFRESH_AFTER and not is_reading and not self._closed:
            self._asked_at = now
            self._reading = asyncio.create_task(self._survive(self.read_workers))

    async def read_workers(self) -> None:
        """Read who is alive. Raises Unavailable."""
        asked = asyncio.get_running_loop().time()
        rows = await self._connections.look(
            lambda connection: connection.fetch(self._queries["live_workers"], KEEP_WORKERS_FOR)
        )
        found = (member_of(_decode(row["info"]), row["heartbeat_at"], row["silent_for"]) for row in rows)
        turn = 0 if self._fleet is None else self._fleet.turn
        self._fleet = Fleet((member for member in found if member is not None), turn)
        self._read_at = asked
        current = {member.worker_id: member.heartbeat_at for member in self._fleet.members}
        self._passed_over = {name: at for name, at in self._passed_over.items() if current.get(name) == at}

    def _choose(self, tasks: Mapping[str, int], now: float, at_least: int = 1) -> Told:
        if self._fleet is None or now - self._read_at > _TRUSTED_FOR:
            return Told(everybody=list(tasks))
        choice = self._fleet.choose(tasks, self._passed_over, at_least=at_least)
        if not all(map(do_fit, choice.channels.values())):
            return Told(everybody=list(tasks))
        return Told(choice.everybody, choice.channels, choice.workers)

    # what is sent later

    def _watch_chosen(self, chosen: Mapping[str, Collection[str]]) -> None:
        """Watch partitions, given with the workers that were chosen for them."""
        now = asyncio.get_running_loop().time()
        for partition, workers in chosen.items():
            self._watch.add(partition, workers, now)

    def _set_timer(self) -> None:
        """Have `_pace` called when the next thing is due."""
        times = [at for at in (self._gap.next_at(), self._watch.next_at()) if at is not None]
        if self._closed or not times:
            return
        at = min(times)
        if self._timer is None or at < self._timer_at:
            if self._timer is not None:
                self._timer.cancel()
            self._timer = asyncio.get_running_loop().call_at(at, self._start_pacing)
            self._timer_at = at

    def _start_pacing(self) -> None:
        self._timer = None
        if self._pacing is None or self._pacing.done():  # else it sets the timer at its end
            self._pacing = asyncio.create_task(self._pace())

    async def _pace(self) -> None:
        """Do what is due now."""
        now = asyncio.get_running_loop().time()
        await self._survive(self._tell, self._gap.release(now))
        if due := self._watch.due(now):
            await self._survive(self._check, due)
        self._set_timer()

    async def _tell(self, tasks: Mapping[str, int]) -> None:
        """Tell others of tasks that are stored. Raises Unavailable; all of the tasks are watched then."""
        if not tasks:
            return
        told = self._choose(tasks, asyncio.get_running_loop().time())
        self._watch_chosen(told.chosen)
        try:
            await self._send_told(told)
        except Exception:
            self._watch_chosen(dict.fromkeys(tasks, ()))
            raise

    async def _check(self, partitions: list[str]) -> None:
        """Tell others of the partitions whose first tasks nobody has taken. Raises Unavailable."""
        try:
            rows = await self._connections.look(
                lambda connection: connection.fetch(self._queries["first_jobs"], partitions)
            )
        except Exception:  # also a bug: without a later time, the next look would follow at once, for ever
            self._watch.put_off(partitions, asyncio.get_running_loop().time())
            raise
        first = {row["name"]: row["created"] for row in rows if row["created"] is not None}
        now = asyncio.get_running_loop().time()
        seen = self._watch.see(partitions, first, rows[0]["now"], now)
        self._pass_over(seen.idle)
        self._waiters.wake([*seen.few, *seen.all])
        told = self._choose(dict.fromkeys(seen.few, 1), now, _FEW)
        self._watch_chosen(told.chosen)
        await self._send_told(told._replace(everybody=[*told.everybody, *seen.all]))

    def _pass_over(self, workers: set[str]) -> None:
        if self._fleet is not None:
            self._passed_over |= {
                member.worker_id: member.heartbeat_at for member in self._fleet.members if member.worker_id in workers
            }

    async def _send_told(self, told: Told) -> None:
        sender = self._connections.sender
        await self._send("".join([*statements(sender, told.everybody, ()), for_workers(sender, told.channels)]))

    async def _send(self, statement: str) -> None:
        if statement:
            await self._connections.look(lambda connection: connection.execute(statement))

    async def _survive(self, work: Callable[..., Awaitable[None]], *values: Any) -> None:
        """Do background work: if it fails, tasks only start later."""
        try:
            await work(*values)
        except Unavailable as error:
            _log.info("store.not_told", reason=error.detail)
        except Exception:  # a bug, or a row inserted by hand
            _log.exception("store.not_told")
