"""Options of what the client sends: of a submission, and of a list of tasks."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TypedDict
from uuid import UUID

from tasker.tasktypes.submit_options import SubmitOptions

__all__ = ["Filter", "SubmitOptions"]


class Filter(TypedDict, total=False):
    """Which tasks: every given member must match, as in `GET /task`.

    parent: the task that started them. error: the id of a failure group. q: a text in the params or the error. bulk:
    the action that cancelled or retried them. owner: whose, for admins.
    """

    status: str | Sequence[str] | None
    type: str | Sequence[str] | None
    queue: str | Sequence[str] | None
    tag: str | None
    parent: UUID | str | None
    group: str | None
    schedule_id: UUID | str | None
    created_after: datetime | None
    created_before: datetime | None
    ended_after: datetime | None
    ended_before: datetime | None
    error: str | None
    q: str | None
    owner: str | None
    bulk: UUID | str | None
