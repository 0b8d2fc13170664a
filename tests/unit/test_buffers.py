"""Memory held for clients is counted, and the oldest request is cut off when it is too much."""

from __future__ import annotations

import asyncio

import pytest

from tasker.api import buffers
from tasker.api.buffers import Buffer, Buffers


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(buffers, "PATIENCE", 0.0)


class Client:
    """A request that holds something until it is cut off or let go."""

    def __init__(self, all_: Buffers, size: int) -> None:
        self.was_cut_off = False
        self._all = all_
        self._size = size
        self._go = asyncio.Event()
        self.buffer: Buffer | None = None

    async def run(self) -> None:
        self.buffer = self._all.open()
        try:
            self.buffer.add(self._size)
            await self._go.wait()
        except asyncio.CancelledError:
            if not self._all.was_cut_off():
                raise
            self.was_cut_off = True
        finally:
            self.buffer.close()


async def start(all_: Buffers, *sizes: int) -> tuple[list[Client], list[asyncio.Task[None]]]:
    clients = [Client(all_, size) for size in sizes]
    tasks = []
    for client in clients:
        tasks.append(asyncio.create_task(client.run()))
        await asyncio.sleep(0)
    await asyncio.sleep(0)
    return clients, tasks


async def end(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)


async def test_the_oldest_request_is_cut_off() -> None:
    all_ = Buffers(100)
    clients, tasks = await start(all_, 40, 40, 20, 30)
    await asyncio.sleep(0)
    assert [client.was_cut_off for client in clients] == [True, False, False, False]
    assert all_.size == 90
    await end(tasks)
    assert all_.size == 0


async def test_no_request_is_cut_off_at_once_or_while_memory_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(buffers, "PATIENCE", 60.0)
    all_ = Buffers(100)
    clients, tasks = await start(all_, 50, 50, 50)
    assert not any(client.was_cut_off for client in clients)
    assert all_.is_full
    await end(tasks)


async def test_what_is_on_its_way_to_the_store_is_not_cut_off() -> None:
    all_ = Buffers(100)
    clients, tasks = await start(all_, 80)
    assert clients[0].buffer is not None
    clients[0].buffer.keep()
    _, more = await start(all_, 80)
    assert not clients[0].was_cut_off
    await end([*tasks, *more])
    assert all_.size == 0


async def test_room_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(buffers, "PATIENCE", 60.0)
    all_ = Buffers(100)
    _, tasks = await start(all_, 150)
    waiting = asyncio.create_task(all_.room())
    await asyncio.sleep(0)
    assert not waiting.done()
    await end(tasks)
    async with asyncio.timeout(30):
        await waiting


async def test_another_cancellation_is_not_taken_for_it() -> None:
    all_ = Buffers(100)
    clients, tasks = await start(all_, 10)
    await end(tasks)
    assert tasks[0].cancelled()
    assert not clients[0].was_cut_off


async def hold(all_: Buffers, owner: str, size: int, *, keep: bool = True) -> tuple[Buffer, bool]:
    buffer = all_.open(owner)
    buffer.add(size)
    kept = keep and buffer.keep()
    if keep and not kept:
        buffer.close()
    return buffer, kept


async def test_an_owner_keeps_no_more_than_is_left_for_others() -> None:
    all_ = Buffers(128)
    kept = {owner: [await hold(all_, owner, 4) for _ in range(40)] for owner in ("a", "b", "c")}
    assert [sum(4 for _, is_kept in of_one if is_kept) for of_one in kept.values()] == [64, 32, 16]
    assert not all_.is_full
    kept["a"][0][0].close()
    assert (await hold(all_, "a", 4))[1] is False, "others need it more"
    for of_one in kept.values():
        for buffer, _ in of_one:
            buffer.close()
    assert (all_.size, all_._kept, all_._of_owners, all_._held) == (0, {}, {}, {})


async def test_one_large_body_is_kept_whatever_is_left() -> None:
    all_ = Buffers(100)
    assert (await hold(all_, "a", 90))[1]
    assert not (await hold(all_, "a", 5))[1]


async def test_an_owner_with_more_than_half_is_cut_off_at_once_for_another(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(buffers, "PATIENCE", 60.0)
    all_ = Buffers(100)
    clients, tasks = await start(all_, 50, 50)
    own, _ = await hold(all_, "", 20, keep=False)
    await asyncio.sleep(0)
    assert not any(client.was_cut_off for client in clients), "not for its own sake"
    own.close()
    _, is_kept = await hold(all_, "other", 20)
    await asyncio.sleep(0)
    assert is_kept
    assert not all_.is_full
    assert [client.was_cut_off for client in clients] == [True, False]
    await end(tasks)
