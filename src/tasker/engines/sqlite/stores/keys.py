"""The KeyStore of the embedded engine: one process holds the file, and counts the changes in memory."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from tasker.engines.shared.rows import Rows
from tasker.engines.shared.stores.keys import Keys

T = TypeVar("T")


class SqliteKeys(Keys):
    _version = 0

    async def version(self) -> int:
        return self._version

    async def _change(self, work: Callable[[Rows], Coroutine[Any, Any, T]]) -> T:
        result = await self._database.write(work)
        self._version += 1
        return result
