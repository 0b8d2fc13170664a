"""The child's end of the socket pair to the service."""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # `signal` makes enums of all numbers, which takes longer than the call
import os
import signal
import socket
from collections import deque
from threading import Lock

from tasker.executor.frames import Cancel, FromChild, Init, Reader, Run, ToChild, encode

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
    """Sends from any thread, receives in the main thread, and checks for a cancel from any thread.

    It is closed in a process that the task forks: frames of two processes must not mix.
    """

    def __init__(self, sock: socket.socket) -> None:
        self._socket: socket.socket | None = sock
        self._reader = Reader(ToChild, MAX_FRAME)
        self._orders: deque[Init | Run] = deque()
        self._running: Run | None = None
        self._cancelled: Cancel | None = None
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
            self._running = None  # from here on no other thread reads
        while not self._orders:
            if not self._take(0):
                return None
        order = self._orders.popleft()
        self._running = order if isinstance(order, Run) else None
        return order

    def is_cancelled(self, run: Run) -> bool:
        """Return whether a cancel of this attempt has come, without waiting. False once the attempt has ended."""
        with Undisturbed(), self._receiving:
            if self._running is not run:
                return False
            while self._socket is not None and self._take(socket.MSG_DONTWAIT):
                pass
            cancel = self._cancelled
        return cancel is not None and (cancel.task_id, cancel.attempt) == (run.task_id, run.attempt)

    def _take(self, flags: int) -> bool:
        """Read once; return False at the end of the stream, or if nothing has come and `flags` forbid waiting."""
        assert self._socket is not None
        try:
            data = self._socket.recv(CHUNK, flags)
        except (BlockingIOError, ConnectionError):
            return False
        for frame in self._reader.feed(data):
            if isinstance(frame, Cancel):
                self._cancelled = frame
            else:
                self._orders.append(frame)
        return bool(data)

    def _forget(self) -> None:
        self._receiving = Lock()  # the thread that held the lock does not exist in this process
        if self._socket is not None:
            self._socket.close()
            self._socket = None
