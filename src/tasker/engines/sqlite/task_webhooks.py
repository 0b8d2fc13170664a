"""Webhooks that belong to one task: stored and erased with it."""

from __future__ import annotations

from uuid import UUID

from msgspec import structs

from tasker.engines.shared.values import too_many
from tasker.engines.sqlite.sql import QUERIES
from tasker.engines.sqlite.tables import TABLES, Table
from tasker.engines.sqlite.transaction import Transaction
from tasker.errors import Conflict
from tasker.model.webhooks import MAX_WEBHOOKS_OF_TASK, Webhook

_webhooks: Table[Webhook] = TABLES["webhook"]


def attach(tx: Transaction, webhook: Webhook, task_id: UUID) -> None:
    """Store the webhook that comes with a task's submission."""
    _webhooks.insert(tx.connection, structs.replace(webhook, task_id=task_id))


def attach_to_joined(tx: Transaction, webhook: Webhook, task_id: UUID) -> None:
    """Store the webhook of a submission that another task answers for, unless that has one to the same receiver."""
    if not _has_receiver(tx, webhook, task_id):
        attach(tx, webhook, task_id)


def check_join(tx: Transaction, webhook: Webhook, task_id: UUID) -> Conflict | None:
    """Return why a task cannot have one more webhook: it has MAX_WEBHOOKS_OF_TASK, none of them to the receiver."""
    if _has_receiver(tx, webhook, task_id):
        return None
    count = tx.execute(QUERIES["count_webhooks_of_task"], (task_id.bytes,)).get
    return too_many(f"webhooks of task {task_id}", MAX_WEBHOOKS_OF_TASK) if count >= MAX_WEBHOOKS_OF_TASK else None


def erase_with_task(tx: Transaction, task_id: bytes) -> None:
    """Erase the webhooks of a task and its deliveries."""
    tx.execute(QUERIES["delete_task_deliveries"], (task_id,))
    tx.execute(QUERIES["delete_task_webhooks"], (task_id,))


def _has_receiver(tx: Transaction, webhook: Webhook, task_id: UUID) -> bool:
    return tx.execute(QUERIES["webhook_of_task_to"], (task_id.bytes, webhook.url)).fetchone() is not None
