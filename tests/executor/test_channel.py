"""The child's end of the connection: the orders that it takes, and the cancels that it notices."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from uuid import UUID

import pytest

from tasker.executor.child.channel import Channel
from tasker.executor.frames import Cancel, Run, encode

FIRST, SECOND = (Run(UUID(int=number), 1, "sum", b"[]") for number in (1, 2))
Ends = tuple[socket.socket, Channel]


@pytest.fixture
def ends() -> Iterator[Ends]:
    service, child = socket.socketpair()
    with service, child:
        yield service, Channel(child)


def test_orders_come_one_by_one_until_the_service_ends(ends: Ends) -> None:
    service, channel = ends
    service.sendall(encode(FIRST) + encode(SECOND))
    service.close()
    assert [channel.receive(), channel.receive(), channel.receive()] == [FIRST, SECOND, None]


def test_a_cancel_is_noticed_while_its_attempt_runs(ends: Ends) -> None:
    service, channel = ends
    service.sendall(encode(FIRST))
    run = channel.receive()
    assert isinstance(run, Run)
    assert not channel.is_cancelled(run)
    service.sendall(encode(Cancel(FIRST.task_id, FIRST.attempt)))
    assert channel.is_cancelled(run)
    assert channel.is_cancelled(run)


def test_a_cancel_may_come_together_with_its_order(ends: Ends) -> None:
    service, channel = ends
    service.sendall(encode(FIRST) + encode(Cancel(FIRST.task_id, FIRST.attempt)))
    run = channel.receive()
    assert isinstance(run, Run)
    assert channel.is_cancelled(run)


@pytest.mark.parametrize(
    "late", [Cancel(FIRST.task_id, FIRST.attempt), Cancel(SECOND.task_id, 2), Cancel(UUID(int=3), 1)]
)
def test_a_cancel_of_another_attempt_is_ignored(ends: Ends, late: Cancel) -> None:
    service, channel = ends
    service.sendall(encode(FIRST))
    channel.receive()
    service.sendall(encode(late) + encode(SECOND) + encode(late))
    run = channel.receive()
    assert isinstance(run, Run)
    assert not channel.is_cancelled(run)


def test_a_check_for_an_ended_attempt_reads_nothing(ends: Ends) -> None:
    service, channel = ends
    service.sendall(encode(FIRST) + encode(SECOND))
    over = channel.receive()
    channel.receive()
    service.sendall(encode(Cancel(FIRST.task_id, FIRST.attempt)))
    assert isinstance(over, Run)
    assert not channel.is_cancelled(over)


def test_a_child_whose_service_has_gone_is_not_cancelled(ends: Ends) -> None:
    service, channel = ends
    service.sendall(encode(FIRST))
    run = channel.receive()
    service.close()
    assert isinstance(run, Run)
    assert not channel.is_cancelled(run)
