"""The line of pending tasks: serves the workers that wait, inside the transactions that bring tasks."""

from __future__ import annotations

import asyncio
import json

import apsw

from tasker.clock import Clock, to_micros
from tasker.engine import ClaimRequest
from tasker.engines.sqlite.rows import Row, claim_of
from tasker.engines.sqlite.sql import QUERIES
from tasker.model import Change, Claim, Status

_LOOK_AGAIN = 1.0
"""Seconds between looks at the clock while a task waits for its moment: the wall clock may be set."""


class Waiter:
    """One call of claim: what it asks for, and the future that its tasks go to."""

    __slots__ = ("future", "given_up", "queues", "request", "served", "types")

    def __init__(self, request: ClaimRequest, future: asyncio.Future[list[Claim]]) -> None:
        self.request = request
        self.future = future
        self.types = json.dumps(sorted(request.types))
        self.queues = None if request.queues is None else json.dumps(sorted(request.queues))
        self.served: list[Claim] = []
        self.given_up = False

    def give_up(self) -> None:
        """Answer with nothing, unless there is an answer."""
        self.given_up = True
        if not self.served and not self.future.done():
            self.future.set_result([])


class Line:
    """Matches waiting claims with due tasks. `serve` runs inside a transaction, `deliver` when it is durable."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._waiters: list[Waiter] = []
        self._served: list[Waiter] = []
        self._may_have_due = True
        self.next_due: int | None = None

    def join(self, waiter: Waiter) -> None:
        """Let `waiter` be served from now on, from tasks that are already due first."""
        self._waiters.append(waiter)
        self._may_have_due = True

    def leave(self, waiter: Waiter) -> bool:
        """Take `waiter` out; False if it is being served right now."""
        if waiter not in self._waiters:
            return False
        self._waiters.remove(waiter)
        return True

    def changed(self) -> None:
        """Tell that a task has joined the line, or that one may have become due."""
        self._may_have_due = True

    @property
    def has_waiters(self) -> bool:
        return bool(self._waiters)

    def seconds_to_next(self) -> float | None:
        """Return when to look again: None if no waiter or no task waits for a moment."""
        if not self._waiters or self.next_due is None:
            return None
        wait = (self.next_due - to_micros(self._clock.now())) / 1e6
        return min(max(wait, 0.0), _LOOK_AGAIN)

    def serve(self, connection: apsw.Connection) -> None:
        """Claim due tasks for the waiters, longest waiting first."""
        if not self._waiters or not self._may_have_due:
            return
        now = self._clock.now()
        micros = to_micros(now)
        unserved = []
        for waiter in self._waiters:
            rows = _due(connection, waiter, micros)
            if rows:
                expires = to_micros(now + waiter.request.lease_for)
                worker = waiter.request.worker
                connection.executemany(QUERIES["start_attempt"], [(worker, micros, expires, row[0]) for row in rows])
                waiter.served = [claim_of(row, worker, now) for row in rows]
                self._served.append(waiter)
            else:
                unserved.append(waiter)
        self._waiters = unserved
        if unserved:
            self._may_have_due = False
            self.next_due = connection.execute(QUERIES["next_due"], (micros,)).get

    def deliver(self) -> tuple[list[Change], list[Claim]]:
        """Hand out what was served, now that it is durable.

        Returns the news of it, and the claims whose caller has gone in the meantime: they must be given back.
        """
        served, self._served = self._served, []
        changes, abandoned = [], []
        for waiter in served:
            changes += [Change(claim.task_id, Status.RUNNING) for claim in waiter.served]
            if waiter.future.done():
                abandoned += waiter.served
            else:
                waiter.future.set_result(waiter.served)
        return changes, abandoned

    def take_back(self) -> None:
        """The transaction was rolled back: the waiters wait again, unless their time is up."""
        for waiter in self._served:
            waiter.served = []
            if waiter.given_up:
                waiter.give_up()
        self._waiters = [waiter for waiter in self._served if not waiter.given_up] + self._waiters
        self._served = []
        self._may_have_due = True


def _due(connection: apsw.Connection, waiter: Waiter, now: int) -> list[Row]:
    request = waiter.request
    names = {"now": now, "types": waiter.types, "queues": waiter.queues}
    rows: list[Row] = []
    if request.suspects > 0:
        rows += connection.execute(QUERIES["due_suspects"], names | {"limit": request.suspects})
    room = request.limit
    level = connection.execute(QUERIES["first_level"]).get if room > 0 else None
    while level is not None:
        found = connection.execute(QUERIES["due_in_level"], names | {"priority": level, "limit": room}).fetchall()
        rows += found
        room -= len(found)
        level = connection.execute(QUERIES["next_level"], (level,)).get if room > 0 else None
    return rows
