"""The steps of archived tasks, and their places in families.

Parents may come before or after their children, and in other transactions. A child that comes first keeps its place,
and joins its parent when that comes.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

import msgspec
from msgspec import structs

from tasker.engines.shared.rows import Rows
from tasker.model import Extra
from tasker.model.archive import StoredChild, StoredStep, StoredTask, bytes_of, text_of

_KINDS = {"started_at": datetime, "finished_at": datetime, "until": datetime, "question": bytes, "value": bytes}
_FLAGS = ("is_awaited", "may_run_again", "is_secret")
_STEP: tuple[type, ...] = tuple(
    bool if name in _FLAGS else _KINDS.get(name, str) for name in StoredStep.__struct_fields__
)
_CHILD = (int, int, int, bool, bool)
_TEXTS = ("question", "value")
_extra = msgspec.json.Decoder(Extra).decode


class Parts(NamedTuple):
    """What belongs to some tasks, by their ids."""

    steps: dict[UUID, list[StoredStep]]
    children: dict[UUID, StoredChild]


NO_PARTS = Parts({}, {})


async def find_parts(rows: Rows, task_ids: Sequence[UUID]) -> Parts:
    """Return the steps of tasks, and their places in families."""
    steps = defaultdict(list)
    for task_id, *values in await rows.fetch("archived_steps", UUID, *_STEP, task_ids=list(task_ids)):
        fields = dict(zip(StoredStep.__struct_fields__, values, strict=True))
        steps[task_id].append(StoredStep(**{**fields, **{name: text_of(fields[name]) for name in _TEXTS}}))
    children = {}
    for task_id, *values in await rows.fetch("archived_children", UUID, *_CHILD, task_ids=list(task_ids)):
        children[task_id] = StoredChild(**dict(zip(StoredChild.__struct_fields__, values, strict=True)))
    return Parts(dict(steps), children)


async def put_parts(rows: Rows, tasks: Sequence[StoredTask]) -> None:
    """Store the steps of tasks that were stored just now, and their places in families."""
    steps = [_step_row(task, step) for task in tasks for step in task.steps]
    if steps:
        await rows.run_many("insert_archived_step", steps)
    children = [_child_row(task, task.child) for task in tasks if task.child is not None]
    if children:
        await rows.run_many("insert_archived_child", children)


async def join_families(rows: Rows, tasks: Sequence[StoredTask]) -> list[int]:
    """Join the new tasks to children that came before them; return the seq of each parent that may now have to wake."""
    parents = {task.task_id for task in tasks if any(step.kind == "children" for step in task.steps)}
    related = [task.task_id for task in tasks if task.child is not None or task.task_id in parents]
    if not related:
        return []
    for seq, extra in await rows.fetch("lone_children", int, bytes) if parents else ():
        parent_id = _extra(extra).parent_id
        if parent_id in parents:
            await rows.run("join_parent", seq=seq, parent_id=parent_id)
    return await rows.values("parents_of", int, task_ids=related)


def _step_row(task: StoredTask, step: StoredStep) -> dict[str, Any]:
    asks = task.is_open and step.kind == "input" and step.finished_at is None
    fields = structs.asdict(step) | {name: bytes_of(getattr(step, name)) for name in _TEXTS}
    return {**fields, "task_id": task.task_id, "asks": asks}


def _child_row(task: StoredTask, child: StoredChild) -> dict[str, Any]:
    return {**structs.asdict(child), "task_id": task.task_id, "parent_id": task.parent_id}
