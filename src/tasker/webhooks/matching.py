"""Who has to be told of what: pure."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from tasker.model import new_task_id
from tasker.model.journal import JournalEntry, JournalPage
from tasker.model.webhooks import Delivery, Hearing, Webhook

Step = tuple[list[Delivery], str]
"""Deliveries, and the cursor behind the last event that they are about."""


def find_deliveries(hearing: Sequence[Hearing], page: JournalPage, now: datetime, *, at_once: int) -> list[Step]:
    """Return who has to be told of what, in order of the events, in steps of so many that are stored together.

    All deliveries of one event are in one step. The last step leads to the end of the page, also where it has none.
    """
    steps: list[Step] = []
    found: list[Delivery] = []
    by_type: dict[str, list[Hearing]] = {}
    for one in hearing:
        for name in one.webhook.events:
            by_type.setdefault(name, []).append(one)
    for entry in page.entries:
        asking = by_type.get(entry.event.type, ())
        found += [_delivery(one.webhook, entry, now) for one in asking if _hears_of(one, entry)]
        if len(found) >= at_once:
            steps.append((found, entry.cursor))
            found = []
    return [*steps, (found, page.cursor)]


def _hears_of(hearing: Hearing, entry: JournalEntry) -> bool:
    """Tell whether the webhook, which asks for events of this type, hears of this one.

    It hears of what comes after it by the order of the journal: a clock may be set.
    """
    webhook = hearing.webhook
    if webhook.task_id is not None:
        return webhook.task_id == entry.event.task_id
    return (
        (webhook.all_owners or webhook.owner == entry.owner)
        and webhook.type in (None, entry.type)
        and webhook.queue in (None, entry.queue)
        and (webhook.tag is None or webhook.tag in entry.tags)
        and entry.commit > hearing.made_after
    )


def _delivery(webhook: Webhook, entry: JournalEntry, now: datetime) -> Delivery:
    return Delivery(
        delivery_id=new_task_id(now), webhook_id=webhook.webhook_id, task_id=entry.event.task_id,
        sequence=entry.event.sequence, event=entry.event.type, status="pending", created_at=now, due_at=now,
        lane=webhook.lane,
    )  # fmt: skip
