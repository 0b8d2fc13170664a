"""Runs an attempt in a child process, where it can be killed, limited in memory, and crash without harm."""

from __future__ import annotations

from datetime import timedelta
from typing import assert_never

import msgspec
from msgspec.structs import replace

from tasker.executor.attempt import Attempt, Observer
from tasker.executor.frames import (
    Broken,
    Cancel,
    Died,
    Ended,
    FromChild,
    Line,
    Log,
    Output,
    Progressed,
    Ready,
    Run,
    Usage,
)
from tasker.executor.peak import peak_memory
from tasker.executor.pool import END_WITHIN, log_line
from tasker.executor.process import ChildProcess
from tasker.executor.process_tree import resident_memory
from tasker.executor.stop import Stop
from tasker.model import Claim
from tasker.rules.lifecycle import Cancelled, Crashed, Outcome
from tasker.rules.secrets import Scrubber

SAMPLE_EVERY = 0.2
"""Seconds between looks at the memory of an attempt that has a limit."""
_ALL_MEMORY = 1 << 60
"""Bytes, above what any machine has."""


class ChildAttempt(Attempt):
    """An attempt in a child; the child's listener while it runs. `leftovers`: the child must not run another one."""

    def __init__(
        self,
        child: ChildProcess,
        claim: Claim,
        reporter: Observer,
        stop: Stop,
        *,
        grace: timedelta,
        memory_limit: int | None = None,
    ) -> None:
        super().__init__(claim, stop, grace)
        self.leftovers = True
        self._child = child
        self._reporter = reporter
        self._memory_limit = memory_limit
        self._is_paused = False
        self._scrubber = None if claim.secrets is None else Scrubber(claim.secrets)
        child.listener = self
        child.attempts += 1
        child.send(Run(claim.task_id, claim.attempt, claim.type, claim.params, reporter.max_output))
        self._watch()
        if memory_limit is not None:
            self._sample_later()

    def on_frame(self, frame: FromChild) -> None:
        if self._done.done():
            return
        match frame:
            case Ended():
                self._function_ended(frame)
            case Progressed(progress):
                self._reporter.progress(progress)
            case Output(chunk):
                self._reporter.output(chunk)
            case Log(level, message, fields):
                self._reporter.log(level, message, msgspec.json.decode(fields))
            case Usage(values):
                self._reporter.usage(msgspec.json.decode(values))
            case Line():
                self._log_line(frame)
            case Ready() | Broken() | Died():
                pass  # said at its start; and ChildProcess keeps why a child died
            case _:
                assert_never(frame)
        if self._reporter.is_full and not self._is_paused and not self._done.done():
            self._is_paused = True
            self._child.pause()
            self._reporter.when_room(self._resume)

    def _resume(self) -> None:
        self._is_paused = False
        self._child.resume()

    def _log_line(self, frame: Line) -> None:
        if self._reporter.printed(len(frame.text)):
            frame = frame if self._scrubber is None else replace(frame, text=self._scrubber.text(frame.text))
            log_line(frame, task_id=str(self.claim.task_id), attempt=self.claim.attempt, type=self.claim.type)

    def on_corrupt(self, reason: str) -> None:
        if self._verdict is None:
            self._verdict = Crashed(f"the process of the task disturbed its connection to the service: {reason}")

    def on_exit(self, detail: str) -> None:
        self._settle(self._verdict or Crashed(detail))

    def _function_ended(self, frame: Ended) -> None:
        """A verdict other than Cancelled means that the child is being killed: its word comes too late."""
        if self._verdict is None:
            self._settle_as_told(frame, frame.outcome)
        elif isinstance(self._verdict, Cancelled) and self._child.is_usable:
            self._settle_as_told(frame, self._verdict if frame.noticed else frame.outcome)

    def _settle_as_told(self, frame: Ended, outcome: Outcome) -> None:
        self.leftovers = frame.leftovers
        self._tell_peak(frame.peak_memory)
        self._settle(outcome)

    def _tell_peak(self, size: int | None) -> None:
        if size is not None:
            self._reporter.peak_memory(min(size, _ALL_MEMORY))  # the child may say anything: users' code runs there

    def _sample_memory(self) -> None:
        if self._done.done() or self._memory_limit is None:
            return
        used = resident_memory(self._child.pid)
        if used > self._memory_limit and self._verdict is None:
            detail = f"the task used {_mebibytes(used)} of memory, more than {_mebibytes(self._memory_limit)}"
            self._verdict = Crashed(detail, problem="memory-limit")
            self._end()
        else:
            self._sample_later()

    def _sample_later(self) -> None:
        self._loop.call_later(SAMPLE_EVERY, self._sample_memory)

    def _tell_cancelled(self) -> bool:
        self._child.send(Cancel(self.claim.task_id, self.claim.attempt))
        return True

    def _tell_timed_out(self) -> None:
        self._end()

    def _give_up(self) -> None:
        self._end()

    def _end(self) -> None:
        """Kill, and settle once the child is gone, so that no two runs of a task overlap."""
        if self._child.is_usable:
            self._tell_peak(peak_memory(self._child.pid))
        self._child.kill()
        self._child.resume()  # its end is heard only then
        self._later(timedelta(seconds=END_WITHIN), self._stop_waiting)

    def _stop_waiting(self) -> None:
        outcome: Outcome = self._verdict or Crashed("the process of the task could not be killed")
        self._settle(outcome)


def _mebibytes(size: int) -> str:
    return f"{size / 2**20:,.0f} MiB"
