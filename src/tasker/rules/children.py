"""Ids and limits of children. Pure."""

from __future__ import annotations

from datetime import datetime
from hashlib import sha256
from typing import NamedTuple
from uuid import UUID

from tasker.model.tasks import make_task_id

MAX_LEVEL = 16
"""How many levels of children a task without a parent may have below it."""


class Origin(NamedTuple):
    """Which attempt stored a step of children first, and when the step began."""

    attempt: int
    started_at: datetime


def child_id(parent_id: UUID, key: str, place: int, origin: Origin) -> UUID:
    """Return the id of a child: always the same for the same place of the same stored step of the same parent.

    A step that is forgotten and stored again has another origin, and so other children. Like any task's, the id begins
    with a time: that of the step's start.
    """
    text = b"%b %d %d %b" % (parent_id.bytes, origin.attempt, place, key.encode("utf-8", "surrogatepass"))
    return make_task_id(origin.started_at, sha256(text).digest()[:10])
