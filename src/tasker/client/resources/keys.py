"""The keys of a service, for admins."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from tasker.client.core.keys import KeyCalls
from tasker.client.driving import AsyncDriver, Driver
from tasker.wire.keys import Key, NewKey


class Keys:
    """The keys of one service, for admins. Every method may raise Unreachable, NotAllowed and ServiceError."""

    def __init__(self, driver: Driver) -> None:
        self._driver = driver
        self._calls = KeyCalls(driver.exchange)

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
        return self._driver.run(
            self._calls.create(scopes, {"name": name, "owner": owner, "expires_at": expires_at, **limits})
        )

    def get(self, key_id: str) -> Key:
        """Return the key as it is now; its secret is never shown again. Raises NotFound."""
        return self._driver.run(self._calls.get(key_id))

    def find_all(self) -> list[Key]:
        """Return every key, in order of creation, including revoked and expired ones."""
        return self._driver.run(self._calls.find_all())

    def revoke(self, key_id: str) -> None:
        """Revoke a key, at once and for good. Raises NotFound."""
        return self._driver.run(self._calls.revoke(key_id))


class AsyncKeys:
    """The keys of one service, for admins. Every method may raise Unreachable, NotAllowed and ServiceError."""

    def __init__(self, driver: AsyncDriver) -> None:
        self._driver = driver
        self._calls = KeyCalls(driver.exchange)

    async def create(
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
        return await self._driver.run(
            self._calls.create(scopes, {"name": name, "owner": owner, "expires_at": expires_at, **limits})
        )

    async def get(self, key_id: str) -> Key:
        """Return the key as it is now; its secret is never shown again. Raises NotFound."""
        return await self._driver.run(self._calls.get(key_id))

    async def find_all(self) -> list[Key]:
        """Return every key, in order of creation, including revoked and expired ones."""
        return await self._driver.run(self._calls.find_all())

    async def revoke(self, key_id: str) -> None:
        """Revoke a key, at once and for good. Raises NotFound."""
        return await self._driver.run(self._calls.revoke(key_id))
