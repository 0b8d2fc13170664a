"""Failure groups: failures of one task type with the same exception and nearly the same message."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Literal, NamedTuple
from uuid import UUID

from msgspec import Struct

from tasker.model.pages import PageOf

KEEP_FAILURES_FOR = timedelta(days=90)
"""How long failures are counted. A group without one is forgotten."""
NEW_GROUPS_AN_HOUR = 1000
"""Limit of an owner's new groups in one hour of the clock; further failures count in the group OTHER."""
OTHER = "other"
"""The id of the group of failures that got no group of their own."""

FailureWindow = Literal["1h", "24h", "7d", "30d", "90d"]
WINDOWS: dict[FailureWindow, timedelta] = {
    "1h": timedelta(hours=1),
    "24h": timedelta(hours=24),
    "7d": timedelta(days=7),
    "30d": timedelta(days=30),
    "90d": KEEP_FAILURES_FOR,
}


class Fingerprint(NamedTuple):
    """What the failures of a group have in common. failure_id: a digest of owner, type and the rest.

    problem: the type of the problem. exception: the qualified name of the exception, "" without one. message: without
    numbers, hex and quoted parts.
    """

    failure_id: str
    problem: str
    exception: str
    message: str


class FailureSample(Struct, frozen=True, kw_only=True):
    """The newest failed task of a group. detail: of its error, cut off where it is long."""

    task_id: UUID
    detail: str


class FailureGroup(Struct, frozen=True, kw_only=True):
    """A group of failures of one owner ("" for none) and type.

    count: failures in the window, also of tasks that were retried or erased since. first_at: the first one that is
    known. message, sample: None once no task of the group is left: they are read off a task, and erased with it.
    """

    failure_id: str
    owner: str
    type: str
    problem: str
    exception: str
    message: str | None
    count: int
    first_at: datetime
    last_at: datetime
    sample: FailureSample | None = None


class FailureFilter(Struct, frozen=True, kw_only=True):
    """Selects failures since a time, of whole hours; every given field must match, and of several values one."""

    since: datetime
    types: tuple[str, ...] = ()
    queues: tuple[str, ...] = ()
    failure_id: str | None = None
    owner: str | None = None


class FailurePage(PageOf[FailureGroup], frozen=True, kw_only=True):
    """Groups, those that failed last first. counted_from: the hour from which failures are counted."""

    counted_from: datetime
