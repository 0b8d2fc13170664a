"""The use case of many submissions in one request."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import NamedTuple
from uuid import UUID

from msgspec import structs

from tasker.errors import Conflict, RequestError
from tasker.model.keys import Caller
from tasker.requests.submissions import Submission
from tasker.service.drafts import check_submission
from tasker.service.reading import Reading
from tasker.tasktypes.registry import TaskType


class Wanted(NamedTuple):
    """A submission that was read, and its index in the batch, from 0."""

    place: int
    task_type: TaskType
    submission: Submission


class Accepted(NamedTuple):
    """The task of a submission; `replayed` when an earlier request with the same idempotency key submitted it."""

    task_id: UUID
    replayed: bool


SubmitMany = Callable[[Caller, Sequence[Wanted], str | None], Awaitable[list[Accepted | RequestError]]]


class Batches:
    """Begins batches. submit_many: stores a part of a batch."""

    def __init__(self, reading: Reading, submit_many: SubmitMany) -> None:
        self._reading = reading
        self._submit_many = submit_many
        self._in_flight: set[tuple[str, str]] = set()

    def begin(
        self, caller: Caller, idempotency_key: str | None, *, dry_run: bool = False, group: str | None = None
    ) -> Batch:
        """Return a batch, to be ended; a dry run checks and stores nothing. group: of submissions that name none.

        Repeating a batch gives the same tasks, even if the first try ended in the middle: each submission has its own
        key, made of the batch's key and its index. Raises Conflict if a batch with the same key is under way.
        """
        store = None if dry_run else self._submit_many
        if idempotency_key is None or dry_run:
            return Batch(self._reading, store, caller, None, group, lambda: None)
        flight = caller.owner, idempotency_key
        if flight in self._in_flight:
            raise Conflict(
                f"a batch with Idempotency-Key {idempotency_key!r} is under way",
                name="idempotency-in-flight",
                retry_after=timedelta(seconds=1),
            )
        self._in_flight.add(flight)
        return Batch(self._reading, store, caller, idempotency_key, group, lambda: self._in_flight.discard(flight))


@dataclass
class Batch:
    """One batch under way. store: None for a dry run."""

    _reading: Reading
    _store: SubmitMany | None
    _caller: Caller
    _key: str | None
    _group: str | None
    end: Callable[[], None]

    async def read(self, place: int, body: bytes) -> Wanted:
        """Read a submission, to be submitted later: the next ones may be read while others are stored.

        Raises as `Submissions.validate`.
        """
        task_type, submission = await self._reading.submission(self._caller.owner, body)
        if self._group is not None and submission.group is None:
            submission = structs.replace(submission, group=self._group)
        if self._store is None:  # storing would check the rights
            check_submission(self._caller, submission)
        return Wanted(place, task_type, submission)

    async def submit(self, wanted: Sequence[Wanted]) -> Sequence[Accepted | RequestError | None]:
        """Store submissions in one commit; return the outcome of each once they are durable, None in a dry run.

        Raises Unavailable.
        """
        if self._store is None or not wanted:
            return [None] * len(wanted)
        return await self._store(self._caller, wanted, self._key)
