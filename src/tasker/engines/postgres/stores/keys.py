"""The KeyStore of the distributed engine: a row counts the changes of all processes."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from tasker.engines.shared.rows import Rows
from tasker.engines.shared.stores.keys import Keys

T = TypeVar("T")


class PostgresKeys(Keys):
    async def version(self) -> int:
        return await self._database.look(lambda rows: rows.count("api_key_version"))

    async def _change(self, work: Callable[[Rows], Coroutine[Any, Any, T]]) -> T:
        async def counted(rows: Rows) -> T:
            await rows.run("change_api_keys")  # first: its lock lets changes happen one at a time
            return await work(rows)

        return await self._database.write(counted)
