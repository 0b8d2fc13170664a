"""Decide what follows an attempt to notify a receiver: done, retry or give up. Pure."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from random import Random

from msgspec import Struct

from tasker.model.webhooks import DeliveryOutcome, DeliveryStatus, Failure

RETRY_WITHIN = tuple(
    timedelta(seconds=seconds) for seconds in (20, 120, 1200, 2 * 3600, 6 * 3600, 16 * 3600, 24 * 3600)
)
"""The longest pause after each failed try except the last; the pause is random between zero and this."""
MAX_TRIES = len(RETRY_WITHIN) + 1
MOST_RETRY_AFTER = timedelta(hours=24)
"""The longest pause that a receiver may ask for by Retry-After."""
PAUSE_AFTER = timedelta(days=3)
"""A webhook that has failed for this long without a success is paused."""


class Answer(Struct, frozen=True, kw_only=True):
    """The result of one request: an HTTP status, or a failure before there was one; duration in seconds."""

    duration: float
    status: int | None = None
    retry_after: str | None = None
    failure: Failure | None = None


def decide(answer: Answer, tries: int, now: datetime, random: Random) -> DeliveryOutcome:
    """Return the changes of a delivery after the answer to try number `tries`."""
    if answer.status is not None and 200 <= answer.status < 300:
        return _outcome(answer, None, now, due_at=None)
    failure = answer.failure or Failure(name="refused", detail=f"the receiver answered {answer.status}")
    if answer.status == 410:
        return _outcome(answer, failure, now, due_at=None, pause="the receiver answered 410 Gone")
    if failure.name == "unsafe-url" or tries >= MAX_TRIES:
        return _outcome(answer, failure, now, due_at=None)
    pause = max(RETRY_WITHIN[tries - 1] * random.random(), _asked_pause(answer.retry_after, now))
    return _outcome(answer, failure, now, due_at=now + pause)


def _outcome(
    answer: Answer, failure: Failure | None, now: datetime, *, due_at: datetime | None, pause: str | None = None
) -> DeliveryOutcome:
    status: DeliveryStatus = "delivered" if failure is None else "failed" if due_at is None else "pending"
    return DeliveryOutcome(
        status=status,
        at=now,
        due_at=due_at,
        response_code=answer.status,
        duration=answer.duration,
        error=failure,
        pause=pause,
    )


def _asked_pause(retry_after: str | None, now: datetime) -> timedelta:
    """Return how long the receiver wants us to wait (RFC 9110, 10.2.3), within bounds."""
    if retry_after is None:
        return timedelta(0)
    if retry_after.isascii() and retry_after.isdecimal():
        return min(timedelta(seconds=int(retry_after[:9])), MOST_RETRY_AFTER)
    try:
        moment = parsedate_to_datetime(retry_after)
    except (ValueError, TypeError, OverflowError):
        return timedelta(0)
    moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment
    return min(max(moment - now, timedelta(0)), MOST_RETRY_AFTER)
