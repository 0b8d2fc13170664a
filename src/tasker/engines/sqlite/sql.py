"""The SQL of the embedded engine: named queries from queries/, numbered migrations from migrations/."""

from __future__ import annotations

from importlib.resources import files

from tasker.engines.shared.sql import load_queries
from tasker.engines.shared.values import CLAIM_FIELDS
from tasker.model.tasks import PREVIEW_BYTES
from tasker.model.usage import COUNTED

_PACKAGE = files(__package__)


def _up_to(column: str) -> str:
    """Return a column, null if it is wide."""
    return f"CASE WHEN octet_length({column}) <= {PREVIEW_BYTES} THEN {column} END"


TASK_COLUMNS = (
    "seq, task_id, type, params, status, reason, queue, priority, result, error, progress, attempt, tries,"
    " max_attempts, created_at, run_at, due_at, started_at, finished_at, cancel_requested_at, usage, tags, metadata,"
    " owner, deadline, expires_at, unique_key, concurrency_key, extra"
)
LIST_COLUMNS = TASK_COLUMNS.replace(" params,", f" {_up_to('params')},").replace(
    " result,", f" {_up_to('result')},"
) + (f", octet_length(params) > {PREVIEW_BYTES}, octet_length(result) > {PREVIEW_BYTES}")
"""The same for a list: null for wide values, and whether they are. Lengths are known without reading them."""
EXPIRES_AT = TASK_COLUMNS.split(", ").index("expires_at")
"""The index of expires_at in TASK_COLUMNS."""
CLAIM_COLUMNS = ", ".join((*CLAIM_FIELDS, "attempt > 1 OR has_dependants"))

HEAD_COLUMNS = (
    "status, sequence, attempt, worker, created_at, started_at, finished_at,"
    " (SELECT max(sequence) FROM task_event WHERE task_seq = task.seq)"
)
"""The fields of `log.Head`, in its order."""

_ENDED = (
    "status = ?, reason = NULL, ending = ?, finished_at = ?, tries = ?, crashes = ?, interruptions = 0, result = ?,"
    " error = ?, peak_memory = ?, lease_expires_at = NULL, expires_at = ? + retention"
)
"""What an end changes in the row of a task."""

_WORDS = {
    "schema": "main",
    "now": ":now",
    "bytewise": "BINARY",
    "empty": "x''",
    "any": "IN (SELECT value FROM json_each(:{}))",
    "any_id": "IN (SELECT unhex(value) FROM json_each(:{}))",
    "index": "INDEXED BY {}",
    "level": "json_extract(CAST(data AS TEXT), '$.level')",
    "skip_locked": "",
    "task": TASK_COLUMNS,
    "claim": CLAIM_COLUMNS,
    "head": HEAD_COLUMNS,
    "ended": _ENDED,
    "waits": "reason NOT IN ('queued', 'concurrency_limited')",
    "counted_more": ", ".join(f"{name} = {name} + ?" for name in COUNTED),
    "counted_places": ", ".join("?" * len(COUNTED)),
}
QUERIES = load_queries(_PACKAGE, _WORDS)


def migrations() -> list[tuple[int, str]]:
    """Return (version, script) of every migration, in order."""
    scripts = (entry for entry in (_PACKAGE / "migrations").iterdir() if entry.name.endswith(".sql"))
    return sorted((int(entry.name.split("_")[0]), entry.read_text()) for entry in scripts)
