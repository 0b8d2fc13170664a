"""Counts failures of tasks, in the transactions that end them."""

from __future__ import annotations

from collections.abc import Mapping
from uuid import UUID

from tasker.engines.postgres.transaction import Transaction
from tasker.model import TaskProblem
from tasker.model.failures import NEW_GROUPS_AN_HOUR, OTHER
from tasker.rules.failures import fingerprint

Failed = tuple[str, TaskProblem]
"""The type and the error of a failed task."""


async def note_failures(tx: Transaction, queries: Mapping[str, str], failed: Mapping[UUID, Failed]) -> None:
    """Count the failures of tasks that this transaction has ended as failed, and note their groups."""
    if not failed:
        return
    rows = [(task_id, *fingerprint(type_, error)) for task_id, (type_, error) in failed.items()]
    columns = [list(column) for column in zip(*rows, strict=True)]
    await tx.execute(queries["note_failures"], *columns, NEW_GROUPS_AN_HOUR, OTHER)
