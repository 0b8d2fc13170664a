"""The SQL of the embedded engine: named queries from queries/, numbered migrations from migrations/."""

from __future__ import annotations

import re
from importlib.resources import files

from tasker.engines.shared.tables import DELIVERIES, SCHEDULES, WEBHOOKS

_FOLDER = files(__package__)

TASK_COLUMNS = (
    "seq, task_id, type, params, status, reason, queue, priority, result, error, progress, attempt, tries,"
    " max_attempts, created_at, run_at, due_at, started_at, finished_at, cancel_requested_at, usage, tags, metadata,"
    " owner, deadline, expires_at, unique_key, concurrency_key, extra"
)
EXPIRES_AT = TASK_COLUMNS.split(", ").index("expires_at")
"""The place of expires_at in TASK_COLUMNS."""
CLAIM_COLUMNS = (
    "task_id, attempt, type, params, queue, priority, policy, tries, crashes, interruptions, started_at, worker,"
    " owner, usage"
)

HEAD_COLUMNS = (
    "status, sequence, attempt, worker, created_at, started_at, finished_at,"
    " (SELECT max(sequence) FROM task_event WHERE task_seq = task.seq)"
)
"""The fields of `log.Head`, in its order."""


def _load() -> dict[str, str]:
    text = "\n".join(file.read_text() for file in (_FOLDER / "queries").iterdir() if file.name.endswith(".sql"))
    parts = re.split(r"^-- name: (\w+)\n", text, flags=re.MULTILINE)[1:]
    return {name: _fill(body) for name, body in zip(parts[::2], parts[1::2], strict=True)}


def _fill(body: str) -> str:
    return re.sub(r"\{(\w+)\}", lambda match: _COLUMNS[match[1]], body).strip()


_COLUMNS = {
    "task": TASK_COLUMNS, "claim": CLAIM_COLUMNS, "head": HEAD_COLUMNS, "schedule": SCHEDULES.columns,
    "webhook": WEBHOOKS.columns, "delivery": DELIVERIES.columns,
    "delivery_places": ", ".join("?" * len(DELIVERIES.fields)),
}  # fmt: skip
QUERIES = _load()


def migrations() -> list[tuple[int, str]]:
    """Return (version, script) of every migration, in order."""
    scripts = (entry for entry in (_FOLDER / "migrations").iterdir() if entry.name.endswith(".sql"))
    return sorted((int(entry.name.split("_")[0]), entry.read_text()) for entry in scripts)
