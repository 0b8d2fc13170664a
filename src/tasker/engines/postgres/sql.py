"""The SQL of the distributed engine: named queries from queries/, numbered migrations from migrations/."""

from __future__ import annotations

from datetime import timedelta
from functools import cache
from importlib.resources import files
from typing import NamedTuple

from tasker.engines.shared.sql import fill, load_queries
from tasker.engines.shared.values import CLAIM_FIELDS
from tasker.model.archive import COLUMNS
from tasker.model.tasks import PREVIEW_BYTES
from tasker.model.usage import COUNTED

_PACKAGE = files(__package__)


def _up_to(column: str) -> str:
    """Return a column, null if it is wide."""
    return f"CASE WHEN octet_length({column}) <= {PREVIEW_BYTES} THEN {column} END AS {column}"


def _preview(column: str) -> str:
    """Return what a wide column begins with, null for another one."""
    return f"CASE WHEN octet_length({column}) > {PREVIEW_BYTES} THEN substring({column} FROM 1 FOR {PREVIEW_BYTES}) END"


TASK_COLUMNS = (
    "seq, task_id, type, params, status, reason, queue, priority, result, error, progress, attempt, tries,"
    " max_attempts, created_at, run_at, due_at, started_at, finished_at, cancel_requested_at, usage, tags, metadata,"
    " owner, deadline, expires_at, unique_key, concurrency_key, extra,"
    " due_at > now() AS is_later"
)
LIST_COLUMNS = TASK_COLUMNS.replace(" params,", f" {_up_to('params')},").replace(
    " result,", f" {_up_to('result')},"
) + (f", {_preview('params')} AS params_preview, {_preview('result')} AS result_preview")
"""The same for a list: null for wide values, and what these begin with. Lengths are known without reading them."""
CLAIM_COLUMNS = ", ".join(f"task.{name}" for name in (*CLAIM_FIELDS, "has_dependants", "due_at", "seq"))
HEAD_COLUMNS = (
    "task.status, task.sequence, task.attempt, task.worker, task.created_at, task.started_at, task.finished_at,"
    " (SELECT max(event.sequence) FROM {schema}.task_event AS event WHERE event.task_seq = task.seq) AS kept"
)
"""The fields of `log.Head`, in its order."""
_HAS_STEPS = (
    "(EXISTS (SELECT FROM {schema}.step WHERE step.task_seq = task.seq)"
    " OR (task.has_dependants AND EXISTS (SELECT FROM {schema}.child WHERE child.seq = task.seq)))"
)
"""Whether older workers would run a task wrongly: it goes on where it was, or is the child of another."""
_EXPIRES = (
    "CASE WHEN task.has_dependants AND EXISTS (SELECT FROM {schema}.child WHERE child.seq = task.seq) THEN NULL"
    " ELSE now() + task.retention END"
)
"""When a task expires that ends now. The end of its parent decides about a child (families.py)."""
_DELETED = "to_timestamp(0)"
"""When deleted tasks expired that are still to be erased; their descendants expired before."""
LEAD_LASTS = timedelta(seconds=3)
"""How long the lead lasts without a sign of life."""
_LASTS = f"interval '{LEAD_LASTS.total_seconds():g} seconds'"


class Migration(NamedTuple):
    """One step of the schema."""

    version: int
    name: str
    script: str


_WORDS = {
    "now": "now()",
    "bytewise": '"C"',
    "any": "= ANY(:{})",
    "any_id": "= ANY(:{})",
    "index": "",
    "empty": "''",
    "deleted": _DELETED,
    "is_deleted": f"(task.expires_at IS NOT NULL AND task.expires_at <= {_DELETED})",
    "child_expires": "least(task.finished_at + task.retention, parent.expires_at - interval '1 microsecond')",
    # PostgreSQL reads no JSON with an escaped NUL, which tasks may log. Its digits are replaced: the text stays JSON.
    "level": r"(replace(convert_from(data, 'UTF8'), '\u0000', '\u0020')::json ->> 'level')",
    "skip_locked": " FOR UPDATE SKIP LOCKED",
    "task": TASK_COLUMNS,
    "listed": LIST_COLUMNS,
    "claim": CLAIM_COLUMNS,
    "stored": ", ".join(COLUMNS),
    "placeholders": ", ".join(f"${place}" for place in range(1, len(COLUMNS) + 1)),
    # How long the process that leads has the lead for certain; negative if it is free. A time in the future was written
    # before the clock was set back: it says nothing.
    "lead_left": f"CASE WHEN held_at > now() + {_LASTS} THEN -{_LASTS} ELSE held_at + {_LASTS} - now() END",
    "counted_added": ", ".join(f"{name} = kept.{name} + excluded.{name}" for name in COUNTED),
}


@cache
def queries(schema: str) -> dict[str, str]:
    """Return the named queries on the tables of a schema."""
    own = {"head": HEAD_COLUMNS, "has_steps": _HAS_STEPS, "expires": _EXPIRES}
    return load_queries(
        _PACKAGE, {**_WORDS, "schema": schema, **{name: text.format(schema=schema) for name, text in own.items()}}
    )


def migrations(schema: str) -> list[Migration]:
    """Return every migration, in order."""
    scripts = [entry for entry in (_PACKAGE / "migrations").iterdir() if entry.name.endswith(".sql")]
    steps = [
        Migration(int(entry.name.split("_")[0]), entry.name.removesuffix(".sql"), entry.read_text())
        for entry in scripts
    ]
    return [step._replace(script=fill(step.script, {"schema": schema})) for step in sorted(steps)]
