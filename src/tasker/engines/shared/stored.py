"""Rows of attempts, events and idempotency keys as an archive has them. Their times are datetimes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

from msgspec import Struct

from tasker.model.archive import StoredAttempt, StoredEvent, StoredKey, text_of

S = TypeVar("S", bound=Struct)


def attempt_of(*columns: Any) -> StoredAttempt:
    """Return the attempt of a row of its fields."""
    *values, error, peak_memory = columns
    return _made(StoredAttempt, [*values, text_of(error), peak_memory])


def event_of(*columns: Any) -> StoredEvent:
    """Return the event of a row of its fields."""
    *values, data = columns
    return _made(StoredEvent, [*values, text_of(data)])


def key_of(*columns: Any) -> StoredKey:
    """Return the idempotency key of a row of its fields."""
    *values, reply = columns
    return _made(StoredKey, [*values, text_of(reply)])


def _made(struct: type[S], values: Sequence[Any]) -> S:
    return struct(**dict(zip(struct.__struct_fields__, values, strict=True)))
