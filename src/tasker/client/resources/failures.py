"""Failures of tasks, in groups of those that are alike."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence

from tasker.client.core.lists import ListCalls
from tasker.client.driving import AsyncDriver, Driver
from tasker.model.failures import FailureWindow
from tasker.wire.failures import FailureGroup


class Failures:
    """The failures of one service. Every method may raise Unreachable, NotAllowed and ServiceError."""

    def __init__(self, driver: Driver) -> None:
        self._driver = driver
        self._calls = ListCalls(driver.exchange)

    def find_many(
        self,
        *,
        window: FailureWindow = "24h",
        type: str | Sequence[str] | None = None,
        queue: str | Sequence[str] | None = None,
        error: str | None = None,
        owner: str | None = None,
        limit: int | None = None,
    ) -> Iterator[FailureGroup]:
        """Yield groups of failures in a window of time, the last one first, at most `limit`.

        error: the group of this id alone. owner: whose, for admins. `find_many(error=group.failure_id)` of the client
        yields the tasks of a group.
        """
        filters = {"window": window, "type": type, "queue": queue, "error": error, "owner": owner}
        return self._driver.iterate(self._calls.failures(limit, **filters))


class AsyncFailures:
    """The failures of one service. Every method may raise Unreachable, NotAllowed and ServiceError."""

    def __init__(self, driver: AsyncDriver) -> None:
        self._driver = driver
        self._calls = ListCalls(driver.exchange)

    def find_many(
        self,
        *,
        window: FailureWindow = "24h",
        type: str | Sequence[str] | None = None,
        queue: str | Sequence[str] | None = None,
        error: str | None = None,
        owner: str | None = None,
        limit: int | None = None,
    ) -> AsyncIterator[FailureGroup]:
        """Yield groups of failures in a window of time, the last one first, at most `limit`.

        error: the group of this id alone. owner: whose, for admins. `find_many(error=group.failure_id)` of the client
        yields the tasks of a group.
        """
        filters = {"window": window, "type": type, "queue": queue, "error": error, "owner": owner}
        return self._driver.iterate(self._calls.failures(limit, **filters))
