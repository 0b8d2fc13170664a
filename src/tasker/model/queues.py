"""Queues: what a person may set of one, and the arithmetic of its rate. Pure: no clock, no store."""

from __future__ import annotations

from datetime import timedelta
from typing import NamedTuple

from msgspec import UNSET, Struct, UnsetType, structs

_ALMOST = 1e-6
"""Units that a sum of refills may lack by rounding."""


class Rate(Struct, frozen=True, kw_only=True):
    """At most `limit` units of weight start in each `per`, evenly; after a quiet while `burst` more may start at once.

    A token bucket: it holds `burst` units, and a start needs its weight in it. One that weighs more than `burst` starts
    when the bucket is full, and those behind it wait until it is paid off.
    """

    limit: int
    per: timedelta
    burst: int

    @property
    def per_second(self) -> float:
        return self.limit / self.per.total_seconds()

    def refill(self, tokens: float, elapsed: timedelta) -> float:
        """Return what is in the bucket so much later."""
        return min(float(self.burst), tokens + max(0.0, elapsed.total_seconds()) * self.per_second)

    def can_pay(self, tokens: float, weight: int) -> bool:
        return tokens + _ALMOST >= min(weight, self.burst)

    def wait(self, tokens: float, weight: int) -> timedelta:
        """Return how long it takes until this weight may start."""
        return timedelta(seconds=max(0.0, min(weight, self.burst) - tokens) / self.per_second)


class Slot(NamedTuple):
    """What tasks with one concurrency key share: of a queue, and of one owner; None where all owners share it."""

    queue: str
    owner: str | None
    key: str


class QueueSettings(Struct, frozen=True, kw_only=True):
    """What is set of a queue; None is no limit.

    concurrency: attempts that run at a time. concurrency_per_key: the same of one owner's tasks with one
    `concurrency_key`; of all owners' together with `shared_keys`.
    """

    name: str
    paused: bool = False
    concurrency: int | None = None
    concurrency_per_key: int | None = None
    rate: Rate | None = None
    shared_keys: bool = False

    @property
    def is_plain(self) -> bool:
        """Whether nothing is set."""
        return self == QueueSettings(name=self.name)

    def slot(self, owner: str, key: str) -> Slot:
        """Return what a task of this owner with this concurrency key shares with others."""
        return Slot(self.name, None if self.shared_keys else owner, key)

    def counts_as(self, other: QueueSettings) -> bool:
        """Tell whether both let as many tasks with one key run together."""
        return (self.concurrency_per_key, self.shared_keys) == (other.concurrency_per_key, other.shared_keys)


class QueueChange(Struct, frozen=True, kw_only=True):
    """What is to be set of a queue; the rest stays as it is."""

    paused: bool | UnsetType = UNSET
    concurrency: int | UnsetType | None = UNSET
    concurrency_per_key: int | UnsetType | None = UNSET
    rate: Rate | UnsetType | None = UNSET
    shared_keys: bool | UnsetType = UNSET

    def apply(self, settings: QueueSettings) -> QueueSettings:
        """Return the settings as they are then."""
        given = {name: value for name, value in structs.asdict(self).items() if value is not UNSET}
        return structs.replace(settings, **given)


MOST_BEFORE = 1001
"""So many tasks are counted before one at the most."""


class Place(Struct, frozen=True, kw_only=True):
    """Where in its queue's line a due task is: how many are before it, MOST_BEFORE standing for that many or more.

    weight: what its start costs. key_running: attempts that run and share its concurrency key.
    """

    before: int
    weight: int = 1
    key_running: int = 0


class QueueState(Struct, frozen=True, kw_only=True):
    """A queue with settings, at this moment: how many attempts run, and what its rate's bucket holds."""

    settings: QueueSettings
    running: int = 0
    tokens: float = 0.0


def tokens_after(old: QueueSettings, new: QueueSettings, tokens: float) -> float:
    """Return what the bucket holds once other settings hold: a new one is full."""
    if new.rate is None:
        return 0.0
    return float(new.rate.burst) if old.rate is None else min(tokens, float(new.rate.burst))
