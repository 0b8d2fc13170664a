"""What other tasks mean for a draft."""

from __future__ import annotations

from typing import NamedTuple
from uuid import UUID

from tasker.model import Receipt, TaskProblem


class Ties(NamedTuple):
    """What other tasks mean for a draft.

    receipt: the answer, if it is not stored. replaces: the task whose place it takes. waits_for: open dependencies.
    error: why it fails at once.
    """

    receipt: Receipt | None = None
    replaces: UUID | None = None
    waits_for: tuple[UUID, ...] = ()
    error: TaskProblem | None = None
