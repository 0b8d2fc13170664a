"""What is stored and erased together with tasks: secret params, and the webhooks of single tasks."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from uuid import UUID

from msgspec import structs

from tasker.engines.postgres.transaction import Transaction
from tasker.engines.shared.tables import WEBHOOKS, codec_of, write_row
from tasker.engines.shared.values import too_many
from tasker.errors import Conflict
from tasker.model import Draft
from tasker.model.webhooks import MAX_WEBHOOKS_OF_TASK, Webhook

_CODECS = [codec_of(type_, {}) for type_ in WEBHOOKS.fields.values()]


async def insert_secrets(
    tx: Transaction, queries: dict[str, str], drafts: Sequence[Draft], stored: Collection[UUID]
) -> None:
    """Store the secrets of those of the drafts that were stored as tasks."""
    kept = [draft for draft in drafts if draft.secrets is not None and draft.task_id in stored]
    columns = [draft.task_id for draft in kept], [draft.secrets for draft in kept]
    await tx.execute(queries["insert_secrets"], *columns)


async def insert_webhooks(
    tx: Transaction, queries: dict[str, str], drafts: Sequence[Draft], stored: Collection[UUID]
) -> None:
    """Store the webhooks of those of the drafts that were stored as tasks."""
    given = [(draft.webhook, draft.task_id) for draft in drafts if draft.webhook is not None]
    found = [structs.replace(webhook, task_id=task_id) for webhook, task_id in given if task_id in stored]
    await tx.executemany(queries["insert_webhook"], [write_row(WEBHOOKS, _CODECS, one) for one in found])


async def erase_webhooks(tx: Transaction, queries: dict[str, str], task_ids: Sequence[UUID]) -> None:
    """Erase the webhooks of single tasks, with their deliveries."""
    await tx.execute(queries["delete_task_deliveries"], task_ids)
    await tx.execute(queries["delete_task_webhooks"], task_ids)


async def check_join(tx: Transaction, queries: dict[str, str], webhook: Webhook, task_id: UUID) -> Conflict | None:
    """Return why a task cannot have this webhook: it has MAX_WEBHOOKS_OF_TASK, and none with this URL."""
    if await tx.fetchval(queries["webhook_of_task_to"], task_id, webhook.url) is not None:
        return None
    count = await tx.fetchval(queries["count_webhooks_of_task"], task_id)
    return too_many(f"webhooks of task {task_id}", MAX_WEBHOOKS_OF_TASK) if count >= MAX_WEBHOOKS_OF_TASK else None


async def join_webhook(tx: Transaction, queries: dict[str, str], webhook: Webhook, task_id: UUID) -> None:
    """Store the webhook of a submission that was joined to a task, unless that has one with the same URL."""
    if await tx.fetchval(queries["webhook_of_task_to"], task_id, webhook.url) is None:
        row = write_row(WEBHOOKS, _CODECS, structs.replace(webhook, task_id=task_id))
        await tx.execute(queries["insert_webhook"], *row)
