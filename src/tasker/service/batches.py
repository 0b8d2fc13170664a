"""The use case of many submissions in one request."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from typing import NamedTuple
from uuid import UUID

from tasker.errors import Conflict, RequestError
from tasker.model.keys import Caller
from tasker.requests.submissions import Submission
from tasker.tasktypes.registry import TaskType


class Wanted(NamedTuple):
    """A submission that `submission.read_submission` found valid, and its place in the batch, from 0."""

    place: int
    task_type: TaskType
    submission: Submission


class Accepted(NamedTuple):
    """The task of a submission; `replayed` when an earlier request with the same idempotency key submitted it."""

    task_id: UUID
    replayed: bool


SubmitMany = Callable[[Caller, Sequence[Wanted], str | None], Awaitable[list[Accepted | RequestError]]]


class Batches:
    """Begins batches; submit_many: what stores a part of one."""

    def __init__(self, submit_many: SubmitMany) -> None:
        self._submit_many = submit_many
        self._in_flight: set[tuple[str, str]] = set()

    def begin(self, caller: Caller, idempotency_key: str | None) -> Batch:
        """Return a batch, to be ended. Raises Conflict if one with the same key is under way.

        The same batch again gives the same tasks, also where the first one ended in the middle: each submission has a
        key of its own, made of the batch's and its place.
        """
        if idempotency_key is None:
            return Batch(self._submit_many, caller, None, lambda: None)
        flight = caller.owner, idempotency_key
        if flight in self._in_flight:
            raise Conflict(
                f"a batch with Idempotency-Key {idempotency_key!r} is under way",
                name="idempotency-in-flight",
                retry_after=timedelta(seconds=1),
            )
        self._in_flight.add(flight)
        return Batch(self._submit_many, caller, idempotency_key, lambda: self._in_flight.discard(flight))


class Batch:
    """One batch under way."""

    def __init__(self, submit_many: SubmitMany, caller: Caller, key: str | None, end: Callable[[], None]) -> None:
        self._submit_many = submit_many
        self._caller = caller
        self._key = key
        self.end = end

    async def submit(self, wanted: Sequence[Wanted]) -> list[Accepted | RequestError]:
        """Store submissions in one commit; return what became of each when they are durable. Raises Unavailable."""
        return await self._submit_many(self._caller, wanted, self._key)
