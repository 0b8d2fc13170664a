"""Runs attempts in a child process, one after the other in its main thread; the task types are loaded once."""

from __future__ import annotations

import logging
import sys
from collections.abc import Coroutine, Mapping
from datetime import timedelta
from typing import Any

import msgspec

from tasker.builtin import builtin_registry
from tasker.executor import frames
from tasker.executor.call import Call, raised
from tasker.executor.child.channel import Channel
from tasker.executor.child.ports import BlockingPort, LoopedPort
from tasker.executor.child.printed import Capture, OutputBudget
from tasker.executor.child.state import ProcessState
from tasker.executor.child.status import OwnStatus
from tasker.executor.reporter import ClosableReporter
from tasker.model import Progress
from tasker.rules.lifecycle import Failed, Outcome, Snoozed, problem
from tasker.tasktypes.context import Context
from tasker.tasktypes.durable_context import DurableContext
from tasker.tasktypes.registry import Registry, TaskType, load, load_entry_points, load_sources
from tasker.tasktypes.reporting import Reporter
from tasker.tasktypes.sources import replay_modules
from tasker.tasktypes.steps import StepEvent
from tasker.tasktypes.sync_context import SyncContext

LOAD_AGAIN = timedelta(seconds=30)
"""Delay before a task whose file a child could not load is tried again."""


class FrameReporter:
    """A Reporter that sends frames to the service, and blocks while the service does not keep up.

    It counts characters and the service counts bytes, so the service reaches the limit first.
    """

    def __init__(self, channel: Channel, budget: OutputBudget) -> None:
        self._channel = channel
        self._budget = budget

    def progress(self, progress: Progress) -> None:
        self._channel.send(frames.Progressed(progress))

    def output(self, chunk: str) -> None:
        for start in range(0, len(chunk), frames.PIECE):
            piece = chunk[start : start + frames.PIECE]
            if not self._budget.spend(len(piece)):
                return
            self._channel.send(frames.Output(piece))

    def log(self, level: str, message: str, fields: Mapping[str, Any]) -> None:
        if self._budget.spend(len(message)):
            self._channel.send(frames.Log(level, message, msgspec.json.encode(fields)))

    def usage(self, usage: Mapping[str, Any]) -> None:
        self._channel.send(frames.Usage(msgspec.json.encode(usage)))

    def step(self, event: StepEvent, data: Mapping[str, Any]) -> None:
        self._channel.send(frames.Stepped(event, msgspec.json.encode(data)))


class CancelCheck:
    """Whether the client has asked to cancel the attempt that runs, and whether its function has noticed."""

    def __init__(self, channel: Channel, run: frames.Run) -> None:
        self._channel = channel
        self._run = run
        self.was_noticed = False

    def read(self) -> None:
        """Read what has come."""
        self._channel.is_cancelled(self._run)

    def check(self) -> bool:
        self.was_noticed = self.was_noticed or self._channel.is_cancelled(self._run)
        return self.was_noticed


class Runner:
    """Runs attempts until the service closes the channel."""

    def __init__(self, channel: Channel, init: frames.Init, capture: Capture) -> None:
        self._channel = channel
        self._max_result = init.max_result
        self._registry = _load(init)
        self._has_entry_points = False
        self._budget = capture.budget
        self._reporter = FrameReporter(channel, self._budget)
        self._status = OwnStatus()
        self._state = ProcessState(capture, self._status)
        self._spoilt: list[str] = []

    def serve(self) -> None:
        self._status.begin_peak()
        while isinstance(run := self._channel.receive(), frames.Run):
            end = self._attempt(run) if not self._spoilt else self._decline()
            self._channel.send_undisturbed(end)
            if not end.leftovers:  # else the service ends this process
                self._spoilt = self._state.finish_restore()
                self._status.begin_peak()

    def _attempt(self, run: frames.Run) -> frames.Ended:
        reporter = ClosableReporter(self._reporter)
        self._budget.begin(run.max_output)
        cancel = CancelCheck(self._channel, run)
        try:
            try:
                outcome = self._outcome(run, reporter, cancel)
            finally:
                if run.stored is not None:
                    self._channel.end_requests()  # threads that wait end with the attempt
            left, peak = self._state.begin_restore()
        except BaseException as error:  # raised by a signal handler that the function left behind, say
            left, peak = self._state.begin_restore()
            outcome = raised(error)
        reporter.close()
        if left:
            self._log(f"the child process ends with this task, which has left behind: {', '.join(left)}")
        leftovers = bool(left or self._spoilt)
        return frames.ended(outcome, noticed=cancel.was_noticed, leftovers=leftovers, peak_memory=peak)

    def _decline(self) -> frames.Ended:
        """Leave this attempt to another child at once, without using up a try, because this process is not clean."""
        self._log(f"an earlier task has changed what cannot be restored: {', '.join(self._spoilt)}")
        return frames.ended(Snoozed(timedelta(0)), noticed=False, leftovers=True)

    def _log(self, text: str, level: int = logging.INFO) -> None:
        self._channel.send(frames.Line(level, "tasker", text))

    def _outcome(self, run: frames.Run, reporter: Reporter, cancel: CancelCheck) -> Outcome:
        task_type = self._find(run.type_name)
        if task_type is None:
            return self._without_type(run.type_name)
        call = Call(task_type, run.params, self._context(task_type, run, reporter, cancel), self._max_result)
        if task_type.is_async:
            return _drive(call.run_async(), self._channel, cancel)
        return self._state.run(lambda: call.run(lambda coroutine: _drive(coroutine, self._channel, cancel)))

    def _context(
        self, task_type: TaskType, run: frames.Run, reporter: Reporter, cancel: CancelCheck
    ) -> DurableContext | None:
        """Return what the function gets as its context: one that it awaits, or one that blocks."""
        if task_type.context_parameter is None:
            return None
        start = (run.task_id, run.attempt, reporter, cancel.check)
        if run.stored is None:
            return Context(*start) if task_type.is_awaited else SyncContext(*start)
        way = (self._channel, run, run.stored, self._max_result)
        return Context(*start, LoopedPort(*way)) if task_type.is_awaited else SyncContext(*start, BlockingPort(*way))

    def _without_type(self, name: str) -> Outcome:
        """Return the outcome for a type that this child does not have, though the service does."""
        reason, detail = self._registry.refusal(name), self._registry.explain(name)
        if reason == "type-not-loaded":  # its file has changed since: the task waits until it can be loaded again
            self._log(detail, logging.ERROR)
            self._spoilt = ["files that cannot be loaded"]
            return Snoozed(LOAD_AGAIN)
        return Failed(problem(reason, detail))

    def _find(self, name: str) -> TaskType | None:
        """Return the type. Entry points are looked for only when a task needs one: the search is slow."""
        if name not in self._registry and not self._has_entry_points:
            self._has_entry_points = True
            load_entry_points(self._registry)
            self._state.take()
        return self._registry.find(name)


def _load(init: frames.Init) -> Registry:
    sys.path[:] = init.sys_path
    registry = builtin_registry(_gpt_settings(init.gpt))
    if init.recorded is None:
        load(registry, init.targets, all_there=False)
    else:
        replay_modules(init.recorded)
        load_sources(registry, init.recorded.sources())
    return registry


def _gpt_settings(fields: dict[str, Any] | None) -> Any:
    if fields is None:
        return None
    from tasker.config.settings import GptSettings  # slow to import, and needed by one type only

    return GptSettings.model_validate(fields)


def _drive(coroutine: Coroutine[Any, Any, Outcome], channel: Channel, cancel: CancelCheck) -> Outcome:
    """Run a coroutine to its end, cancelled when the client asks for it."""
    import asyncio  # slow to import: async functions run on the service's loop as a rule

    async def main() -> Outcome:
        loop = asyncio.get_running_loop()
        task = loop.create_task(coroutine)

        def look() -> None:
            if not cancel.was_noticed and cancel.check():
                task.cancel()
            elif cancel.was_noticed:
                cancel.read()  # answers to what its cleaning up asks for

        loop.add_reader(channel, look)
        look()  # the cancel may have come together with the order to run
        await asyncio.wait([task])
        loop.remove_reader(channel)
        return raised(asyncio.CancelledError()) if task.cancelled() else task.result()

    return asyncio.run(main())
