"""Names of queue partitions (a queue and a type), which are PgQueuer's entrypoints. Pure.

Suspects (tasks that were running at several ends of the service) have partitions of their own. So have tasks that need
workers of a certain level (release.LEVEL): older workers have no type with such a name, so they take none of them.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple
from uuid import UUID

from tasker.engines.protocol import ClaimRequest
from tasker.release import LEVEL, LIMITS, STEPS

_SUSPECT = "/alone"
_LEVEL = "@"
_UNREADABLE = 1_000_000
"""Stands for a level that is no number: no worker takes tasks of such a partition."""


class QueuedTask(NamedTuple):
    """A task to be added to its partition."""

    task_id: UUID
    queue: str
    type: str
    priority: int
    is_suspect: bool = False
    level: int = 0

    @property
    def partition(self) -> str:
        level = f"{_LEVEL}{self.level}/" if self.level else ""
        return f"{self.queue}/{level}{self.type}{_SUSPECT if self.is_suspect else ''}"


class Parts(NamedTuple):
    """What a partition's name says. level: the minimum of the workers that take its tasks."""

    queue: str
    level: int
    type: str
    is_suspect: bool


def parts_of(partition: str) -> Parts:
    """Return the parts of a name, which may have any form in a row inserted by hand."""
    queue, _, rest = partition.partition("/")
    level = 0
    if rest.startswith(_LEVEL):
        number, _, rest = rest[1:].partition("/")
        level = int(number) if number.isdecimal() and len(number) < 6 else _UNREADABLE
    type_, _, alone = rest.partition("/")
    return Parts(queue, level, type_, bool(alone))


def partitions_of(queue: str, type_: str) -> list[str]:
    """Return the partitions of a queue and a type: for each level an ordinary one and one for suspects."""
    levels = ["", *(f"{_LEVEL}{level}/" for level in range(1, LEVEL + 1))]
    return [f"{queue}/{level}{type_}{alone}" for level in levels for alone in ("", _SUSPECT)]


def wanted(request: ClaimRequest, partitions: Collection[str]) -> tuple[list[str], list[str]]:
    """Return the ordinary partitions and the suspects' partitions from which a worker takes tasks."""
    ordinary: list[str] = []
    suspects: list[str] = []
    for partition in partitions:
        queue, level, type_, is_suspect = parts_of(partition)
        if level <= LEVEL and type_ in request.types and (request.queues is None or queue in request.queues):
            (suspects if is_suspect else ordinary).append(partition)
    return ordinary if request.limit > 0 else [], suspects if request.suspects > 0 else []


def queue_of(partition: str) -> str:
    """Return the queue of a partition."""
    return partition.partition("/")[0]


def level_of(partition: str) -> int:
    """Return the minimum level of workers that take tasks of a partition."""
    return parts_of(partition).level


def at_level(partition: str, level: int) -> str:
    """Return the partition of the same tasks for workers of a level."""
    queue, _, rest = partition.partition("/")
    if rest.startswith(_LEVEL):
        rest = rest.partition("/")[2]
    return f"{queue}/{_LEVEL}{level}/{rest}"


def level_for(*, has_settings: bool, has_steps: bool) -> int:
    """Return the level of workers that a task needs. has_settings: its queue has. has_steps: it has, or is a child."""
    return STEPS if has_steps else LIMITS if has_settings else 0


def any_partition(queue: str) -> str:
    """Return the name that stands for all partitions of a queue in notifications; no type has such a name."""
    return f"{queue}/*"
