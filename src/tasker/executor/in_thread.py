"""An attempt of a `def` function in a thread of the service's process, where a debugger reaches it.

Nothing can kill it there, so nothing tries: not at a timeout, which a breakpoint would soon reach, and not once a
cancel's grace is over. There is no memory limit. What it does to the process (`os._exit`, a crash) ends the service.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Coroutine
from contextvars import copy_context
from datetime import timedelta
from typing import Any

import structlog

from tasker.executor.attempt import Attempt, Observer, Stop
from tasker.executor.call import Call, raised
from tasker.executor.loop_port import LoopPort
from tasker.executor.loop_reporter import LoopReporter
from tasker.executor.requests import Requests
from tasker.executor.task_loop import Mailbox
from tasker.executor.thread_port import ThreadPort
from tasker.logs.attempt import ATTEMPT, LoggedAttempt
from tasker.logs.redaction import begin_redaction, end_redaction
from tasker.model import Claim
from tasker.rules.lifecycle import Outcome
from tasker.rules.secrets import Scrubber
from tasker.tasktypes.context import Context
from tasker.tasktypes.durable_context import DurableContext
from tasker.tasktypes.registry import TaskType
from tasker.tasktypes.steps import Stepper
from tasker.tasktypes.sync_context import SyncContext

_log = structlog.get_logger("tasker.executor")


class ThreadAttempt(Attempt):
    """An attempt in a thread of its own, which starts at once.

    A cancel counts if the function has noticed it, or has gone on for longer than the grace. A timeout is logged, and
    changes nothing. An abandoned attempt is decided without its function.
    """

    def __init__(
        self,
        task_type: TaskType,
        claim: Claim,
        observer: Observer,
        stop: Stop,
        *,
        grace: timedelta,
        max_result: int,
        back: Mailbox,
        stepper: Stepper | None = None,
    ) -> None:
        super().__init__(claim, stop, grace)
        self._back = back
        self._reporter = LoopReporter(observer, back)
        self._has_noticed = False
        self._has_exhausted_grace = False
        self._port: ThreadPort | None = None
        self._driven: tuple[asyncio.AbstractEventLoop, asyncio.Task[Outcome]] | None = None
        call = Call(task_type, claim.params, self._make_context(task_type, stepper, max_result), max_result)
        variables = copy_context()
        variables.run(ATTEMPT.set, LoggedAttempt(claim.task_id, claim.attempt, claim.type, self._reporter.printed))
        self._watch()
        name = f"task {claim.type} ({claim.task_id})"
        threading.Thread(target=variables.run, args=(self._run, call), name=name, daemon=True).start()

    def _make_context(self, task_type: TaskType, stepper: Stepper | None, max_result: int) -> DurableContext | None:
        if task_type.context_parameter is None:
            return None
        start = (self.claim.task_id, self.claim.attempt, self._reporter, self._is_cancelled)
        if stepper is None:
            return Context(*start) if task_type.is_awaited else SyncContext(*start)
        self._requests = Requests(stepper, self.claim)
        way = (stepper, self._requests, self._back, max_result)
        if task_type.is_awaited:
            return Context(*start, LoopPort(*way))
        self._port = ThreadPort(*way, self._stop)
        return SyncContext(*start, self._port)

    # in the function's thread

    def _run(self, call: Call) -> None:
        if self.claim.secrets is not None:
            begin_redaction(self, Scrubber(self.claim.secrets).text)
        try:
            outcome = call.run(self._drive)
        finally:
            self._reporter.end_prints()
            if self.claim.secrets is not None:
                end_redaction(self)
        self._back.post(self._function_ended, outcome)

    def _is_cancelled(self) -> bool:
        self._has_noticed = self._has_noticed or self._stop.cancelled
        return self._has_noticed

    def _drive(self, coroutine: Coroutine[Any, Any, Outcome]) -> Outcome:
        """Run a coroutine to its end, on a loop of its own; a cancel cancels it."""

        async def main() -> Outcome:
            loop = asyncio.get_running_loop()
            task = loop.create_task(coroutine)
            self._driven = loop, task
            if self._is_cancelled():  # it may have come before there was anything to cancel
                task.cancel()
            await asyncio.wait([task])
            return raised(asyncio.CancelledError()) if task.cancelled() else task.result()

        return asyncio.run(main())

    # on the service's loop

    def _function_ended(self, outcome: Outcome) -> None:
        self._reporter.report_dropped()
        self._reporter.close()
        if self._verdict is None or not (self._has_noticed or self._has_exhausted_grace):
            self._settle(outcome)
        else:
            self._settle(self._verdict)

    def _request_cancel(self) -> bool:
        if self._port is not None:
            self._port.wake()
        if self._driven is not None:
            loop, task = self._driven
            self._has_noticed = True
            with contextlib.suppress(RuntimeError):  # the loop is closed: the function has just ended
                loop.call_soon_threadsafe(task.cancel)
        return True

    def _on_timeout(self) -> None:
        self._warn("task.over_time", "its time is up; in this process nothing ends it", self.claim.policy.timeout)

    def _on_grace_over(self) -> None:
        self._has_exhausted_grace = True
        self._warn("task.ignores_cancel", "its attempt ends as cancelled once the function returns", self._grace)

    def _warn(self, event: str, detail: str, limit: timedelta | None) -> None:
        seconds = None if limit is None else limit.total_seconds()
        named = {"type": self.claim.type, "task_id": str(self.claim.task_id), "attempt": self.claim.attempt}
        _log.warning(event, detail=detail, seconds=seconds, **named)

    def _end(self) -> None:
        """Decide the attempt without its function, whose reports and requests count no more."""
        self._reporter.close()
        if self._port is not None:
            self._port.close()
        if self._verdict is not None:
            self._settle(self._verdict)
