"""What equal requests have in common."""

from __future__ import annotations

from msgspec import Raw

from tasker.requests.submissions import Submission
from tasker.service.drafts import fingerprint


def of(params: str) -> bytes:
    return fingerprint(Submission(type="sum", params=Raw(params.encode())))


def test_equal_requests_have_one_fingerprint() -> None:
    assert of("[1.50, 2]") == of("[1.5,2]") != of("[1.51,2]")


def test_texts_with_very_many_fractions_are_compared_as_they_are() -> None:
    """To compare what each of them means takes a quarter of a second, on the event loop."""
    many = ",".join(["1.5"] * 20_000)
    assert of(f"[{many}]") == of(f"[{many}]") != of(f"[{many},1.5]")
    assert of(f"[{many},1.50]") != of(f"[{many},1.5]"), "each is compared as it is written"
