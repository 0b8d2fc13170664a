"""Actions on many tasks at once."""

from __future__ import annotations

from typing import Literal, NamedTuple
from uuid import UUID

from msgspec import Struct

from tasker.model.tasks import Status

Action = Literal["cancel", "retry", "delete"]
ACTS_ON: dict[Action, tuple[Status, ...]] = {
    "cancel": (Status.PENDING, Status.RUNNING),
    "retry": (Status.FAILED, Status.CANCELLED),
    "delete": (Status.COMPLETED, Status.FAILED, Status.CANCELLED),
}
"""The statuses that each action applies to."""


class Counted(Struct, frozen=True):
    """How many tasks match a filter now.

    cursor: the place before the newest of them, to leave out later tasks. next_cursor: where to go on counting; None at
    the end.
    """

    count: int
    cursor: str | None
    next_cursor: str | None = None


class ChosenTask(NamedTuple):
    """A task that matches a filter. `owner` is "" without one."""

    task_id: UUID
    owner: str
    queue: str


class Chosen(Struct, frozen=True):
    """Tasks that match a filter, newest first; there may be none before the end. `next_cursor` is None at the end."""

    tasks: list[ChosenTask]
    next_cursor: str | None
