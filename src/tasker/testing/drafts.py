"""Drafts of tasks, as the use cases would make them of submissions."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec
from msgspec import structs

from tasker.model import Draft, Extra, Idempotency, OnCrash, Policy, RetryPolicy, new_task_id
from tasker.testing.clock import START


def make_draft(
    now: datetime = START,
    *,
    task_id: UUID | None = None,
    type: str = "sum",
    params: bytes = b"[4,2]",
    queue: str = "default",
    priority: int = 0,
    delay: timedelta | None = None,
    retry: RetryPolicy | None = None,
    on_crash: OnCrash = "retry",
    tags: tuple[str, ...] = (),
    metadata: bytes = b"{}",
    idempotency: Idempotency | None = None,
    **options: Any,
) -> Draft:
    """Return a draft submitted at `now`, due at once or after `delay`; by default `sum` of [4,2] with one try.

    options: further fields of a Draft.
    """
    retry = retry or RetryPolicy()
    if delay is not None:
        options["extra"] = structs.replace(options.get("extra") or Extra(), delayed=True)
    return Draft(
        task_id=task_id or new_task_id(now),
        type=type,
        params=params,
        queue=queue,
        priority=priority,
        created_at=now,
        policy=msgspec.json.encode(Policy(retry=retry, on_crash=on_crash)),
        max_attempts=retry.max_attempts,
        run_at=None if delay is None else now + delay,
        tags=tags,
        metadata=metadata,
        idempotency=idempotency,
        **options,
    )


def make_key(
    now: datetime = START,
    key: str = "key-1",
    *,
    fingerprint: bytes = b"request",
    reply: bytes = b'{"reply":1}',
    lasts: timedelta = timedelta(hours=24),
) -> Idempotency:
    """Return an idempotency key given at `now` and kept for `lasts`."""
    return Idempotency(key=key, fingerprint=fingerprint, reply=reply, expires_at=now + lasts)
