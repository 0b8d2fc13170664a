"""Fan-out of the engine's notifications to this process's waiters."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from uuid import UUID

from tasker.model import Change

_Waiters = dict[UUID, list[asyncio.Future[None]]]


class Hub:
    """Wakes waiters when a task may have ended or changed. A wake-up is a hint: the waiter reads the task itself."""

    def __init__(self) -> None:
        self._ending: _Waiters = {}
        self._changing: _Waiters = {}
        self._any: list[asyncio.Future[None]] = []
        self._closed = False

    @contextmanager
    def ending(self, task_id: UUID) -> Iterator[asyncio.Future[None]]:
        """Provide a future that is done when the task may have ended or the hub is closed. Enter first, then read."""
        with self._waiting(self._ending, task_id) as future:
            yield future

    @contextmanager
    def changing(self, task_id: UUID) -> Iterator[asyncio.Future[None]]:
        """Provide a future that is done when the task may have changed in any way; as `ending`."""
        with self._waiting(self._changing, task_id) as future:
            yield future

    @contextmanager
    def anything(self) -> Iterator[asyncio.Future[None]]:
        """Provide a future that is done when any task may have changed; as `ending`."""
        future = self._new_future()
        self._any.append(future)
        try:
            yield future
        finally:
            self._any.remove(future)

    @contextmanager
    def _waiting(self, waiters: _Waiters, task_id: UUID) -> Iterator[asyncio.Future[None]]:
        future = self._new_future()
        own = waiters.setdefault(task_id, [])
        own.append(future)
        try:
            yield future
        finally:
            own.remove(future)
            if not own:
                waiters.pop(task_id, None)

    def _new_future(self) -> asyncio.Future[None]:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if self._closed:
            future.set_result(None)
        return future

    @property
    def closed(self) -> bool:
        """Whether the service is stopping."""
        return self._closed

    @property
    def waiting(self) -> int:
        """The number of waiters."""
        of_tasks = sum(len(futures) for waiters in (self._ending, self._changing) for futures in waiters.values())
        return of_tasks + len(self._any)

    def publish(self, changes: Sequence[Change]) -> None:
        """Wake the waiters of these tasks; for an empty batch all waiters, as notifications may have been lost."""
        if not changes:
            self._wake_all()
        if self._any:
            _wake(self._any)
        if not self._ending and not self._changing:
            return
        for change in changes:
            if change.status.is_terminal:
                _wake(self._ending.get(change.task_id, ()))
            _wake(self._changing.get(change.task_id, ()))

    def close(self) -> None:
        """Wake all present and future waiters: the service is stopping."""
        self._closed = True
        self._wake_all()

    def _wake_all(self) -> None:
        _wake(self._any)
        for waiters in (self._ending, self._changing):
            for futures in waiters.values():
                _wake(futures)


def _wake(futures: Sequence[asyncio.Future[None]]) -> None:
    for future in futures:
        if not future.done():
            future.set_result(None)
