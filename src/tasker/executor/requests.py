"""The requests of one attempt about its steps: answered on the service's loop, several at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import structlog

from tasker.model import Claim
from tasker.tasktypes.steps import AnyAnswer, AnyRequest, Refused, Stepper, Superseded

_log = structlog.get_logger("tasker.executor")


class Requests:
    """Answers the requests of an attempt until it ends; then those that are open get Superseded."""

    def __init__(self, stepper: Stepper, claim: Claim) -> None:
        self._stepper = stepper
        self._claim = claim
        self._open: set[asyncio.Task[AnyAnswer]] = set()
        self._is_closed = False

    def serve(self, request: AnyRequest, reply: Callable[[AnyAnswer], None]) -> None:
        """Begin to answer a request; `reply` is called once, with the answer."""
        if self._is_closed:
            reply(Superseded())
            return
        task = asyncio.get_running_loop().create_task(self._answer(request))
        self._open.add(task)

        def answered(task: asyncio.Task[AnyAnswer]) -> None:
            self._open.discard(task)
            reply(Superseded() if task.cancelled() else task.result())  # it may be cancelled before it begins

        task.add_done_callback(answered)

    async def _answer(self, request: AnyRequest) -> AnyAnswer:
        try:
            return await self._stepper.answer(request)
        except Exception as error:  # a bug of ours: the function must not hang because of it
            _log.exception("step.not_answered", task_id=str(self._claim.task_id), type=self._claim.type)
            return Refused("internal", f"the service failed: {error!r}"[:500])

    def close(self) -> None:
        """The attempt has ended: cancel what is open."""
        self._is_closed = True
        for task in tuple(self._open):
            task.cancel()
