"""Tasks that waited for a moment join the line when it has come."""

from __future__ import annotations

from tasker.engines.postgres.line import Line, Place
from tasker.engines.postgres.transaction import Transaction
from tasker.release import LIMITS
from tasker.rules.lifecycle import MAX_INTERRUPTIONS

BATCH = 1000
"""Tasks that join the line in one transaction."""


async def promote(tx: Transaction, queries: dict[str, str], line: Line, *, limit: int = BATCH) -> int:
    """Put due tasks that are not in line at the end of it, those due for longest first; return how many."""
    rows = await tx.fetch(queries["promote"], limit)
    rows.sort(key=lambda row: (row["due_at"], row["seq"]))
    places = [
        Place(
            row["task_id"], row["queue"], row["type"], row["priority"], row["interruptions"] >= MAX_INTERRUPTIONS,
            LIMITS if row["has_settings"] else 0,
        )
        for row in rows
    ]  # fmt: skip
    if places:
        await tx.execute(queries["drop_leftovers"], [str(place.task_id) for place in places])
        await line.join(tx, places)
    tx.partitions.update(place.line for place in places)
    return len(places)
