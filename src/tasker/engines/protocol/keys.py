"""API keys."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Protocol

from tasker.model.keys import Key


class KeyStore(Protocol):
    """Stores API keys."""

    async def version(self) -> int:
        """Return a number that grows with every `add` and `revoke` of any process."""

    async def add(self, key: Key, *, most: int | None = None) -> None:
        """Store a new key; erase the oldest revoked or expired keys beyond KEEP_DEAD_KEYS.

        Raises Conflict (a key has its id, or there are `most` valid keys).
        """

    async def find_all(self) -> list[Key]:
        """Return every key in order of creation, including revoked and expired ones that are kept (see `add`)."""

    async def revoke(self, key_id: str) -> Key | None:
        """Mark a key as revoked now, and return it; None if it does not exist. Idempotent."""

    async def cursor_secret(self) -> bytes:
        """Return the 64 random bytes, made with the store, that seal its cursors."""

    async def record_uses(self, uses: Mapping[str, datetime]) -> None:
        """Store the times of last use, by key id; a later stored time stays."""
