"""Bulk actions for tests of engines."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

from tasker.engines.protocol import Engine
from tasker.model import TaskFilter
from tasker.model.bulk import BulkAction, Step, write_filter
from tasker.model.control import Action


def make_bulk(action: Action, task_ids: Sequence[UUID] = (), **fields: Any) -> BulkAction:
    """Return an action on these tasks, which is not stored."""
    given = {
        "bulk_id": uuid4(), "action": action, "rest": tuple(task_ids), "selects": write_filter(TaskFilter()),
        "started_at": datetime(2026, 1, 1, tzinfo=UTC), **fields,
    }  # fmt: skip
    return BulkAction(**given)


async def finish(engine: Engine, bulk: BulkAction, at_once: int = 1000) -> BulkAction:
    """Do the rest of a stored action on given tasks; return it as it is then."""
    while bulk.state == "running":
        step = Step(task_ids=bulk.rest[:at_once], place=None, rest=bulk.rest[at_once:])
        after = await engine.bulk.step(bulk, step)
        assert after is not None
        bulk = after
    return bulk


async def act(engine: Engine, action: Action, task_ids: Sequence[UUID], *, at_once: int = 1000) -> int:
    """Act on these tasks; return how many were changed."""
    bulk = make_bulk(action, task_ids)
    await engine.bulk.create(bulk)
    return (await finish(engine, bulk, at_once)).done
