"""API keys, for admins."""

from __future__ import annotations

from typing import Annotated

from msgspec import Struct

from tasker.model.keys import Scope
from tasker.wire.shapes import Always, Moment, choices


class Key(Struct, frozen=True, kw_only=True):
    """A key without its secret, which is shown only when the key is made. `last_used_at` is exact to about a minute."""

    key_id: str
    name: str
    owner: str
    scopes: list[Annotated[str, choices(Scope)]]
    created_at: Moment
    expires_at: Always[Moment | None] = None
    revoked_at: Always[Moment | None] = None
    last_used_at: Always[Moment | None] = None
    rate: Always[float | None] = None
    burst: Always[int | None] = None
    daily_budget: Always[float | None] = None


class NewKey(Key, frozen=True, kw_only=True):
    """A key that has just been made: `key` is what its bearer sends, and is shown this once."""

    key: str


class KeyPage(Struct, frozen=True, kw_only=True):
    """Every key, in order of creation, including revoked and expired ones; `next_cursor` is always null."""

    items: list[Key]
    next_cursor: Always[str | None] = None
