"""The audit log of a service."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

from tasker.client.core.lists import ListCalls
from tasker.client.driving import AsyncDriver, Driver
from tasker.wire.audit import AuditEntry


class Audit:
    """Who did what; for admins. Every method may raise Unreachable, NotAllowed and ServiceError."""

    def __init__(self, driver: Driver) -> None:
        self._driver = driver
        self._calls = ListCalls(driver.exchange)

    def find_many(self, *, limit: int | None = None) -> Iterator[AuditEntry]:
        """Yield the entries of the audit log, newest first, at most `limit`; pages are read as they are needed."""
        return self._driver.iterate(self._calls.audit(limit))


class AsyncAudit:
    """Who did what; for admins. Every method may raise Unreachable, NotAllowed and ServiceError."""

    def __init__(self, driver: AsyncDriver) -> None:
        self._driver = driver
        self._calls = ListCalls(driver.exchange)

    def find_many(self, *, limit: int | None = None) -> AsyncIterator[AuditEntry]:
        """Yield the entries of the audit log, newest first, at most `limit`; pages are read as they are needed."""
        return self._driver.iterate(self._calls.audit(limit))
