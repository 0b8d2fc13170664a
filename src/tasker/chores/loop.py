"""Runs chores: each is one function that is called again and again, and all share one loop."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from typing import NamedTuple

import structlog

from tasker.errors import Unavailable

BATCH = 500
"""The most rows that one run of a chore touches."""

_log = structlog.get_logger(__name__)


class Chore(NamedTuple):
    """Something to do regularly; `run_once` returns how many rows it changed.

    full: if a run changed at least this many rows, the next one follows after `pause`, which lets others write.
    """

    name: str
    every: timedelta
    run_once: Callable[[], Awaitable[int]]
    full: int = BATCH
    pause: timedelta = timedelta(0)


async def run_chores(chores: Sequence[Chore]) -> None:
    """Run every chore at its interval, until cancelled; a full batch is followed by the next at once."""
    async with asyncio.TaskGroup() as group:
        for chore in chores:
            group.create_task(_repeat(chore))


async def _repeat(chore: Chore) -> None:
    while True:
        try:
            changed = await chore.run_once()
        except Unavailable as error:
            _log.warning("chore.failed", chore=chore.name, reason=error.detail)
            changed = 0
        except Exception:  # a bug or hand-edited data in the store: the next run may succeed
            _log.exception("chore.failed", chore=chore.name)
            changed = 0
        await asyncio.sleep((chore.every if changed < chore.full else chore.pause).total_seconds())
