"""Runs an `async def` function on an event loop: a user's on a task loop, a built-in one on the service's own.

Nothing can kill it there: it is cancelled, and if it goes on all the same, the attempt is decided without it.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Mapping
from contextvars import Context as ContextVars
from contextvars import copy_context
from datetime import timedelta
from typing import Any, Protocol

import structlog
from structlog.contextvars import bind_contextvars

from tasker.executor.attempt import Attempt, Observer
from tasker.executor.call import Call
from tasker.executor.frames import PIECE
from tasker.executor.gate import Gate
from tasker.executor.hosted import CURRENT
from tasker.executor.loop_watch import TASK_NAME
from tasker.executor.outcomes import raised
from tasker.executor.stop import Stop
from tasker.executor.task_loop import Mailbox
from tasker.logs.redaction import begin_redaction, end_redaction
from tasker.model import Claim, Progress
from tasker.rules.lifecycle import Failed, Interrupted, Outcome
from tasker.rules.secrets import Scrubber
from tasker.tasktypes.context import Context
from tasker.tasktypes.registry import TaskType

_ON_ITS_WAY = 256 * 1024
"""Bytes that an attempt may say before the first of them is about to be stored."""
_LONGEST_WAIT = 1.0
"""Seconds that a function may be held up by a store that does not keep up."""
_REPORT = 200
"""About how many bytes a report takes besides its text."""
_CANCELLED = "asyncio.exceptions.CancelledError"

_log = structlog.get_logger("tasker.executor")


class Home(Protocol):
    """The loop that a function runs on."""

    def post(self, callback: Callable[..., None], *args: Any) -> None:
        """Call `callback(*args)` in that loop's thread."""


class ServiceLoop:
    """The service's own loop as the home of built-in functions: a post is a call, except from another thread."""

    def __init__(self, mailbox: Mailbox) -> None:
        self._mailbox = mailbox
        self._thread = threading.get_ident()

    @property
    def is_here(self) -> bool:
        """Whether this is the loop's thread."""
        return threading.get_ident() == self._thread

    def post(self, callback: Callable[..., None], *args: Any) -> None:
        if self.is_here:
            callback(*args)
        else:
            self._mailbox.post(callback, *args)


class LoopAttempt(Attempt):
    """An attempt on a loop. It starts once its home calls `begin`; the service's side decides how it ended.

    back: brings what happens in the home's thread to the service's loop.
    """

    def __init__(
        self,
        task_type: TaskType,
        claim: Claim,
        reporter: Observer,
        stop: Stop,
        *,
        grace: timedelta,
        max_result: int,
        back: Home,
    ) -> None:
        super().__init__(claim, stop, grace)
        self.home: Home = back
        self.function_task: asyncio.Task[Outcome] | None = None
        self._has_ended = False
        self._is_stopped = False
        self._back = back
        self._gate = LoopGate(reporter, back)
        context = Context(claim.task_id, claim.attempt, self._gate, self._is_cancelled)
        variables = copy_context()
        variables.run(self._enter)
        self._start: tuple[Call, ContextVars] | None = Call(task_type, claim.params, context, max_result), variables
        self._watch()

    @property
    def name(self) -> str:
        return f"{TASK_NAME}{self.claim.type} (task {self.claim.task_id})"

    @property
    def is_decided(self) -> bool:
        return self._done.done()

    def _enter(self) -> None:
        bind_contextvars(task_id=str(self.claim.task_id), attempt=self.claim.attempt, type=self.claim.type)
        if not isinstance(self._back, ServiceLoop):
            CURRENT.set(self)

    # in the home's thread

    def begin(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._is_stopped:  # before it began
            self._back.post(self._function_ended, None)
            return
        assert self._start is not None
        (call, variables), self._start = self._start, None  # both refer to us: no cycle is left to the collector
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
        end_redaction(self)
        self._back.post(self._function_ended, None if _was_cancelled(task) else task.result())

    def _cancel_function(self, home: Home) -> None:
        if home is self.home and self.function_task is not None:
            self.function_task.cancel()

    # on the service's loop

    def _is_cancelled(self) -> bool:
        return self._stop.cancelled

    def _function_ended(self, outcome: Outcome | None) -> None:
        """Take the function's outcome; None: its task was cancelled, by us or by somebody who cancels all of a loop."""
        self._gate.tell_dropped()
        self._gate.shut()
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

    def _tell_cancelled(self) -> bool:
        if self._has_ended:
            return False
        self._cancel()
        return True

    def _tell_timed_out(self) -> None:
        self._cancel()
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
        self._cancel()
        if self._verdict is not None:
            self._settle(self._verdict)


def _was_cancelled(task: asyncio.Task[Outcome]) -> bool:
    """Tell whether a function ended because its task was cancelled, and not by an error that it raised itself."""
    if task.cancelled():  # before its first step
        return True
    ended = task.result()
    info = ended.problem.exception if isinstance(ended, Failed) else None
    return info is not None and info.class_ == _CANCELLED and task.cancelling() > 0


class Room:
    """How much an attempt may have on its way to the store. A thread that says more waits, if not for long."""

    def __init__(self) -> None:
        self._taken = 0
        self._is_behind = False
        self._given = threading.Condition()

    def take(self, size: int) -> bool:
        """Take room, as soon as there is some; False if there is none in time, and then at once until there is."""
        with self._given:
            wait = 0 if self._is_behind else _LONGEST_WAIT
            fits = self._given.wait_for(lambda: not self._taken or self._taken + size <= _ON_ITS_WAY, wait)
            self._is_behind = not fits
            self._taken += size if fits else 0
            return fits

    def give(self, size: int) -> None:
        """Give room back."""
        with self._given:
            self._taken -= size
            self._given.notify_all()


class LoopGate(Gate):
    """A Gate that may be used from every thread: what is said goes to the service's loop.

    Off that loop, whoever says more than can be stored waits for a moment. What cannot even be stored then is dropped,
    for nothing else on the function's loop goes on meanwhile; the task's log tells of it.
    """

    __slots__ = ("_back", "_dropped", "_observer", "_room")

    def __init__(self, observer: Observer, back: Home) -> None:
        super().__init__(observer)
        self._observer = observer
        self._back = back
        self._room = Room()
        self._dropped = 0

    def progress(self, progress: Progress) -> None:
        self._post(_REPORT, super().progress, progress)

    def output(self, chunk: str) -> None:
        for start in range(0, len(chunk), PIECE):
            piece = chunk[start : start + PIECE]
            self._post(len(piece), super().output, piece)

    def log(self, level: str, message: str, fields: Mapping[str, Any]) -> None:
        self._post(_REPORT + len(message), super().log, level, message, fields)

    def usage(self, usage: Mapping[str, Any]) -> None:
        self._back.post(super().usage, usage)

    def _post(self, size: int, say: Callable[..., None], *words: Any) -> None:
        if self._observer.is_cut_off:
            return
        if isinstance(self._back, ServiceLoop) and self._back.is_here:
            say(*words)
        elif self._room.take(size):
            self._back.post(self._deliver, size, say, words)
        else:
            self._dropped += 1

    def tell_dropped(self) -> None:
        """On the service's loop: tell how much is missing, if anything is."""
        dropped, self._dropped = self._dropped, 0
        if dropped:
            super().log("warning", f"{dropped:,} reports dropped: they could not be stored in time", {})

    def _deliver(self, size: int, say: Callable[..., None], words: tuple[Any, ...]) -> None:
        """On the service's loop: say it, and let more come once it is stored, or about to be."""
        self.tell_dropped()
        say(*words)
        self._observer.when_room(lambda: self._room.give(size))
