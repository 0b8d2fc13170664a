"""Waiting claims: served inside the transactions that add tasks, and answered once these are durable."""

from __future__ import annotations

import asyncio
import json

from tasker.clock import Clock, monotonic_micros, to_micros
from tasker.engines.protocol import ClaimRequest
from tasker.engines.sqlite.claim import choose, choose_suspects, start_attempt
from tasker.engines.sqlite.partitions import Partitions
from tasker.engines.sqlite.ties import fail_overdue
from tasker.engines.sqlite.transaction import Transaction
from tasker.model import Change, Claim, Status

OVERDUE_AT_ONCE = 200
_LOOK_AGAIN = 1.0
"""Seconds between looks at the clock while a task waits for its time: the wall clock may be set."""


class Waiter:
    """A waiting call of `claim`: its request, and the future that gets its tasks."""

    __slots__ = ("future", "given_up", "has_looked", "names", "queues", "request", "served", "types")

    def __init__(self, request: ClaimRequest, future: asyncio.Future[list[Claim]]) -> None:
        self.request = request
        self.types = frozenset(request.types)
        self.queues = None if request.queues is None else frozenset(request.queues)
        self.names = {
            "types": json.dumps(list(request.types)),
            "queues": None if request.queues is None else json.dumps(list(request.queues)),
            "limit": request.suspects,
        }
        self.future = future
        self.served: list[Claim] = []
        self.given_up = False
        self.has_looked = False

    def takes(self, queue: str, type_: str) -> bool:
        """Return whether this worker takes tasks of a type in a queue."""
        return type_ in self.types and (self.queues is None or queue in self.queues)

    def give_up(self) -> None:
        """End the wait: answer with no tasks, once it was served at least once."""
        self.given_up = True
        self.settle()

    def settle(self) -> bool:
        """Answer with no tasks if its time is up and none was found; return whether it was answered."""
        if self.given_up and self.has_looked and not self.served and not self.future.done():
            self.future.set_result([])
        return self.future.done()


class Waiters:
    """The waiting calls of `claim`. `serve` runs inside a transaction, `deliver` once it is durable."""

    def __init__(self, clock: Clock, partitions: Partitions) -> None:
        self._clock = clock
        self._partitions = partitions
        self._waiting: list[Waiter] = []
        self._served: list[Waiter] = []

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def join(self, waiter: Waiter) -> None:
        """Serve `waiter` from the next transaction on."""
        self._waiting.append(waiter)

    def leave(self, waiter: Waiter) -> None:
        """Remove `waiter`, if it is still waiting."""
        if waiter in self._waiting:
            self._waiting.remove(waiter)

    @property
    def steady(self) -> int:
        """The monotonic clock in microseconds, by which leases are counted, as they end with the process."""
        return monotonic_micros(self._clock)

    def seconds_to_next(self) -> float | None:
        """Return the seconds until the next look; None if no claim waits, or no task for its time."""
        if self._waiting and self._partitions.has_more_to_do:
            return 0.0
        time = self._partitions.next_time()
        if not self._waiting or time is None:
            return None
        wait = (time - to_micros(self._clock.now())) / 1e6
        return min(max(wait, 0.0), _LOOK_AGAIN)

    def taker(self, queue: str, type_: str, now: int) -> Waiter | None:
        """Return a waiter that can take one new task at once; None if another task may come before it."""
        if not self._partitions.is_current(queue, now):
            return None
        for waiter in self._waiting:
            if waiter.request.limit > len(waiter.served) and waiter.takes(queue, type_):
                return None if self._partitions.bounds.holds_any(waiter.types, waiter.queues) else waiter
        return None

    def serve(self, tx: Transaction) -> None:
        """Claim due tasks for the waiters, longest waiting first."""
        if not self._waiting:
            return
        partitions, now = self._partitions, tx.now
        partitions.refresh(tx.connection, now)
        if partitions.has_overdue(
            now
        ):  # overdue tasks beyond OVERDUE_AT_ONCE do not start: the next transaction fails them
            fail_overdue(tx, OVERDUE_AT_ONCE)
            partitions.read_next_deadline(tx.connection)
        partitions.open_gates(now)
        due = now if partitions.due_until is None else min(now, partitions.due_until)
        still_waiting = []
        for waiter in self._waiting:
            waiter.served += self._claim(tx, waiter, due)
            if waiter.served:
                self._served.append(waiter)
                continue
            waiter.has_looked = True
            if not waiter.settle():
                still_waiting.append(waiter)
        self._waiting = still_waiting
        for key in partitions.limits.end(tx.connection):
            tx.counts.moved(key, -1)

    def _claim(self, tx: Transaction, waiter: Waiter, due: int) -> list[Claim]:
        """Start the attempts for `waiter`, of tasks that are due at `due` (microseconds)."""
        request, partitions = waiter.request, self._partitions
        seqs: list[int] = []
        if request.suspects > 0 and partitions.has_suspects:
            seqs += choose_suspects(tx.connection, partitions, waiter.names, due)
        limit = request.limit - len(waiter.served)
        if limit > 0:
            seqs += choose(tx.connection, partitions, waiter.types, waiter.queues, due, limit)
        started_now = (start_attempt(tx, request, seq, self.steady) for seq in seqs)
        return [claim for claim in started_now if claim is not None]

    def close(self) -> None:
        """Answer every waiter with no tasks."""
        for waiter in self._waiting:
            waiter.has_looked = True
            waiter.give_up()
        self._waiting = []

    def deliver(self) -> tuple[list[Change], list[Claim]]:
        """Answer the served waiters, now that their claims are durable.

        Return the changes to notify of, and the claims whose caller has gone meanwhile, which must be given back.
        """
        served, self._served = self._served, []
        changes: list[Change] = []
        abandoned: list[Claim] = []
        for waiter in served:
            changes += [Change(claim.task_id, Status.RUNNING) for claim in waiter.served]
            if waiter.future.done():
                abandoned += waiter.served
            else:
                waiter.future.set_result(waiter.served)
        return changes, abandoned

    def take_back(self) -> None:
        """After a rollback let the served waiters wait again, unless their time is up."""
        waiters = self._served + self._waiting
        for waiter in waiters:
            waiter.served = []
            waiter.has_looked = True
        self._waiting = [waiter for waiter in waiters if not waiter.settle()]
        self._served = []
