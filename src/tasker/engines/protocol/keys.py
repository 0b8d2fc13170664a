"""API keys."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Protocol

from tasker.model.keys import Key


class KeyStore(Protocol):
    """The keys of those who may ask."""

    async def version(self) -> int:
        """Return a number that is a larger one after every `add` and `revoke`, by whatever process."""

    async def add(self, key: Key, *, most: int | None = None) -> None:
        """Store a new key, and keep to KEEP_DEAD_KEYS. Raises Conflict (one has its id, `most` are good already)."""

    async def find_all(self) -> list[Key]:
        """Return every key, in order of creation, also the newest that are revoked or past their time (see `add`)."""

    async def revoke(self, key_id: str) -> Key | None:
        """Mark a key as revoked now, and return it; again: no change. None if there is none."""

    async def cursor_secret(self) -> bytes:
        """Return 64 bytes that were made at random with the store: by them its cursors are sealed."""

    async def record_uses(self, uses: Mapping[str, datetime]) -> None:
        """Remember when keys were last used, by their ids; never an earlier time than is known."""
