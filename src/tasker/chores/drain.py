"""Take in what arrives in the inbox. `service.inbox` decides what becomes of it; this module decides when to look."""

from __future__ import annotations

import asyncio
import contextlib

import structlog

from tasker.engines.protocol.inbox import AWAKE
from tasker.errors import Unavailable
from tasker.service.inbox import Inbox

_LOOK_AGAIN = 1.0
"""Most seconds between looks: a notification may be lost."""
_AWAKE_LOOKS = 0.01
"""Seconds between looks while nobody is told of arrivals; doubled after that, up to _LOOK_AGAIN, for slow commits."""
_AFTER_A_FAULT = 1.0
"""Seconds."""

_log = structlog.get_logger(__name__)


async def drain_inbox(inbox: Inbox) -> None:
    """Take in what arrives, a moment after its commit, until cancelled. Returns at once where there is no inbox."""
    if inbox.store is None:
        return
    arrived = asyncio.Event()
    loop = asyncio.get_running_loop()
    pause = _AWAKE_LOOKS
    awake_until = loop.time() + AWAKE.total_seconds()  # another process may have been awake a moment ago
    async with inbox.store.watching(arrived.set):
        while True:
            arrived.clear()
            count = await _run_once(inbox)
            if count > 0:
                awake_until = loop.time() + AWAKE.total_seconds()
                continue
            if count < 0:
                await asyncio.sleep(_AFTER_A_FAULT)
            pause = _AWAKE_LOOKS if loop.time() < awake_until else min(2 * pause, _LOOK_AGAIN)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await arrived.wait()


async def _run_once(inbox: Inbox) -> int:
    """Return how many arrivals were taken in, -1 after a fault."""
    try:
        return await inbox.run_once(is_awake=True)
    except Unavailable as error:
        _log.warning("chore.failed", chore="inbox", reason=error.detail)
    except Exception:  # a bug or hand-edited data in the store: the next run may succeed
        _log.exception("chore.failed", chore="inbox")
    return -1
