"""The way of a function on a loop to the requests of its attempt, which are answered on the service's loop."""

from __future__ import annotations

import asyncio
from typing import Any

from tasker.executor.loop_reporter import Home
from tasker.executor.requests import Requests
from tasker.model.steps import Step
from tasker.tasktypes.steps import AnyAnswer, AnyRequest, Stepper


class LoopPort:
    """An AsyncPort. back: leads to the service's loop; the function's home leads to it, once it has begun."""

    def __init__(self, stepper: Stepper, requests: Requests, back: Home, max_value: int) -> None:
        self.stored: tuple[Step, ...] = stepper.stored
        self.max_value = max_value
        self._requests = requests
        self._back = back
        self._home: Home = back
        self._loop: asyncio.AbstractEventLoop | None = None

    def begin(self, home: Home, loop: asyncio.AbstractEventLoop) -> None:
        """The function begins on this loop."""
        self._home, self._loop = home, loop

    def ask(self, request: AnyRequest) -> asyncio.Future[AnyAnswer]:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[AnyAnswer] = loop.create_future()
        self._back.post(self._requests.serve, request, Reply(self, loop, future))
        return future


class Reply:
    """Brings an answer to the loop that waits for it: nearly always the function's own."""

    __slots__ = ("_future", "_loop", "_port")

    def __init__(self, port: LoopPort, loop: asyncio.AbstractEventLoop, future: asyncio.Future[AnyAnswer]) -> None:
        self._port = port
        self._loop = loop
        self._future = future

    def __call__(self, answer: AnyAnswer) -> None:
        if self._loop is self._port._loop:
            self._port._home.post(set_answer, self._future, answer)
        elif not self._loop.is_closed():
            self._loop.call_soon_threadsafe(set_answer, self._future, answer)


def set_answer(future: asyncio.Future[Any], answer: AnyAnswer) -> None:
    """Set an answer, unless nobody waits for it any more."""
    if not future.done():
        future.set_result(answer)
