"""Drafts: a checked submission, as an engine stores it, and the receipt for it."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Literal
from uuid import UUID

from msgspec import Struct

from tasker.errors import RequestError
from tasker.model.tasks import Extra, OnConflict
from tasker.model.webhooks import Webhook


class Idempotency(Struct, frozen=True, kw_only=True):
    """A client's key for one submission: `fingerprint` tells equal requests, `reply` is what an equal one is told."""

    key: str
    fingerprint: bytes
    reply: bytes
    expires_at: datetime


class Draft(Struct, frozen=True, kw_only=True):
    """A validated submission on its way to the engine. `params` and `metadata` are JSON text.

    `run_at` is None for a task that may start at once. `policy` and `max_attempts` are what the row keeps of the
    settled defaults: `policy` is the JSON text of a Policy, encoded once for each type. `is_chosen`: the task's id is
    the client's choice, and may be there already; such a draft has an idempotency key. `owner` is "" where no keys are
    used. `retention`: how long it is kept after its end, None for ever. `weight`: what it costs of its queue's rate.
    `webhook`: who is told of this task alone. `secrets`: what stands as a mask in the params (hiding.py).

    unique_key: of one open task of its owner and type at a time; on_conflict: what becomes of this draft then.
    refusal: why it is not stored, if no earlier task answers for it. join_refusal: why none may answer for it.
    cache_key: an open task with this key, or one that has completed within `cache_for`, answers for this draft.
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

    @property
    def depends_on(self) -> tuple[UUID, ...]:
        return () if self.extra is None else self.extra.depends_on

    @property
    def is_delayed(self) -> bool:
        """Whether its `run_at` is the end of a delay, and no moment that was asked for."""
        return self.extra is not None and self.extra.delayed


class Receipt(Struct, frozen=True):
    """What became of a draft: stored; or its idempotency key was known, with an equal or another request.

    joined: another task answers for it, by its unique or its cache key. refused: `refusal` says why, nothing is stored.
    """

    task_id: UUID
    outcome: Literal["stored", "replayed", "mismatched", "joined", "refused"]
    reply: bytes | None = None
    refusal: RequestError | None = None
