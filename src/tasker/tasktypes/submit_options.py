"""Options of a submission: what the client sends besides the type and the params."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from datetime import datetime, timedelta
from typing import Any, Literal, TypedDict, Unpack
from uuid import UUID


class TaskOptions(TypedDict, total=False):
    """The options of a task, as keywords; numbers for times are seconds."""

    queue: str | None
    priority: int | None
    delay: timedelta | float | None
    run_at: datetime | None
    timeout: timedelta | float | None
    retry: Mapping[str, Any] | int | None
    retention: timedelta | float | Literal["forever"] | None
    tags: Sequence[str] | None
    metadata: Mapping[str, Any] | None
    deadline: datetime | None
    unique_key: str | None
    on_conflict: Literal["return", "reject", "replace"] | None
    depends_on: Sequence[UUID] | Mapping[str, str] | None
    group: str | None
    cache: timedelta | float | None
    webhook: Mapping[str, Any] | None
    concurrency_key: str | None
    weight: int | None


class OptionFields(TaskOptions, total=False):
    """The fields of SubmitOptions, as keywords."""

    idempotency_key: str | None


@dataclass(frozen=True, kw_only=True)
class SubmitOptions:
    """How a task is to be run; None stands for the type's default. Numbers for times are seconds.

    `retry` takes a number of attempts, or max_attempts, initial, factor, max and jitter. `idempotency_key` replaces the
    one that is made for each submission: give your own so that the task is submitted once even if your program
    restarts. `webhook` takes url, events, secret and format. `depends_on` takes ids of
    tasks, or {"group": name, "when": "completed" | "ended"}.
    """

    queue: str | None = None
    priority: int | None = None
    delay: timedelta | float | None = None
    run_at: datetime | None = None
    timeout: timedelta | float | None = None
    retry: Mapping[str, Any] | int | None = None
    retention: timedelta | float | Literal["forever"] | None = None
    tags: Sequence[str] | None = None
    metadata: Mapping[str, Any] | None = None
    deadline: datetime | None = None
    unique_key: str | None = None
    on_conflict: Literal["return", "reject", "replace"] | None = None
    depends_on: Sequence[UUID] | Mapping[str, str] | None = None
    group: str | None = None
    cache: timedelta | float | None = None
    webhook: Mapping[str, Any] | None = None
    concurrency_key: str | None = None
    weight: int | None = None
    idempotency_key: str | None = None

    def as_json(self) -> dict[str, Any]:
        """Return the members of the request body that these options set."""
        given = {field.name: getattr(self, field.name) for field in fields(self) if field.name != "idempotency_key"}
        return {name: _plain(value) for name, value in given.items() if value is not None}

    def with_fields(self, **changes: Unpack[OptionFields]) -> SubmitOptions:
        """Return the same options with some of them changed."""
        return replace(self, **changes)

    def over(self, others: SubmitOptions) -> SubmitOptions:
        """Return these options, and where they say nothing, the others."""
        given = {one.name: getattr(self, one.name) for one in fields(self)}
        return replace(others, **{name: value for name, value in given.items() if value is not None})


def _plain(value: Any) -> Any:
    return value.total_seconds() if isinstance(value, timedelta) else value
