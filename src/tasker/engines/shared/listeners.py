"""The listeners to an engine's committed changes."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import structlog

from tasker.engines.protocol import Listener
from tasker.model import Change

_log = structlog.get_logger(__name__)


class Listeners:
    """Called, one after the other, with changes that are durable."""

    def __init__(self) -> None:
        self._listeners: list[Listener] = []

    def add(self, listener: Listener) -> Callable[[], None]:
        """Call a listener from now on; return the function that stops that."""
        self._listeners.append(listener)

        def stop() -> None:
            if listener in self._listeners:
                self._listeners.remove(listener)

        return stop

    def notify(self, changes: Sequence[Change]) -> None:
        """Call every listener with the changes."""
        for listener in tuple(self._listeners):
            try:
                listener(changes)
            except Exception:  # a bug in one listener must not keep the others from it, nor stop the writer
                _log.exception("store.listener_failed")
