"""Tasks and other records in the form of an archive, independent of the engine.

JSON that is stored as text (params, results...) is text here too, so that -0, 1e2 and 1.10 stay as they are.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from msgspec import Raw, Struct, convert, json, structs

from tasker.model.tasks import AfterGroup


class StoredAttempt(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An attempt that another one followed; the latest attempt is part of the task."""

    attempt: int
    worker: str
    started_at: datetime
    finished_at: datetime
    ending: str
    error: str | None
    peak_memory: int | None = None


class StoredEvent(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An event that is stored as a row of its own."""

    sequence: int
    attempt: int
    type: str
    time: datetime
    data: str


class StoredKey(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An idempotency key of the task's submission."""

    key: str
    fingerprint: bytes
    expires_at: datetime
    reply: str


class StoredStep(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A step of the task (model/steps.py). Archives have no secrets: is_secret tells that its value was kept apart.

    is_awaited: the parked task goes on once this is there. stored: how many of the `total` children have been started;
    in_flight: how many of these are neither held nor ended.
    """

    number: int
    key: str
    name: str
    kind: str
    attempt: int
    started_at: datetime
    finished_at: datetime | None = None
    until: datetime | None = None
    answered_by: str | None = None
    is_awaited: bool = False
    may_run_again: bool = False
    max_in_flight: int | None = None
    total: int = 0
    stored: int = 0
    in_flight: int = 0
    completed: int = 0
    failed: int = 0
    cancelled: int = 0
    question: str | None = None
    value: str | None = None
    is_secret: bool = False

    @property
    def times(self) -> Iterator[datetime]:
        """All times in the step."""
        yield from (time for time in (self.started_at, self.finished_at, self.until) if time is not None)

    @property
    def lasting(self) -> StoredStep:
        """The step without what changes once the task has ended: its children may still end."""
        none: dict[str, Any] = dict.fromkeys(("in_flight", "completed", "failed", "cancelled"), 0)
        ended_at = None if self.kind == "children" else self.finished_at
        return structs.replace(self, **none, may_run_again=False, finished_at=ended_at)


class StoredChild(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The task's place in its family: the number of the parent's step, and the place in that. Extra has the parent."""

    number: int
    place: int
    level: int
    is_detached: bool = False
    is_held: bool = False


class StoredRecord(Struct, frozen=True, kw_only=True, tag_field="kind", tag="record", forbid_unknown_fields=True):
    """A record that is not a task: a schedule, a queue's settings...

    record: its kind. key: its id within the kind, as text. data: its content, the text of a JSON object.
    """

    record: str
    key: str
    data: Raw

    @property
    def name(self) -> tuple[str, str]:
        """The unique name of the record in its store."""
        return self.record, self.key


class StoredTask(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A task, its earlier attempts, events and idempotency keys; without leases and positions, which engines set."""

    task_id: UUID
    type: str
    queue: str
    status: str
    reason: str | None
    priority: int
    created_at: datetime
    run_at: datetime | None
    due_at: datetime
    attempt: int
    tries: int
    max_attempts: int
    crashes: int
    interruptions: int
    worker: str | None
    started_at: datetime | None
    finished_at: datetime | None
    ending: str | None
    cancel_requested_at: datetime | None
    sequence: int
    policy: str
    tags: list[str]
    metadata: str
    usage: str
    progress: str | None
    error: str | None
    params: str
    result: str | None
    owner: str = ""
    deadline: datetime | None = None
    retention: timedelta | None = None
    expires_at: datetime | None = None
    unique_key: str | None = None
    concurrency_key: str | None = None
    weight: int | None = None
    cache_key: bytes | None = None
    has_dependants: bool = False
    extra: str | None = None
    peak_memory: int | None = None
    attempts: list[StoredAttempt] = []
    events: list[StoredEvent] = []
    keys: list[StoredKey] = []
    steps: list[StoredStep] = []
    child: StoredChild | None = None

    @property
    def times(self) -> Iterator[datetime]:
        """All times in the task."""
        own = (getattr(self, name) for name in TIMES)
        yield from (time for time in own if time is not None)
        for attempt in self.attempts:
            yield from (attempt.started_at, attempt.finished_at)
        yield from (event.time for event in self.events)
        yield from (key.expires_at for key in self.keys)
        for step in self.steps:
            yield from step.times

    @property
    def is_pending(self) -> bool:
        """Whether it is pending."""
        return self.status == "pending"

    @property
    def is_open(self) -> bool:
        """Whether it has not ended."""
        return self.status in ("pending", "running")

    @property
    def is_waiting(self) -> bool:
        """Whether it waits for other tasks."""
        return self.is_pending and self.reason == "dependencies"

    @property
    def is_held(self) -> bool:
        """Whether it waits until another child of its parent's step has ended."""
        return self.child is not None and self.child.is_held

    @property
    def parent_id(self) -> UUID | None:
        """The task that has started it."""
        given = None if self.extra is None else json.decode(self.extra).get("parent_id")
        return None if given is None else UUID(given)

    @property
    def depends_on(self) -> list[UUID]:
        """The tasks that it depends on."""
        return [] if self.extra is None else [UUID(text) for text in json.decode(self.extra).get("depends_on", ())]

    @property
    def depends_on_group(self) -> AfterGroup | None:
        """The group that it depends on."""
        given = None if self.extra is None else json.decode(self.extra).get("depends_on_group")
        return None if given is None else convert(given, AfterGroup)

    @property
    def group(self) -> str | None:
        """The name of its group."""
        return None if self.extra is None else json.decode(self.extra).get("group")

    @property
    def size(self) -> int:
        """Its approximate size in characters."""
        wide = len(self.params) + len(self.metadata) + len(self.result or "") + len(self.error or "")
        steps = sum(_STEP + len(step.value or "") + len(step.question or "") for step in self.steps)
        return wide + steps + sum(len(event.data) for event in self.events)

    def has_become(self, other: StoredTask) -> bool:
        """Tell whether `other` is the same submission, in the same state or a later one."""
        if any(getattr(self, name) != getattr(other, name) for name in _SETTLED) or not self._is_history_of(other):
            return False
        if self.status == "completed" or (self._stage == other._stage and self.status not in ("pending", "running")):
            return other._lasting == self._lasting
        return self._stage <= other._stage

    def _is_history_of(self, other: StoredTask) -> bool:
        """Tell whether `other` has these attempts and events or more, and these keys or fewer: keys only expire."""
        attempts, events = other.attempts[: len(self.attempts)], set(other.events)
        return self.attempts == attempts and events.issuperset(self.events) and set(self.keys).issuperset(other.keys)

    @property
    def _lasting(self) -> StoredTask:
        """An ended task without what still changes: keys expire, children end, and expire with their parent."""
        expires_at = self.expires_at if self.child is None else None
        steps = [step.lasting for step in self.steps]
        return structs.replace(self, keys=[], steps=steps, child=None, expires_at=expires_at)

    @property
    def _stage(self) -> tuple[int, int]:
        return self.attempt, self.sequence


_STEP = 400
"""Characters of a step besides its value and question."""
_SETTLED = (
    "task_id",
    "type",
    "queue",
    "priority",
    "created_at",
    "run_at",
    "max_attempts",
    "policy",
    "tags",
    "metadata",
    "params",
    "owner",
    "deadline",
    "retention",
    "unique_key",
    "concurrency_key",
    "weight",
    "cache_key",
    "extra",
)
"""Fields that never change after the submission."""
TEXTS = frozenset({"policy", "metadata", "usage", "progress", "error", "params", "result", "extra"})
"""Columns that store JSON as bytes."""
TIMES = frozenset(
    {"created_at", "run_at", "due_at", "started_at", "finished_at", "cancel_requested_at", "deadline", "expires_at"}
)
_PARTS = {"attempts", "events", "keys", "steps", "child"}
COLUMNS = tuple(field.name for field in structs.fields(StoredTask) if field.name not in _PARTS)
"""The fields that are columns of a task's row, in order."""


def text_of(data: bytes | None) -> str | None:
    """Return JSON bytes of a column as text."""
    return None if data is None else bytes(data).decode()


def bytes_of(text: str | None) -> bytes | None:
    """Return JSON text as the bytes of a column."""
    return None if text is None else text.encode()
