"""The places of a process: how many requests may be under way in all, to one receiver and for one owner."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Literal, NamedTuple

from tasker.model.webhooks import DeliveryOutcome, DueDelivery, share_of

AT_ONCE = 64
"""Requests of a process at a time."""
PER_LANE = 8
"""Of these, to the same receiver; one while it fails."""
PER_SHARE = 32
"""Of these, for the single tasks of one owner, to however many receivers."""
SLOW_PER_OWNER = 8
"""Of these, of one owner, to receivers whose last request failed or took SLOW_AFTER, where keys tell owners apart."""
SLOW_AFTER = 5.0
"""Seconds."""
_MOST_NOTED = 10_000


class _Place(NamedTuple):
    kind: Literal["all", "lane", "share", "owner", "slow"]
    whose: str = ""


class _Line(NamedTuple):
    owner: str
    lane: str


_ALL = _Place("all")


class Full(NamedTuple):
    """What has no room: lanes and shares of lanes, and owners."""

    lanes: list[str]
    owners: list[str]


class Places:
    """has_owners: tells whether there are several owners. An owner then begins none unless
    fewer of its own are under way than places are free.

    So one alone has half of all places at the most, two have a third each, and who comes next finds room.
    """

    def __init__(self, has_owners: Callable[[], bool]) -> None:
        self._has_owners = has_owners
        self._under_way: Counter[_Line] = Counter()
        self._failing: set[str] = set()
        self._slow: dict[str, str] = {}

    @property
    def free(self) -> int:
        """How many requests more may begin."""
        return AT_ONCE - self._under_way.total()

    def full(self) -> Full:
        """Return for whom no request more may begin."""
        taken = self._count()
        full = [place for place in taken if self._room(place, taken) <= 0]
        lanes = [place.whose for place in full if place.kind in ("lane", "share")]
        slow = {place.whose for place in full if place.kind == "slow"}
        if slow:
            lanes += [lane for lane, owner in self._slow.items() if owner in slow]
        return Full(lanes, [place.whose for place in full if place.kind == "owner"])

    def choose(self, due: Iterable[DueDelivery]) -> list[DueDelivery]:
        """Return those for which there is room, the first ones first."""
        chosen: list[DueDelivery] = []
        taken = self._count()
        for one in due:
            places = self._places(_line(one))
            if all(self._room(place, taken) > 0 for place in places):
                taken.update(places)
                chosen.append(one)
        return chosen

    def take(self, due: Sequence[DueDelivery]) -> None:
        """Count requests that begin."""
        self._under_way.update(map(_line, due))

    def leave(self, due: DueDelivery) -> None:
        """Count a request that has ended."""
        self._under_way.subtract([_line(due)])
        self._under_way = +self._under_way

    def note(self, due: DueDelivery, outcome: DeliveryOutcome) -> None:
        """Remember how its receiver did."""
        owner, lane = _line(due)
        if len(self._slow) >= _MOST_NOTED:
            self._slow.clear()
            self._failing.clear()
        self._failing.discard(lane)
        self._slow.pop(lane, None)
        if outcome.error is not None:
            self._failing.add(lane)
        if outcome.error is not None or outcome.duration >= SLOW_AFTER:
            self._slow[lane] = owner

    def _count(self) -> Counter[_Place]:
        taken: Counter[_Place] = Counter()
        for line, count in self._under_way.items():
            for place in self._places(line):
                taken[place] += count
        return taken

    def _places(self, line: _Line) -> list[_Place]:
        """Return where a request takes room."""
        places = [_ALL, _Place("lane", line.lane)]
        if share := share_of(line.lane):
            places.append(_Place("share", share))
        if self._has_owners():
            places.append(_Place("owner", line.owner))
            if line.lane in self._slow:
                places.append(_Place("slow", line.owner))
        return places

    def _room(self, place: _Place, taken: Counter[_Place]) -> int:
        """Return how many requests more may take room there."""
        match place.kind:
            case "all":
                most = AT_ONCE
            case "lane":
                most = 1 if place.whose in self._failing else PER_LANE
            case "share":
                most = PER_SHARE
            case "owner":
                most = AT_ONCE - taken[_ALL]
            case "slow":
                most = SLOW_PER_OWNER
        return most - taken[place]


def _line(due: DueDelivery) -> _Line:
    return _Line(due.webhook.owner, due.delivery.lane)
