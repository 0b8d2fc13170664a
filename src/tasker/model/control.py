"""What is done to many tasks at once."""

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
"""The statuses that an action can begin from."""


class Counted(Struct, frozen=True):
    """How many tasks a filter finds now; `cursor` is where those of them begin, newest first: none is added later."""

    count: int
    cursor: str | None


class ChosenTask(NamedTuple):
    """A task that a filter finds; without an owner it is ""."""

    task_id: UUID
    owner: str
    queue: str


class Chosen(Struct, frozen=True):
    """Tasks that a filter finds, newest first; `next_cursor` is None at the end."""

    tasks: list[ChosenTask]
    next_cursor: str | None
