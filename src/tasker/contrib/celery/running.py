"""The worker's side of a task: its request, and how it asks to be run again."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from celery.exceptions import Ignore, Reject
from celery.exceptions import Retry as CeleryRetry
from celery.utils.time import get_exponential_backoff_interval

from tasker import Snooze, SyncContext
from tasker.contrib.celery.options import in_utc


@dataclass(frozen=True, kw_only=True)
class Request:
    """What a running task knows of itself: `self.request`.

    retries: attempts before this one. called_directly: the function was called as a function, without a service.
    """

    id: str | None = None
    task: str = ""
    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = field(default_factory=dict)
    retries: int = 0
    called_directly: bool = True
    hostname: str | None = None
    context: SyncContext | None = field(default=None, repr=False)


NONE = Request()
current: ContextVar[Request] = ContextVar("current", default=NONE)


@dataclass(frozen=True, kw_only=True)
class RetryRules:
    """When a task is run again by itself, and how often: options of the decorator, with Celery's defaults.

    max_retries: None for ever. Times are seconds.
    """

    max_retries: int | None = 3
    default_retry_delay: float = 180
    autoretry_for: tuple[type[Exception], ...] = ()
    dont_autoretry_for: tuple[type[Exception], ...] = ()
    retry_kwargs: dict[str, Any] = field(default_factory=dict)
    retry_backoff: bool | float = False
    retry_backoff_max: float = 600
    retry_jitter: bool = True

    def countdown(self, retries: int) -> float:
        """Return the seconds before the next attempt after so many."""
        if not self.retry_backoff:
            return self.default_retry_delay
        seconds: float = get_exponential_backoff_interval(
            factor=int(max(1.0, self.retry_backoff)),
            retries=retries,
            maximum=int(self.retry_backoff_max),
            full_jitter=self.retry_jitter,
        )
        return seconds

    def wants(self, error: Exception) -> bool:
        """Tell whether a task that raised this is run again by itself."""
        never = (CeleryRetry, Ignore, Reject, Snooze, *self.dont_autoretry_for)
        return isinstance(error, self.autoretry_for) and not isinstance(error, never)


def run_attempt(
    function: Callable[..., Any], request: Request, retry: Callable[..., Exception], rules: RetryRules
) -> Any:
    """Run the function of a task as an attempt, and return its result.

    retry: Task.retry. Raises Snooze for a task that wants to be run again, else what the function raised.
    """
    token = current.set(request)
    try:
        return _call(function, request, retry, rules)
    except CeleryRetry as error:
        after = _seconds_until(error.when)
        if request.context is not None:
            request.context.log(f"runs again in {after:g} s: {error}", level="warning")
        raise Snooze(after) from error
    except Ignore:
        return None
    finally:
        current.reset(token)


def _call(function: Callable[..., Any], request: Request, retry: Callable[..., Exception], rules: RetryRules) -> Any:
    try:
        return function(*request.args, **request.kwargs)
    except Exception as error:
        if not rules.wants(error):
            raise
        options = {"countdown": rules.countdown(request.retries)} if rules.retry_backoff else {}
        raise retry(exc=error, **(rules.retry_kwargs | options)) from error


def _seconds_until(when: Any) -> float:
    if isinstance(when, datetime):
        return max(0.0, (in_utc(when) - datetime.now(UTC)).total_seconds())
    return float(when or 0)
