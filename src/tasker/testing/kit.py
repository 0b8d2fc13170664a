"""The test kit: a service for one test, with a clock moved by hand, and the real client over it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import ExitStack, asynccontextmanager, contextmanager
from datetime import datetime, timedelta
from typing import Any

from tasker.client import AsyncTasker, Tasker
from tasker.model import Task
from tasker.tasktypes.children import Target
from tasker.testing.asgi import ASGIApp
from tasker.testing.clients import InProcessAsyncTasker, InProcessTasker
from tasker.testing.clock import START
from tasker.testing.failures import HowToFail
from tasker.testing.portal import Portal
from tasker.testing.stage import RUNS_AT_ONCE, RUNS_IN_TIME, Ran, Stage, open_stage
from tasker.testing.targets import What


class _Kit:
    """What both kits have: what a test sets, without waiting for anything.

    gpt: sets what `gpt` tasks answer.
    """

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self.gpt = stage.gpt

    @property
    def now(self) -> datetime:
        """The time of the service."""
        return self._stage.clock.now()

    def fail_next(
        self,
        what: Target,
        error: HowToFail | None = None,
        *,
        times: int = 1,
    ) -> None:
        """Have the next attempts of a type fail, without running their function.

        error: an exception that its function would raise (a RuntimeError by default), "crash" (its process dies) or
        "timeout". Raises Invalid for an unknown type.
        """
        self._stage.fail_next(what, error or RuntimeError("fail_next made this attempt fail"), times)


class Kit(_Kit):
    """The kit of `run`. submit, run: those of `client`, a Tasker; the handles are its own, too.

    asgi: the application, for other clients; call_on_loop: runs a coroutine on its loop.
    """

    def __init__(self, stage: Stage, client: Tasker, portal: Portal) -> None:
        super().__init__(stage)
        self._portal = portal
        self.asgi: ASGIApp = stage.asgi
        self.call_on_loop = portal.call
        self.client = client
        self.submit = client.submit
        self.run = client.run

    def drain(self, *, limit: int = RUNS_AT_ONCE) -> list[Ran]:
        """Run all that is due now, and what comes of it, one attempt after the other; return them in order.

        Raises TooManyRuns after `limit` attempts.
        """
        return self._portal.call(self._stage.drain(limit))

    def advance(
        self,
        by: timedelta | None = None,
        *,
        days: float = 0,
        hours: float = 0,
        minutes: float = 0,
        seconds: float = 0,
        run: bool = True,
        limit: int = RUNS_IN_TIME,
    ) -> list[Ran]:
        """Let time pass, as a running service would see it: schedules fire, sleeps end and retries run at their times.

        run: False for a time without workers: schedules fire, deadlines pass, and nothing runs. Raises TooManyRuns.
        """
        return self._portal.call(self._stage.advance(_sum(by, days, hours, minutes, seconds), run=run, limit=limit))

    def submitted(self, what: Target | None = None) -> list[Task]:
        """Return what was submitted, of one type or of all, the oldest first: by tests, tasks and schedules."""
        return self._portal.call(self._stage.submitted(what))

    def assert_submitted(self, what: Target, /, *args: Any, times: int | None = None, **params: Any) -> list[Task]:
        """Return the tasks of a type whose params include these; times: how many. Raises AssertionError."""
        return self._portal.call(self._stage.assert_submitted(what, args, params, times))

    def assert_not_submitted(self, what: Target, /, *args: Any, **params: Any) -> None:
        """Raise AssertionError if there is a task of a type whose params include these."""
        self._portal.call(self._stage.assert_submitted(what, args, params, 0))


class AsyncKit(_Kit):
    """The kit of `arun`. submit, run: those of `client`, an AsyncTasker. asgi: the application, for other clients."""

    def __init__(self, stage: Stage, client: AsyncTasker) -> None:
        super().__init__(stage)
        self.asgi: ASGIApp = stage.asgi
        self.client = client
        self.submit = client.submit
        self.run = client.run

    async def drain(self, *, limit: int = RUNS_AT_ONCE) -> list[Ran]:
        """Run all that is due now, and what comes of it, one attempt after the other; return them in order.

        Raises TooManyRuns after `limit` attempts.
        """
        return await self._stage.drain(limit)

    async def advance(
        self,
        by: timedelta | None = None,
        *,
        days: float = 0,
        hours: float = 0,
        minutes: float = 0,
        seconds: float = 0,
        run: bool = True,
        limit: int = RUNS_IN_TIME,
    ) -> list[Ran]:
        """Let time pass, as a running service would see it: schedules fire, sleeps end and retries run at their times.

        run: False for a time without workers: schedules fire, deadlines pass, and nothing runs. Raises TooManyRuns.
        """
        return await self._stage.advance(_sum(by, days, hours, minutes, seconds), run=run, limit=limit)

    async def submitted(self, what: Target | None = None) -> list[Task]:
        """Return what was submitted, of one type or of all, the oldest first: by tests, tasks and schedules."""
        return await self._stage.submitted(what)

    async def assert_submitted(
        self, what: Target, /, *args: Any, times: int | None = None, **params: Any
    ) -> list[Task]:
        """Return the tasks of a type whose params include these; times: how many. Raises AssertionError."""
        return await self._stage.assert_submitted(what, args, params, times)

    async def assert_not_submitted(self, what: Target, /, *args: Any, **params: Any) -> None:
        """Raise AssertionError if there is a task of a type whose params include these."""
        await self._stage.assert_submitted(what, args, params, 0)


@contextmanager
def run(*tasks: What, start: datetime = START, **settings: Any) -> Iterator[Kit]:
    """Run a service for one test, with a Tasker: `with run("mytasks.py") as t:`.

    tasks: files, folders, modules, functions; the built-in types are there, too. start: the time that its clock shows.
    settings: those of a service, by their names in Python (`max_pending=3`; seconds for times).

    It is the real service on a store of its own, in memory where the system allows it, on a loop in its own thread.
    Nothing in it happens by itself: `drain` runs what is due, `advance` moves the clock, and whoever waits for a task
    lets what is due run first. Functions run in this process, one at a time.
    Raises RegistrationError for tasks that cannot be loaded.
    """
    with ExitStack() as stack:
        portal = Portal()
        stack.callback(portal.close)
        stage = portal.enter(stack, open_stage(tasks, start, **settings))
        client = InProcessTasker(stage.asgi, portal.call, stage.cause_of, token=_token_of(settings))
        stack.callback(client.close)
        yield Kit(stage, client, portal)


@asynccontextmanager
async def arun(*tasks: What, start: datetime = START, **settings: Any) -> AsyncIterator[AsyncKit]:
    """Do what `run` does on the running loop, with an AsyncTasker: `async with arun("mytasks.py") as t:`."""
    async with (
        open_stage(tasks, start, **settings) as stage,
        InProcessAsyncTasker(stage.asgi, stage.cause_of, token=_token_of(settings)) as client,
    ):
        yield AsyncKit(stage, client)


def _token_of(settings: Mapping[str, Any]) -> str | None:
    token = settings.get("token")
    return None if token is None else str(getattr(token, "get_secret_value", lambda: token)())


def _sum(by: timedelta | None, days: float, hours: float, minutes: float, seconds: float) -> timedelta:
    return (by or timedelta(0)) + timedelta(days=days, hours=hours, minutes=minutes, seconds=seconds)
