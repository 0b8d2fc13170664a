"""Who has to be told of what: pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime

from tasker.model import new_task_id
from tasker.model.journal import JournalEntry, JournalPage
from tasker.model.webhooks import Delivery, Subscription, Webhook

_LOOKED_AT_ONCE = 5000
"""Webhooks that are held against events in one step, or a few more: it runs on the event loop."""


Step = tuple[list[Delivery], str]
"""Deliveries, and the cursor behind the last event that they are about."""


def find_deliveries(
    subscriptions: Sequence[Subscription], page: JournalPage, now: datetime, *, at_once: int
) -> Iterator[Step]:
    """Yield who has to be told of what, in order of the events, in steps of so many that are stored together.

    All deliveries of one event are in one step, and no step takes long. The last one leads to the end of the page.
    """
    found: list[Delivery] = []
    looked = 0
    asking: dict[tuple[str, str | None], list[Subscription]] = {}
    for one in subscriptions:
        for name in one.webhook.events:
            asking.setdefault((name, None if one.webhook.all_owners else one.webhook.owner), []).append(one)
    for entry in page.entries:
        for owner in (entry.owner, None):
            some = asking.get((entry.event.type, owner), ())
            looked += len(some)
            found += [_delivery(one.webhook, entry, now) for one in some if _hears_of(one, entry)]
        if len(found) >= at_once or looked >= _LOOKED_AT_ONCE:
            yield found, entry.cursor
            found, looked = [], 0
    yield found, page.cursor


def _hears_of(subscription: Subscription, entry: JournalEntry) -> bool:
    """Tell whether the webhook, which asks for events of this type, hears of this one.

    It hears of what comes after it by the order of the journal: a clock may be set.
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
        delivery_id=new_task_id(now), webhook_id=webhook.webhook_id, task_id=entry.event.task_id,
        sequence=entry.event.sequence, event=entry.event.type, status="pending", created_at=now, due_at=now,
        lane=webhook.lane,
    )  # fmt: skip
