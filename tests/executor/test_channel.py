"""The child's end of the connection: orders that it takes, cancels that it notices, answers to its requests."""

from __future__ import annotations

import signal
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from itertools import permutations
from threading import Event
from typing import Any
from uuid import UUID

import pytest

from tasker.executor.child.channel import Channel
from tasker.executor.child.ports import BlockingPort
from tasker.executor.frames import Answered, Asked, Cancel, FromChild, Reader, Run, encode
from tasker.tasktypes.steps import AnyAnswer, Refused, Sleep, Superseded

LIMIT = 40.0
"""Seconds after which a test gives up waiting; none should take that long."""
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


# requests


class Asking:
    """Threads of one attempt that ask, and the service's end that answers."""

    def __init__(self, ends: Ends) -> None:
        self.service, self.channel = ends
        self.service.settimeout(LIMIT)
        self.service.sendall(encode(FIRST))
        run = self.channel.receive()
        assert isinstance(run, Run)
        self.run = run
        self.port = BlockingPort(self.channel, run, (), 1000)
        self._reader = Reader(FromChild, 1 << 20)
        self._frames: list[Any] = []

    def asked(self) -> Asked:
        """Wait for the next request."""
        while not self._frames:
            self._frames += self._reader.feed(self.service.recv(1 << 16))
        frame = self._frames.pop(0)
        assert isinstance(frame, Asked)
        return frame

    def answer(self, number: int, name: str = "a") -> None:
        self.service.sendall(encode(Answered(number, Refused("internal", name))))


@pytest.fixture
def asking(ends: Ends) -> Asking:
    return Asking(ends)


def nap(key: str) -> Sleep:
    return Sleep(key, key, timedelta(hours=1))


@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_threads_get_their_own_answers_in_any_order(asking: Asking, order: tuple[int, ...]) -> None:
    with ThreadPoolExecutor(3) as pool:
        answers = {name: pool.submit(asking.port.ask, nap(name)) for name in "abc"}
        frames = [asking.asked() for _ in range(3)]
        for place in order:
            frame = frames[place]
            asking.answer(frame.number, frame.request.key)  # type: ignore[union-attr]
        for name, answer in answers.items():
            assert answer.result(LIMIT) == Refused("internal", name)


def test_a_cancel_is_noticed_while_a_thread_waits(asking: Asking) -> None:
    """By a wait, which ends; by a check in another thread; not by a request, whose answer comes."""
    with ThreadPoolExecutor(2) as pool:
        stored = pool.submit(asking.port.ask, nap("a"))
        waits = pool.submit(asking.port.wait, nap("b"), None, lambda: False)
        frames = {frame.request.key: frame for frame in (asking.asked(), asking.asked())}  # type: ignore[union-attr]
        asking.service.sendall(encode(Cancel(FIRST.task_id, FIRST.attempt)))
        assert waits.result(LIMIT) is None
        assert asking.channel.is_cancelled(asking.run)
        asking.answer(frames["a"].number)
        assert stored.result(LIMIT) == Refused("internal", "a")


def test_a_check_reads_answers_if_nobody_waits(asking: Asking) -> None:
    found: list[AnyAnswer] = []
    asking.channel.ask(asking.run, nap("a"), found.append)
    asking.answer(asking.asked().number)
    while not found:
        assert not asking.channel.is_cancelled(asking.run)
    assert found == [Refused("internal", "a")]


def test_a_wait_ends_with_its_time(asking: Asking) -> None:
    assert asking.port.wait(None, 0.01, lambda: False) is None
    assert asking.port.wait(nap("a"), 0, lambda: False) is None


def test_a_wait_ends_when_it_is_woken_and_its_condition_is_true(asking: Asking) -> None:
    """The thread that leads as well as those that follow."""
    over = Event()
    with ThreadPoolExecutor(3) as pool:
        waits = [pool.submit(asking.port.wait, nap(name), None, over.is_set) for name in "abc"]
        for _ in waits:
            asking.asked()
        asking.port.wake()
        over.set()
        asking.port.wake()
        assert [wait.result(LIMIT) for wait in waits] == [None] * 3


def test_the_end_of_an_attempt_ends_its_waits_and_refuses_further_requests(asking: Asking) -> None:
    with ThreadPoolExecutor(3) as pool:
        answers = [pool.submit(asking.port.ask, nap(name)) for name in "ab"]
        answers.append(pool.submit(asking.port.wait, nap("c"), None, lambda: False))  # type: ignore[arg-type]
        numbers = [asking.asked().number for _ in answers]
        asking.channel.end_requests()
        assert [answer.result(LIMIT) for answer in answers] == [Superseded()] * 3
    assert asking.port.ask(nap("d")) == Superseded()
    asking.answer(numbers[0])
    asking.service.sendall(encode(SECOND))
    assert asking.channel.receive() == SECOND  # the late answer is for nobody


def test_requests_end_with_the_service(asking: Asking) -> None:
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(asking.port.ask, nap("a"))
        asking.asked()
        asking.service.close()
        assert answer.result(LIMIT) == Superseded()


def test_a_signal_handler_that_raises_ends_a_wait_and_leaves_the_channel_usable(asking: Asking) -> None:
    def interrupt(*_: object) -> None:
        raise TimeoutError

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        with pytest.raises(TimeoutError):
            asking.port.ask(nap("a"))
    finally:
        signal.signal(signal.SIGALRM, before)
    asking.asked()
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(asking.port.ask, nap("b"))
        asking.answer(asking.asked().number, "b")
        assert answer.result(LIMIT) == Refused("internal", "b")


def test_a_check_leaves_reading_to_the_thread_that_leads(asking: Asking, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else that thread, which waits for something to read, might sleep on though its answer has been read."""
    leads, go = Event(), Event()

    class HeldPoll:
        def poll(self, _: object) -> None:
            leads.set()
            go.wait(LIMIT)

    monkeypatch.setattr(asking.channel, "_poll", HeldPoll())
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(asking.port.ask, nap("a"))
        assert leads.wait(LIMIT)
        asking.answer(asking.asked().number)
        asking.service.sendall(encode(Cancel(FIRST.task_id, FIRST.attempt)))
        assert not asking.channel.is_cancelled(asking.run)
        go.set()
        assert answer.result(LIMIT) == Refused("internal", "a")
    assert asking.channel.is_cancelled(asking.run)
