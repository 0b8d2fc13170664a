"""The keys of a service, for admins."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from urllib.parse import quote

from tasker.client.connection import Connection
from tasker.wire.keys import Key, KeyPage, NewKey


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
        """Make a key. There is no retry: if no answer comes, look at the list before you ask again."""
        limits = {"rate": rate, "burst": burst, "daily_budget": daily_budget}
        expiry = None if expires_at is None else expires_at.isoformat()
        body = {"scopes": list(scopes), "name": name, "owner": owner, "expires_at": expiry, **limits}
        given = {name: value for name, value in body.items() if value is not None}
        return self._connection.read("POST", "/key", NewKey, body=given, retries=0)

    def find_all(self) -> list[Key]:
        """Return every key, in order of creation, including revoked and expired ones."""
        return self._connection.read("GET", "/key", KeyPage).items

    def revoke(self, key_id: str) -> None:
        """Revoke a key, at once and for good. Raises NotFound."""
        self._connection.send("DELETE", f"/key/{quote(key_id, safe='')}")
