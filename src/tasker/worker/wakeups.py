"""Wakes attempts that wait in memory, as soon as their task may have changed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from uuid import UUID

from tasker.engines.protocol import Engine
from tasker.model import Change


class Wakeups:
    """The waiting attempts of a worker, by task. It listens to the engine only while there are any."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._waiting: dict[UUID, list[asyncio.Event]] = {}
        self._unwatch: Callable[[], None] | None = None
        self.is_draining = False

    @contextmanager
    def of(self, task_id: UUID) -> Iterator[asyncio.Event]:
        """Provide an event that is set when the task may have changed, or the worker drains. Enter first, then look."""
        woken = asyncio.Event()
        if self._unwatch is None:
            self._unwatch = self._engine.watch(self._on_changes)
        self._waiting.setdefault(task_id, []).append(woken)
        try:
            yield woken
        finally:
            self._forget(task_id, woken)

    def drain(self) -> None:
        """Wake every attempt, now and whenever one begins to wait: nothing is waited for in memory any more."""
        self.is_draining = True
        self._wake_all()

    def _forget(self, task_id: UUID, woken: asyncio.Event) -> None:
        own = self._waiting[task_id]
        own.remove(woken)
        if not own:
            del self._waiting[task_id]
        if not self._waiting and self._unwatch is not None:
            self._unwatch()
            self._unwatch = None

    def _on_changes(self, changes: Sequence[Change]) -> None:
        if not changes:  # some may have been lost
            self._wake_all()
        for change in changes:
            for woken in self._waiting.get(change.task_id, ()):
                woken.set()

    def _wake_all(self) -> None:
        for own in self._waiting.values():
            for woken in own:
                woken.set()
