"""An attempt of an `async def` function on an event loop: a user's on a task loop, a built-in's on the service's own.

It cannot be killed there: it is cancelled, and if it goes on nevertheless, the attempt is decided without it.
"""

from __future__ import annotations

import asyncio
from contextvars import Context as ContextVars
from contextvars import copy_context
from datetime import timedelta

import structlog

from tasker.executor.attempt import Attempt, Observer, Stop
from tasker.executor.attribution import CURRENT
from tasker.executor.call import Call, raised
from tasker.executor.loop_port import LoopPort
from tasker.executor.loop_reporter import Home, LoopReporter, ServiceLoop
from tasker.executor.loop_watch import TASK_NAME
from tasker.executor.requests import Requests
from tasker.logs.attempt import ATTEMPT, LoggedAttempt
from tasker.logs.redaction import begin_redaction, end_redaction
from tasker.model import Claim
from tasker.rules.lifecycle import Failed, Interrupted, Outcome
from tasker.rules.secrets import Scrubber
from tasker.tasktypes.context import Context
from tasker.tasktypes.registry import TaskType
from tasker.tasktypes.steps import Stepper

_CANCELLED = "asyncio.exceptions.CancelledError"

_log = structlog.get_logger("tasker.executor")


class LoopAttempt(Attempt):
    """An attempt on a loop. It starts once its home calls `begin`; the service's side decides how it ended.

    back: brings what happens in the home's thread to the service's loop.
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
        back: Home,
        stepper: Stepper | None = None,
    ) -> None:
        super().__init__(claim, stop, grace)
        self.home: Home = back
        self.function_task: asyncio.Task[Outcome] | None = None
        self._has_ended = False
        self._is_stopped = False
        self._back = back
        self._reporter = LoopReporter(observer, back)
        self._port: LoopPort | None = None
        if stepper is not None:
            self._requests = Requests(stepper, claim)
            self._port = LoopPort(stepper, self._requests, back, max_result)
        context = None
        if task_type.context_parameter is not None:
            context = Context(claim.task_id, claim.attempt, self._reporter, self._is_cancelled, self._port)
        variables = copy_context()
        logged = LoggedAttempt(claim.task_id, claim.attempt, claim.type, self._reporter.printed)
        variables.run(ATTEMPT.set, logged)
        if not isinstance(back, ServiceLoop):
            variables.run(CURRENT.set, self)
        self._start: tuple[Call, ContextVars] | None = Call(task_type, claim.params, context, max_result), variables
        self._watch()

    @property
    def name(self) -> str:
        return f"{TASK_NAME}{self.claim.type} (task {self.claim.task_id})"

    @property
    def is_decided(self) -> bool:
        return self._done.done()

    # in the home's thread

    def begin(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._is_stopped:  # before it began
            self._back.post(self._function_ended, None)
            return
        assert self._start is not None
        (call, variables), self._start = self._start, None  # both refer to us: leave no cycle to the collector
        if self._port is not None:
            self._port.begin(self.home, loop)
        if self.claim.secrets is not None:
            begin_redaction(self, Scrubber(self.claim.secrets).text)
        # Not loop.create_task(): a user's task factory would be asked.
        self.function_task = asyncio.Task(
            call.run_async(), loop=loop, name=f"{TASK_NAME}{self.claim.type}", context=variables
        )
        self.function_task.add_done_callback(self._returned)

    def exited(self, error: BaseException) -> None:
        self._back.post(self._function_exited, raised(error))
        if self.function_task is not None:
            self.function_task.cancel()

    def lost_home(self) -> None:
        self._back.post(self._function_exited, Interrupted())

    def _returned(self, task: asyncio.Task[Outcome]) -> None:
        self.function_task = None
        self._reporter.end_prints()
        if self.claim.secrets is not None:
            end_redaction(self)
        self._back.post(self._function_ended, None if _was_cancelled(task) else task.result())

    def _cancel_function(self, home: Home) -> None:
        if home is self.home and self.function_task is not None:
            self.function_task.cancel()

    # on the service's loop

    def _is_cancelled(self) -> bool:
        return self._stop.cancelled

    def _function_ended(self, outcome: Outcome | None) -> None:
        """Accept the function's outcome; None if its task was cancelled, by us or with everything on its loop."""
        self._reporter.report_dropped()
        self._reporter.close()
        self._has_ended = True
        if self._verdict is not None:
            self._settle(self._verdict)
        elif outcome is not None:
            self._settle(outcome)
        else:
            self._settle(Interrupted())

    def _function_exited(self, outcome: Outcome) -> None:
        if self._verdict is None:
            self._verdict = outcome
        self._end()

    def _cancel(self) -> None:
        self._is_stopped = True
        self.home.post(self._cancel_function, self.home)

    def _request_cancel(self) -> bool:
        if self._has_ended:
            return False
        self._cancel()
        return True

    def _end_timed_out(self) -> None:
        self._cancel()
        self._later(self._grace, self._on_grace_over)

    def _on_grace_over(self) -> None:
        _log.error(
            "task.ignores_cancel",
            detail="its function goes on nevertheless; the attempt is decided without it",
            type=self.claim.type,
            task_id=str(self.claim.task_id),
            attempt=self.claim.attempt,
            seconds=self._grace.total_seconds(),
        )
        self._end()

    def _end(self) -> None:
        self._reporter.close()
        self._cancel()
        if self._verdict is not None:
            self._settle(self._verdict)


def _was_cancelled(task: asyncio.Task[Outcome]) -> bool:
    """Return whether a function ended because its task was cancelled, not because of an error that it raised itself."""
    if task.cancelled():  # before its first step
        return True
    ended = task.result()
    info = ended.problem.exception if isinstance(ended, Failed) else None
    return info is not None and info.class_ == _CANCELLED and task.cancelling() > 0
