"""Many pieces of work on one loop: they begin in order, and other coroutines run in between."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from tests.passers import Passers

from tasker.api.bodies import BodyReader
from tasker.api.buffers import PIECE, Buffers
from tasker.api.replies import Receive
from tasker.service import pauses
from tasker.service.pauses import Turns

PIECES = list(range(20))


@pytest.fixture(autouse=True)
def long_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make every piece take longer than allowed."""
    monkeypatch.setattr(pauses, "AT_MOST", 0.0)


async def test_other_coroutines_run_between_two_pieces() -> None:
    turns = Turns()
    async with Passers() as passers:

        async def piece(number: int) -> None:
            await turns.next()
            passers.begin(number)

        await asyncio.gather(*map(piece, PIECES))
    assert passers.begun == PIECES
    assert passers.most_at_once == 1


async def test_short_pieces_do_not_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    turns = Turns()
    await turns.next()
    monkeypatch.setattr(pauses, "AT_MOST", 3600.0)
    await turns.next()
    async with Passers() as passers:

        async def piece(number: int) -> None:
            await turns.next()
            passers.begin(number)

        await asyncio.gather(*map(piece, PIECES))
    assert passers.most_at_once == len(PIECES)


async def test_a_cancelled_piece_blocks_no_other() -> None:
    turns = Turns()
    begun: list[int] = []

    async def piece(number: int) -> None:
        await turns.next()
        begun.append(number)

    pieces = [asyncio.create_task(piece(number)) for number in PIECES]
    await asyncio.sleep(0)
    for given_up in pieces[::2]:
        given_up.cancel()
    async with asyncio.timeout(30):
        await asyncio.wait(pieces)
    assert begun == PIECES[1::2]


def one_body(size: int) -> Receive:
    """Return what receives a body that is there at once."""

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"x" * size, "more_body": False}

    return receive


@pytest.mark.parametrize(("size", "most_at_once"), [(PIECE + 1, 1), (10, len(PIECES))])
async def test_large_bodies_are_handed_over_one_by_one(size: int, most_at_once: int) -> None:
    buffers = Buffers(1 << 30)
    reader = BodyReader(1 << 20, buffers)
    async with Passers() as passers:

        async def request(number: int) -> None:
            _, buffer = await reader.read(one_body(size), str(size).encode())
            passers.begin(number)
            if buffer is not None:
                buffer.close()

        await asyncio.gather(*map(request, PIECES))
    assert passers.begun == PIECES
    assert passers.most_at_once == most_at_once


async def test_a_large_body_whose_client_has_gone_is_no_longer_counted() -> None:
    buffers = Buffers(1 << 30)
    reader = BodyReader(1 << 20, buffers)
    reads = [asyncio.create_task(reader.read(one_body(PIECE + 1), None)) for _ in PIECES]
    await asyncio.sleep(0)
    assert buffers.size == len(PIECES) * (PIECE + 1)
    for read in reads:
        read.cancel()
    await asyncio.wait(reads)
    assert buffers.size == 0
