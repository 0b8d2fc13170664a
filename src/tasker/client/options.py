"""Options of a submission: what the client sends besides the type and the params."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from typing import Any, Literal, TypedDict
from uuid import UUID


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


class Filter(TypedDict, total=False):
    """Which tasks: every given member must match, as in `GET /task`.

    parent: the task that started them. error: the id of a failure group. q: a text in the params or the error. bulk:
    the action that cancelled or retried them. owner: whose, for admins.
    """

    status: str | Sequence[str] | None
    type: str | Sequence[str] | None
    queue: str | Sequence[str] | None
    tag: str | None
    parent: UUID | str | None
    group: str | None
    schedule_id: UUID | str | None
    created_after: datetime | None
    created_before: datetime | None
    ended_after: datetime | None
    ended_before: datetime | None
    error: str | None
    q: str | None
    owner: str | None
    bulk: UUID | str | None


def as_timedelta(value: timedelta | float) -> timedelta:
    """Return a duration; numbers are seconds."""
    return value if isinstance(value, timedelta) else timedelta(seconds=value)


def _plain(value: Any) -> Any:
    return value.total_seconds() if isinstance(value, timedelta) else value
