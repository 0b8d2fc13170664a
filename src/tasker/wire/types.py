"""Task types: what can be submitted."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from msgspec import Struct

from tasker.model import OnCrash
from tasker.wire.shapes import Always


class Retry(Struct, frozen=True, kw_only=True):
    """When a failed attempt is tried again; delays in seconds."""

    max_attempts: int
    initial: float
    factor: float
    max: float
    jitter: bool


class TaskType(Struct, frozen=True, kw_only=True):
    """A task type: what it takes and returns (JSON Schema 2020-12), and the defaults of its tasks.

    `input_schema` describes named params; an array gives the params in `positional` in this order, then `rest`.
    `timeout` is in seconds and for one attempt, `memory_limit` in bytes; `retention` is the seconds that a task is kept
    after its end, null for ever. `missing_since`: since when no worker has had the type, so that its tasks wait; null
    while one has it.
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
    retry: Retry
    on_crash: OnCrash
    memory_limit: int | None
    retention: float | None
    missing_since: datetime | None
    links: dict[str, str]


class TaskTypePage(Struct, frozen=True, kw_only=True):
    """Every task type; `next_cursor` is always null."""

    items: list[TaskType]
    next_cursor: Always[str | None] = None
