"""Run the chores of the store in one of its processes: the one that has the lead."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine
from typing import Any

import structlog

from tasker.engines.protocol import Lead
from tasker.errors import Unavailable

_HOLD_EVERY = 1.0
"""Seconds between signs of life of the leader."""
_LOOK_EVERY = 1.5
"""Seconds between looks of the others whether the lead is free; with the time that it lasts, less than five."""
_GIVE_UP_WITHIN = 1.0
"""Time limit in seconds of giving up the lead at the end; without it the others wait until it has expired."""

_log = structlog.get_logger(__name__)


async def run_with_lead(lead: Lead, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run `work`, which never returns, whenever this process has the lead; at the cancellation give the lead up.

    Work that a bug has ended is begun again: while this process holds the lead, no other does it.
    """
    running: asyncio.Task[None] | None = None
    try:
        while True:
            has_lead = await _hold(lead)
            if running is not None and running.done():
                _log.error("chore.failed", chore="lead", exc_info=_error_of(running))
                running = None
            if has_lead and running is None:
                running = asyncio.create_task(work())
            elif not has_lead and running is not None:
                await _end(running)
                running = None
            await asyncio.sleep(_HOLD_EVERY if has_lead else _LOOK_EVERY)
    finally:
        if running is not None:
            await _end(running)
            await _give_up(lead)


async def _hold(lead: Lead) -> bool:
    """Return whether this process has the lead; after an unexpected fault it has: rather two leaders than none."""
    try:
        return await lead.hold()
    except Unavailable as error:
        _log.warning("chore.failed", chore="lead", reason=error.detail)
        return False
    except Exception:  # a bug, or a role without rights on the table
        _log.exception("chore.failed", chore="lead")
        return True


async def _give_up(lead: Lead) -> None:
    with contextlib.suppress(Exception):  # whatever it is, the lead expires soon
        async with asyncio.timeout(_GIVE_UP_WITHIN):
            await lead.give_up()


def _error_of(ended: asyncio.Task[None]) -> BaseException | None:
    return None if ended.cancelled() else ended.exception()


async def _end(running: asyncio.Task[None]) -> None:
    running.cancel()
    await asyncio.wait([running])
