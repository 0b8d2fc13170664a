"""Map a provider's error to the task's failure: retried or final, with which problem, without secrets. No I/O.

Retried: a failed connection, a timeout, 408, 409, 429 and 5xx, after Retry-After if there is one. Final: no quota, any
other 4xx, the content filter, and a text that broke off (connection lost, stream ended, silence), because a text that
has begun is billed, and a retry would be billed again.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from math import isfinite

from tasker.builtin.gpt.text import mend
from tasker.errors import Fail

MAX_RETRY_AFTER = timedelta(days=1)
"""Longest Retry-After that is obeyed; a longer one counts as this."""
MAX_DETAIL = 600
"""Characters kept of a provider's message; some answer with a page of HTML."""

_QUOTA = {"insufficient_quota", "billing_hard_limit_reached", "billing_not_active"}
_FILTERED = {"content_filter", "content_policy_violation", "misalignment_policy_violation", "bio_policy"}
_TRANSIENT = {"rate_limit_exceeded", "server_error", "vector_store_timeout", "overloaded_error", "timeout"}
_TRANSIENT_STATUSES = {HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.CONFLICT, HTTPStatus.TOO_MANY_REQUESTS}
_MIN_SECRET = 8
_MASK = "[key]"
_KEY_LIKE = re.compile(r"\bsk-[\w*.-]+|[\w.-]*\*{3,}[\w*.-]*")
_WORD = re.compile(rf"[\w-]{{{_MIN_SECRET},}}")


@dataclass(frozen=True)
class Refusal:
    """A provider's error. codes: the values that name its kind, from any field. after: from Retry-After."""

    speaker: str
    message: str
    status: int | None = None
    codes: frozenset[str] = frozenset()
    after: timedelta | None = None


def explain(refusal: Refusal) -> Fail:
    """Return the failure of an attempt that got `refusal`."""
    status = refusal.status or 0
    answered = f"{refusal.speaker} answered {refusal.status}" if refusal.status else f"{refusal.speaker} answered"
    detail = f"{answered}: {refusal.message}"
    if refusal.codes & _QUOTA:
        return Fail(detail, problem="gpt-quota")
    if refusal.codes & _FILTERED:
        return Fail(detail, problem="gpt-content-filter")
    is_server_error = status >= HTTPStatus.INTERNAL_SERVER_ERROR
    if is_server_error or status in _TRANSIENT_STATUSES or (not status and refusal.codes & _TRANSIENT):
        return Fail(detail, retry=True, after=refusal.after, problem="gpt-unavailable")
    return Fail(detail, problem="gpt-refused")


def unreachable(speaker: str, why: str) -> Fail:
    """Return the failure of an attempt that got no answer in time. It is retried."""
    return Fail(f"{speaker} {why}", retry=True, problem="gpt-unavailable")


def truncated(speaker: str, why: str) -> Fail:
    """Return the failure of an attempt whose text broke off. It is final: part of the text is billed."""
    return Fail(f"{speaker} {why}", problem="gpt-truncated")


def read_refusal(body: object) -> tuple[str, frozenset[str]]:
    """Return the message and the codes of an error's body, whichever shape the server gives it."""
    if not isinstance(body, Mapping):
        return str(body or "no reason was given"), frozenset()
    inner = body.get("error", body)
    if not isinstance(inner, Mapping):
        return str(inner), frozenset()
    codes = frozenset(str(inner[field]) for field in ("code", "type") if inner.get(field))
    return str(inner.get("message") or "no reason was given"), codes


def read_retry_after(headers: Mapping[str, str], now: datetime) -> timedelta | None:
    """Return the pause that a reply asks for, at most MAX_RETRY_AFTER, or None (RFC 9110, 10.2.3)."""
    millis = _read_number(headers.get("retry-after-ms", ""))
    text = headers.get("retry-after", "")
    seconds = millis / 1000 if millis is not None else _read_number(text)
    if seconds is None:
        seconds = _read_date(text, now)
    if seconds is None:
        return None
    return timedelta(seconds=min(max(seconds, 0.0), MAX_RETRY_AFTER.total_seconds()))


def _read_number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if isfinite(number) else None


def _read_date(text: str, now: datetime) -> float | None:
    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() - now.timestamp()


def redact(text: str, secret: str) -> str:
    """Return `text` on one line, shortened, without `secret`, parts of it, or anything that looks like a key."""
    text = mend(text)
    if len(secret) >= _MIN_SECRET:
        text = text.replace(secret, _MASK)
        text = _WORD.sub(lambda word: _MASK if word[0] in secret else word[0], text)
    elif secret:  # too short to be replaced inside words
        text = re.sub(rf"(?<![\w-]){re.escape(secret)}(?![\w-])", _MASK, text)
    text = " ".join(_KEY_LIKE.sub(_MASK, text).split())
    return text if len(text) <= MAX_DETAIL else f"{text[:MAX_DETAIL]}..."
