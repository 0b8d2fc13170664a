"""What becomes of times that are stored when the wall clock is set: lengths stay as long, moments stay moments.

The store is one process's, which sees each step against the time that has elapsed. What waits for a length of time (a
delay, a retry, a slot of a rate) is moved along with the clock; what waits for a moment waits for the clock to show it.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import apsw
import structlog

from tasker.clock import Clock, Lagging, Steps, elapsed_micros, to_micros
from tasker.engines.sqlite.sql import QUERIES
from tasker.engines.values import NEVER
from tasker.model.webhooks import DELIVERY_LEASE

_NEVER = to_micros(NEVER)
_LEASE = DELIVERY_LEASE // timedelta(microseconds=1)
_log = structlog.get_logger(__name__)


class ClockSteps:
    """Follows the wall clock in the first transaction after each step. moved: called within it."""

    def __init__(self, clock: Clock, moved: Callable[[], None]) -> None:
        self._clock = clock
        self._moved = moved
        self._steps = Steps(clock)
        self._erasing = Lagging(elapsed_micros(clock))
        self._taken = 0

    def open(self, connection: apsw.Connection) -> None:
        """Go on from what was stored: the clock may have been set while no process ran."""
        seen_at, erased_until = connection.execute(QUERIES["clock"]).fetchone() or (0, 0)
        self._steps = Steps(self._clock, seen_at)
        self._erasing = Lagging(elapsed_micros(self._clock), erased_until)

    def erase_until(self) -> int:
        """Return by what time to erase now, in microseconds."""
        return self._erasing.tell(to_micros(self._clock.now()), elapsed_micros(self._clock))

    def keep(self, connection: apsw.Connection, erased_until: int) -> None:
        """Store what the clock shows, for the next process."""
        connection.execute(QUERIES["erased_until"], (to_micros(self._clock.now()), erased_until))

    @property
    def is_behind(self) -> bool:
        """Whether the clock was set and what is stored does not follow it yet."""
        return self._steps.pending() != 0

    def before_work(self, connection: apsw.Connection) -> None:
        """Begin a transaction."""
        step = self._steps.pending()
        if not step:
            return
        now = to_micros(self._clock.now())
        values = {"step": step, "now": now, "before": now - step, "never": _NEVER, "lease": _LEASE}
        if step < 0:
            connection.execute(QUERIES["stay_due_all"], _named(values, "now", "before"))
            connection.execute(QUERIES["stay_due_deliveries"], _named(values, "now", "before"))
        connection.execute(QUERIES["move_waits"], _named(values, "step", "before", "never"))
        connection.execute(QUERIES["move_deliveries"], _named(values, "step", "before", "lease"))
        connection.execute(QUERIES["move_refills"], _named(values, "step"))
        connection.execute(QUERIES["clock_seen"], (now,))
        self._moved()
        self._taken = step

    def committed(self) -> None:
        """The transaction is durable."""
        if self._taken:
            _log.warning("clock.was_set", seconds=self._taken / 1e6, now=self._clock.now().isoformat())
            self._steps.follow(self._taken)
            self._taken = 0

    def rolled_back(self) -> None:
        """The transaction is undone: the next one follows the clock."""
        self._taken = 0


def _named(values: dict[str, int], *names: str) -> dict[str, int]:
    return {name: values[name] for name in names}
