"""Steps of tasks in transactions: stored, awaited, answered, forgotten."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from tasker.clock import to_micros
from tasker.engines.shared.steps import to_forget
from tasker.engines.shared.tables import STEPS
from tasker.engines.sqlite.families import NUMBER_BITS
from tasker.engines.sqlite.pending import Ended, ask_to_stop, cancel_pending
from tasker.engines.sqlite.rows import Row, optional_micros, task_id_of
from tasker.engines.sqlite.sql import QUERIES
from tasker.engines.sqlite.tables import table_of
from tasker.engines.sqlite.ties import end
from tasker.engines.sqlite.transaction import Transaction
from tasker.model import Status
from tasker.model.steps import Forget, NewStep, Step, Wait

_STEPS = table_of(STEPS)


def put_steps(
    tx: Transaction, seq: int, attempt: int, owner: str, steps: Sequence[NewStep], max_in_flight: int | None = None
) -> None:
    """Store steps of a running attempt; those whose key is stored stay as they are, but for the end of a sleep."""
    for step in steps:
        asks = owner if step.kind == "input" and step.finished_at is None else None
        tx.execute(
            QUERIES["insert_step"],
            {
                "seq": seq, "key": step.key, "name": step.name, "kind": step.kind, "attempt": attempt,
                "started_at": to_micros(step.started_at), "finished_at": optional_micros(step.finished_at),
                "until": optional_micros(step.until), "asks": asks, "question": step.question, "value": step.value,
                "secret_value": step.secret_value, "total": step.total, "max_in_flight": max_in_flight,
            },
        )  # fmt: skip
        if asks is not None:
            tx.execute(QUERIES["concerns_others"], (seq,))
        elif step.kind == "sleep" and step.finished_at is not None:
            tx.execute(QUERIES["end_sleep"], (to_micros(step.finished_at), seq, step.key))


def find_step(tx: Transaction, seq: int, key: str) -> tuple[int, Step] | None:
    """Return the id of a step, and the step."""
    row: Row | None = tx.execute(QUERIES["step_by_key"], (seq, key)).fetchone()
    return None if row is None else (row[0], _STEPS.value(row[1:]))


def is_there(tx: Transaction, seq: int, wait: Wait, now: datetime) -> bool:
    """Tell whether something of what a task wants to wait for is there; if not, mark its steps as awaited."""
    keys = json.dumps((*wait.inputs, *wait.children))
    if wait.until is not None and wait.until <= now:
        return True
    if tx.execute(QUERIES["any_there"], {"seq": seq, "keys": keys}).get:
        return True
    tx.execute(QUERIES["not_awaited"], (seq,))
    tx.execute(QUERIES["await_steps"], {"seq": seq, "keys": keys})
    return False


def copy_steps(tx: Transaction, seq: int, other: UUID) -> None:
    """Give a new task the steps of another, without its children."""
    tx.execute(QUERIES["copy_steps"], {"seq": seq, "other": other.bytes, "now": tx.now})
    if tx.connection.changes():
        tx.execute(QUERIES["concerns_others"], (seq,))


def forget_steps(tx: Transaction, seq: int, forget: Forget) -> None:
    """Forget steps of an ended task. Their children go on alone; the open ones are cancelled. Raises Invalid."""
    rows: list[Row] = tx.execute(QUERIES["steps_by_seq"], (seq,)).fetchall()
    forgotten = to_forget([_STEPS.value(row) for row in rows], forget)
    for step in forgotten:
        if step.kind == "children":
            _let_go(tx, seq, step.number)
    ids = [seq << NUMBER_BITS | step.number for step in forgotten]
    tx.execute(QUERIES["forget_steps"], {"ids": json.dumps(ids)})


def _let_go(tx: Transaction, parent: int, number: int) -> None:
    rows: list[Row] = tx.execute(QUERIES["children_of_step"], (parent, number)).fetchall()
    for seq, column, status in rows:
        task_id = task_id_of(column)
        tx.execute(QUERIES["cut_loose"], (seq,))
        if Status(status).is_terminal:
            tx.execute(QUERIES["child_expires"], {"until": None, "seq": seq})
        elif status == "running":
            ask_to_stop(tx, seq, task_id)
        elif cancel_pending(tx, seq, task_id):
            end(tx, Ended(seq, task_id, Status.CANCELLED))
