"""An attempt in a child process, where it can be killed, limited in memory, and crash without harm."""

from __future__ import annotations

from datetime import timedelta
from typing import assert_never

import msgspec
from msgspec.structs import replace

from tasker.executor import frames
from tasker.executor.attempt import Attempt, Observer, Stop
from tasker.executor.kernel import peak_memory, resident_memory
from tasker.executor.pool import END_WITHIN, log_line
from tasker.executor.process import ChildProcess
from tasker.executor.requests import Requests
from tasker.model import Claim
from tasker.rules.lifecycle import Cancelled, Crashed, Outcome
from tasker.rules.secrets import Scrubber
from tasker.tasktypes.steps import AnyRequest, Stepper

SAMPLE_EVERY = 0.2
"""Seconds between checks of the memory of an attempt that has a limit."""
_STREAMS = {"stdout": "stdout", "stderr": "stderr", "process": "stdout"}
"""The streams of printed lines, by their source; native code and programs share one pipe for both."""
_ALL_MEMORY = 1 << 60
"""Bytes, above what any machine has."""


class ChildAttempt(Attempt):
    """An attempt in a child; the child's listener while it runs. `leftovers`: the child must not run another one."""

    def __init__(
        self,
        child: ChildProcess,
        claim: Claim,
        observer: Observer,
        stop: Stop,
        *,
        grace: timedelta,
        memory_limit: int | None = None,
        stepper: Stepper | None = None,
    ) -> None:
        super().__init__(claim, stop, grace)
        self.leftovers = True
        self._child = child
        self._observer = observer
        self._memory_limit = memory_limit
        self._is_paused = False
        self._scrubber = None if claim.secrets is None else Scrubber(claim.secrets)
        child.listener = self
        child.attempts += 1
        self._requests = None if stepper is None else Requests(stepper, claim)
        stored = None if stepper is None else stepper.stored
        child.send(frames.Run(claim.task_id, claim.attempt, claim.type, claim.params, observer.max_output, stored))
        self._watch()
        if memory_limit is not None:
            self._sample_later()

    def on_frame(self, frame: frames.FromChild) -> None:
        if self._done.done():
            return
        match frame:
            case frames.Ended():
                self._function_ended(frame)
            case frames.Asked(number, request):
                self._serve(number, request)
            case frames.Line():
                self._log_line(frame)
            case frames.Ready() | frames.Broken() | frames.Died():
                pass  # Ready and Broken come when a child starts; ChildProcess keeps the reason in Died
            case _:
                self._report(frame)
        if self._observer.is_full and not self._is_paused and not self._done.done():
            self._is_paused = True
            self._child.pause()
            self._observer.when_not_full(self._resume)

    def _report(self, frame: frames.Progressed | frames.Output | frames.Log | frames.Usage | frames.Stepped) -> None:
        match frame:
            case frames.Progressed(progress):
                self._observer.progress(progress)
            case frames.Output(chunk):
                self._observer.output(chunk)
            case frames.Log(level, message, fields):
                self._observer.log(level, message, msgspec.json.decode(fields))
            case frames.Usage(values):
                self._observer.usage(msgspec.json.decode(values))
            case frames.Stepped(event, data):
                self._observer.step(event, msgspec.json.decode(data))
            case _:
                assert_never(frame)

    def _serve(self, number: int, request: AnyRequest) -> None:
        if self._requests is not None:
            self._requests.serve(request, lambda answer: self._child.send(frames.Answered(number, answer)))

    def _resume(self) -> None:
        self._is_paused = False
        self._child.resume()

    def _log_line(self, line: frames.Line) -> None:
        line = line if self._scrubber is None else replace(line, text=self._scrubber.text(line.text))
        if self._observer.printed(line.text, _STREAMS.get(line.source)):
            log_line(line, task_id=str(self.claim.task_id), attempt=self.claim.attempt, type=self.claim.type)

    def on_corrupt(self, reason: str) -> None:
        if self._verdict is None:
            self._verdict = Crashed(f"the process of the task disturbed its connection to the service: {reason}")

    def on_exit(self, detail: str) -> None:
        self._settle(self._verdict or Crashed(detail))

    def _function_ended(self, frame: frames.Ended) -> None:
        """Accept the function's end, unless the child is being killed already for another reason than a cancel."""
        if self._verdict is None:
            self._settle_ended(frame, frame.outcome)
        elif isinstance(self._verdict, Cancelled) and self._child.is_usable:
            self._settle_ended(frame, self._verdict if frame.noticed else frame.outcome)

    def _settle_ended(self, frame: frames.Ended, outcome: Outcome) -> None:
        self.leftovers = frame.leftovers
        self._report_peak(frame.peak_memory)
        self._settle(outcome)

    def _report_peak(self, size: int | None) -> None:
        if size is not None:
            self._observer.peak_memory(min(size, _ALL_MEMORY))  # users' code runs in the child and may send any number

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

    def _request_cancel(self) -> bool:
        self._child.send(frames.Cancel(self.claim.task_id, self.claim.attempt))
        return True

    def _end(self) -> None:
        """Kill, and settle once the child is gone, so that no two runs of a task overlap."""
        if self._child.is_usable:
            self._report_peak(peak_memory(self._child.pid))
        self._child.kill()
        self._child.resume()  # else its end would not be noticed
        self._later(timedelta(seconds=END_WITHIN), self._stop_waiting)

    def _stop_waiting(self) -> None:
        self._settle(self._verdict or Crashed("the process of the task could not be killed"))


def _mebibytes(size: int) -> str:
    return f"{size / 2**20:,.0f} MiB"
