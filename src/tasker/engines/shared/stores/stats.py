"""What both engines do alike with statistics: fold changes into the kept sums, read a window, prune.

A transaction only appends what it has changed (`task_change`): no two transactions wait for the same row, and a commit
pays for one more row. `fold` adds these to the sums and erases them, in one transaction.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from tasker.engines.shared.rollup import SUMMED, TaskChange, add_open, add_sums, merged
from tasker.engines.shared.rows import Database, Rows
from tasker.model.stats import ALL_OWNERS, HOUR, KEEP_HOURS, KEEP_MINUTES, MINUTE, MOST_QUEUES, OTHER


async def fold(rows: Rows, changes: Iterable[TaskChange]) -> None:
    """Add changes to the kept sums and counts; the caller erases them in the same transaction."""
    changes = merged(changes)
    names = await _names(rows, changes)
    sums = add_sums(changes, lambda owner, hour, queue: names[owner, hour, queue])
    await rows.run_many(
        "add_sums", [key._asdict() | dict(zip(SUMMED, figures, strict=True)) for key, figures in sums.items()]
    )
    await rows.run_many(
        "add_open",
        [
            {"owner": owner, "type": type_, "queue": queue, "pending": pending, "waiting": waiting, "running": running}
            for (owner, type_, queue), (pending, waiting, running) in add_open(changes).items()
        ],
    )


async def prune(database: Database[Any], rows: Rows, limit: int) -> int:
    """Erase sums that are past their time, and counts of queues without open tasks."""
    now = await database.erase_until(rows)
    done = await rows.run("forget_open")
    for unit, keep in ((MINUTE, KEEP_MINUTES), (HOUR, KEEP_HOURS)):
        done += await rows.run("prune_sums", unit=unit, until=int((now - keep).timestamp()), limit=limit)
    return done


async def _names(rows: Rows, changes: Iterable[TaskChange]) -> dict[tuple[str, int, str], str]:
    """Return the name under which each queue counts, by owner, hour and queue: MOST_QUEUES have their own."""
    given = dict.fromkeys(
        (owner, change.minute * MINUTE // HOUR * HOUR, change.queue)
        for change in changes
        for owner in (change.owner, ALL_OWNERS)
    )
    known: dict[tuple[str, int], set[str]] = {(owner, hour): set() for owner, hour, _ in given}
    if known:
        owners, since = sorted({owner for owner, _ in known}), min(hour for _, hour in known)
        for owner, hour, queue in await rows.fetch("summed_queues", str, int, str, owners=owners, since=since):
            known.setdefault((owner, hour), set()).add(queue)
    names: dict[tuple[str, int, str], str] = {}
    for owner, hour, queue in given:
        own = known[owner, hour]
        if queue not in own and len(own) < MOST_QUEUES:
            own.add(queue)
        names[owner, hour, queue] = queue if queue in own else OTHER
    return names
