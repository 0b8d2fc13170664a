"""What follows from an attempt, as a table."""

from __future__ import annotations

from datetime import timedelta
from random import Random

import pytest

from tasker.model.webhooks import Failure
from tasker.testing import START
from tasker.webhooks.rules import MAX_TRIES, MOST_RETRY_AFTER, RETRY_WITHIN, Answer, decide

LOST = Failure(name="connection", detail="lost")
UNSAFE = Failure(name="unsafe-url", detail="inside")


class Most(Random):
    """Always the largest."""

    def random(self) -> float:
        return 1.0


class Least(Random):
    def random(self) -> float:
        return 0.0


def answer(status: int | None = None, *, failure: Failure | None = None, retry_after: str | None = None) -> Answer:
    return Answer(duration=0.5, status=status, failure=failure, retry_after=retry_after)


@pytest.mark.parametrize("status", [200, 201, 202, 204, 299])
def test_a_success_ends_the_delivery(status: int) -> None:
    how = decide(answer(status), 1, START, Random())
    assert (how.status, how.due_at, how.error, how.response_code, how.duration) == (
        "delivered",
        None,
        None,
        status,
        0.5,
    )


@pytest.mark.parametrize("status", [100, 199, 300, 302, 400, 401, 404, 409, 429, 500, 502, 503])
def test_every_other_answer_is_tried_again(status: int) -> None:
    how = decide(answer(status), 1, START, Random())
    assert (how.status, how.response_code) == ("pending", status)
    assert how.error is not None
    assert how.error.name == "refused"


def test_a_failure_before_an_answer_is_tried_again() -> None:
    how = decide(answer(failure=LOST), 1, START, Random())
    assert (how.status, how.error, how.response_code) == ("pending", LOST, None)


@pytest.mark.parametrize(("tries", "within"), list(enumerate(RETRY_WITHIN, start=1)))
def test_pauses_grow_and_are_random_below_their_bound(tries: int, within: timedelta) -> None:
    assert decide(answer(500), tries, START, Most()).due_at == START + within
    assert decide(answer(500), tries, START, Least()).due_at == START


def test_all_tries_take_about_a_day_on_average() -> None:
    assert MAX_TRIES == 8
    assert timedelta(hours=20) < sum(RETRY_WITHIN, timedelta()) / 2 < timedelta(hours=28)
    how = decide(answer(500), MAX_TRIES, START, Random())
    assert (how.status, how.due_at, how.pause) == ("failed", None, None)


def test_an_unsafe_address_is_not_tried_again() -> None:
    how = decide(answer(302, failure=UNSAFE), 1, START, Random())
    assert (how.status, how.error, how.response_code) == ("failed", UNSAFE, 302)


def test_410_gone_pauses_the_webhook() -> None:
    how = decide(answer(410), 1, START, Random())
    assert (how.status, how.pause) == ("failed", "the receiver answered 410 Gone")


@pytest.mark.parametrize(
    ("header", "pause"),
    [
        ("0", 0),
        ("120", 120),
        ("99999999999999999999", MOST_RETRY_AFTER.total_seconds()),
        ("-5", 0),
        ("1.5", 0),
        ("soon", 0),
        ("", 0),
        ("Fri, 02 Jan 2026 03:05:05 GMT", 59.321099),
        ("Fri, 02 Jan 2026 03:00:00 GMT", 0),
        ("Fri, 02 Jan 2099 03:00:00 GMT", MOST_RETRY_AFTER.total_seconds()),
        ("١٢", 0),
        ("Fri, 99 Jan 2026 03:05:05 GMT", 0),
        ("Fri, 02 Jan 2026 03:05:05 -0000", 59.321099),
        ("Fri, 02 Jan 99999999999999999999 03:05:05 GMT", 0),
    ],
)
def test_the_receiver_may_ask_for_a_longer_pause(header: str, pause: float) -> None:
    how = decide(answer(503, retry_after=header), 1, START, Least())
    assert how.due_at == START + timedelta(seconds=pause)
    assert decide(answer(503, retry_after="1"), 1, START, Most()).due_at == START + RETRY_WITHIN[0]
