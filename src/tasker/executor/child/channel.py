"""The child's end of the socket pair to the service."""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # `signal` makes enums of all numbers, which takes longer than the call
import os
import select
import signal
import socket
from collections import deque
from collections.abc import Callable
from itertools import count
from math import ceil
from threading import Event, Lock
from time import monotonic

from tasker.executor.frames import Answered, Asked, Cancel, FromChild, Init, Reader, Run, ToChild, encode
from tasker.tasktypes.steps import AnyAnswer, AnyRequest, Superseded

CHUNK = 64 * 1024
MAX_FRAME = 1 << 30
"""Bytes. The service is trusted; this only keeps garbage from being taken for a size."""

SIGNALS = tuple(number for number in map(int, signal.valid_signals()) if number < 32)
"""The standard signals. Nothing sends real-time signals by itself."""


class Undisturbed:
    """A context in which no signal handler runs in this thread; one that is due runs before or after.

    A handler that raises would leave half a frame in the socket; one that sends would deadlock on our lock.
    """

    __slots__ = ("_blocked",)

    def __enter__(self) -> None:
        self._blocked = _signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)

    def __exit__(self, *_: object) -> None:
        _signal.pthread_sigmask(signal.SIG_SETMASK, self._blocked)


class Channel:
    """Sends from any thread, receives orders in the main thread, and checks for a cancel or an answer from any thread.

    Of the threads that wait for answers, one leads: it alone reads, and wakes the others. No thread is needed for that.
    It is closed in a process that the task forks: frames of two processes must not mix.
    """

    def __init__(self, sock: socket.socket) -> None:
        self._socket: socket.socket | None = sock
        self._reader = Reader(ToChild, MAX_FRAME)
        self._orders: deque[Init | Run] = deque()
        self._running: Run | None = None
        self._asking: Run | None = None
        self._cancelled: Cancel | None = None
        self._numbers = count(1)
        self._replies: dict[int, Callable[[AnyAnswer], None]] = {}
        self._has_leader = False
        self._followers: list[Event] = []
        self._alarm = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._poll = select.poll()
        self._poll.register(sock, select.POLLIN)
        self._poll.register(self._alarm, select.POLLIN)
        self._sending = Lock()
        self._receiving = Lock()
        os.register_at_fork(after_in_child=self._forget)

    @property
    def is_open(self) -> bool:
        return self._socket is not None

    def fileno(self) -> int:
        return -1 if self._socket is None else self._socket.fileno()

    def send(self, frame: FromChild) -> None:
        """Send a frame; waits while the service is slower than we are. Dropped in a forked process."""
        with Undisturbed():
            self.send_undisturbed(frame)

    def send_undisturbed(self, frame: FromChild) -> None:
        """Send a frame where signals are blocked already."""
        if self._socket is not None:
            data = encode(frame)
            with self._sending:
                self._socket.sendall(data)

    def receive(self) -> Init | Run | None:
        """End the attempt that ran, wait for the next order and return it; None once the service has gone."""
        with self._receiving:
            self._running = self._asking = None  # from here on no other thread reads
        while not self._orders:
            if not self._take(0):
                return None
        order = self._orders.popleft()
        self._running = self._asking = order if isinstance(order, Run) else None
        return order

    def is_cancelled(self, run: Run) -> bool:
        """Return whether a cancel of this attempt has come, without waiting. False once the attempt has ended."""
        with Undisturbed(), self._receiving:
            if self._running is not run:
                return False
            if not self._has_leader:
                self._take_all()
        return self.has_cancel(run)

    def has_cancel(self, run: Run) -> bool:
        """Return whether a cancel of this attempt has been read."""
        cancel = self._cancelled
        return cancel is not None and (cancel.task_id, cancel.attempt) == (run.task_id, run.attempt)

    def ask(self, run: Run, request: AnyRequest, reply: Callable[[AnyAnswer], None]) -> None:
        """Send a request of an attempt; `reply` is called with the answer, by a thread that reads: it must be quick."""
        with Undisturbed():
            with self._receiving:
                is_running = self._asking is run and self._socket is not None
                number = next(self._numbers)
                if is_running:
                    self._replies[number] = reply
            if is_running:
                self.send_undisturbed(Asked(number, request))
                return
        reply(Superseded())

    def wait(self, until: Callable[[], bool], seconds: float | None = None) -> None:
        """Wait, for at most some seconds, until `until()` is true; it is asked after an answer, a cancel or `wake`.

        Signal handlers run meanwhile, and may raise.
        """
        deadline = None if seconds is None else monotonic() + seconds
        while True:
            with Undisturbed(), self._receiving:
                leads = not self._has_leader
                if leads:
                    self._take_all()
                left = None if deadline is None else deadline - monotonic()
                if until() or (left is not None and left <= 0):
                    return
                called = Event()
                if leads:
                    self._has_leader = True
                else:
                    self._followers.append(called)
            if leads:
                self._lead(left)
            else:
                called.wait(left)

    def wake(self) -> None:
        """Have all threads that wait look again."""
        with Undisturbed(), self._receiving:
            if self._has_leader:
                os.eventfd_write(self._alarm, 1)
            self._call_followers()

    def end_requests(self) -> None:
        """Supersede all requests that are open, and those to come: the attempt ends."""
        with Undisturbed(), self._receiving:
            self._asking = None
            self._reply_to_all()
        self.wake()

    def _lead(self, seconds: float | None) -> None:
        """Wait until there is something to read; then let go, so that any thread that waits may lead."""
        try:
            self._poll.poll(None if seconds is None else ceil(seconds * 1000))
        finally:
            with Undisturbed(), self._receiving:
                self._has_leader = False
                self._take_all()
                self._call_followers()

    def _call_followers(self) -> None:
        followers, self._followers = self._followers, []
        for called in followers:
            called.set()

    def _take_all(self) -> None:
        while self._socket is not None and self._take(socket.MSG_DONTWAIT):
            pass

    def _take(self, flags: int) -> bool:
        """Read once; return False at the end of the stream, or if nothing has come and `flags` forbid waiting."""
        assert self._socket is not None
        try:
            data = self._socket.recv(CHUNK, flags)
        except BlockingIOError:
            return False
        except ConnectionError:
            data = b""
        if not data:
            self._reply_to_all()  # nobody answers any more
        for frame in self._reader.feed(data):
            if isinstance(frame, Cancel):
                self._cancelled = frame
            elif isinstance(frame, Answered):
                reply = self._replies.pop(frame.number, None)  # None: of an attempt that has ended
                if reply is not None:
                    reply(frame.answer)
            else:
                self._orders.append(frame)
        return bool(data)

    def _reply_to_all(self) -> None:
        replies, self._replies = self._replies, {}
        for reply in replies.values():
            reply(Superseded())

    def _forget(self) -> None:
        self._receiving = Lock()  # the thread that held the lock does not exist in this process
        self._replies = {}
        self._followers = []
        if self._socket is not None:
            self._socket.close()
            self._socket = None
