"""The loop of the chores."""

from __future__ import annotations

import asyncio
from datetime import timedelta

from tasker.chores.loop import Chore, run_chores
from tasker.errors import Unavailable


async def test_a_chore_that_fails_is_done_again_and_the_others_go_on() -> None:
    runs = {"broken": 0, "away": 0, "good": 0}
    enough = asyncio.Event()

    def chore(name: str, fault: Exception | None) -> Chore:
        async def run() -> int:
            runs[name] += 1
            if min(runs.values()) >= 3:
                enough.set()
            if fault is not None:
                raise fault
            return 0

        return Chore(name, timedelta(0), run)

    loop = asyncio.create_task(
        run_chores([chore("broken", ValueError("odd row")), chore("away", Unavailable("away")), chore("good", None)])
    )
    async with asyncio.timeout(30):
        await enough.wait()
    assert not loop.done()
    loop.cancel()
    await asyncio.wait([loop])
