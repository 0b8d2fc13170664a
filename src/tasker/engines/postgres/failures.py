"""Counts failures of tasks, in the transactions that end them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple
from uuid import UUID

from tasker.engines.postgres.transaction import Transaction
from tasker.model import TaskProblem
from tasker.model.failures import NEW_GROUPS_AN_HOUR, OTHER
from tasker.rules.failures import fingerprint


class Failure(NamedTuple):
    """How a task failed, and what it was."""

    owner: str
    type: str
    error: TaskProblem


async def note_failures(tx: Transaction, queries: Mapping[str, str], failed: Mapping[UUID, Failure]) -> None:
    """Count the failures of tasks that this transaction has ended as failed, and note their groups."""
    if not failed:
        return
    found = [(task_id, fingerprint(*failure)) for task_id, failure in failed.items()]
    rows = [(task_id, one.failure_id, one.problem, one.exception) for task_id, one in found]
    columns = [list(column) for column in zip(*rows, strict=True)]
    await tx.execute(queries["note_failures"], *columns, NEW_GROUPS_AN_HOUR, OTHER)
