"""Bulk actions of a service: one action on many tasks."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from datetime import timedelta
from typing import Unpack
from uuid import UUID

from tasker.client.core.bulk import BulkCalls, choose
from tasker.client.driving import AsyncDriver, Driver
from tasker.client.options import Filter
from tasker.model.control import Action
from tasker.wire.bulk import Bulk, BulkReply


class BulkActions:
    """The bulk actions of one service. Every method may raise Unreachable, NotAllowed and ServiceError.

    Tasks are chosen by a filter, or by `task_ids` (up to 1,000), or with `all=True`. at_most: refuse if there are more
    tasks, such as a count found. up_to: of a count; leaves out tasks that were submitted after it.
    """

    def __init__(self, driver: Driver) -> None:
        self._driver = driver
        self._calls = BulkCalls(driver.exchange)

    def count(
        self,
        action: Action,
        *,
        task_ids: Sequence[UUID | str] | None = None,
        all: bool = False,
        **filter: Unpack[Filter],
    ) -> BulkReply:
        """Return how many tasks an action would change now, as `matched`, and `up_to`. Raises InvalidRequest."""
        return self._driver.run(self._calls.count(action, choose(filter, task_ids, all=all)))

    def cancel(
        self,
        *,
        task_ids: Sequence[UUID | str] | None = None,
        all: bool = False,
        at_most: int | None = None,
        up_to: str | None = None,
        **filter: Unpack[Filter],
    ) -> BulkReply:
        """Cancel open tasks; return how far that is: of many tasks it goes on by itself, and `wait` returns its end.

        Raises InvalidRequest with every fault, Conflict (there are more than `at_most`).
        """
        return self._driver.run(self._calls.act("cancel", choose(filter, task_ids, all=all), at_most, up_to))

    def retry(
        self,
        *,
        task_ids: Sequence[UUID | str] | None = None,
        all: bool = False,
        at_most: int | None = None,
        up_to: str | None = None,
        **filter: Unpack[Filter],
    ) -> BulkReply:
        """Run failed and cancelled tasks again; `undo` takes back those that have not started. See `cancel`."""
        return self._driver.run(self._calls.act("retry", choose(filter, task_ids, all=all), at_most, up_to))

    def delete(
        self,
        *,
        task_ids: Sequence[UUID | str] | None = None,
        all: bool = False,
        at_most: int | None = None,
        up_to: str | None = None,
        **filter: Unpack[Filter],
    ) -> BulkReply:
        """Erase tasks that have ended, with everything that belongs to them. See `cancel`."""
        return self._driver.run(self._calls.act("delete", choose(filter, task_ids, all=all), at_most, up_to))

    def find_many(self, *, limit: int | None = None) -> Iterator[Bulk]:
        """Yield bulk actions, newest first, at most `limit`; pages are read as they are needed."""
        return self._driver.iterate(self._calls.find_many(limit))

    def get(self, bulk_id: UUID | str) -> Bulk:
        """Return the bulk action as it is now. Raises NotFound."""
        return self._driver.run(self._calls.get(bulk_id))

    def wait(self, bulk_id: UUID | str, timeout: timedelta | float | None = None) -> Bulk:
        """Return the bulk action once it is over. Raises BulkTimeout after `timeout` (None: never), NotFound.

        It outlasts a restart of the service, as the action does.
        """
        return self._driver.run(self._calls.wait(bulk_id, timeout))

    def stop(self, bulk_id: UUID | str) -> Bulk:
        """Stop it where it is; what is done stays done. Raises NotFound."""
        return self._driver.run(self._calls.stop(bulk_id))

    def undo(self, bulk_id: UUID | str) -> Bulk:
        """Cancel the tasks that it retried and that have not started; return the action that does.

        Raises NotFound, Conflict (it is no retry).
        """
        return self._driver.run(self._calls.undo(bulk_id))


class AsyncBulkActions:
    """The bulk actions of one service. Every method may raise Unreachable, NotAllowed and ServiceError.

    Tasks are chosen by a filter, or by `task_ids` (up to 1,000), or with `all=True`. at_most: refuse if there are more
    tasks, such as a count found. up_to: of a count; leaves out tasks that were submitted after it.
    """

    def __init__(self, driver: AsyncDriver) -> None:
        self._driver = driver
        self._calls = BulkCalls(driver.exchange)

    async def count(
        self,
        action: Action,
        *,
        task_ids: Sequence[UUID | str] | None = None,
        all: bool = False,
        **filter: Unpack[Filter],
    ) -> BulkReply:
        """Return how many tasks an action would change now, as `matched`, and `up_to`. Raises InvalidRequest."""
        return await self._driver.run(self._calls.count(action, choose(filter, task_ids, all=all)))

    async def cancel(
        self,
        *,
        task_ids: Sequence[UUID | str] | None = None,
        all: bool = False,
        at_most: int | None = None,
        up_to: str | None = None,
        **filter: Unpack[Filter],
    ) -> BulkReply:
        """Cancel open tasks; return how far that is: of many tasks it goes on by itself, and `wait` returns its end.

        Raises InvalidRequest with every fault, Conflict (there are more than `at_most`).
        """
        return await self._driver.run(self._calls.act("cancel", choose(filter, task_ids, all=all), at_most, up_to))

    async def retry(
        self,
        *,
        task_ids: Sequence[UUID | str] | None = None,
        all: bool = False,
        at_most: int | None = None,
        up_to: str | None = None,
        **filter: Unpack[Filter],
    ) -> BulkReply:
        """Run failed and cancelled tasks again; `undo` takes back those that have not started. See `cancel`."""
        return await self._driver.run(self._calls.act("retry", choose(filter, task_ids, all=all), at_most, up_to))

    async def delete(
        self,
        *,
        task_ids: Sequence[UUID | str] | None = None,
        all: bool = False,
        at_most: int | None = None,
        up_to: str | None = None,
        **filter: Unpack[Filter],
    ) -> BulkReply:
        """Erase tasks that have ended, with everything that belongs to them. See `cancel`."""
        return await self._driver.run(self._calls.act("delete", choose(filter, task_ids, all=all), at_most, up_to))

    def find_many(self, *, limit: int | None = None) -> AsyncIterator[Bulk]:
        """Yield bulk actions, newest first, at most `limit`; pages are read as they are needed."""
        return self._driver.iterate(self._calls.find_many(limit))

    async def get(self, bulk_id: UUID | str) -> Bulk:
        """Return the bulk action as it is now. Raises NotFound."""
        return await self._driver.run(self._calls.get(bulk_id))

    async def wait(self, bulk_id: UUID | str, timeout: timedelta | float | None = None) -> Bulk:
        """Return the bulk action once it is over. Raises BulkTimeout after `timeout` (None: never), NotFound.

        It outlasts a restart of the service, as the action does.
        """
        return await self._driver.run(self._calls.wait(bulk_id, timeout))

    async def stop(self, bulk_id: UUID | str) -> Bulk:
        """Stop it where it is; what is done stays done. Raises NotFound."""
        return await self._driver.run(self._calls.stop(bulk_id))

    async def undo(self, bulk_id: UUID | str) -> Bulk:
        """Cancel the tasks that it retried and that have not started; return the action that does.

        Raises NotFound, Conflict (it is no retry).
        """
        return await self._driver.run(self._calls.undo(bulk_id))
