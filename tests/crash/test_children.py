"""A killed service leaves no process behind."""

from __future__ import annotations

import asyncio
import os
import signal
import sys

import pytest

from tests.executor.rig import LIMIT, Vanishing, open_rig

ROUNDS = 5


async def be_a_service() -> None:
    """The program that is killed: a busy child with a grandchild in its group, and threads that die in any order."""
    async with open_rig() as rig:
        await asyncio.gather(*(asyncio.to_thread(os.getpid) for _ in range(8)))
        running = rig.start("start_and_hang")
        pids = await running.recorder.heard(3)
        print(*pids, flush=True)
        await running.outcome()


async def start_service() -> tuple[asyncio.subprocess.Process, list[int]]:
    program = "import asyncio; from tests.crash.test_children import be_a_service; asyncio.run(be_a_service())"
    service = await asyncio.create_subprocess_exec(sys.executable, "-c", program, stdout=asyncio.subprocess.PIPE)
    assert service.stdout is not None
    async with asyncio.timeout(LIMIT):
        line = await service.stdout.readline()
    return service, [int(pid) for pid in line.split()]


@pytest.mark.crash
async def test_a_killed_service_takes_its_children_and_grandchildren_along() -> None:
    for _ in range(ROUNDS):
        service, pids = await start_service()
        child, grandchild, orphan = (Vanishing(pid) for pid in pids)
        service.kill()
        try:
            await child.gone()
            await grandchild.gone()
        finally:
            os.kill(orphan.pid, signal.SIGKILL)  # it has left the group: nobody is there any more to look for it
            await orphan.gone()
            await service.wait()
