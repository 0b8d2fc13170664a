"""Runs an `async def` function on the service's own event loop.

Nothing can kill it there: it is cancelled, and if it goes on all the same, the attempt is decided without it.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Mapping
from contextvars import copy_context
from datetime import timedelta
from typing import Any

import structlog
from structlog.contextvars import bind_contextvars

from tasker.context import Context, Reporter
from tasker.executor.attempt import Attempt
from tasker.executor.call import Call
from tasker.executor.gate import Gate
from tasker.executor.stop import Stop
from tasker.lifecycle import Outcome
from tasker.model import Claim, Progress
from tasker.registry import TaskType

TASK_NAME = "task type "
"""How the names of the asyncio tasks begin that run a function; its type follows."""

_log = structlog.get_logger("tasker.executor")


class LoopAttempt(Attempt):
    """An attempt on the loop. `asyncio_task` goes on when a function swallows its cancellation."""

    def __init__(
        self, task_type: TaskType, claim: Claim, reporter: Reporter, stop: Stop, *, grace: timedelta, max_result: int
    ) -> None:
        super().__init__(claim, stop, grace)
        self._gate = LoopGate(reporter, self._loop)
        context = Context(claim.task_id, claim.attempt, self._gate, self._is_cancelled)
        call = Call(task_type, claim.params, context, max_result)
        variables = copy_context()
        variables.run(bind_contextvars, task_id=str(claim.task_id), attempt=claim.attempt, type=claim.type)
        self.asyncio_task = self._loop.create_task(call.run_async(), name=f"{TASK_NAME}{claim.type}", context=variables)
        self.asyncio_task.add_done_callback(self._function_ended)
        self._watch()

    def _is_cancelled(self) -> bool:
        return self._stop.cancelled

    def _function_ended(self, task: asyncio.Task[Outcome]) -> None:
        self._gate.shut()
        if task.cancelled():  # before its first step
            self._settle_cancelled()
        elif self._verdict is not None:
            self._settle(self._verdict)
        else:
            self._settle(task.result())

    def _settle_cancelled(self) -> None:
        if self._verdict is not None:
            self._settle(self._verdict)
        else:  # by somebody who cancels every task of the loop: whoever waits for the outcome is cancelled as well
            self._done.cancel()

    def _tell_cancelled(self) -> bool:
        return self.asyncio_task.cancel()

    def _tell_timed_out(self) -> None:
        self.asyncio_task.cancel()
        self._later(self._grace, self._give_up)

    def _give_up(self) -> None:
        _log.error(
            "task.ignores_cancel",
            detail="its function goes on all the same; the attempt is decided without it",
            type=self.claim.type, task_id=str(self.claim.task_id), attempt=self.claim.attempt,
            seconds=self._grace.total_seconds(),
        )  # fmt: skip
        self._end()

    def _end(self) -> None:
        self._gate.shut()
        self.asyncio_task.cancel()
        if self._verdict is not None:
            self._settle(self._verdict)


class LoopGate(Gate):
    """A Gate that may be used from threads: what they say is handed to the loop, where reporters live."""

    __slots__ = ("_loop", "_thread")

    def __init__(self, reporter: Reporter, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(reporter)
        self._loop = loop
        self._thread = threading.get_ident()

    def progress(self, progress: Progress) -> None:
        if threading.get_ident() == self._thread:
            super().progress(progress)
        else:
            self._loop.call_soon_threadsafe(super().progress, progress)

    def output(self, chunk: str) -> None:
        if threading.get_ident() == self._thread:
            super().output(chunk)
        else:
            self._loop.call_soon_threadsafe(super().output, chunk)

    def log(self, level: str, message: str, fields: Mapping[str, Any]) -> None:
        if threading.get_ident() == self._thread:
            super().log(level, message, fields)
        else:
            self._loop.call_soon_threadsafe(super().log, level, message, fields)

    def usage(self, usage: Mapping[str, Any]) -> None:
        if threading.get_ident() == self._thread:
            super().usage(usage)
        else:
            self._loop.call_soon_threadsafe(super().usage, usage)
