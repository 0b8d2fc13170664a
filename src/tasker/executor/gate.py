"""Between a Context and its reporter: shut once the attempt has ended, so that what comes late is dropped."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tasker.model import Progress
from tasker.tasktypes.context import Reporter


class Gate:
    """A Reporter that passes everything on until it is shut.

    A function may leave threads or tasks behind that still hold its Context: they must not speak for a later attempt.
    """

    __slots__ = ("_reporter",)

    def __init__(self, reporter: Reporter) -> None:
        self._reporter: Reporter | None = reporter

    def shut(self) -> None:
        self._reporter = None

    def progress(self, progress: Progress) -> None:
        if (reporter := self._reporter) is not None:
            reporter.progress(progress)

    def output(self, chunk: str) -> None:
        if (reporter := self._reporter) is not None:
            reporter.output(chunk)

    def log(self, level: str, message: str, fields: Mapping[str, Any]) -> None:
        if (reporter := self._reporter) is not None:
            reporter.log(level, message, fields)

    def usage(self, usage: Mapping[str, Any]) -> None:
        if (reporter := self._reporter) is not None:
            reporter.usage(usage)
