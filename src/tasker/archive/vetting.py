"""Check every record and task of an archive against the model before anything is stored.

A store trusts its own rows. Rows from outside are therefore checked as strictly as requests: types, bounds, JSON text,
times, fields that belong together, and duplicates.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from tasker.archive.records import vet_record
from tasker.archive.seen import Seen
from tasker.archive.tasks import vet_task
from tasker.model.archive import StoredRecord, StoredTask
from tasker.rules.urls import UrlRules

MAX_AHEAD = timedelta(days=36_525)
"""How far in the future a time may be: as far as the expiry of a key."""


class Vetting:
    """Checks the items of one archive, one by one.

    rules: where a webhook may lead here; by default any valid URL is allowed.
    """

    def __init__(self, now: datetime, rules: UrlRules | None = None) -> None:
        self._now = now
        self._latest = now + MAX_AHEAD
        self._rules = rules or UrlRules(insecure=True)
        self._seen = Seen()

    def task(self, task: StoredTask) -> None:
        """Raise ValueError, with what was expected, for a task that no store could hold, or a duplicate."""
        vet_task(task, self._latest)
        self._seen.add("task", str(task.task_id))
        for key in task.keys:
            self._seen.add("idempotency key", key.key)
        if task.child is not None:
            place = task.parent_id, task.child.number, task.child.place
            self._seen.add("place of a child", *map(str, place))
        if task.unique_key is not None and task.is_open and task.cancel_requested_at is None:
            self._seen.add("open task with the unique_key", task.owner, task.type, task.unique_key)

    def record(self, record: StoredRecord) -> None:
        """Raise ValueError or ArchiveError for a record that no store could hold, or a duplicate."""
        for kind, *name in vet_record(record, self._now, self._latest, self._rules):
            self._seen.add(kind, *name)

    def close(self) -> None:
        """Free what was kept to find duplicates."""
        self._seen.close()
