"""The pure rules: Retry-After, the body of an error, and the redaction of keys."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from tasker.builtin.gpt.errors import (
    MAX_DETAIL,
    MAX_RETRY_AFTER,
    Refusal,
    explain,
    read_refusal,
    read_retry_after,
    redact,
)
from tasker.testing import START


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, None),
        ({"retry-after": "3"}, timedelta(seconds=3)),
        ({"retry-after": "0.5"}, timedelta(seconds=0.5)),
        ({"retry-after-ms": "250", "retry-after": "1"}, timedelta(seconds=0.25)),
        ({"retry-after": "-3"}, timedelta(0)),
        ({"retry-after": "1e300"}, MAX_RETRY_AFTER),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "Fri, 02 Jan 2026 03:05:05 GMT"}, timedelta(seconds=59.321099)),
        ({"retry-after": "Fri, 02 Jan 2026 03:04:00 GMT"}, timedelta(0)),
        ({"retry-after": "Fri, 02 Jan 9999 03:04:00 GMT"}, MAX_RETRY_AFTER),
        ({"retry-after": "Fri, 02 Jan 99999999999999999999 03:04:00 GMT"}, None),
        ({"retry-after": "Fri, 02 Jan 2026 03:05:05 -0000"}, timedelta(seconds=59.321099)),
        ({"retry-after-ms": "soon", "retry-after": "1"}, timedelta(seconds=1)),
    ],
)
def test_read_retry_after(headers: dict[str, str], expected: timedelta | None) -> None:
    found = read_retry_after(headers, START)
    assert (found is None) == (expected is None)
    if found is not None and expected is not None:
        assert abs(found - expected) < timedelta(microseconds=2)


@pytest.mark.parametrize(
    ("status", "code", "problem", "retry"),
    [
        (None, None, "gpt-refused", False),
        (None, "insufficient_quota", "gpt-quota", False),
        (None, "billing_hard_limit_reached", "gpt-quota", False),
        (None, "billing_not_active", "gpt-quota", False),
        (500, "billing_not_active", "gpt-quota", False),
        (None, "content_filter", "gpt-content-filter", False),
        (None, "content_policy_violation", "gpt-content-filter", False),
        (None, "misalignment_policy_violation", "gpt-content-filter", False),
        (None, "bio_policy", "gpt-content-filter", False),
        (500, "bio_policy", "gpt-content-filter", False),
        (None, "rate_limit_exceeded", "gpt-unavailable", True),
        (None, "server_error", "gpt-unavailable", True),
        (None, "vector_store_timeout", "gpt-unavailable", True),
        (None, "overloaded_error", "gpt-unavailable", True),
        (None, "timeout", "gpt-unavailable", True),
        (400, "timeout", "gpt-refused", False),  # the status says more
        (499, None, "gpt-refused", False),
        (500, None, "gpt-unavailable", True),
        (408, None, "gpt-unavailable", True),
        (409, None, "gpt-unavailable", True),
        (429, None, "gpt-unavailable", True),
    ],
)
def test_what_a_refusal_leads_to(status: int | None, code: str | None, problem: str, retry: bool) -> None:
    codes = frozenset[str]() if code is None else frozenset({code, "else"})
    failure = explain(Refusal("it", "no", status, codes, timedelta(seconds=7)))
    assert (failure.problem, failure.retry) == (problem, retry)
    assert failure.after == (timedelta(seconds=7) if retry else None)


@pytest.mark.parametrize(
    ("body", "message", "codes"),
    [
        ({"error": {"message": "m", "code": "c", "type": "t"}}, "m", {"c", "t"}),
        ({"message": "m", "code": 400}, "m", {"400"}),
        ({"error": "just text"}, "just text", set()),
        ({"detail": "other"}, "no reason was given", set()),
        ("a page", "a page", set()),
        (None, "no reason was given", set()),
        ([1], "[1]", set()),
    ],
)
def test_read_refusal(body: Any, message: str, codes: set[str]) -> None:
    assert read_refusal(body) == (message, frozenset(codes))


@pytest.mark.parametrize(
    ("text", "secret", "expected"),
    [
        ("key abcdefgh1234!", "abcdefgh1234", "key [key]!"),
        ("xabcdefgh1234y", "abcdefgh1234", "x[key]y"),
        ("starts abcdefgh1 ends defgh1234", "abcdefgh1234", "starts [key] ends [key]"),
        ("abcd****1234", "abcdefgh1234", "[key]"),
        ("sk-proj-somebody-elses", "abcdefgh1234", "[key]"),
        ("the key x is short, extra", "x", "the key [key] is short, extra"),
        ("a\n  b", "", "a b"),
        ("ax x xa", "x", "ax [key] xa"),
        ("it is xabcdefghx", "abcdefgh", "it is x[key]x"),
        ("it is xabcdefgx", "abcdefg", "it is xabcdefgx"),
        ("ends in bcdefgh1", "abcdefgh1234", "ends in [key]"),
        ("ends in bcdefgh", "abcdefgh1234", "ends in bcdefgh"),
        ("ab***yz and a task-list of 2 ** 3", "", "[key] and a task-list of 2 ** 3"),
        ("who is 'sk-1'?", "", "who is '[key]'?"),
    ],
)
def test_redact(text: str, secret: str, expected: str) -> None:
    assert redact(text, secret) == expected


def test_redact_before_shortening() -> None:
    secret = "abcdefgh1234"
    for start in range(MAX_DETAIL - 20, MAX_DETAIL + 2):
        told = redact("." * start + secret, secret)
        assert "abc" not in told
        assert len(told) <= MAX_DETAIL + 3
