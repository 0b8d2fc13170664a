"""Learn of the task types of other processes."""

from __future__ import annotations

from datetime import timedelta

from tasker.chores.loop import Chore
from tasker.service.types import Types

REFRESH_EVERY = timedelta(seconds=2)
"""How soon a process knows the types of a worker that has started."""


def type_chores(types: Types, *, is_shared: bool) -> list[Chore]:
    return [Chore("types", REFRESH_EVERY, types.refresh)] if is_shared else []
