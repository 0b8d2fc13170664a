"""Published task types: processes without their functions accept tasks for them."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from msgspec import Struct

from tasker.model.tasks import Policy


class PublishedType(Struct, frozen=True, kw_only=True):
    """A task type without its function: what it takes and returns, and the defaults of its tasks.

    input_schema: of the params by name (JSON Schema 2020-12). positional: the names of params given as an array, in
    order; rest: the name for all further ones. policy: with the worker's timeout. retention: None for ever. secrets:
    names of secret params. memory_limit: in bytes.
    """

    name: str
    description: str
    input_schema: dict[str, Any]
    output_schema: dict[str, Any]
    positional: tuple[str, ...]
    rest: str | None
    example: Any
    queue: str
    priority: int
    policy: Policy
    is_async: bool
    memory_limit: int | None
    retention: timedelta | None
    costs: bool
    secrets: tuple[str, ...]


class KnownType(Struct, frozen=True, kw_only=True):
    """A published type, and when a worker that has it was last seen, to a minute."""

    type: PublishedType
    seen_at: datetime
