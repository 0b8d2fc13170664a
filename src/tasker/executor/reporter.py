"""A reporter that is closed when its attempt ends, so that late reports are dropped."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tasker.model import Progress
from tasker.tasktypes.reporting import Reporter
from tasker.tasktypes.steps import StepEvent


class ClosableReporter:
    """A Reporter that passes everything on until it is closed.

    A function may leave threads or tasks behind that still hold its Context: they must not report for a later attempt.
    """

    __slots__ = ("_reporter",)

    def __init__(self, reporter: Reporter) -> None:
        self._reporter: Reporter | None = reporter

    def close(self) -> None:
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

    def step(self, event: StepEvent, data: Mapping[str, Any]) -> None:
        if (reporter := self._reporter) is not None:
            reporter.step(event, data)
