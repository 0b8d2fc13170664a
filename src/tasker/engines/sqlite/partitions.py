"""The queue partitions (a queue and a type) that may have a due task.

They are kept in memory, so that a transaction queries only these. The tasks themselves are not in memory: a million may
be pending.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any
from uuid import UUID

import apsw

from tasker.clock import Clock, to_micros
from tasker.engines.sqlite.bounds import UNKNOWN, Bounds, Partition
from tasker.engines.sqlite.limits import Limits
from tasker.engines.sqlite.rows import Row
from tasker.engines.sqlite.sql import QUERIES
from tasker.rules.lifecycle import MAX_INTERRUPTIONS

SETTLED_AT_ONCE = 200
"""Limit of the dependants that one transaction settles: its statements run on the event loop."""
ABOVE_ALL = 1 << 31
"""Larger than any priority."""
_ABOVE_ALL_ROWS = (1 << 63) - 1
_STAY_AT_ONCE = 500
"""Limit of the tasks that one transaction checks after the wall clock was set back."""


class Partitions:
    """What one transaction knows about the partitions from earlier ones.

    limits: the limits of their queues. unsettled: tasks that have ended and whose dependants still wait.
    left_to_settle: dependants that the transaction under way may still settle.
    bounds: the partitions that may have a due task. has_suspects: whether a suspect may be pending.
    due_until: while the store follows a step of the wall clock, the time up to which tasks count as due, in
    microseconds; None for the current time.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.limits = Limits()
        self.unsettled: dict[UUID, None] = {}
        self._noted_since: set[UUID] = set()
        self.left_to_settle = SETTLED_AT_ONCE
        self.bounds = Bounds()
        self.has_suspects = True
        self.due_until: int | None = None
        self._has_new_settings = False
        self._latest = 0
        self._seen_until = 0
        self._next_due: int | None = None
        self._next_deadline: int | None = None
        self._is_loaded = False
        self._is_moving = False
        self._staying: Iterator[bool] | None = None

    def settle_later(self, ended: UUID) -> None:
        """Note that the end of a task is not settled for all others."""
        self.unsettled[ended] = None
        self._noted_since.add(ended)

    def begin_to_settle(self, ended: UUID) -> None:
        """Note that a transaction settles an end from here on."""
        self._noted_since.discard(ended)

    def settled(self, ended: UUID) -> None:
        """Note that an end is settled, durably, unless it was noted again since that began."""
        if ended not in self._noted_since:
            self.unsettled.pop(ended, None)

    def joined(
        self, queue: str, type_: str, due_at: int, *, later: bool, suspect: bool = False, priority: int | None = None
    ) -> None:
        """Note that a task has joined its partition, to be claimed from `due_at` (microseconds)."""
        self.has_suspects = self.has_suspects or suspect
        if later:
            self._next_due = due_at if self._next_due is None else min(self._next_due, due_at)
            self._seen_until = min(self._seen_until, due_at - 1)
        elif not suspect:
            self.bounds.add((queue, type_), UNKNOWN if priority is None else (-priority, due_at, 0))

    def ended(self, connection: apsw.Connection, now: int, queue: str, owner: str, key: Any) -> None:
        """Note that a pending or running task has ended: a slot of its queue or its key may be free."""
        self._add(self.limits.slot_freed(queue))
        if key is not None and self.limits.has_parked:
            slot = self.limits.of(queue).slot(owner, str(key))
            self._unparked(self.limits.unpark(connection, slot, 1, now))

    def unpark_many(self, connection: apsw.Connection, now: int, limit: int) -> int:
        """Put parked tasks back into their partitions where a slot is free, at most `limit`; return how many."""
        rows = self.limits.unpark_many(connection, now, limit)
        self._unparked(rows)
        return len(rows)

    def note_deadline(self, deadline: int | None) -> None:
        """Note the deadline of a pending task (microseconds), if it has one."""
        if deadline is not None:
            self._next_deadline = min(deadline, self._next_deadline or deadline)

    def settings_changed(self) -> None:
        """Note that a queue's settings have changed: they are read before the next claim."""
        self._has_new_settings = True

    def clock_was_set(self, until: int | None, is_moving: bool) -> None:
        """Note that the wall clock was set, and whether stored times are still being moved; forget everything known.

        until: see `due_until`. Dependants are not settled until all rows are moved: their delays may still be times of
        the old clock.
        """
        self.due_until, self._is_moving = until, is_moving
        self.forget()
        self._latest = to_micros(self._clock.now())

    def committed(self) -> None:
        """Note that the transaction is durable: the next one may settle SETTLED_AT_ONCE dependants again."""
        self.left_to_settle = 0 if self._is_moving else SETTLED_AT_ONCE

    def forget(self) -> None:
        """Note that the transaction was rolled back: what it has noted may be wrong, so read the table again."""
        self.committed()
        self._is_loaded = False

    @property
    def has_no_limits(self) -> bool:
        """Whether it is known that no queue has settings."""
        return self._is_loaded and not self._has_new_settings and not self.limits.settings

    @property
    def are_unlimited(self) -> bool:
        """Whether the end of an attempt cannot let another task start: no queue has settings, and no task is parked."""
        is_loaded = self._is_loaded and not self._has_new_settings
        return is_loaded and not self.limits.settings and not self.limits.has_parked

    @property
    def has_more_to_do(self) -> bool:
        """Whether another transaction is needed after the wall clock was set back."""
        return self._staying is not None

    def next_time(self) -> int | None:
        """Return when (microseconds) the next task becomes due, gate opens or deadline passes; None if nothing does."""
        overdue = self._next_deadline if self._next_deadline is None or self._next_deadline <= self._latest else None
        times = (time for time in (self._next_due, self.limits.opens_at, overdue) if time is not None)
        return min(times, default=None)

    def next_moment(self) -> int | None:
        """Return when (microseconds) time alone changes what may start or has failed; None if it never does."""
        times = (self._next_due, self.limits.opens_at, self._next_deadline)
        return min((time for time in times if time is not None), default=None)

    def is_current(self, queue: str, now: int) -> bool:
        """Return whether `bounds` is up to date for a queue without limits, so that no query is needed."""
        is_loaded = self._is_loaded and not self._has_new_settings
        return is_loaded and not self.limits.holds(queue) and not self._has_due(now)

    def has_overdue(self, now: int) -> bool:
        """Return whether the deadline of a pending task may have passed."""
        return self._next_deadline is not None and self._next_deadline <= now

    def read_next_deadline(self, connection: apsw.Connection) -> None:
        """Read the next deadline of a pending task from the table."""
        self._next_deadline = connection.execute(QUERIES["next_deadline"]).get

    def open_gates(self, now: int) -> None:
        """Begin to choose tasks in a transaction, at `now` (microseconds)."""
        self._add(self.limits.begin(now))

    def refresh(self, connection: apsw.Connection, now: int) -> None:
        """Update `bounds`: the partitions that may have a due task."""
        if now < self._latest:
            self._is_loaded = False
        self._latest = now
        self._look_at_table(connection, now)
        if self._staying is not None:
            self._staying = self._staying if next(self._staying, False) else None

    def _look_at_table(self, connection: apsw.Connection, now: int) -> None:
        if self._has_new_settings and self._is_loaded:
            self._add(self.limits.load(connection))
            self._has_new_settings = False
        if not self._is_loaded:
            # The wall clock may have been set back, now or while no process ran: due tasks stay due.
            self._staying = self._stay_due(connection, now)
            self._find_all(connection)
            self.read_next_deadline(connection)
            self.has_suspects = True
            self.limits.load(connection)
            self._has_new_settings = False
        elif self._has_due(now):
            due: Any = connection.execute(QUERIES["due_partitions"], (self._seen_until, now)).fetchall()
            self._add(due)
        else:
            return
        self._is_loaded = True
        self._seen_until = now
        self._next_due = connection.execute(QUERIES["next_due"], (now,)).get

    def _stay_due(self, connection: apsw.Connection, now: int) -> Iterator[bool]:
        """Keep queued tasks due at `now`, one batch per transaction; yield True while there may be more."""
        for queue, type_, priority in _levels(connection):
            after = now, _ABOVE_ALL_ROWS
            while True:
                values = (queue, type_, priority, *after, _STAY_AT_ONCE)
                rows: list[Any] = connection.execute(QUERIES["level_after"], values).fetchall()
                queued = [seq for _, seq, reason in rows if reason == "queued"]
                if queued:
                    connection.execute(QUERIES["stay_due"], {"now": now, "seqs": json.dumps(queued)})
                    self.bounds.add((queue, type_), UNKNOWN)
                if len(rows) < _STAY_AT_ONCE:
                    break
                after = rows[-1][:2]
                yield True

    def _find_all(self, connection: apsw.Connection) -> None:
        """Find every partition and its first task, due or not, with one seek each."""
        self.bounds.clear()
        partition: Partition = ("", "")
        while (row := connection.execute(QUERIES["next_partition_head"], partition).fetchone()) is not None:
            partition = row[0], row[1]
            self.bounds.add(partition, (-row[2], row[3], row[4]))

    def _add(self, partitions: Iterable[Partition]) -> None:
        for partition in partitions:
            self.bounds.add(partition)

    def _unparked(self, rows: Sequence[Row]) -> None:
        for queue, type_, due_at, interruptions in rows:
            self.joined(queue, type_, due_at, later=False, suspect=interruptions >= MAX_INTERRUPTIONS)

    def _has_due(self, now: int) -> bool:
        return self._next_due is not None and self._next_due <= now


def _levels(connection: apsw.Connection) -> Iterator[tuple[str, str, int]]:
    """Find every priority of every partition as (queue, type, priority), with one seek each."""
    partition: Partition = ("", "")
    while (row := connection.execute(QUERIES["next_partition"], partition).fetchone()) is not None:
        partition = row[0], row[1]
        level = connection.execute(QUERIES["next_level"], (*partition, ABOVE_ALL)).get
        while level is not None:
            yield *partition, level
            level = connection.execute(QUERIES["next_level"], (*partition, level)).get
