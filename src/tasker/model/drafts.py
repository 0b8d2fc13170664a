"""Drafts: valid submissions as an engine stores them, and the receipts for them."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Literal
from uuid import UUID

from msgspec import Struct

from tasker.errors import RequestError
from tasker.model.tasks import AfterGroup, Extra, OnConflict
from tasker.model.webhooks import Webhook


class Idempotency(Struct, frozen=True, kw_only=True):
    """A client's key for one submission. fingerprint: same for equal requests. reply: what an equal request gets."""

    key: str
    fingerprint: bytes
    reply: bytes
    expires_at: datetime


class Draft(Struct, frozen=True, kw_only=True):
    """A valid submission on its way to the engine.

    params, metadata: JSON text. run_at: None for a task that may start at once. policy: the JSON text of a Policy,
    encoded once for each type. is_chosen: the client chose the task's id, which may exist already; such a draft has an
    idempotency key. owner: "" where no keys are used. retention: how long the task is kept after its end; None for
    ever. weight: units of its queue's rate that its start uses. webhook: a webhook for this task alone. secrets: the
    values that are masked in the params (rules/secrets.py).

    unique_key: only one open task of an owner and type has it. on_conflict: what happens to a draft whose unique_key an
    open task has. cache_key: an open task with this key, or one that completed within `cache_for`, answers for this
    draft. refusal: why the draft is not stored; an existing task may still answer. join_refusal: why no existing task
    may answer for it. keep_steps_of: the task whose steps are copied. is_awaited: as after `Peers.follow_task`, from
    the start.
    """

    task_id: UUID
    type: str
    params: bytes
    queue: str
    priority: int
    created_at: datetime
    policy: bytes
    max_attempts: int
    run_at: datetime | None = None
    tags: tuple[str, ...] = ()
    metadata: bytes = b"{}"
    idempotency: Idempotency | None = None
    is_chosen: bool = False
    owner: str = ""
    deadline: datetime | None = None
    retention: timedelta | None = None
    unique_key: str | None = None
    concurrency_key: str | None = None
    weight: int = 1
    cache_key: bytes | None = None
    extra: Extra | None = None
    webhook: Webhook | None = None
    secrets: bytes | None = None
    on_conflict: OnConflict = "return"
    refusal: RequestError | None = None
    join_refusal: RequestError | None = None
    cache_for: timedelta = timedelta(0)
    keep_steps_of: UUID | None = None
    is_awaited: bool = False

    @property
    def depends_on(self) -> tuple[UUID, ...]:
        return () if self.extra is None else self.extra.depends_on

    @property
    def after_group(self) -> AfterGroup | None:
        """The group that it waits for."""
        return None if self.extra is None else self.extra.depends_on_group

    @property
    def group(self) -> str | None:
        """The name of its group."""
        return None if self.extra is None else self.extra.group

    @property
    def is_delayed(self) -> bool:
        """Whether the client gave a delay, so that `run_at` is its end, and not a fixed time."""
        return self.extra is not None and self.extra.delayed


class Receipt(Struct, frozen=True):
    """What became of a draft.

    outcome: stored; replayed or mismatched: its idempotency key was used before, by an equal or by another request;
    joined: an existing task answers, by its unique or cache key; refused: nothing is stored, for the reason `refusal`.
    """

    task_id: UUID
    outcome: Literal["stored", "replayed", "mismatched", "joined", "refused"]
    reply: bytes | None = None
    refusal: RequestError | None = None
