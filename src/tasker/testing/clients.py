"""The real clients over an application in this process: no port, no network."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol, TypeVar, overload
from uuid import UUID

from tasker.client import AsyncTasker, Tasker
from tasker.client.core.effects import Call
from tasker.client.driving import AsyncDriver, Driver
from tasker.client.errors import TaskFailed
from tasker.testing.asgi import ASGIApp, AsyncTransport, CallOnLoop, SyncTransport

T = TypeVar("T")

URL = "http://127.0.0.1:5000"
"""Where the clients believe to be; nothing listens there for them."""

FindCause = Callable[[UUID], BaseException | None]
"""Returns what the function of a task has raised, if it is known."""


def _unknown(_: UUID) -> BaseException | None:
    return None


@dataclass(frozen=True)
class _Driver(Driver):
    """A driver whose TaskFailed is chained to what the function has raised."""

    cause_of: FindCause = field(default=_unknown)

    def run(self, call: Call[T]) -> T:
        try:
            return super().run(call)
        except TaskFailed as failed:
            failed.__cause__ = self.cause_of(failed.task_id)
            raise


@dataclass(frozen=True)
class _AsyncDriver(AsyncDriver):
    """The same for coroutines."""

    cause_of: FindCause = field(default=_unknown)

    async def run(self, call: Call[T]) -> T:
        try:
            return await super().run(call)
        except TaskFailed as failed:
            failed.__cause__ = self.cause_of(failed.task_id)
            raise


class InProcessTasker(Tasker):
    """A Tasker of an application on another thread's loop. It does not pause between tries."""

    def __init__(
        self, app: ASGIApp, call: CallOnLoop, cause_of: FindCause = _unknown, *, token: str | None = None
    ) -> None:
        super().__init__(URL, token, transport=SyncTransport(app, call), sleep=lambda seconds: None)
        made = self._driver
        self._take(_Driver(made.exchange, made.http, made.sleep, made.last, cause_of))


class InProcessAsyncTasker(AsyncTasker):
    """An AsyncTasker of an application on the same loop. It does not pause between tries."""

    def __init__(self, app: ASGIApp, cause_of: FindCause = _unknown, *, token: str | None = None) -> None:
        super().__init__(URL, token, transport=AsyncTransport(app), sleep=_no_pause)
        made = self._driver
        self._take(_AsyncDriver(made.exchange, made.http, made.sleep, made.last, cause_of))


async def _no_pause(seconds: float) -> None:
    pass


class HasAsgi(Protocol):
    """Something with an ASGI application: an App of `tasker.wiring`, a kit of `arun`."""

    @property
    def asgi(self) -> ASGIApp: ...


class HasLoop(HasAsgi, Protocol):
    """An application on the loop of another thread: a kit of `run`."""

    @property
    def call_on_loop(self) -> CallOnLoop: ...


@overload
def client(app: HasLoop, *, token: str | None = None) -> Tasker: ...  # type: ignore[overload-overlap]  # the first wins
@overload
def client(app: HasAsgi | ASGIApp, *, token: str | None = None) -> AsyncTasker: ...
def client(app: HasLoop | HasAsgi | ASGIApp, *, token: str | None = None) -> Tasker | AsyncTasker:
    """Return a client of an application in this process, without a port; close it, or use it by `with`.

    app: a kit of `run`, for a Tasker; a kit of `arun`, or any ASGI application that answers as the service does, for an
    AsyncTasker on the running loop.
    """
    asgi: ASGIApp = app.asgi if hasattr(app, "asgi") else app
    call: CallOnLoop | None = getattr(app, "call_on_loop", None)
    return InProcessAsyncTasker(asgi, token=token) if call is None else InProcessTasker(asgi, call, token=token)
