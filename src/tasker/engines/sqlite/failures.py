"""Counts failures of tasks, in the transactions that end them."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from tasker.engines.sqlite.sql import QUERIES
from tasker.engines.sqlite.transaction import Transaction
from tasker.model import TaskProblem
from tasker.model.failures import NEW_GROUPS_AN_HOUR, OTHER
from tasker.rules.failures import fingerprint

_HOUR = 3_600_000_000


def note(tx: Transaction, task_id: UUID, error: TaskProblem) -> None:
    """Count the failure of a task that has just ended as failed, and note its group."""
    row: Any = tx.execute(QUERIES["failed_task"], (task_id.bytes,)).fetchone()
    seq, owner, type_, queue = row
    failure = _group(tx, owner, type_, error)
    tx.execute(QUERIES["insert_task_failure"], (failure, seq))
    values = {
        "owner": owner,
        "hour": tx.now - tx.now % _HOUR,
        "failure": failure,
        "type": type_,
        "queue": queue,
        "now": tx.now,
    }
    tx.execute(QUERIES["count_failure"], values)
    if not tx.connection.changes():
        tx.execute(QUERIES["first_failure_of_hour"], values)
        tx.execute(QUERIES["still_fails"], values)


def _group(tx: Transaction, owner: str, type_: str, error: TaskProblem) -> str:
    """Return the id of the group of a failure, which is stored if it is new and there are not too many new ones."""
    found = fingerprint(owner, type_, error)
    if tx.execute(QUERIES["is_known_failure"], (found.failure_id,)).get is not None:
        return found.failure_id
    since = tx.now - tx.now % _HOUR
    if tx.execute(QUERIES["new_failures"], (owner, since, NEW_GROUPS_AN_HOUR)).get == NEW_GROUPS_AN_HOUR:
        return OTHER
    tx.execute(
        QUERIES["insert_failure"],
        (found.failure_id, owner, type_, found.problem, found.exception, tx.now, tx.now),
    )
    return found.failure_id
