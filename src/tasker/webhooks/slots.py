"""The request slots of a process: limits of requests in flight, in total, per receiver and per owner."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Literal, NamedTuple

from tasker.model.webhooks import DeliveryOutcome, DueDelivery, share_of

AT_ONCE = 64
"""Limit of a process's requests in flight."""
PER_RECEIVER = 8
"""The same per receiver; 1 while the receiver fails."""
PER_SHARE = 32
"""The same for the webhooks of one owner's single tasks, all receivers together."""
SLOW_PER_OWNER = 8
"""The same per owner, to receivers whose last request failed or took SLOW_AFTER, if keys distinguish owners."""
SLOW_AFTER = 5.0
"""Seconds."""
_MOST_REMEMBERED = 10_000


class _Pool(NamedTuple):
    """A limit that requests share: all of them, or those of one receiver, share of receivers or owner."""

    kind: Literal["all", "receiver", "share", "owner", "slow"]
    whose: str = ""


class _Party(NamedTuple):
    """The owner of a request, and its receiver as `Delivery.lane` names it."""

    owner: str
    receiver: str


_ALL = _Pool("all")


class Full(NamedTuple):
    """The receivers or shares of receivers, and the owners, whose pools have no free slot."""

    receivers: list[str]
    owners: list[str]


class RequestSlots:
    """Admits requests. has_owners: whether there are several owners. An owner may then begin a request only while fewer
    of its own are in flight than slots are free.

    So a single busy owner gets at most half of all slots, two get a third each, and another one still finds free slots.
    """

    def __init__(self, has_owners: Callable[[], bool]) -> None:
        self._has_owners = has_owners
        self._in_flight: Counter[_Party] = Counter()
        self._failing: set[str] = set()
        self._slow: dict[str, str] = {}

    @property
    def free(self) -> int:
        """How many more requests may begin."""
        return AT_ONCE - self._in_flight.total()

    def full(self) -> Full:
        """Return the receivers and owners whose requests may not begin now."""
        taken = self._count()
        full = [pool for pool in taken if self._free(pool, taken) <= 0]
        receivers = [pool.whose for pool in full if pool.kind in ("receiver", "share")]
        slow = {pool.whose for pool in full if pool.kind == "slow"}
        if slow:
            receivers += [receiver for receiver, owner in self._slow.items() if owner in slow]
        return Full(receivers, [pool.whose for pool in full if pool.kind == "owner"])

    def choose(self, due: Iterable[DueDelivery]) -> list[DueDelivery]:
        """Return the deliveries for which there are free slots, in order."""
        chosen: list[DueDelivery] = []
        taken = self._count()
        for one in due:
            pools = self._pools(_party(one))
            if all(self._free(pool, taken) > 0 for pool in pools):
                taken.update(pools)
                chosen.append(one)
        return chosen

    def take(self, due: Sequence[DueDelivery]) -> None:
        """Take the slots of requests that begin."""
        self._in_flight.update(map(_party, due))

    def release(self, due: DueDelivery) -> None:
        """Free the slots of a request that has ended."""
        self._in_flight.subtract([_party(due)])
        self._in_flight = +self._in_flight

    def remember(self, due: DueDelivery, outcome: DeliveryOutcome) -> None:
        """Remember whether the receiver failed or was slow."""
        owner, receiver = _party(due)
        if len(self._slow) >= _MOST_REMEMBERED:
            self._slow.clear()
            self._failing.clear()
        self._failing.discard(receiver)
        self._slow.pop(receiver, None)
        if outcome.error is not None:
            self._failing.add(receiver)
        if outcome.error is not None or outcome.duration >= SLOW_AFTER:
            self._slow[receiver] = owner

    def _count(self) -> Counter[_Pool]:
        taken: Counter[_Pool] = Counter()
        for party, count in self._in_flight.items():
            for pool in self._pools(party):
                taken[pool] += count
        return taken

    def _pools(self, party: _Party) -> list[_Pool]:
        """Return the pools from which a request takes a slot."""
        pools = [_ALL, _Pool("receiver", party.receiver)]
        if share := share_of(party.receiver):
            pools.append(_Pool("share", share))
        if self._has_owners():
            pools.append(_Pool("owner", party.owner))
            if party.receiver in self._slow:
                pools.append(_Pool("slow", party.owner))
        return pools

    def _free(self, pool: _Pool, taken: Counter[_Pool]) -> int:
        """Return how many more requests may take a slot of the pool."""
        match pool.kind:
            case "all":
                most = AT_ONCE
            case "receiver":
                most = 1 if pool.whose in self._failing else PER_RECEIVER
            case "share":
                most = PER_SHARE
            case "owner":
                most = AT_ONCE - taken[_ALL]
            case "slow":
                most = SLOW_PER_OWNER
        return most - taken[pool]


def _party(due: DueDelivery) -> _Party:
    return _Party(due.webhook.owner, due.delivery.lane)
