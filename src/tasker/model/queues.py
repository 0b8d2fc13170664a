"""Queues: their settings, and the arithmetic of their rates. Pure: no clock, no store."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import NamedTuple

from msgspec import UNSET, Struct, UnsetType, structs

_ALMOST = 1e-6
"""Units that a sum of refills may be short of by rounding."""


class Rate(Struct, frozen=True, kw_only=True):
    """At most `limit` units of weight start in each `per`, evenly; after a pause `burst` units may start at once.

    A token bucket of `burst` units: a start needs its weight in the bucket. A task that weighs more than `burst` starts
    when the bucket is full, and leaves a debt that later tasks wait for.
    """

    limit: int
    per: timedelta
    burst: int

    @property
    def per_second(self) -> float:
        return self.limit / self.per.total_seconds()

    def refill(self, tokens: float, elapsed: timedelta) -> float:
        """Return the units in the bucket after a time."""
        return min(float(self.burst), tokens + max(0.0, elapsed.total_seconds()) * self.per_second)

    def can_pay(self, tokens: float, weight: int) -> bool:
        """Tell whether a task of this weight may start."""
        return tokens + _ALMOST >= min(weight, self.burst)

    def wait(self, tokens: float, weight: int) -> timedelta:
        """Return how long until a task of this weight may start."""
        return timedelta(seconds=max(0.0, min(weight, self.burst) - tokens) / self.per_second)


class Slot(NamedTuple):
    """What tasks with the same concurrency key share: a queue, and an owner (None: all owners share it)."""

    queue: str
    owner: str | None
    key: str


class Pause(Struct, frozen=True, kw_only=True):
    """When a queue was paused, and by whom. key: the name of the key; None without one."""

    at: datetime
    owner: str = ""
    key: str | None = None


class QueueSettings(Struct, frozen=True, kw_only=True):
    """The settings of a queue; None is no limit.

    concurrency: attempts that may run at a time. concurrency_per_key: the same for one owner's tasks with the same
    `concurrency_key`; with `shared_keys`, for those of all owners together. pause: about `paused`, None if unknown.
    """

    name: str
    paused: bool = False
    concurrency: int | None = None
    concurrency_per_key: int | None = None
    rate: Rate | None = None
    shared_keys: bool = False
    pause: Pause | None = None

    @property
    def is_plain(self) -> bool:
        """Whether all settings have their defaults."""
        return self == QueueSettings(name=self.name)

    def slot(self, owner: str, key: str) -> Slot:
        """Return the slot of a task of this owner with this concurrency key."""
        return Slot(self.name, None if self.shared_keys else owner, key)

    def counts_as(self, other: QueueSettings) -> bool:
        """Tell whether both settings limit tasks with the same concurrency key in the same way."""
        return (self.concurrency_per_key, self.shared_keys) == (other.concurrency_per_key, other.shared_keys)


class QueueChange(Struct, frozen=True, kw_only=True):
    """A change of a queue's settings; UNSET fields stay as they are. by: who makes it, to note with a pause."""

    paused: bool | UnsetType = UNSET
    concurrency: int | UnsetType | None = UNSET
    concurrency_per_key: int | UnsetType | None = UNSET
    rate: Rate | UnsetType | None = UNSET
    shared_keys: bool | UnsetType = UNSET
    by: Pause | None = None

    def apply(self, settings: QueueSettings) -> QueueSettings:
        """Return the changed settings; a queue that is paused already stays paused by who did it first."""
        given = {name: value for name, value in structs.asdict(self).items() if value is not UNSET}
        by = given.pop("by")
        after = structs.replace(settings, **given)
        if after.paused == settings.paused:
            return after
        return structs.replace(after, pause=by if after.paused else None)


MOST_BEFORE = 1001
"""Limit of `Place.before`: counting stops there."""


class Place(Struct, frozen=True, kw_only=True):
    """The position of a due task in its queue.

    before: number of tasks before it; MOST_BEFORE means that many or more. weight: units of the rate that it uses.
    key_running: running attempts with the same concurrency key.
    """

    before: int
    weight: int = 1
    key_running: int = 0


class QueueState(Struct, frozen=True, kw_only=True):
    """A queue with settings, now: its running attempts, and the units in the bucket of its rate."""

    settings: QueueSettings
    running: int = 0
    tokens: float = 0.0


def tokens_after(old: QueueSettings, new: QueueSettings, tokens: float) -> float:
    """Return the units in the bucket after a change of settings; the bucket of a new rate is full."""
    if new.rate is None:
        return 0.0
    return float(new.rate.burst) if old.rate is None else min(tokens, float(new.rate.burst))
