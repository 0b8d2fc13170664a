"""The operations on task types: what can be submitted, and how."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from msgspec import Struct

from tasker.api.calls import Call
from tasker.api.replies import Reply, json_reply
from tasker.errors import NotFound
from tasker.model import OnCrash
from tasker.service import Service
from tasker.tasktypes.registry import TaskType


class RetryView(Struct, frozen=True, kw_only=True):
    """When a failed attempt is tried again; delays in seconds."""

    max_attempts: int
    initial: float
    factor: float
    max: float
    jitter: bool


class TypeView(Struct, frozen=True, kw_only=True):
    """A task type: what it takes and returns (JSON Schema 2020-12), and the defaults of its tasks.

    `input_schema` is that of named params; an array gives those of `positional` in this order, then `rest`.
    `timeout` is in seconds and for one attempt, `memory_limit` in bytes; `retention` is for how many seconds after its
    end a task is kept, null for ever. `missing_since`: since when no worker has had the type, so that its tasks wait;
    null while one has it.
    """

    name: str
    description: str
    input_schema: dict[str, Any]
    positional: list[str]
    rest: str | None
    output_schema: dict[str, Any]
    example: Any
    queue: str
    priority: int
    timeout: float | None
    retry: RetryView
    on_crash: OnCrash
    memory_limit: int | None
    retention: float | None
    missing_since: datetime | None
    links: dict[str, str]


class TypePage(Struct, frozen=True, kw_only=True):
    """Every task type; `next_cursor` is always null."""

    items: list[TypeView]
    next_cursor: None = None


class TypeOperations:
    """What can be submitted."""

    def __init__(self, service: Service) -> None:
        self._registry = service.registry
        self._types = service.types

    async def find_many(self, call: Call) -> Reply:
        call.query()
        return json_reply(TypePage(items=[self._view(task_type) for task_type in self._registry.known()]))

    async def get(self, call: Call) -> Reply:
        call.query()
        name = call.path["name"]
        if name not in self._registry and self._registry.refusal(name) == "unknown-type":
            raise NotFound(f"there is no task type {name[:100]!r}; GET /type lists them")
        return json_reply(self._view(self._registry.get(name)))

    def _view(self, task_type: TaskType) -> TypeView:
        return _view(task_type, self._types.missing_since(task_type.name))


def _view(task_type: TaskType, missing_since: datetime | None) -> TypeView:
    policy, retry = task_type.policy, task_type.policy.retry
    return TypeView(
        name=task_type.name,
        description=task_type.description,
        input_schema=task_type.input_schema,
        positional=list(task_type.positional),
        rest=task_type.rest,
        output_schema=task_type.output_schema,
        example=task_type.example,
        queue=task_type.queue,
        priority=task_type.priority,
        timeout=None if policy.timeout is None else policy.timeout.total_seconds(),
        retry=RetryView(
            max_attempts=retry.max_attempts,
            initial=retry.initial.total_seconds(),
            factor=retry.factor,
            max=retry.max.total_seconds(),
            jitter=retry.jitter,
        ),
        on_crash=policy.on_crash,
        memory_limit=task_type.memory_limit,
        retention=task_type.retention.total_seconds() if isinstance(task_type.retention, timedelta) else None,
        missing_since=missing_since,
        links={"self": f"/type/{task_type.name}", "submit": f"/type/{task_type.name}/task"},
    )
