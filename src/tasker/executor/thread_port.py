"""The way of a `def` function in a thread of the service to the requests of its attempt."""

from __future__ import annotations

from collections.abc import Callable
from threading import Condition

from tasker.executor.attempt import Stop
from tasker.executor.loop_reporter import Home
from tasker.executor.requests import Requests
from tasker.model.steps import Step
from tasker.tasktypes.steps import AnyAnswer, AnyRequest, Stepper, Superseded


class ThreadPort:
    """A SyncPort: the thread that asks waits. back: leads to the service's loop."""

    def __init__(self, stepper: Stepper, requests: Requests, back: Home, max_value: int, stop: Stop) -> None:
        self.stored: tuple[Step, ...] = stepper.stored
        self.max_value = max_value
        self._requests = requests
        self._back = back
        self._stop = stop
        self._changed = Condition()
        self._is_closed = False

    def ask(self, request: AnyRequest) -> AnyAnswer:
        replies = self._send(request)
        with self._changed:
            self._changed.wait_for(lambda: replies or self._is_closed)
        return replies[0] if replies else Superseded()

    def wait(self, request: AnyRequest | None, seconds: float | None, until: Callable[[], bool]) -> AnyAnswer | None:
        replies = [] if request is None else self._send(request)
        with self._changed:
            self._changed.wait_for(lambda: replies or self._is_closed or until() or self._stop.cancelled, seconds)
        if self._is_closed and not replies:
            return Superseded() if request is not None else None
        return replies[0] if replies else None

    def wake(self) -> None:
        """Have all threads that wait look again; from any thread."""
        with self._changed:
            self._changed.notify_all()

    def close(self) -> None:
        """Supersede all requests that are open, and those to come: the attempt is decided."""
        self._is_closed = True
        self.wake()

    def _send(self, request: AnyRequest) -> list[AnyAnswer]:
        """Make a request; return the list that will have its answer."""
        replies: list[AnyAnswer] = []

        def reply(answer: AnyAnswer) -> None:
            with self._changed:
                replies.append(answer)
                self._changed.notify_all()

        if not self._is_closed:
            self._back.post(self._requests.serve, request, reply)
        return replies
