"""Secret params, and the webhooks of single tasks: both are stored and erased together with their tasks."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from uuid import UUID

from tasker.engines.postgres.transaction import Transaction
from tasker.model import Draft


async def insert_secrets(
    tx: Transaction, queries: dict[str, str], drafts: Sequence[Draft], stored: Collection[UUID]
) -> None:
    """Store the secrets of the drafts that became tasks."""
    kept = [draft for draft in drafts if draft.secrets is not None and draft.task_id in stored]
    columns = [draft.task_id for draft in kept], [draft.secrets for draft in kept]
    await tx.execute(queries["insert_secrets"], *columns)


async def erase_webhooks(tx: Transaction, queries: dict[str, str], task_ids: Sequence[UUID]) -> None:
    """Erase the webhooks of single tasks, with their deliveries."""
    await tx.execute(queries["delete_task_deliveries"], task_ids)
    await tx.execute(queries["delete_task_webhooks"], task_ids)
