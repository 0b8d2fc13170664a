"""A task as Celery has it: a function with `delay`, `apply_async`, `retry` and its request."""

from __future__ import annotations

import inspect
import socket
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Generic, NoReturn, ParamSpec, TypeVar
from uuid import uuid4

from celery.exceptions import MaxRetriesExceededError
from celery.exceptions import Retry as CeleryRetry

from tasker import SyncContext
from tasker.contrib.arguments import is_packed, to_params
from tasker.contrib.celery import results
from tasker.contrib.celery.canvas import Signature
from tasker.contrib.celery.options import in_utc, submit_options, unsupported
from tasker.contrib.celery.running import Request, RetryRules, current, run_attempt
from tasker.contrib.celery.service import Service

P = ParamSpec("P")
R = TypeVar("R")

PUBLIC = (
    "AsyncResult", "apply", "apply_async", "apply_async_on_commit", "chunks", "delay", "delay_on_commit", "map",
    "max_retries", "name", "retry", "run", "s", "si", "signature", "starmap", "subtask", "update_state",
)  # fmt: skip
"""What the decorated function has of its Task."""


class Task(Generic[P, R]):
    """A task; the decorated function has its attributes, and a function with `bind=True` gets it as `self`."""

    def __init__(
        self,
        function: Callable[P, R],
        app: Service,
        *,
        name: str,
        bind: bool,
        rules: RetryRules,
        options: Mapping[str, Any],
    ) -> None:
        self.name = name
        self.max_retries = rules.max_retries
        self.default_retry_delay = rules.default_retry_delay
        self.app = app
        self._function = function.__get__(self) if bind else function
        self._rules = rules
        self.options = dict(options)
        self.parameters = tuple(inspect.signature(self._function).parameters.values())

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Run the function here, as a function."""
        token = current.set(Request(task=self.name, args=args, kwargs=kwargs))
        try:
            result: R = self._function(*args, **kwargs)
            return result
        finally:
            current.reset(token)

    def run(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Run the function here, as a function."""
        return self(*args, **kwargs)

    def __repr__(self) -> str:
        return f"<@task: {self.name}>"

    @property
    def request(self) -> Request:
        """What the running attempt knows of itself."""
        return current.get()

    @property
    def context(self) -> SyncContext:
        """Tasker's context of the running attempt: progress, output, log, steps. Raises RuntimeError without one."""
        context = current.get().context
        if context is None:
            raise RuntimeError(f"{self.name} is called as a function: it has no context")
        return context

    def delay(self, *args: P.args, **kwargs: P.kwargs) -> results.AsyncResult:
        """Submit the task with these arguments; it is stored when this returns.

        Raises TypeError (arguments that do not fit the function), InvalidRequest (values that do not fit the
        annotations), and other errors of tasker.client.
        """
        return self.apply_async(args, kwargs)

    def apply_async(
        self,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        *,
        task_id: str | None = None,
        countdown: float | timedelta | None = None,
        eta: datetime | None = None,
        expires: float | timedelta | datetime | None = None,
        queue: str | None = None,
        priority: int | None = None,
        time_limit: float | None = None,
        retry: bool = True,
        retry_policy: Mapping[str, Any] | None = None,
        **others: Any,
    ) -> results.AsyncResult:
        """Submit the task as `delay` does, with options; the decorator's options are their defaults.

        task_id: a UUID of your own; submitting it again makes no second task. countdown, eta: not before. expires:
        seconds, or a moment, after which no attempt starts. priority: -100 to 100, larger is sooner. time_limit:
        seconds of an attempt. retry, retry_policy: of sending, of which `max_retries` counts. Raises
        NotImplementedError for other options that Celery has, with the way to go, and ValueError for a task_id that is
        no UUID.
        """
        given = {
            "countdown": countdown, "eta": eta, "expires": expires, "queue": queue, "priority": priority,
            "time_limit": time_limit, **others,
        }  # fmt: skip
        options = submit_options(
            **{**self.options, **{name: value for name, value in given.items() if value is not None}}
        )
        params = to_params(self.parameters, args or (), kwargs or {})
        tries = (retry_policy or {}).get("max_retries") if retry else 0
        return self.app.submit(self.name, params, options, task_id or str(uuid4()), retries=tries)

    def delay_on_commit(self, *args: P.args, **kwargs: P.kwargs) -> None:
        """Submit the task when Django's open transaction commits, never if it rolls back; at once without one."""
        self.apply_async_on_commit(args, kwargs)

    def apply_async_on_commit(self, *args: Any, **options: Any) -> None:
        """Do what apply_async does, when Django's open transaction commits."""
        from django.db import transaction  # its projects have it

        transaction.on_commit(lambda: self.apply_async(*args, **options))

    def retry(
        self,
        args: Any = None,
        kwargs: Any = None,
        exc: Exception | None = None,
        throw: bool = True,
        eta: datetime | None = None,
        countdown: float | None = None,
        max_retries: int | None = None,
        **others: Any,
    ) -> Exception:
        """Run the task again in `countdown` seconds (default: default_retry_delay) or at `eta`: `raise self.retry()`.

        It raises celery.exceptions.Retry by itself, which ends the attempt. After `max_retries` retries it raises
        `exc`, else MaxRetriesExceededError; so it does in a function that is called directly. Other arguments than
        those of this attempt, and options, need a new task: NotImplementedError.
        """
        if args is not None or kwargs is not None or others or not throw:
            unsupported("retry with other arguments, options, or throw=False", "submit a new task with apply_async")
        request = self.request
        limit = self.max_retries if max_retries is None else max_retries
        if request.called_directly or (limit is not None and request.retries >= limit):
            raise exc or MaxRetriesExceededError(
                f"Can't retry {self.name}[{request.id}] args:{request.args} kwargs:{request.kwargs}"
            )
        when = in_utc(eta) if eta else self.default_retry_delay if countdown is None else countdown
        raise CeleryRetry(exc=exc, when=when)

    def update_state(
        self, task_id: str | None = None, state: str | None = None, meta: Mapping[str, Any] | None = None, **_: Any
    ) -> None:
        """Report progress: `current`, `total` and `status` of `meta`. The state becomes PROGRESS, not `state`.

        Raises NotImplementedError for other members, and for another task.
        """
        known = {"current": None, "total": None, "status": None} | dict(meta or {})
        if task_id is not None or len(known) > 3:
            unsupported("state of your own", "report current, total and status, or use self.context.log and output")
        self.context.progress(current=known["current"], total=known["total"], message=known["status"])

    def AsyncResult(self, task_id: str) -> results.AsyncResult:  # noqa: N802  Celery's name
        """Return the result of a task by its id."""
        return self.app.AsyncResult(task_id)

    def s(self, *args: Any, **kwargs: Any) -> Signature:
        """Return the call with these arguments as a value."""
        return self.signature(args, kwargs)

    si = s

    def signature(self, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None, **options: Any) -> Signature:
        """Return the call with these arguments and options as a value."""
        return Signature(self.name, self.apply_async, tuple(args), dict(kwargs or {}), options)

    subtask = signature

    def apply(self, *_: Any, **__: Any) -> NoReturn:
        """Raise NotImplementedError."""
        unsupported("apply", f"call {self.name} as a function, or run it with tasker.testing (docs/testing.md)")

    def map(self, *_: Any, **__: Any) -> NoReturn:
        """Raise NotImplementedError."""
        unsupported("map", "use group(task.s(one) for one in many)")

    starmap = chunks = map

    def run_here(self, context: SyncContext, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
        """Run an attempt of the task with the params that the service gives."""
        if is_packed(self.parameters):
            args, kwargs = args
        request = Request(
            id=str(context.task_id), task=self.name, args=tuple(args), kwargs=kwargs, retries=context.attempt - 1,
            called_directly=False, hostname=socket.gethostname(), context=context,
        )  # fmt: skip
        return run_attempt(self._function, request, self.retry, self._rules)
