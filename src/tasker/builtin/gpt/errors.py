"""What a provider's refusal means for the task: tried again or not, under which problem, with no secret in its words.

No I/O. The rules: connection, timeout, 408, 409, 429 and 5xx are tried again (after Retry-After where one is given);
no quota, every other 4xx, the content filter and a text that broke off are final: by a lost connection, by its end,
or by silence. One that has begun is paid for, and trying again would be paid for again.
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
"""A provider that asks for more patience than this is asked again after this."""
MAX_DETAIL = 600
"""Characters of a provider's message that are kept; some answer with a page of HTML."""

_QUOTA = {"insufficient_quota", "billing_hard_limit_reached", "billing_not_active"}
_FILTERED = {"content_filter", "content_policy_violation", "misalignment_policy_violation", "bio_policy"}
_PASSING = {"rate_limit_exceeded", "server_error", "vector_store_timeout", "overloaded_error", "timeout"}
_PASSING_STATUS = {HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.CONFLICT, HTTPStatus.TOO_MANY_REQUESTS}
_SHORT_SECRET = 8
_MASK = "[key]"
_KEY_LIKE = re.compile(r"\bsk-[\w*.-]+|[\w.-]*\*{3,}[\w*.-]*")
_WORD = re.compile(rf"[\w-]{{{_SHORT_SECRET},}}")


@dataclass(frozen=True)
class Refusal:
    """What a provider said instead of the text. `codes` are its own words for the kind of error, in any field."""

    speaker: str
    message: str
    status: int | None = None
    codes: frozenset[str] = frozenset()
    after: timedelta | None = None


def explain(refusal: Refusal) -> Fail:
    """Return how the attempt ends after `refusal`."""
    status = refusal.status or 0
    said = f"{refusal.speaker} answered {refusal.status}" if refusal.status else f"{refusal.speaker} answered"
    detail = f"{said}: {refusal.message}"
    if refusal.codes & _QUOTA:
        return Fail(detail, problem="gpt-quota")
    if refusal.codes & _FILTERED:
        return Fail(detail, problem="gpt-content-filter")
    if (
        status in _PASSING_STATUS
        or status >= HTTPStatus.INTERNAL_SERVER_ERROR
        or (not status and refusal.codes & _PASSING)
    ):
        return Fail(detail, retry=True, after=refusal.after, problem="gpt-unavailable")
    return Fail(detail, problem="gpt-refused")


def unreachable(speaker: str, why: str) -> Fail:
    """Return the failure of an attempt that got no answer, or none in time."""
    return Fail(f"{speaker} {why}", retry=True, problem="gpt-unavailable")


def truncated(speaker: str, why: str) -> Fail:
    """Return the failure of an attempt whose text broke off: part of it was written and billed, so it is final."""
    return Fail(f"{speaker} {why}", problem="gpt-truncated")


def read_refusal(body: object) -> tuple[str, frozenset[str]]:
    """Return the message and the codes of an error's body, in any of the shapes that servers give it."""
    if not isinstance(body, Mapping):
        return str(body or "no reason was given"), frozenset()
    inner = body.get("error", body)
    if not isinstance(inner, Mapping):
        return str(inner), frozenset()
    codes = frozenset(str(inner[field]) for field in ("code", "type") if inner.get(field))
    return str(inner.get("message") or "no reason was given"), codes


def read_retry_after(headers: Mapping[str, str], now: datetime) -> timedelta | None:
    """Return how long a reply asks to wait, at most MAX_RETRY_AFTER; None if it does not say (RFC 9110, 10.2.3)."""
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
    """Return `text` on one line, shortened, without `secret`, parts of it, or what else looks like a key."""
    text = mend(text)
    if len(secret) >= _SHORT_SECRET:
        text = text.replace(secret, _MASK)
        text = _WORD.sub(lambda word: _MASK if word[0] in secret else word[0], text)
    elif secret:  # too short to be replaced inside other words
        text = re.sub(rf"(?<![\w-]){re.escape(secret)}(?![\w-])", _MASK, text)
    text = " ".join(_KEY_LIKE.sub(_MASK, text).split())
    return text if len(text) <= MAX_DETAIL else f"{text[:MAX_DETAIL]}..."
