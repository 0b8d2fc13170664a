"""The line of due tasks: PgQueuer's table, reached through its own `Queries` inside our transactions.

One job for each task in line, under the task's id as its dedupe key: a task cannot be in line twice. An entrypoint is
a queue and a type, and tasks that ended several services have entrypoints of their own; so have those that need workers
of a level (release.LEVEL), for workers that do not know of it know no type of such a name. Tasks that wait for a moment
are not in line: PgQueuer's dequeue walks over each of them, every time.

Not used of PgQueuer: its heartbeat timeout (a lease is a column of the task, fenced by the attempt; the reaper ends
it), `retry_job` (it keeps the job's place, before all that was submitted since) and its trigger (two notifications for
each batch that tell no more than ours).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
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

from tasker.engines.postgres.transaction import Connection
from tasker.engines.protocol import ClaimRequest
from tasker.release import LEVEL

_ALWAYS_DUE = timedelta(days=-36_500)
"""A job in line is due, also after the database's clock was set back."""
_NEVER_STALE = timedelta(days=36_500)
_UNLIMITED = EntrypointExecutionParameter(concurrency_limit=0)
MANAGERS = UUID("8d5c8a2e-6f0b-4c0e-9d58-0f6a0c7c5f11")
_SUSPECT = "/alone"
_LEVEL = "@"
_UNREADABLE = 1_000_000
"""The level of a line whose level is no number: nobody takes it."""


class Place(NamedTuple):
    """A task that joins the line."""

    task_id: UUID
    queue: str
    type: str
    priority: int
    is_suspect: bool = False
    level: int = 0

    @property
    def line(self) -> str:
        level = f"{_LEVEL}{self.level}/" if self.level else ""
        return f"{self.queue}/{level}{self.type}{_SUSPECT if self.is_suspect else ''}"


class Picked(NamedTuple):
    """A job that a claim took out of the line."""

    job_id: int
    task_id: UUID
    priority: int


def lines_of(queue: str, type_: str) -> list[str]:
    """Return the names of the lines of a queue and a type: of each level the ordinary one, and that of suspects."""
    levels = ["", *(f"{_LEVEL}{level}/" for level in range(1, LEVEL + 1))]
    return [f"{queue}/{level}{type_}{alone}" for level in levels for alone in ("", _SUSPECT)]


def wanted(request: ClaimRequest, lines: Collection[str]) -> tuple[list[str], list[str]]:
    """Return which of `lines` a worker takes: ordinary ones, and those of suspects."""
    ordinary: list[str] = []
    suspects: list[str] = []
    for line in lines:
        queue, level, rest = _parts(line)
        type_, _, alone = rest.partition("/")
        if level <= LEVEL and type_ in request.types and (request.queues is None or queue in request.queues):
            (suspects if alone else ordinary).append(line)
    return ordinary if request.limit > 0 else [], suspects if request.suspects > 0 else []


def _parts(line: str) -> tuple[str, int, str]:
    """Return the queue of a line, its level, and the rest; one that a person's hand has put there may have any form."""
    queue, _, rest = line.partition("/")
    if not rest.startswith(_LEVEL):
        return queue, 0, rest
    level, _, rest = rest[1:].partition("/")
    return queue, int(level) if level.isdecimal() and len(level) < 6 else _UNREADABLE, rest


def level_of(line: str) -> int:
    """Return the least level of the workers that take a line."""
    return _parts(line)[1]


def at_level(line: str, level: int) -> str:
    """Return the line of the same tasks for workers of a level."""
    queue, _, rest = _parts(line)
    return f"{queue}/{_LEVEL}{level}/{rest}"


class Line:
    """PgQueuer's queries on the tables of `schema`."""

    def __init__(self, schema: str) -> None:
        self.settings = DBSettings(db_schema=schema, prefix="", durability=Durability.balanced)
        self._environment = QueryBuilderEnvironment(self.settings)
        self._builder = QueryQueueBuilder(self.settings)
        self._scheduler = QuerySchedulerBuilder(self.settings)

    def queries(self, connection: Connection) -> Queries:
        """Return PgQueuer's queries over a connection, inside its transaction if it has one."""
        return Queries(cast(Driver, _Borrowed(connection)), self._environment, self._builder, self._scheduler)

    async def join(self, connection: Connection, places: Sequence[Place]) -> None:
        """Put tasks at the end of their lines, in this order."""
        await self.queries(connection).enqueue(
            [place.line for place in places],
            [place.task_id.bytes for place in places],
            [place.priority for place in places],
            [_ALWAYS_DUE] * len(places),
            [str(place.task_id) for place in places],
        )

    async def take(self, connection: Connection, worker: str, lines: Sequence[str], limit: int) -> list[Picked]:
        """Take the first jobs out of `lines`, at most `limit`."""
        jobs = await self.queries(connection).dequeue(
            limit,
            dict.fromkeys(map(QueueEntrypoint, lines), _UNLIMITED),
            QueueManagerId(uuid5(MANAGERS, worker)),
            None,
            _NEVER_STALE,
        )
        return [Picked(job.id, UUID(bytes=job.payload), job.priority) for job in jobs if job.payload is not None]

    async def leave(self, connection: Connection, ended: Iterable[tuple[int, str]]) -> None:
        """Take jobs out of the table: each an id and how it ended in PgQueuer's words."""
        jobs: list[Any] = [(Job.model_construct(id=job_id), status, None) for job_id, status in ended]
        if jobs:
            await self.queries(connection).log_jobs(jobs)

    async def beat(self, connection: Connection, job_ids: Sequence[Any]) -> None:
        """Note that the workers of these jobs live: for those who look at PgQueuer's table."""
        if job_ids:
            await self.queries(connection).update_heartbeat(list(job_ids))


class _Borrowed:
    """PgQueuer's driver over a connection that is ours: inside a transaction there is nothing to lock or close."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def fetch(self, query: str, *args: object) -> list[dict[str, object]]:
        return [dict(row) for row in await self._connection.fetch(query, *args)]

    async def execute(self, query: str, *args: object) -> str:
        return str(await self._connection.execute(query, *args))
