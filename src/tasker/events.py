"""Fan-out of the engine's news to those who wait for a task, here in this process."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from uuid import UUID

from tasker.model import Change


class Hub:
    """Wakes whoever waits for a task to end. A wake-up is a hint: the waiter reads the task itself."""

    def __init__(self) -> None:
        self._waiters: dict[UUID, list[asyncio.Future[None]]] = {}
        self._closed = False

    @contextmanager
    def ending(self, task_id: UUID) -> Iterator[asyncio.Future[None]]:
        """Give a future that is done when the task may have ended, or the hub is closed: take it, then read."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if self._closed:
            future.set_result(None)
        waiters = self._waiters.setdefault(task_id, [])
        waiters.append(future)
        try:
            yield future
        finally:
            waiters.remove(future)
            if not waiters:
                self._waiters.pop(task_id, None)

    @property
    def closed(self) -> bool:
        return self._closed

    @property
    def waiting(self) -> int:
        """How many wait."""
        return sum(len(futures) for futures in self._waiters.values())

    def publish(self, changes: Sequence[Change]) -> None:
        """Wake those who wait for tasks that have ended; everybody when news may have been lost (an empty batch)."""
        if not changes:
            self._wake_all()
        for change in changes:
            if change.status.is_terminal:
                for future in self._waiters.get(change.task_id, ()):
                    _wake(future)

    def close(self) -> None:
        """Wake everybody, now and from now on: the service is stopping."""
        self._closed = True
        self._wake_all()

    def _wake_all(self) -> None:
        for futures in self._waiters.values():
            for future in futures:
                _wake(future)


def _wake(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
