"""When to tell others of new tasks: at most so often, and again if nobody takes them. Pure: times are passed in."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from datetime import datetime, timedelta
from typing import NamedTuple

from tasker.engines.postgres.partitions import level_of

GAP = 0.02
"""Seconds between two notifications of new tasks in the same partition."""
SLACK = 0.008
"""Seconds after a gap for a transaction with new tasks to take the held ones along; else they get one of their own."""
CHECK_AFTER = 0.05
"""Seconds that a chosen worker has to take a task before a few others are told; it may be dead, or only busy."""
LONGEST_PAUSE = 2.0
"""Maximum of the seconds until everybody is told, and told again; they begin with twice CHECK_AFTER and double."""
_FORGET_OVER = 1000
"""Number of partitions above which past times are forgotten."""


class Gap:
    """Leaves GAP seconds between the notifications of a partition: the first goes at once, others are held.

    The next transaction after the gap tells of those as well, or one of their own if none comes.
    """

    def __init__(self) -> None:
        self._opens_at: dict[str, float] = {}
        self._held: Counter[str] = Counter()

    def let_through(self, tasks: Mapping[str, int], now: float) -> tuple[Counter[str], Counter[str]]:
        """Split new tasks, given as numbers by partition: those to be told of at once, and those to `hold`.

        The held tasks of the former's partitions are to be told of with them (`held_of`, then `forget`).
        """
        if len(self._opens_at) > _FORGET_OVER:
            self._opens_at = {name: at for name, at in self._opens_at.items() if at > now}
        at_once: Counter[str] = Counter()
        held: Counter[str] = Counter()
        for partition, count in tasks.items():
            if self._opens_at.get(partition, 0.0) > now:
                held[partition] = count
            else:
                at_once[partition] = count
                self._opens_at[partition] = now + GAP
        return at_once, held

    def hold(self, tasks: Mapping[str, int]) -> None:
        """Keep tasks that are stored by now until their gap is over."""
        self._held.update(tasks)

    def held_of(self, partitions: Iterable[str]) -> Counter[str]:
        """Return the held tasks of these partitions."""
        return Counter({name: self._held[name] for name in partitions if name in self._held})

    def forget(self, told: Mapping[str, int]) -> None:
        """Forget held tasks that a transaction has told of."""
        self._held -= Counter(told)

    def next_at(self) -> float | None:
        """Return when the first of the held tasks is to be told of."""
        return min((self._opens_at.get(partition, 0.0) + SLACK for partition in self._held), default=None)

    def release(self, now: float) -> Counter[str]:
        """Take out the held tasks whose gap is over, and begin the next gap of their partitions."""
        due = Counter({name: self._held[name] for name in self._held if self._opens_at.get(name, 0.0) + SLACK <= now})
        for name in due:
            del self._held[name]
            self._opens_at[name] = now + GAP
        return due

    def release_all(self) -> Counter[str]:
        held, self._held = self._held, Counter()
        return held


class _Watched:
    """A partition with tasks that chosen workers were told of. Times are the loop's, except told_at: the database's."""

    __slots__ = ("added_at", "check_at", "chosen", "pause", "tell_at", "told_at")

    def __init__(self) -> None:
        self.added_at = self.check_at = self.tell_at = 0.0
        self.pause = CHECK_AFTER
        self.told_at: datetime | None = None
        self.chosen: dict[str, float] = {}
        """The workers, and when each was chosen last."""

    def told(self, at: datetime, now: float) -> None:
        """Note that workers are told again; each time the pause doubles."""
        self.told_at = at
        self.pause = min(2 * self.pause, LONGEST_PAUSE)
        self.tell_at = now + self.pause


class Seen(NamedTuple):
    """What follows from a look at partitions.

    few: those of which a few more workers are to be told; all: those of which everybody is. idle: the workers that took
    nothing.
    """

    few: list[str]
    all: list[str]
    idle: set[str]


class Watch:
    """The partitions to look at again, in case the chosen workers do not take their tasks."""

    def __init__(self) -> None:
        self._watched: dict[str, _Watched] = {}

    def add(self, partition: str, workers: Collection[str], now: float) -> None:
        """Watch a partition with new tasks, of which these workers were told."""
        one = self._watched.get(partition)
        if one is None:
            one = self._watched[partition] = _Watched()
            one.check_at = now + CHECK_AFTER
        one.added_at = now
        one.check_at = min(one.check_at, now + CHECK_AFTER)
        one.chosen.update(dict.fromkeys(workers, now))

    def next_at(self) -> float | None:
        """Return when to look next."""
        return min((one.check_at for one in self._watched.values()), default=None)

    def due(self, now: float) -> list[str]:
        """Return the partitions to look at now."""
        return [name for name, one in self._watched.items() if one.check_at <= now]

    def put_off(self, partitions: Collection[str], now: float) -> None:
        """Look at these again later: the database did not answer."""
        for name in partitions:
            self._watched[name].check_at = now + LONGEST_PAUSE

    def see(self, partitions: Collection[str], first: Mapping[str, datetime], at: datetime, now: float) -> Seen:
        """Take what a look at these partitions found.

        first: when the oldest of the first jobs of each partition was queued, if it has any; at: when that was read;
        both by the database's clock.
        """
        seen = Seen([], [], set())
        for name in partitions:
            one, queued_at = self._watched[name], first.get(name)
            had_time = {worker for worker, when in one.chosen.items() if when + CHECK_AFTER <= now}
            for worker in had_time:
                del one.chosen[worker]
            if queued_at is None or at - queued_at < timedelta(seconds=CHECK_AFTER):
                self._see_taken(name, one, now)
                continue
            if not level_of(name):  # the settings of its queue may keep a task waiting
                seen.idle.update(had_time)
            if one.told_at is None or queued_at > one.told_at:  # all older tasks were taken
                one.pause, one.tell_at = CHECK_AFTER, now
                seen.few.append(name)
            elif now >= one.tell_at:
                seen.all.append(name)
            if now >= one.tell_at:
                one.told(at, now)
            one.check_at = one.tell_at
        return seen

    def _see_taken(self, name: str, one: _Watched, now: float) -> None:
        """Watch a partition on only if tasks were added too late for this look."""
        if one.added_at + CHECK_AFTER <= now:
            del self._watched[name]
        else:
            one.check_at, one.pause, one.told_at = one.added_at + CHECK_AFTER, CHECK_AFTER, None
