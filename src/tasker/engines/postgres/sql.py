"""The SQL of the distributed engine: named queries from queries/, numbered migrations from migrations/."""

from __future__ import annotations

import re
from functools import cache
from importlib.resources import files
from typing import NamedTuple

from tasker.engines.shared.tables import DELIVERIES, SCHEDULES, WEBHOOKS
from tasker.model.archive import COLUMNS

_FOLDER = files(__package__)

TASK_COLUMNS = (
    "seq, task_id, type, params, status, reason, queue, priority, result, error, progress, attempt, tries,"
    " max_attempts, created_at, run_at, due_at, started_at, finished_at, cancel_requested_at, usage, tags, metadata,"
    " owner, deadline, expires_at, unique_key, concurrency_key, extra,"
    " due_at > now() AS is_later"
)
CLAIM_COLUMNS = (
    "task.task_id, task.attempt, task.type, task.params, task.queue, task.priority, task.policy, task.tries,"
    " task.crashes, task.interruptions, task.started_at, task.worker, task.owner, task.usage,"
    " task.due_at, task.seq"
)
HEAD_COLUMNS = (
    "task.status, task.sequence, task.attempt, task.worker, task.created_at, task.started_at, task.finished_at,"
    " (SELECT max(event.sequence) FROM {schema}.task_event AS event WHERE event.task_seq = task.seq) AS kept"
)
"""The fields of `log.Head`, in its order."""


class Migration(NamedTuple):
    """One step of the schema."""

    version: int
    name: str
    script: str


@cache
def queries(schema: str) -> dict[str, str]:
    """Return the named queries, with every table's schema filled in."""
    scripts = [file for file in (_FOLDER / "queries").iterdir() if file.name.endswith(".sql")]
    text = "\n".join(file.read_text() for file in scripts)
    parts = re.split(r"^-- name: (\w+)\n", text, flags=re.MULTILINE)[1:]
    head = HEAD_COLUMNS.format(schema=schema)
    names = {
        "schema": schema,
        "task": TASK_COLUMNS,
        "claim": CLAIM_COLUMNS,
        "head": head,
        "stored": ", ".join(COLUMNS),
        "placeholders": ", ".join(f"${place}" for place in range(1, len(COLUMNS) + 1)),
        "schedules": SCHEDULES.columns,
        "webhook": WEBHOOKS.columns,
        "delivery": DELIVERIES.columns,
        "webhook_places": ", ".join(f"${place}" for place in range(1, len(WEBHOOKS.fields) + 1)),
    }
    return {name: _fill(body, names) for name, body in zip(parts[::2], parts[1::2], strict=True)}


def migrations(schema: str) -> list[Migration]:
    """Return every migration, in order."""
    scripts = [entry for entry in (_FOLDER / "migrations").iterdir() if entry.name.endswith(".sql")]
    steps = [
        Migration(int(entry.name.split("_")[0]), entry.name.removesuffix(".sql"), entry.read_text())
        for entry in scripts
    ]
    return [step._replace(script=_fill(step.script, {"schema": schema})) for step in sorted(steps)]


def _fill(body: str, names: dict[str, str]) -> str:
    return re.sub(r"\{(\w+)\}", lambda match: names[match[1]], body).strip()
