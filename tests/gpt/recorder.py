"""A task's context whose reports a test can read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any
from uuid import UUID

from tasker.model import Progress
from tasker.tasktypes.context import Context


class Recorder:
    """A Reporter that keeps all reports."""

    def __init__(self) -> None:
        self.chunks: list[str] = []
        self.used: dict[str, Any] = {}
        self.logged: list[tuple[str, str, dict[str, Any]]] = []

    @property
    def context(self) -> Context:
        return Context(UUID(int=1), 1, self, lambda: False)

    def progress(self, progress: Progress) -> None:
        raise AssertionError("gpt has no progress to tell")

    def output(self, chunk: str) -> None:
        self.chunks.append(chunk)

    def log(self, level: str, message: str, fields: Mapping[str, Any]) -> None:
        self.logged.append((level, message, dict(fields)))

    max_output: int | None = None
    is_cut_off = False
    is_full = False

    def when_room(self, callback: Callable[[], None]) -> None:
        callback()

    def printed(self, line: str, stream: str | None = None) -> bool:
        return True

    def peak_memory(self, size: int) -> None:
        pass

    def usage(self, usage: Mapping[str, Any]) -> None:
        self.used |= usage
