"""The lines of pending tasks: serve the workers that wait, inside the transactions that bring tasks.

A line is a queue and a type. Which lines may hold a due task is remembered, so that a transaction asks the table only
about those; the tasks themselves never are: a million may be pending.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable, Iterator, Sequence
from datetime import timedelta
from typing import Any, NamedTuple
from uuid import UUID

import apsw

from tasker.clock import Clock, monotonic_micros, to_micros
from tasker.engines.protocol import ClaimRequest
from tasker.engines.shared.gates import Candidate, merge
from tasker.engines.shared.journal import started
from tasker.engines.sqlite.heads import UNKNOWN, Heads, LineName, Rank
from tasker.engines.sqlite.limits import Limits
from tasker.engines.sqlite.rows import Row, claim_of
from tasker.engines.sqlite.sql import QUERIES
from tasker.engines.sqlite.ties import SETTLED_AT_ONCE, fail_overdue
from tasker.engines.sqlite.transaction import Transaction
from tasker.model import Change, Claim, Status
from tasker.rules.lifecycle import MAX_INTERRUPTIONS

_OVERDUE_AT_ONCE = 200
_LOOK_AGAIN = 1.0
"""Seconds between looks at the clock while a task waits for its moment: the wall clock may be set."""
_ABOVE_ALL = 1 << 31
"""Above every priority."""
_ABOVE_ALL_ROWS = (1 << 63) - 1
_STAY_AT_ONCE = 500
"""Tasks that one transaction looks at after the wall clock was set back."""


class Waiter:
    """One call of claim: what it asks for, and the future that its tasks go to."""

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

    def takes(self, line: LineName) -> bool:
        """Tell whether this worker takes tasks of the line."""
        return line[1] in self.types and (self.queues is None or line[0] in self.queues)

    def give_up(self) -> None:
        """Its time is up: answer with nothing, once it has looked at least once."""
        self.given_up = True
        self.settle()

    def settle(self) -> bool:
        """Answer with nothing if its time is up and nothing was found; tell whether it has its answer."""
        if self.given_up and self.has_looked and not self.served and not self.future.done():
            self.future.set_result([])
        return self.future.done()


class Lines:
    """Matches waiting claims with due tasks. `serve` runs inside a transaction, `deliver` when it is durable."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._waiters: list[Waiter] = []
        self._served: list[Waiter] = []
        self._active = Heads()
        self._has_new_settings = False
        self._has_suspects = True
        self._latest = 0
        self._seen_until = 0
        self._next_due: int | None = None
        self._next_deadline: int | None = None
        self._is_loaded = False
        self._until: int | None = None
        self._is_moving = False
        self._staying: Iterator[bool] | None = None
        self.limits = Limits()
        self.unsettled: dict[UUID, None] = {}
        """Tasks that have ended, and others still wait for them."""
        self.room_to_settle = SETTLED_AT_ONCE
        """Dependants that the transaction under way may settle."""

    def join(self, waiter: Waiter) -> None:
        """Let `waiter` be served from now on, from tasks that are already due first."""
        self._waiters.append(waiter)

    def leave(self, waiter: Waiter) -> None:
        """Take `waiter` out, if it is still waiting."""
        if waiter in self._waiters:
            self._waiters.remove(waiter)

    def joined(
        self, queue: str, type_: str, due_at: int, *, later: bool, suspect: bool = False, priority: int | None = None
    ) -> None:
        """Tell that a task has joined its line, to be claimed from `due_at` (microseconds)."""
        self._has_suspects = self._has_suspects or suspect
        if later:
            self._next_due = due_at if self._next_due is None else min(self._next_due, due_at)
            self._seen_until = min(self._seen_until, due_at - 1)
        elif not suspect:
            self._active.add((queue, type_), UNKNOWN if priority is None else (-priority, due_at, 0))

    def note_deadline(self, deadline: int | None) -> None:
        """Tell that a pending task has a deadline (microseconds), if it has one."""
        if deadline is not None:
            self._next_deadline = min(deadline, self._next_deadline or deadline)

    def ended(self, tx: Transaction, queue: str, owner: str, key: Any) -> None:
        """Tell that a task has left the running ones, or the line: a slot of its queue, or that of its key, is free."""
        self._open(self.limits.slot_freed(queue))
        if key is not None and self.limits.has_parked:
            slot = self.limits.of(queue).slot(owner, str(key))
            self._unparked(self.limits.unpark(tx.connection, slot, 1, tx.now))

    def _open(self, lines: Iterable[LineName]) -> None:
        for line in lines:
            self._active.add(line)

    def unpark_many(self, tx: Transaction, limit: int) -> int:
        """Put parked tasks back into line for which there is room; return how many."""
        rows = self.limits.unpark_many(tx.connection, tx.now, limit)
        self._unparked(rows)
        return len(rows)

    def _unparked(self, rows: Sequence[Row]) -> None:
        for queue, type_, due_at, interruptions in rows:
            self.joined(queue, type_, due_at, later=False, suspect=interruptions >= MAX_INTERRUPTIONS)

    @property
    def has_no_limits(self) -> bool:
        """Whether it is known that nothing is set of any queue."""
        return self._is_loaded and not self._has_new_settings and not self.limits.settings

    def settings_changed(self) -> None:
        """Tell that something was set of a queue: read it before anything is claimed."""
        self._has_new_settings = True

    @property
    def now(self) -> int:
        """The wall clock, in microseconds."""
        return to_micros(self._clock.now())

    @property
    def steady(self) -> int:
        """The monotonic clock, in microseconds: leases are counted by it, for they end with the process."""
        return monotonic_micros(self._clock)

    def clock_was_set(self, until: int | None, is_moving: bool) -> None:
        """Tell that the wall clock was set, and what waits is being moved with it, or was: look round anew.

        until: the time by which tasks are known to be due meanwhile, in microseconds; None: that of the clock. Those
        that wait for other tasks wait on until all is done, for their delay may be one of the old clock.
        """
        self._until, self._is_moving = until, is_moving
        self.room_to_settle = self._most_to_settle
        self._is_loaded = False
        self._latest = self.now

    @property
    def _most_to_settle(self) -> int:
        return 0 if self._is_moving else SETTLED_AT_ONCE

    @property
    def has_waiters(self) -> bool:
        return bool(self._waiters)

    def seconds_to_next(self) -> float | None:
        """Return when to look again: None if no worker or no task waits for a moment."""
        overdue = self._next_deadline if self._next_deadline is None or self._next_deadline <= self._latest else None
        times = [time for time in (self._next_due, self.limits.opens_at, overdue) if time is not None]
        if self._waiters and self._staying is not None:
            return 0.0
        if not self._waiters or not times:
            return None
        wait = (min(times) - self.now) / 1e6
        return min(max(wait, 0.0), _LOOK_AGAIN)

    def taker(self, queue: str, type_: str, now: int) -> Waiter | None:
        """Return a waiter that can take one new task of a line at once, if none that it takes is before it."""
        line = queue, type_
        if not self._is_loaded or self._has_new_settings or self.limits.holds(queue):
            return None
        if self._has_due(now):
            return None
        for waiter in self._waiters:
            if waiter.takes(line) and waiter.request.limit > len(waiter.served):
                return None if self._active.holds_any(waiter.types, waiter.queues) else waiter
        return None

    def _has_due(self, now: int) -> bool:
        return self._next_due is not None and self._next_due <= now

    def serve(self, tx: Transaction) -> None:
        """Claim due tasks for the waiters, longest waiting first."""
        if not self._waiters:
            return
        connection, now = tx.connection, tx.now
        self._look_round(connection, now)
        self._end_overdue(tx)
        self._open(self.limits.begin(now))
        due = now if self._until is None else min(now, self._until)
        still_waiting = []
        for waiter in self._waiters:
            chosen = self._suspects(connection, waiter, due) + self._choose(connection, waiter, due)
            started_now = (_start(connection, waiter.request, seq, now, self.steady) for seq in chosen)
            claims = [claim for claim in started_now if claim is not None]
            for claim in claims:
                tx.journal.append(started(claim.task_id, claim.attempt))
            waiter.served += claims
            if waiter.served:
                self._served.append(waiter)
                continue
            waiter.has_looked = True
            if not waiter.settle():
                still_waiting.append(waiter)
        self._waiters = still_waiting
        self.limits.end(connection)

    def close(self) -> None:
        """Answer every waiter with nothing."""
        for waiter in self._waiters:
            waiter.has_looked = True
            waiter.give_up()
        self._waiters = []

    def deliver(self) -> tuple[list[Change], list[Claim]]:
        """Hand out what was served, now that it is durable.

        Returns the news of it, and the claims whose caller has gone in the meantime: they must be given back.
        """
        self.room_to_settle = self._most_to_settle
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
        """The transaction was rolled back: the waiters wait again, unless their time is up."""
        waiters = self._served + self._waiters
        for waiter in waiters:
            waiter.served = []
            waiter.has_looked = True
        self._waiters = [waiter for waiter in waiters if not waiter.settle()]
        self._served = []
        self._is_loaded = False
        self.room_to_settle = self._most_to_settle

    def _end_overdue(self, tx: Transaction) -> None:
        """End tasks whose deadline has passed; of more than these none starts, and the next transaction goes on."""
        if self._next_deadline is not None and self._next_deadline <= tx.now:
            fail_overdue(tx, _OVERDUE_AT_ONCE)
            self._next_deadline = tx.execute(QUERIES["next_deadline"]).get

    def _look_round(self, connection: apsw.Connection, now: int) -> None:
        """Bring up to date which lines may hold a due task."""
        if now < self._latest:
            self._is_loaded = False
        self._latest = now
        self._look_at_lines(connection, now)
        if self._staying is not None:
            self._staying = self._staying if next(self._staying, False) else None

    def _look_at_lines(self, connection: apsw.Connection, now: int) -> None:
        if self._has_new_settings and self._is_loaded:
            self._open(self.limits.load(connection))
            self._has_new_settings = False
        if not self._is_loaded:
            # The wall clock may have been set back, now or while no process ran: what was due stays due.
            self._staying = self._stay_due(connection, now)
            _find_heads(connection, self._active)
            self._next_deadline = connection.execute(QUERIES["next_deadline"]).get
            self._has_suspects = True  # what an undone transaction saw may not be so
            self.limits.load(connection)
            self._has_new_settings = False
        elif self._has_due(now):
            due: Any = connection.execute(QUERIES["lines_due"], (self._seen_until, now)).fetchall()
            self._open(due)
        else:
            return
        self._is_loaded = True
        self._seen_until = now
        self._next_due = connection.execute(QUERIES["next_due"], (now,)).get

    def _stay_due(self, connection: apsw.Connection, now: int) -> Iterator[bool]:
        """Have queued tasks stay due by `now`, a batch for each transaction: true while there may be more."""
        for queue, type_, priority in _levels(connection):
            after = now, _ABOVE_ALL_ROWS
            while True:
                rows: list[Any] = connection.execute(
                    QUERIES["level_after"], (queue, type_, priority, *after, _STAY_AT_ONCE)
                ).fetchall()
                queued = [seq for _, seq, reason in rows if reason == "queued"]
                if queued:
                    connection.execute(QUERIES["stay_due"], {"now": now, "seqs": json.dumps(queued)})
                    self._active.add((queue, type_), UNKNOWN)
                if len(rows) < _STAY_AT_ONCE:
                    break
                after = rows[-1][:2]
                yield True

    def _suspects(self, connection: apsw.Connection, waiter: Waiter, now: int) -> list[int]:
        if waiter.request.suspects < 1 or not self._has_suspects:
            return []
        queues = [row[0] for row in connection.execute(QUERIES["suspect_queues"])] if self.limits.settings else []
        shut = json.dumps(self.limits.shut_queues(connection, queues))
        rows: list[Row] = connection.execute(
            QUERIES["due_suspects"], waiter.names | {"now": now, "shut": shut}
        ).fetchall()
        if not rows:
            self._has_suspects = connection.execute(QUERIES["any_suspect"]).get is not None
        chosen = []
        for priority, due_at, seq, weight, owner, key, queue, type_ in rows:
            slot = None if key is None else self.limits.of(queue).slot(owner, key)
            one = Candidate((priority, due_at, seq), queue, weight, slot, (seq, (queue, type_)))
            if not self.limits.holds(queue) or self.limits.admit_suspect(connection, one):
                chosen.append(seq)
        return chosen

    def _choose(self, connection: apsw.Connection, waiter: Waiter, now: int) -> list[int]:
        """Return the rows that `waiter` gets: of all its lines the first, by priority and then by time.

        A line is looked at only if what may be first in it comes before the last of those that were found.
        """
        room = waiter.request.limit - len(waiter.served)
        if room < 1:
            return []
        found: list[Candidate] = []
        looked: list[_Looked] = []
        for bound, line in self._active.taken(waiter.types, waiter.queues):
            if len(found) >= room and bound > found[room - 1].rank:
                looked.append(_Looked([line], bound))
                break
            if self.limits.holds(line[0]):
                here = self._look_limited(connection, line, waiter, room)
            else:
                here = _look(connection, line, bound, now, room)
            looked.append(here)
            found += here.found
            if len(found) >= room:
                found.sort(key=lambda one: one.rank)
        return self._settle(connection, found, looked, room)

    def _look_limited(self, connection: apsw.Connection, line: LineName, waiter: Waiter, room: int) -> _Looked:
        """Do what `_look` does for all lines of a queue with limits; they share its gate."""
        queue = line[0]
        lines = [line, *((queue, type_) for type_ in waiter.types if (queue, type_) in self._active)]
        for other in lines[1:]:
            self._active.discard(other)
        passing = self.limits.choose(connection, queue, lines, _due_limited, room)
        # Nothing passes: nothing is there, or it is behind a gate that is known to be shut.
        return _Looked(lines if passing else [], UNKNOWN, passing)

    def _settle(
        self, connection: apsw.Connection, found: list[Candidate], looked: Sequence[_Looked], room: int
    ) -> list[int]:
        """Return the rows of those that are first of all, and note what is left in their lines."""
        limited = {one.queue for one in found if self.limits.holds(one.queue)}
        gates = {queue: self.limits.gate(connection, queue) for queue in limited}
        chosen = merge(found, gates, room)
        rows = {one.place[0] for one in chosen}
        for here in looked:
            left = [one.rank for one in here.found if one.place[0] not in rows]
            if here.is_all and not left:
                continue
            for line in here.lines:
                self._active.add(line, min(left, default=here.bound))
        return [one.place[0] for one in chosen]


class _Looked(NamedTuple):
    """What was found in some lines. `is_all`: nothing else in them is due. bound: no task of them comes before that."""

    lines: list[LineName]
    bound: Rank
    found: list[Candidate] = []
    is_all: bool = False


def _look(connection: apsw.Connection, line: LineName, bound: Rank, now: int, room: int) -> _Looked:
    """Look at the first tasks of a line without limits."""
    rows = _due(connection, line, now, room)
    return _Looked([line], bound, [Candidate(row, line[0], 1, None, (row[2], line)) for row in rows], len(rows) < room)


def _due(connection: apsw.Connection, line: LineName, now: int, limit: int, query: str = "due_in_level") -> list[Row]:
    """Return up to `limit` due tasks of one line as (-priority, due_at, seq), first things first."""
    rows: list[Row] = []
    level = connection.execute(QUERIES["next_level"], (*line, _ABOVE_ALL)).get
    while level is not None and len(rows) < limit:
        rows += connection.execute(QUERIES[query], (*line, level, now, limit - len(rows))).fetchall()
        if len(rows) < limit:
            level = connection.execute(QUERIES["next_level"], (*line, level)).get
    return rows


def _due_limited(connection: apsw.Connection, line: LineName, now: int, limit: int) -> list[Row]:
    """Return what `_due` does, with weight, owner and concurrency key of each."""
    return _due(connection, line, now, limit, "limited_in_level")


def _start(connection: apsw.Connection, request: ClaimRequest, seq: int, now: int, steady: int) -> Claim | None:
    """Begin an attempt; None for a task whose deadline has passed, and that is about to end."""
    values = {"worker": request.worker, "now": now, "lease_ends": lease_end(steady, request), "seq": seq}
    row = connection.execute(QUERIES["start_attempt"], values).fetchone()
    return None if row is None else claim_of(row)


def _levels(connection: apsw.Connection) -> Iterator[tuple[str, str, int]]:
    """Find every level of every line as (queue, type, priority): one seek for each."""
    line: LineName = ("", "")
    while (row := connection.execute(QUERIES["next_line"], line).fetchone()) is not None:
        line = row[0], row[1]
        level = connection.execute(QUERIES["next_level"], (*line, _ABOVE_ALL)).get
        while level is not None:
            yield *line, level
            level = connection.execute(QUERIES["next_level"], (*line, level)).get


def _find_heads(connection: apsw.Connection, heads: Heads) -> None:
    """Find every line, with the first task in it, due or not: one seek for each."""
    heads.clear()
    line: LineName = ("", "")
    while (row := connection.execute(QUERIES["next_head"], line).fetchone()) is not None:
        line = row[0], row[1]
        heads.add(line, (-row[2], row[3], row[4]))


def lease_end(steady: int, request: ClaimRequest) -> int:
    """Return when a lease that is taken at `steady` ends, both in microseconds of the monotonic clock."""
    return steady + request.lease_for // timedelta(microseconds=1)
