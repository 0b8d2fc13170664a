"""The program of a child process: `python -m tasker.executor.child SOCKET LIFELINE` (two open file descriptors).

Loads the task types once, then runs one attempt after the other in its main thread. Its imports are kept few: they
are the time that a fresh child takes to start.
"""

from __future__ import annotations

import contextlib
import faulthandler
import logging
import os
import resource
import socket
import sys
from collections.abc import Coroutine, Mapping
from datetime import timedelta
from typing import Any, NoReturn

import msgspec

from tasker.builtin import builtin_registry
from tasker.executor import lifeline
from tasker.executor.call import Call
from tasker.executor.channel import Channel
from tasker.executor.frames import (
    PIECE,
    Broken,
    Died,
    Ended,
    Init,
    Line,
    Log,
    Output,
    Progressed,
    Ready,
    Run,
    Usage,
    ended,
)
from tasker.executor.gate import Gate
from tasker.executor.outcomes import describe, raised
from tasker.executor.peak import OwnStatus
from tasker.executor.printed import Capture, Said
from tasker.executor.process_state import ProcessState
from tasker.model import Progress
from tasker.rules.lifecycle import Failed, Outcome, Snoozed, problem
from tasker.tasktypes.context import Context
from tasker.tasktypes.registry import Registry, TaskType, load, load_entry_points

LOAD_AGAIN = timedelta(seconds=30)
"""Until a task is tried again whose file a child could not load."""


class FrameReporter:
    """A Reporter that sends what it takes to the service; waits where the service does not keep up.

    It counts characters, the service bytes: what is dropped here, the service has cut off already.
    """

    def __init__(self, channel: Channel, said: Said) -> None:
        self._channel = channel
        self._said = said

    def progress(self, progress: Progress) -> None:
        self._channel.send(Progressed(progress))

    def output(self, chunk: str) -> None:
        for start in range(0, len(chunk), PIECE):
            piece = chunk[start : start + PIECE]
            if not self._said.is_heard(len(piece)):
                return
            self._channel.send(Output(piece))

    def log(self, level: str, message: str, fields: Mapping[str, Any]) -> None:
        if self._said.is_heard(len(message)):
            self._channel.send(Log(level, message, msgspec.json.encode(fields)))

    def usage(self, usage: Mapping[str, Any]) -> None:
        self._channel.send(Usage(msgspec.json.encode(usage)))


class Notice:
    """Whether the client has asked to cancel the attempt that runs, and whether its function has learnt of it."""

    def __init__(self, channel: Channel, run: Run) -> None:
        self._channel = channel
        self._run = run
        self.was_seen = False

    def check(self) -> bool:
        self.was_seen = self.was_seen or self._channel.is_cancelled(self._run)
        return self.was_seen


class Child:
    """Runs attempts until the service closes the channel."""

    def __init__(self, channel: Channel, init: Init, capture: Capture) -> None:
        self._channel = channel
        self._max_result = init.max_result
        self._registry = _load(init)
        self._has_entry_points = False
        self._said = capture.said
        self._reporter = FrameReporter(channel, self._said)
        self._status = OwnStatus()
        self._state = ProcessState(capture, self._status)
        self._spoilt: list[str] = []

    def serve(self) -> None:
        self._status.begin_peak()
        while isinstance(run := self._channel.receive(), Run):
            end = self._attempt(run) if not self._spoilt else self._decline()
            self._channel.send_undisturbed(end)
            if not end.leftovers:  # else the service ends this process
                self._spoilt = self._state.finish_restore()
                self._status.begin_peak()

    def _attempt(self, run: Run) -> Ended:
        gate = Gate(self._reporter)
        self._said.begin(run.max_output)
        notice = Notice(self._channel, run)
        try:
            outcome = self._outcome(run, Context(run.task_id, run.attempt, gate, notice.check), notice)
            left, peak = self._state.begin_restore()
        except BaseException as error:  # of a signal handler that the function has left, say
            left, peak = self._state.begin_restore()
            outcome = raised(error)
        gate.shut()
        if left:
            self._tell(f"the child process ends with this task, which has left behind: {', '.join(left)}")
        return ended(outcome, noticed=notice.was_seen, leftovers=bool(left or self._spoilt), peak_memory=peak)

    def _decline(self) -> Ended:
        """Leave this attempt to another child, at once and at no cost: the state was found to be spoilt too late."""
        self._tell(f"a task before this one has changed what cannot be put back: {', '.join(self._spoilt)}")
        return ended(Snoozed(timedelta(0)), noticed=False, leftovers=True)

    def _tell(self, text: str) -> None:
        self._channel.send(Line(logging.INFO, "tasker", text))

    def _outcome(self, run: Run, context: Context, notice: Notice) -> Outcome:
        task_type = self._find(run.type_name)
        if task_type is None:
            return self._without_type(run.type_name)
        call = Call(task_type, run.params, context, self._max_result)
        if task_type.is_async:
            return _drive(call.run_async(), self._channel, notice)
        return self._state.run(lambda: call.run(lambda coroutine: _drive(coroutine, self._channel, notice)))

    def _without_type(self, name: str) -> Outcome:
        """Return the outcome for a type that this child has not, though the service has it."""
        reason, detail = self._registry.refusal(name), self._registry.explain(name)
        if reason == "type-not-loaded":  # its file has changed since: the task waits until it can be loaded again
            self._channel.send(Line(logging.ERROR, "tasker", detail))
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


def _load(init: Init) -> Registry:
    sys.path[:] = init.sys_path
    registry = builtin_registry(_gpt_settings(init.gpt))
    load(registry, init.targets, all_there=False)
    return registry


def _gpt_settings(fields: dict[str, Any] | None) -> Any:
    if fields is None:
        return None
    from tasker.config.settings import GptSettings  # slow to import, and needed by one type alone

    return GptSettings.model_validate(fields)


def _drive(coroutine: Coroutine[Any, Any, Outcome], channel: Channel, notice: Notice) -> Outcome:
    """Run a coroutine to its end, cancelled when the client asks for it."""
    import asyncio  # slow to import: async functions run on the service's loop as a rule

    async def main() -> Outcome:
        loop = asyncio.get_running_loop()
        task = loop.create_task(coroutine)

        def look() -> None:
            if notice.check():
                loop.remove_reader(channel)
                task.cancel()

        loop.add_reader(channel, look)
        look()  # it may have come together with the order to run
        await asyncio.wait([task])
        loop.remove_reader(channel)
        return raised(asyncio.CancelledError()) if task.cancelled() else task.result()

    return asyncio.run(main())


def main(arguments: list[str]) -> None:
    faulthandler.enable()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    lifeline.arm(int(arguments[1]))
    lifeline.adopt_orphans()
    lifeline.prefer_for_oom_kill()
    channel = Channel(socket.socket(fileno=int(arguments[0])))
    init = channel.receive()
    try:
        if isinstance(init, Init):
            _serve(channel, init)
    except BaseException as error:  # none is meant to come here: a handler or a thread of a task may have raised it
        _die(channel, error)
    os._exit(0)  # threads that a task left behind must not keep the process alive


def _die(channel: Channel, error: BaseException) -> NoReturn:
    try:
        detail = type(error).__name__
        with contextlib.suppress(BaseException):  # a user's exception may raise when it is shown
            detail = describe(error)
        channel.send(Died(detail))
    finally:
        os._exit(1)


def _serve(channel: Channel, init: Init) -> None:
    capture = Capture(channel, init.log_level)
    try:
        child = Child(channel, init, capture)
    except BaseException as error:  # the users' modules run here: they may raise anything
        capture.flush()
        channel.send(Broken(describe(error)))
        return
    capture.flush()
    channel.send(Ready())
    child.serve()


if __name__ == "__main__":
    main(sys.argv[1:])
