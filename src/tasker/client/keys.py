"""What an admin's client does with keys."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING
from urllib.parse import quote

from msgspec import Struct

from tasker.client.connection import read_body

if TYPE_CHECKING:
    from tasker.client.connection import Connection


class Key(Struct, frozen=True, kw_only=True):
    """A key of the service; its secret is told once, when it is made."""

    key_id: str
    name: str
    owner: str
    scopes: list[str]
    created_at: datetime
    expires_at: datetime | None = None
    revoked_at: datetime | None = None
    last_used_at: datetime | None = None
    rate: float | None = None
    burst: int | None = None
    daily_budget: float | None = None


class NewKey(Key, frozen=True, kw_only=True):
    """A key that has just been made; `key` is what its bearer sends."""

    key: str


class _KeyPage(Struct):
    items: list[Key]


class Keys:
    """The keys of one service, for admins. Every method may raise Unreachable, NotAllowed and ServiceError."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def create(
        self,
        scopes: Sequence[str],
        *,
        name: str | None = None,
        owner: str | None = None,
        expires_at: datetime | None = None,
        rate: float | None = None,
        burst: int | None = None,
        daily_budget: float | None = None,
    ) -> NewKey:
        """Make a key. It is made once: where no answer comes, look at the list before you ask again."""
        body = {
            "scopes": list(scopes), "name": name, "owner": owner,
            "expires_at": None if expires_at is None else expires_at.isoformat(), "rate": rate, "burst": burst,
            "daily_budget": daily_budget,
        }  # fmt: skip
        given = {name: value for name, value in body.items() if value is not None}
        return read_body(self._connection.send("POST", "/key", body=given, retries=0), NewKey)

    def find_all(self) -> list[Key]:
        """Return every key, in order of creation, also those that open nothing any more."""
        return read_body(self._connection.send("GET", "/key"), _KeyPage).items

    def revoke(self, key_id: str) -> None:
        """Have a key open nothing from now on. Raises NotFound."""
        self._connection.send("DELETE", f"/key/{quote(key_id, safe='')}")
