"""The groups of a service: tasks that were submitted under one name."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from datetime import timedelta

from tasker.client.core.groups import GroupCalls
from tasker.client.driving import AsyncDriver, Driver
from tasker.wire.bulk import BulkReply
from tasker.wire.groups import Group, GroupInList


class Groups:
    """The groups of one service. Every method may raise Unreachable, NotAllowed and ServiceError.

    owner: whose group it is, for admins; by default the caller's own.
    """

    def __init__(self, driver: Driver) -> None:
        self._driver = driver
        self._calls = GroupCalls(driver.exchange)

    def find_many(self, *, owner: str | None = None, limit: int | None = None) -> Iterator[GroupInList]:
        """Yield groups, those with open tasks first, at most `limit`; pages are read as they are needed."""
        return self._driver.iterate(self._calls.find_many(owner, limit))

    def get(self, name: str, *, owner: str | None = None) -> Group:
        """Return the group as it is now. Raises NotFound."""
        return self._driver.run(self._calls.get(name, owner))

    def wait(self, name: str, timeout: timedelta | float | None = None, *, owner: str | None = None) -> Group:
        """Return the group once none of its tasks is open. Raises GroupTimeout after `timeout` (None: never), NotFound.

        It outlasts a restart of the service.
        """
        return self._driver.run(self._calls.wait(name, owner, timeout))

    def cancel(self, name: str, *, owner: str | None = None) -> BulkReply:
        """Cancel its open tasks; return how far that is: of very many, it goes on by itself. Raises NotFound."""
        return self._driver.run(self._calls.cancel(name, owner))


class AsyncGroups:
    """The groups of one service. Every method may raise Unreachable, NotAllowed and ServiceError.

    owner: whose group it is, for admins; by default the caller's own.
    """

    def __init__(self, driver: AsyncDriver) -> None:
        self._driver = driver
        self._calls = GroupCalls(driver.exchange)

    def find_many(self, *, owner: str | None = None, limit: int | None = None) -> AsyncIterator[GroupInList]:
        """Yield groups, those with open tasks first, at most `limit`; pages are read as they are needed."""
        return self._driver.iterate(self._calls.find_many(owner, limit))

    async def get(self, name: str, *, owner: str | None = None) -> Group:
        """Return the group as it is now. Raises NotFound."""
        return await self._driver.run(self._calls.get(name, owner))

    async def wait(self, name: str, timeout: timedelta | float | None = None, *, owner: str | None = None) -> Group:
        """Return the group once none of its tasks is open. Raises GroupTimeout after `timeout` (None: never), NotFound.

        It outlasts a restart of the service.
        """
        return await self._driver.run(self._calls.wait(name, owner, timeout))

    async def cancel(self, name: str, *, owner: str | None = None) -> BulkReply:
        """Cancel its open tasks; return how far that is: of very many, it goes on by itself. Raises NotFound."""
        return await self._driver.run(self._calls.cancel(name, owner))
