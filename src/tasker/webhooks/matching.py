"""Match events to webhooks. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime

from tasker.model import new_task_id
from tasker.model.journal import JournalEntry, JournalPage
from tasker.model.webhooks import Delivery, Subscription, Webhook

_COMPARED_AT_ONCE = 5000
"""Approximate number of pairs of webhook and event that one step compares, as it runs on the event loop."""

Step = tuple[list[Delivery], str]
"""Deliveries, and the cursor after the last of their events."""


def find_deliveries(
    subscriptions: Sequence[Subscription], page: JournalPage, now: datetime, *, at_once: int
) -> Iterator[Step]:
    """Yield the deliveries of a page, in order of the events, in steps of about `at_once` to store together.

    All deliveries of one event are in one step, and no step takes long. The last step has the cursor of the page's end.
    """
    found: list[Delivery] = []
    compared = 0
    subscribed: dict[tuple[str, str | None], list[Subscription]] = {}
    for one in subscriptions:
        for name in one.webhook.events:
            subscribed.setdefault((name, None if one.webhook.all_owners else one.webhook.owner), []).append(one)
    for entry in page.entries:
        for owner in (entry.owner, None):
            some = subscribed.get((entry.event.type, owner), ())
            compared += len(some)
            found += [_delivery(one.webhook, entry, now) for one in some if _matches(one, entry)]
        if len(found) >= at_once or compared >= _COMPARED_AT_ONCE:
            yield found, entry.cursor
            found, compared = [], 0
    yield found, page.cursor


def _matches(subscription: Subscription, entry: JournalEntry) -> bool:
    """Return whether the webhook, which wants events of this type, gets this one.

    It gets events that follow its creation in the journal. Times do not decide, as the clock may be set.
    """
    webhook = subscription.webhook
    if webhook.task_id is not None:
        return webhook.task_id == entry.event.task_id
    return (
        (webhook.all_owners or webhook.owner == entry.owner)
        and webhook.type in (None, entry.type)
        and webhook.queue in (None, entry.queue)
        and (webhook.tag is None or webhook.tag in entry.tags)
        and entry.commit > subscription.made_after
    )


def _delivery(webhook: Webhook, entry: JournalEntry, now: datetime) -> Delivery:
    return Delivery(
        delivery_id=new_task_id(now),
        webhook_id=webhook.webhook_id,
        task_id=entry.event.task_id,
        sequence=entry.event.sequence,
        event=entry.event.type,
        status="pending",
        created_at=now,
        due_at=now,
        lane=webhook.lane,
    )
