"""The choice of the workers that are told of new tasks: as few as have the slots for them. Pure.

What is known of a worker is some seconds old, so a choice may be wrong: `pacing.Watch` finds tasks that nobody took.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

from msgspec import Struct

from tasker.engines.postgres.partitions import Parts, parts_of
from tasker.model import WorkerInfo

_LATE = timedelta(seconds=2)
"""How much later than two heartbeats a live worker may announce itself."""


class Pool(Struct, frozen=True, array_like=True):
    """The free slots of a worker's claim: of tasks of these types, and of suspects."""

    types: tuple[str, ...]
    limit: int
    suspects: int


class Presence(WorkerInfo, frozen=True, kw_only=True):
    """A worker's row: its report, how to tell it of tasks, and its claims that waited at the time.

    channel: None for a worker of an earlier release, which hears only the common channel; empty while the worker cannot
    listen, for then it looks often.
    """

    channel: str | None = None
    pools: tuple[Pool, ...] = ()


class Member(NamedTuple):
    """A live worker. types, queues: those it takes tasks of; queues is None for all."""

    worker_id: str
    heartbeat_at: datetime
    channel: str | None
    types: frozenset[str]
    queues: frozenset[str] | None
    level: int
    pools: tuple[Pool, ...]

    def takes(self, parts: Parts) -> bool:
        is_of_queue = self.queues is None or parts.queue in self.queues
        return is_of_queue and parts.type in self.types and parts.level <= self.level

    def pool_for(self, parts: Parts) -> int | None:
        """Return the index of the pool with free slots for a partition."""
        for index, pool in enumerate(self.pools):
            if parts.type in pool.types and (pool.suspects if parts.is_suspect else pool.limit) > 0:
                return index
        return None


class Choice(NamedTuple):
    """Whom to tell of which partitions. workers: of those that only some are told of, the ids of the chosen."""

    everybody: list[str]
    channels: dict[str, list[str]]
    workers: dict[str, set[str]]


class Fleet:
    """The live workers, as they were read at one time. turn: how many workers were chosen before."""

    def __init__(self, members: Iterable[Member], turn: int = 0) -> None:
        self.members = sorted(members)
        self._takers: dict[str, list[Member]] = {}
        self.turn = turn

    def choose(self, tasks: Mapping[str, int], passed_over: Collection[str], *, at_least: int = 1) -> Choice:
        """Choose workers for new tasks, given as numbers by partition; at least so many of those that have free slots.

        Workers take turns. Those with free slots come first, unless they are passed over; without any of these, one
        worker for each task is chosen among the others. Everybody is told where all would be chosen, and where a worker
        can only be told so.
        """
        choice = Choice([], {}, {})
        used: dict[tuple[str, int], int] = {}
        for partition, count in tasks.items():
            chosen = self._choose(partition, count, passed_over, used, at_least)
            if chosen is None:
                choice.everybody.append(partition)
                continue
            choice.workers[partition] = {member.worker_id for member in chosen}
            for channel in sorted({member.channel or "" for member in chosen}):
                choice.channels.setdefault(channel, []).append(partition)
        return choice

    def _choose(
        self,
        partition: str,
        count: int,
        passed_over: Collection[str],
        used: dict[tuple[str, int], int],
        at_least: int,
    ) -> Sequence[Member] | None:
        """Return the workers to tell of one partition; None for everybody. used: slots that are spoken for, by pool."""
        takers = self._takers_of(partition)
        if not takers or any(member.channel is None for member in takers):
            return None
        parts = parts_of(partition)
        first = self.turn % len(takers)
        in_turn = takers[first:] + takers[:first]
        free = {member.worker_id: _free(member, parts, used) for member in in_turn}
        ready = [member for member in in_turn if free[member.worker_id] > 0 and member.worker_id not in passed_over]
        chosen: list[Member] = []
        left = count
        for member in ready or in_turn:
            if left <= 0 and len(chosen) >= at_least:
                break
            taken = max(0, min(left, max(1, free[member.worker_id])))
            _use(member, parts, taken, used)
            chosen.append(member)
            left -= taken
        self.turn += len(chosen)
        return None if len(chosen) == len(takers) > 1 else chosen

    def _takers_of(self, partition: str) -> list[Member]:
        """Return the workers that take tasks of a partition and hear of them."""
        takers = self._takers.get(partition)
        if takers is None:
            parts = parts_of(partition)
            takers = [member for member in self.members if member.channel != "" and member.takes(parts)]
            self._takers[partition] = takers
        return takers


def member_of(presence: Presence, heartbeat_at: datetime, silent_for: timedelta) -> Member | None:
    """Return what counts in a worker's row; None if the worker is draining, or seems to be gone."""
    if presence.draining or silent_for > 2 * presence.heartbeat_every + _LATE:
        return None
    queues = None if presence.queues is None else frozenset(presence.queues)
    return Member(
        presence.worker_id, heartbeat_at, presence.channel, frozenset(presence.types), queues, presence.level,
        presence.pools,
    )  # fmt: skip


def _free(member: Member, parts: Parts, used: Mapping[tuple[str, int], int]) -> int:
    """Return the free slots of a worker for tasks of a partition."""
    index = member.pool_for(parts)
    if index is None:
        return 0
    pool = member.pools[index]
    return (pool.suspects if parts.is_suspect else pool.limit) - used.get((member.worker_id, index), 0)


def _use(member: Member, parts: Parts, count: int, used: dict[tuple[str, int], int]) -> None:
    index = member.pool_for(parts)
    if index is not None:
        used[member.worker_id, index] = used.get((member.worker_id, index), 0) + count
