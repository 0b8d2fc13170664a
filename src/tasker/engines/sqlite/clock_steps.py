"""Adjust stored times when the wall clock is set: durations keep their length, and moments stay as they are.

The one process that has the store compares the wall clock with the elapsed time. Times that stand for a duration (a
delay, a retry, tokens of a rate) are moved along with the clock; fixed times stay as they are.

Many rows may wait, so each transaction moves a batch, and stores how far it got. Batches go through the rows in order
of their times, downwards if the clock was set ahead, else upwards: so moved rows are never visited again.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, NamedTuple

import apsw
import structlog

from tasker.clock import MICROSECOND, Clock, Lagging, Steps, elapsed_micros, to_micros
from tasker.engines.shared.values import NEVER
from tasker.engines.sqlite.sql import QUERIES
from tasker.model.webhooks import DELIVERY_LEASE

_NEVER = to_micros(NEVER)
_LEASE = DELIVERY_LEASE // MICROSECOND
_BEYOND = (1 << 63) - 1
"""Larger than any time and any seq."""
BATCH = 500
"""Limit of the rows that one transaction moves: its statements run on the event loop."""
_log = structlog.get_logger(__name__)


class _Kind(NamedTuple):
    """The queries for one kind of row: find the next upwards (set back) or downwards (set ahead), and move them."""

    up: str
    down: str
    move: str


_KINDS = (
    _Kind("later_up", "later_down", "move_tasks"),
    _Kind("deliveries_up", "deliveries_down", "move_deliveries"),
    _Kind("steps_up", "steps_down", "move_steps"),
)


class Move(NamedTuple):
    """A step that is being followed: its size, and the time that the clock was set to (microseconds).

    moving: 0 for tasks, 1 for deliveries, 2 for steps. due_at, seq: of the last row that was moved.
    """

    step: int
    set_to: int
    moving: int
    due_at: int
    seq: int

    @property
    def before(self) -> int:
        """The time of the clock just before it was set."""
        return self.set_to - self.step

    def begun(self, moving: int) -> Move:
        """Return the move before its first row of a kind."""
        last = _BEYOND if moving else _NEVER
        return self._replace(moving=moving, due_at=last if self.step > 0 else self.set_to, seq=_BEYOND)


class ClockSteps:
    """Moves stored times after each step of the wall clock, starting with the next transaction.

    moved: called when following a step begins and ends: with the time up to which tasks count as due meanwhile
    (microseconds; None for the current time), and whether more transactions are needed.
    """

    def __init__(self, clock: Clock, moved: Callable[[int | None, bool], None]) -> None:
        self._clock = clock
        self._moved = moved
        self._steps = Steps(clock)
        self._erasing = Lagging(elapsed_micros(clock))
        self._taken = 0
        self._move: Move | None = None
        self._stored: Move | None = None

    def open(self, connection: apsw.Connection) -> None:
        """Continue from the stored state: the clock may have been set while no process ran."""
        seen_at, erased_until = connection.execute(QUERIES["clock"]).fetchone() or (0, 0)
        self._steps = Steps(self._clock, seen_at)
        self._erasing = Lagging(elapsed_micros(self._clock), erased_until)
        row: Any = connection.execute(QUERIES["clock_move"]).fetchone()
        if row is not None and row[0]:
            self._move = self._stored = Move(*row)
            connection.execute(QUERIES["watch_fresh"])
            self._report()

    def erase_until(self) -> int:
        """Return the time before which expired rows may be erased (microseconds). It lags behind a clock set ahead."""
        return self._erasing.tell(to_micros(self._clock.now()), elapsed_micros(self._clock))

    def keep(self, connection: apsw.Connection, erased_until: int) -> None:
        """Store the time of the clock, for the next process."""
        connection.execute(QUERIES["erased_until"], (to_micros(self._clock.now()), erased_until))

    @property
    def is_behind(self) -> bool:
        """Whether the clock was set, and the stored times have not followed yet."""
        return self._move is not None or self._steps.pending() != 0

    @property
    def is_moving(self) -> bool:
        """Whether further transactions are needed."""
        return self._move is not None

    def before_work(self, connection: apsw.Connection) -> None:
        """Begin a transaction."""
        step = self._steps.pending()
        if step:
            # New rows already have times of the new clock, so the previous step must be finished first.
            while self._move is not None:
                self._go_on(connection)
            self._begin(connection, step)
        if self._move is not None:
            self._go_on(connection)

    def committed(self) -> None:
        """The transaction is durable."""
        self._stored = self._move
        if self._taken:
            _log.warning("clock.was_set", seconds=self._taken / 1e6, now=self._clock.now().isoformat())
            self._steps.follow(self._taken)
            self._taken = 0

    def rolled_back(self) -> None:
        """The transaction is rolled back: the next one follows the clock."""
        self._taken = 0
        self._move = self._stored
        self._report()

    def _begin(self, connection: apsw.Connection, step: int) -> None:
        now = to_micros(self._clock.now())
        self._move = Move(step, now, 0, 0, 0).begun(0)
        connection.execute(QUERIES["watch_fresh"])
        connection.execute(QUERIES["move_refills"], {"step": step})
        connection.execute(QUERIES["clock_seen"], (now,))
        self._taken = step
        self._report()

    def _go_on(self, connection: apsw.Connection) -> None:
        """Move a batch, and go on to the other kind after the last row."""
        assert self._move is not None
        left = BATCH
        while left > 0 and self._move.moving < len(_KINDS):
            rows = _move_batch(connection, self._move, left)
            left -= len(rows)
            if left > 0:
                self._move = self._move.begun(self._move.moving + 1)
            else:
                self._move = self._move._replace(due_at=rows[-1][0], seq=rows[-1][1])
        if self._move.moving < len(_KINDS):
            connection.execute(QUERIES["keep_clock_move"], self._move)
            return
        connection.execute(QUERIES["keep_clock_move"], (0, 0, 0, 0, 0))
        connection.execute(QUERIES["unwatch_fresh"])
        self._move = None
        self._report()

    def _report(self) -> None:
        move = self._move
        self._moved(move.before if move is not None and move.step > 0 else None, move is not None)


def _move_batch(connection: apsw.Connection, move: Move, limit: int) -> list[tuple[int, int]]:
    """Move the next rows; return (due_at, seq) of each."""
    kind = _KINDS[move.moving]
    values = {
        "due_at": move.due_at,
        "seq": move.seq,
        "before": move.before,
        "never": _NEVER,
        "limit": limit,
        "step": move.step,
        "set_to": move.set_to,
        "lease": _LEASE,
    }
    find = kind.down if move.step > 0 else kind.up
    rows: list[Any] = connection.execute(QUERIES[find], values).fetchall()
    seqs = json.dumps([seq for _, seq in rows])
    connection.execute(QUERIES[kind.move], values | {"seqs": seqs})
    connection.execute(QUERIES["forget_fresh"], (move.moving, seqs))
    return rows
