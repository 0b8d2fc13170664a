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
from tasker.engines.shared.rollup import Changes, TaskChange
from tasker.engines.sqlite import transaction

_TRIGGERS = ("new_tasks_count", "changed_tasks_count", "open_task_erased")


def _nothing(*_: Any, **__: Any) -> None:
    """Count nothing."""


class NoChanges(Changes):
    """Takes the place of `Changes`, and keeps nothing."""

    submitted = started = ended = again = dropped = reopened = moved = adopted = _nothing

    def take(self) -> list[TaskChange]:
        """Return nothing."""
        return []


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
