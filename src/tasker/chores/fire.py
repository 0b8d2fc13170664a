"""Fire schedules at their ticks. `service.schedules` decides what a tick does; this module decides when to look."""

from __future__ import annotations

import asyncio
import contextlib
from datetime import datetime

import structlog

from tasker.clock import Clock
from tasker.errors import Unavailable
from tasker.service.schedules import Schedules

_LOOK_AGAIN = 1.0
"""Most seconds between looks into the store: another process may have changed a schedule, and the clock may be set."""
_AT_LEAST = 0.02
"""Minimum seconds between looks into the store, whose clock may be behind ours."""
_AFTER_A_FAULT = 1.0
"""Seconds."""

_log = structlog.get_logger(__name__)


async def fire_schedules(schedules: Schedules, clock: Clock) -> None:
    """Fire every tick within about a second of its time, until cancelled."""
    while True:
        schedules.changed.clear()
        try:
            next_at = await schedules.run_once()
        except Unavailable as error:
            _log.warning("chore.failed", chore="fire", reason=error.detail)
            await asyncio.sleep(_AFTER_A_FAULT)
        except Exception:  # a bug or hand-edited data in the store: the next run may succeed
            _log.exception("chore.failed", chore="fire")
            await asyncio.sleep(_AFTER_A_FAULT)
        else:
            await _wait_for(next_at, schedules.changed, clock)


async def _wait_for(next_at: datetime | None, changed: asyncio.Event, clock: Clock) -> None:
    """Return when a tick has come, a schedule was changed here, or it is time to ask the store again."""
    left = _LOOK_AGAIN if next_at is None else min(_LOOK_AGAIN, (next_at - clock.now()).total_seconds())
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(max(left, _AT_LEAST)):
            await changed.wait()
