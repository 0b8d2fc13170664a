"""Which webhooks get which events, as a table."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from msgspec import Raw

from tasker.model import Event
from tasker.model.journal import JournalEntry, JournalPage
from tasker.model.webhooks import Subscription, Webhook
from tasker.testing import START
from tasker.webhooks.matching import find_deliveries

TASK_ID = uuid4()


def hook(**fields: Any) -> Webhook:
    given = {
        "webhook_id": uuid4(),
        "url": "https://example.com/",
        "events": ("completed",),
        "created_at": START,
        "owner": "ada",
    }
    return Webhook(**{**given, **fields})


def entry(
    cursor: str = "1",
    *,
    event: str = "completed",
    task_id: UUID = TASK_ID,
    at: float = 0,
    owner: str = "ada",
    commit: int = 8,
) -> JournalEntry:
    """Return an event one commit, and `at` seconds, after the webhooks were made."""
    time = START + timedelta(seconds=at)
    return JournalEntry(
        cursor=cursor,
        event=Event(sequence=3, task_id=task_id, attempt=1, type=event, time=time, data=Raw(b"{}")),
        type="sum",
        queue="q",
        tags=("a", "b"),
        owner=owner,
        commit=commit,
    )


@pytest.mark.parametrize(
    ("fields", "given", "hears"),
    [
        ({}, {}, True),
        ({}, {"event": "failed"}, False),
        ({"owner": "ada"}, {"owner": ""}, False),
        ({"owner": "ada"}, {"owner": "eve"}, False),
        ({"type": "sum"}, {}, True),
        ({"type": "gpt"}, {}, False),
        ({"queue": "q"}, {}, True),
        ({"queue": "default"}, {}, False),
        ({"tag": "b"}, {}, True),
        ({"tag": "c"}, {}, False),
        ({"type": "sum", "queue": "q", "tag": "c"}, {}, False),
        ({"owner": ""}, {}, False),
        ({"owner": ""}, {"owner": ""}, True),
        ({"owner": "", "all_owners": True}, {}, True),
        ({"all_owners": True}, {"owner": ""}, True),
        ({"all_owners": True}, {"owner": "eve"}, True),
        ({"all_owners": True, "type": "gpt"}, {"owner": "eve"}, False),
        ({}, {"at": -600}, True),  # by the journal's order, not by the clock
        ({}, {"commit": 7}, False),
        ({}, {"commit": 7, "at": 600}, False),
        ({"task_id": TASK_ID}, {}, True),
        ({"task_id": TASK_ID}, {"at": -60}, True),
        ({"task_id": TASK_ID}, {"commit": 1}, True),
        ({"task_id": TASK_ID}, {"event": "failed"}, False),
        ({"task_id": TASK_ID}, {"task_id": uuid4()}, False),
    ],
)
def test_which_webhooks_get_an_event(fields: dict[str, Any], given: dict[str, Any], hears: bool) -> None:
    page = JournalPage(entries=[entry(**given)], cursor="end")
    [(found, cursor)] = find_deliveries([Subscription(hook(**fields), 7)], page, START, at_once=9)
    assert (len(found), cursor) == (int(hears), "end")


def test_a_step_ends_behind_its_last_event_and_the_last_one_at_the_end_of_the_page() -> None:
    """If only the first steps are stored, reading on from there gives exactly the rest."""
    page = JournalPage(entries=[entry(str(place)) for place in range(5)], cursor="end")
    steps = list(find_deliveries([Subscription(hook()), Subscription(hook())], page, START, at_once=3))
    assert [(len(found), cursor) for found, cursor in steps] == [(4, "1"), (4, "3"), (2, "end")]
    assert list(find_deliveries([], page, START, at_once=3)) == [([], "end")]


def test_a_delivery_is_due_at_once_in_the_slot_pool_of_its_webhook() -> None:
    one, own = hook(), hook(task_id=TASK_ID)
    [(found, _)] = find_deliveries(
        [Subscription(one), Subscription(own)], JournalPage(entries=[entry()], cursor="end"), START, at_once=9
    )
    told = [(delivery.webhook_id, delivery.lane, delivery.task_id, delivery.sequence) for delivery in found]
    assert told == [(one.webhook_id, one.lane, TASK_ID, 3), (own.webhook_id, "ada\texample.com", TASK_ID, 3)]
    assert {(delivery.status, delivery.due_at, delivery.attempts) for delivery in found} == {("pending", START, 0)}
