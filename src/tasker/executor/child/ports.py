"""The ways of functions in a child process to the worker: over the channel."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import TYPE_CHECKING

from tasker.executor import frames
from tasker.executor.child.channel import Channel
from tasker.model.steps import Step
from tasker.tasktypes.steps import AnyAnswer, AnyRequest

if TYPE_CHECKING:  # slow to import: async functions run on the service's loop as a rule
    import asyncio


class Slot:
    """Where the answer to a request arrives."""

    __slots__ = ("answer",)

    def __init__(self) -> None:
        self.answer: AnyAnswer | None = None

    def put(self, answer: AnyAnswer) -> None:
        self.answer = answer


class ChildPort:
    """What both ways have in common. The steps have come with the order to run."""

    def __init__(self, channel: Channel, run: frames.Run, stored: tuple[Step, ...], max_value: int) -> None:
        self.stored = stored
        self.max_value = max_value
        self._channel = channel
        self._run = run


class BlockingPort(ChildPort):
    """A SyncPort: the thread that asks waits."""

    def ask(self, request: AnyRequest) -> AnyAnswer:
        slot = Slot()
        self._channel.ask(self._run, request, slot.put)
        self._channel.wait(lambda: slot.answer is not None)
        assert slot.answer is not None
        return slot.answer

    def wait(self, request: AnyRequest | None, seconds: float | None, until: Callable[[], bool]) -> AnyAnswer | None:
        slot = Slot()
        if request is not None:
            self._channel.ask(self._run, request, slot.put)

        def is_over() -> bool:
            return slot.answer is not None or until() or self._channel.has_cancel(self._run)

        self._channel.wait(is_over, seconds)
        return slot.answer

    def wake(self) -> None:
        self._channel.wake()


class LoopedPort(ChildPort):
    """An AsyncPort, of a function on a loop in the child; that loop reads the channel."""

    def ask(self, request: AnyRequest) -> asyncio.Future[AnyAnswer]:
        import asyncio

        loop = asyncio.get_running_loop()
        future: asyncio.Future[AnyAnswer] = loop.create_future()

        def reply(answer: AnyAnswer) -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(_set, future, answer)

        self._channel.ask(self._run, request, reply)
        return future


def _set(future: asyncio.Future[AnyAnswer], answer: AnyAnswer) -> None:
    if not future.done():
        future.set_result(answer)
