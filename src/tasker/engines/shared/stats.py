"""The open tasks by queue and type, from rows of counts."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from msgspec import structs

from tasker.model import PartitionStats


def partition_stats(pending: Iterable[Any], running: Iterable[Any]) -> list[PartitionStats]:
    """Return the stats in order of queue and type.

    pending: rows of queue, type, number of due and of scheduled tasks, and when the longest-waiting due one became due.
    running: rows of queue, type and number of running tasks.
    """
    found = {
        (queue, type_): PartitionStats(queue=queue, type=type_, pending=due, scheduled=scheduled, oldest_due_at=oldest)
        for queue, type_, due, scheduled, oldest in pending
    }
    for queue, type_, count in running:
        known = found.get((queue, type_), PartitionStats(queue=queue, type=type_))
        found[queue, type_] = structs.replace(known, running=count)
    return [found[name] for name in sorted(found)]
