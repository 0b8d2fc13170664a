"""PgQueuer's table of jobs, used through its own `Queries` inside our transactions: one job for each due task.

A job has its task's id as dedupe key: a task cannot be queued twice. Scheduled tasks have no job: PgQueuer's dequeue
would walk over each of them, every time.

Features of PgQueuer that are not used: its heartbeat timeout (a lease is a column of the task, fenced by the attempt;
the reaper ends it), `retry_job` (the job would keep its place, before all later submissions) and its trigger (two
notifications per batch that add nothing to ours).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import timedelta
from typing import Any, NamedTuple, cast
from uuid import UUID, uuid5

from pgqueuer.adapters.persistence.qb import QueryBuilderEnvironment, QueryQueueBuilder, QuerySchedulerBuilder
from pgqueuer.adapters.persistence.queries import Queries
from pgqueuer.domain.models import Job
from pgqueuer.domain.settings import DBSettings, Durability
from pgqueuer.domain.types import QueueEntrypoint, QueueManagerId
from pgqueuer.ports.driver import Driver
from pgqueuer.ports.repository import EntrypointExecutionParameter

from tasker.engines.postgres.partitions import QueuedTask, level_for
from tasker.engines.postgres.sql import queries
from tasker.engines.postgres.transaction import Connection, Transaction
from tasker.rules.lifecycle import MAX_INTERRUPTIONS

PROMOTED_AT_ONCE = 1000
"""Due tasks that are queued in one transaction."""
_ALWAYS_DUE = timedelta(days=-36_500)
"""The due time of every job: jobs stay due when the database's clock is set back."""
_NEVER_STALE = timedelta(days=36_500)
_UNLIMITED = EntrypointExecutionParameter(concurrency_limit=0)
_MANAGERS = UUID("8d5c8a2e-6f0b-4c0e-9d58-0f6a0c7c5f11")


class Picked(NamedTuple):
    """A job that a claim has taken."""

    job_id: int
    task_id: UUID
    priority: int


class Jobs:
    """PgQueuer's queries on the tables of `schema`."""

    def __init__(self, schema: str) -> None:
        self.settings = DBSettings(db_schema=schema, prefix="", durability=Durability.balanced)
        self._queries = queries(schema)
        self._environment = QueryBuilderEnvironment(self.settings)
        self._builder = QueryQueueBuilder(self.settings)
        self._scheduler = QuerySchedulerBuilder(self.settings)

    def pgqueuer(self, connection: Connection | Transaction) -> Queries:
        """Return PgQueuer's queries over a connection, inside its transaction if it has one."""
        return Queries(cast(Driver, _Borrowed(connection)), self._environment, self._builder, self._scheduler)

    async def enqueue(self, tx: Transaction, tasks: Sequence[QueuedTask]) -> None:
        """Add tasks at the end of their partitions, in this order, and notify waiting claims of these."""
        if not tasks:
            return
        partitions = [task.partition for task in tasks]
        await self.pgqueuer(tx).enqueue(
            partitions,
            [task.task_id.bytes for task in tasks],
            [task.priority for task in tasks],
            [_ALWAYS_DUE] * len(tasks),
            [str(task.task_id) for task in tasks],
        )
        tx.partitions.update(partitions)

    async def promote(self, tx: Transaction, *, limit: int = PROMOTED_AT_ONCE) -> None:
        """Queue due tasks that are not queued yet, at most `limit`, those due for longest first."""
        rows = await tx.fetch(self._queries["promote"], limit)
        rows.sort(key=lambda row: (row["due_at"], row["seq"]))
        tasks = [queued_task(row, has_settings=row["has_settings"]) for row in rows]
        if tasks:
            await tx.execute(self._queries["drop_leftovers"], [str(task.task_id) for task in tasks])
            await self.enqueue(tx, tasks)

    async def take(self, tx: Transaction, worker: str, partitions: Sequence[str], limit: int) -> list[Picked]:
        """Take the first jobs of `partitions`, at most `limit`."""
        jobs = await self.pgqueuer(tx).dequeue(
            limit,
            dict.fromkeys(map(QueueEntrypoint, partitions), _UNLIMITED),
            QueueManagerId(manager_of(worker)),
            None,
            _NEVER_STALE,
        )
        return [Picked(job.id, UUID(bytes=job.payload), job.priority) for job in jobs if job.payload is not None]

    async def remove(self, tx: Transaction, ended: Iterable[tuple[int, str]]) -> None:
        """Remove jobs: each an id and how it ended, as PgQueuer calls it."""
        jobs: list[Any] = [(Job.model_construct(id=job_id), status, None) for job_id, status in ended]
        if jobs:
            await self.pgqueuer(tx).log_jobs(jobs)

    async def remove_pending(self, tx: Transaction, task_ids: Sequence[UUID]) -> None:
        """Remove the jobs of pending tasks that have ended."""
        jobs = await tx.fetch(self._queries["jobs_of"], list(map(str, task_ids))) if task_ids else ()
        await self.remove(tx, [(job["id"], "canceled") for job in jobs])

    async def beat(self, tx: Transaction, job_ids: Sequence[Any]) -> None:
        """Update the heartbeats of these jobs, for people who look at PgQueuer's table."""
        if job_ids:
            await self.pgqueuer(tx).update_heartbeat(list(job_ids))


class _Borrowed:
    """PgQueuer's driver over a connection of ours: inside a transaction there is nothing to lock or close."""

    def __init__(self, connection: Connection | Transaction) -> None:
        self._connection = connection

    async def fetch(self, query: str, *args: object) -> list[dict[str, object]]:
        return [dict(row) for row in await self._connection.fetch(query, *args)]

    async def execute(self, query: str, *args: object) -> str:
        return str(await self._connection.execute(query, *args))


def manager_of(worker: str) -> UUID:
    """Return the id that PgQueuer knows a worker by."""
    return uuid5(_MANAGERS, worker)


def queued_task(row: Any, *, has_settings: bool) -> QueuedTask:
    """Return what to queue for a task's row. has_settings: its queue has."""
    level = level_for(has_settings=has_settings, has_steps=row["has_steps"])
    is_suspect = row["interruptions"] >= MAX_INTERRUPTIONS
    return QueuedTask(row["task_id"], row["queue"], row["type"], row["priority"], is_suspect, level)
