"""Tasker without statistics, for the benchmark only.

`python -m bench.uncounted_app serve|worker ...` is the command `tasker`, whose embedded engine counts nothing.
`python -m bench.uncounted_app database` migrates the database at TASKER_DATABASE_URL and disables the triggers that
count there.
"""

from __future__ import annotations

import asyncio
import os
import sys
from typing import Any

import asyncpg

from tasker.cli import main
from tasker.engines.postgres.storage import migrate
from tasker.engines.sqlite import transaction

_TRIGGERS = ("new_tasks_count", "changed_tasks_count", "open_task_erased")


class NoChanges:
    """Takes the place of `Changes`, and keeps nothing."""

    def __init__(self, _now: int) -> None:
        pass

    def take(self) -> list[Any]:
        """Return nothing."""
        return []

    def submitted(self, _key: Any, *, waits: bool = False) -> None:
        """Do nothing."""

    def started(self, _key: Any, _waited: int, *, was_waiting: bool = False) -> None:
        """Do nothing."""

    def ended(self, _key: Any, _status: Any, _ran: int | None) -> None:
        """Do nothing."""

    def again(self, _key: Any, _ran: int | None, *, waits: bool, is_retry: bool) -> None:
        """Do nothing."""


async def _disable() -> None:
    url = os.environ["TASKER_DATABASE_URL"]
    await migrate(url)
    connection = await asyncpg.connect(url)
    for trigger in _TRIGGERS:
        await connection.execute(f"ALTER TABLE tasker.task DISABLE TRIGGER {trigger}")
    await connection.close()


if __name__ == "__main__":
    if sys.argv[1:] == ["database"]:
        asyncio.run(_disable())
    else:
        vars(transaction)["Changes"] = NoChanges
        main()
