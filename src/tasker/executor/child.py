"""The program of a child process: `python -m tasker.executor.child SOCKET LIFELINE` (two open file descriptors).

Loads the task types once, then runs one attempt after the other in its main thread. Its imports are kept few: they
are the time that a fresh child takes to start.
"""

from __future__ import annotations

import faulthandler
import os
import resource
import socket
import sys
from collections.abc import Coroutine, Mapping
from typing import Any

import msgspec

from tasker.builtin import builtin_registry
from tasker.context import Context
from tasker.executor import lifeline
from tasker.executor.call import Call
from tasker.executor.channel import Channel
from tasker.executor.frames import (
    PIECE,
    Broken,
    Ended,
    Init,
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
from tasker.executor.peak import begin_anew, peak_memory
from tasker.executor.printed import Capture
from tasker.lifecycle import Failed, Outcome, problem
from tasker.model import Progress
from tasker.registry import Registry, TaskType, load, load_entry_points


class FrameReporter:
    """A Reporter that sends what it takes to the service."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel

    def progress(self, progress: Progress) -> None:
        self._channel.send(Progressed(progress))

    def output(self, chunk: str) -> None:
        for start in range(0, len(chunk), PIECE):
            self._channel.send(Output(chunk[start : start + PIECE]))

    def log(self, level: str, message: str, fields: Mapping[str, Any]) -> None:
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
        self._capture = capture
        self._max_result = init.max_result
        self._registry = _load(init)
        self._has_entry_points = False

    def serve(self) -> None:
        while isinstance(run := self._channel.receive(), Run):
            self._channel.send(self._attempt(run))

    def _attempt(self, run: Run) -> Ended:
        begin_anew()
        gate = Gate(FrameReporter(self._channel))
        notice = Notice(self._channel, run)
        outcome = self._outcome(run, Context(run.task_id, run.attempt, gate, notice.check), notice)
        gate.shut()
        self._capture.flush()
        return ended(outcome, noticed=notice.was_seen, leftovers=lifeline.has_children(), peak_memory=peak_memory())

    def _outcome(self, run: Run, context: Context, notice: Notice) -> Outcome:
        task_type = self._find(run.type_name)
        if task_type is None:
            return Failed(
                problem("unknown-type", f"{run.type_name} is in none of the files and modules that tasks are in")
            )
        call = Call(task_type, run.params, context, self._max_result)
        if task_type.is_async:
            return _drive(call.run_async(), self._channel, notice)
        return call.run(lambda coroutine: _drive(coroutine, self._channel, notice))

    def _find(self, name: str) -> TaskType | None:
        """Return the type. Entry points are looked for only when a task needs one: the search is slow."""
        if name not in self._registry and not self._has_entry_points:
            self._has_entry_points = True
            load_entry_points(self._registry)
        return self._registry.find(name)


def _load(init: Init) -> Registry:
    sys.path[:] = init.sys_path
    registry = builtin_registry(_gpt_settings(init.gpt))
    load(registry, init.targets)
    return registry


def _gpt_settings(fields: dict[str, Any] | None) -> Any:
    if fields is None:
        return None
    from tasker.config import GptSettings  # slow to import, and needed by one type alone

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
    if isinstance(init, Init):
        _serve(channel, init)
    os._exit(0)  # threads that a task left behind must not keep the process alive


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
