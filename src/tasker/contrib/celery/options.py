"""Options of Celery's calls and decorators, and what they are in Tasker."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, NoReturn

from tasker.client import SubmitOptions

_WITHOUT_EFFECT = frozenset(
    {
        "add_to_parent", "compression", "connection", "ignore_result", "producer", "publisher", "reply_to",
        "reject_on_worker_lost", "send_events", "serializer", "shadow", "store_errors_even_if_ignored", "strict_typing",
        "throws", "track_started", "trail", "typing",
    }
)  # fmt: skip
"""Options about brokers, messages and what Celery stores: Tasker needs none of them."""
_WAYS = {
    "base": "write a function that the task calls, or a decorator below @shared_task",
    "after_return": "call it at the end of the function",
    "before_start": "call it at the start of the function",
    "exchange": "name a queue with `queue`",
    "headers": "pass them as an argument",
    "link": "call the next task at the end of this one, or write one task that does both in steps (docs/steps.md)",
    "link_error": "catch the exception in the task, or let a webhook tell you of `failed` (docs/webhooks.md)",
    "on_failure": "catch the exception in the function, or use a webhook (docs/webhooks.md)",
    "on_retry": "call it before self.retry()",
    "on_success": "call it at the end of the function",
    "pydantic": "annotate the parameters: Tasker reads models of pydantic by itself",
    "rate_limit": "limit the queue: `tasker queue limit` (docs/queues.md)",
    "request_stack": "use self.request",
    "routing_key": "name a queue with `queue`",
    "soft_time_limit": "use time_limit; a function that has to end early looks at self.context.cancelled",
    "chord": "write a task that runs others and waits for them: context.map (docs/steps.md)",
}
"""What to do instead of an option that does not work."""


def unsupported(what: str, way: str) -> NoReturn:
    """Raise the NotImplementedError that says what to do instead."""
    raise NotImplementedError(f"tasker.contrib.celery has no {what}: {way}")


def refuse(options: Mapping[str, Any]) -> None:
    """Raise NotImplementedError for an option that Tasker does not have; ignore those that have no effect here."""
    for name, value in options.items():
        if value is not None and name not in _WITHOUT_EFFECT:
            unsupported(f"option {name!r}", _WAYS.get(name, "see docs/celery.md for what there is"))


def submit_options(
    *,
    countdown: float | timedelta | None = None,
    eta: datetime | None = None,
    expires: float | timedelta | datetime | None = None,
    queue: str | None = None,
    priority: int | None = None,
    time_limit: float | None = None,
    group_id: str | None = None,
    **others: Any,
) -> SubmitOptions:
    """Return the options of a submission for those of apply_async. Raises NotImplementedError; see `refuse`."""
    refuse(others)
    return SubmitOptions(
        queue=queue,
        priority=priority,
        delay=countdown or None,
        run_at=None if eta is None else in_utc(eta),
        deadline=None if expires is None else _moment(expires),
        timeout=time_limit,
        group=group_id,
    )


def in_utc(moment: datetime) -> datetime:
    """Return a moment with a zone; UTC, as in Celery, if it has none."""
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)


def _moment(expires: float | timedelta | datetime) -> datetime:
    if isinstance(expires, datetime):
        return in_utc(expires)
    return datetime.now(UTC) + (expires if isinstance(expires, timedelta) else timedelta(seconds=expires))
