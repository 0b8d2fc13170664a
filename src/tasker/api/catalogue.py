"""The operations on task types: what can be submitted, and how."""

from __future__ import annotations

from datetime import datetime, timedelta
from functools import partial

from tasker.api.calls import Call
from tasker.api.operation import get, ok
from tasker.api.replies import Reply, json_reply
from tasker.errors import NotFound
from tasker.service import Service
from tasker.tasktypes.registry import Registry, TaskType
from tasker.wire import types as wire
from tasker.wire.shapes import show

_get = partial(get, scope="any", usual=False)


class TypeOperations:
    """Show what can be submitted."""

    tag = "types"

    def __init__(self, service: Service) -> None:
        self._registry = service.registry
        self._types = service.types

    @_get("/type", "List the task types", ok("Every task type.", wire.TaskTypePage), problems=("unknown-field",))
    async def list_types(self, call: Call) -> Reply:
        call.query()
        return json_reply(wire.TaskTypePage(items=[self._view(task_type) for task_type in self._registry.known()]))

    @_get(
        "/type/{name}",
        "Read a task type",
        ok("The task type.", wire.TaskType),
        problems=("not-found", "unknown-field"),
    )
    async def get_type(self, call: Call) -> Reply:
        call.query()
        return json_reply(self._view(self._registry.get(type_in_path(call, self._registry))))

    def _view(self, task_type: TaskType) -> wire.TaskType:
        return _view(task_type, self._types.missing_since(task_type.name))


def type_in_path(call: Call, registry: Registry) -> str:
    """Return the task type that the path names. Raises NotFound for one that no task file has."""
    name = call.path["name"]
    if name not in registry and registry.refusal(name) == "unknown-type":
        raise NotFound(f"there is no task type {name[:100]!r}; GET /type lists them")
    return name


def _view(task_type: TaskType, missing_since: datetime | None) -> wire.TaskType:
    policy, retry, retention = task_type.policy, task_type.policy.retry, task_type.retention
    return show(
        wire.TaskType,
        task_type,
        timeout=None if policy.timeout is None else policy.timeout.total_seconds(),
        retry=show(wire.Retry, retry, initial=retry.initial.total_seconds(), max=retry.max.total_seconds()),
        on_crash=policy.on_crash,
        retention=retention.total_seconds() if isinstance(retention, timedelta) else None,
        missing_since=missing_since,
        links={"self": f"/type/{task_type.name}", "submit": f"/type/{task_type.name}/task"},
    )
