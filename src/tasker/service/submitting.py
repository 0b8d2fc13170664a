"""The use cases of submissions: single, by a schedule's trigger, as a replay, under a chosen id, or in a batch."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec
from msgspec import structs

from tasker.clock import Clock
from tasker.engines.protocol import Engine
from tasker.errors import Conflict, Expired, Invalid, NotFound, RequestError, Unavailable
from tasker.model import Draft, Extra, Idempotency, Receipt, Task
from tasker.model.keys import Caller
from tasker.requests.submissions import Submission
from tasker.service.admission import Admission, OpenQueues, OwnerQueue
from tasker.service.batches import Accepted, Wanted
from tasker.service.budgets import Budgets
from tasker.service.drafts import as_accepted, check_submission, draft_of, fingerprint, owned, traced
from tasker.service.pauses import Pauses
from tasker.service.readiness import StoreCheck
from tasker.service.reading import Reading
from tasker.service.schedules import Schedules
from tasker.service.tasks import Tasks
from tasker.tasktypes.registry import TaskType

KEEP_KEYS_FOR = timedelta(hours=24)
"""How long an idempotency key is remembered."""
_NEVER = datetime(9999, 1, 1, tzinfo=UTC)
"""Expiry of the keys of chosen ids: they end with their task. They contain a blank, unlike any client's key."""

_encode = msgspec.json.Encoder().encode
_decode_task = msgspec.json.Decoder(Task).decode


class Submitted:
    """A submission that was accepted; `replayed` when an earlier request with the same idempotency key submitted it.

    draft: the task that this request alone would create; `sent` is the same as a Task, and reveals nothing about other
    tasks. task: the one that answers, as it is now. By `unique_key` or `cache` it may be another; `is_new` means that
    it is what its draft says. is_awaited: whether it was stored as an awaited task (Draft.is_awaited).
    """

    __slots__ = ("_sent", "_task", "draft", "is_awaited", "replayed")

    def __init__(
        self, draft: Draft, task: Task | None = None, *, replayed: bool = False, is_awaited: bool = False
    ) -> None:
        self.draft = draft
        self.replayed = replayed
        self.is_awaited = is_awaited
        self._task = task
        self._sent: Task | None = None

    @property
    def is_new(self) -> bool:
        return self._task is None

    @property
    def task(self) -> Task:
        return self.sent if self._task is None else self._task

    @property
    def sent(self) -> Task:
        if self._sent is None:  # made where it is needed: most answers are made without
            self._sent = as_accepted(self.draft)
        return self._sent


class Submissions:
    """Reads, checks and stores submissions: once for each idempotency key, within the owner's limits.

    All interfaces and the triggers of schedules submit here, so that all accept the same.
    """

    def __init__(
        self,
        engine: Engine,
        clock: Clock,
        *,
        reading: Reading,
        tasks: Tasks,
        schedules: Schedules,
        budgets: Budgets,
        admission: Admission,
        open_queues: OpenQueues,
        store_check: StoreCheck,
    ) -> None:
        self._engine = engine
        self._clock = clock
        self._reading = reading
        self._tasks = tasks
        self._schedules = schedules
        self._budgets = budgets
        self._admission = admission
        self._open_queues = open_queues
        self._store_check = store_check
        self._in_flight: set[str] = set()

    def submit(
        self,
        caller: Caller,
        body: bytes,
        *,
        type_name: str | None = None,
        idempotency_key: str | None = None,
        traceparent: str | None = None,
        is_awaited: bool = False,
    ) -> Coroutine[Any, Any, Submitted]:
        """Accept a submission; return when it is durable.

        type_name: the body is the params alone, of this type. traceparent: the trace that the task belongs to (W3C
        Trace Context). is_awaited: whether the caller waits for its end. Raises Malformed, Invalid (every fault of the
        body; the key belongs to another request), Forbidden, Conflict (a request with the key is under way; an open
        task has its unique key), Exhausted (its type costs, and today's budget is used up), Unavailable.
        """
        reading = self._reading.submission(caller.owner, body, type_name=type_name)
        return self._accept(
            caller, reading, idempotency_key=idempotency_key, traceparent=traceparent, is_awaited=is_awaited
        )

    async def validate(
        self, caller: Caller, body: bytes, *, type_name: str | None = None, task_id: UUID | None = None
    ) -> None:
        """Read and check a submission as `submit` does, or with a task_id as `put` does; store nothing.

        Raises Malformed, Invalid, Forbidden, Unavailable.
        """
        _, submission = await self._reading.submission(caller.owner, body, type_name=type_name)
        check_submission(caller, submission, task_id)

    async def trigger(self, caller: Caller, schedule_id: UUID, *, idempotency_key: str | None = None) -> Submitted:
        """Submit a task of a schedule now, outside its ticks, even if it is paused or one of its tasks is open.

        It is submitted with the caller's rights, not with those of the schedule. Raises NotFound, and what `submit`
        raises.
        """
        caller, reading = await self._schedules.template(caller, schedule_id)
        return await self._accept(caller, reading, idempotency_key=idempotency_key, schedule_id=schedule_id)

    async def replay(
        self,
        caller: Caller,
        task_id: UUID,
        body: bytes,
        *,
        idempotency_key: str | None = None,
        traceparent: str | None = None,
    ) -> Submitted:
        """Submit a task again, with the changes in the body. Raises NotFound, and what `submit` raises."""
        reading = self._read_replay(caller, task_id, body)
        return await self._accept(caller, reading, idempotency_key=idempotency_key, traceparent=traceparent)

    async def validate_replay(self, caller: Caller, task_id: UUID, body: bytes) -> None:
        """Read and check a replay; store nothing. Raises NotFound, and what `validate` raises."""
        _, submission = await self._read_replay(caller, task_id, body)
        check_submission(caller, submission)

    async def put(self, caller: Caller, task_id: UUID, body: bytes, *, traceparent: str | None = None) -> Submitted:
        """Accept a submission under the client's own id, as `submit` does; repeated, it returns the task as it is now.

        Raises Conflict (the id belongs to another request), NotFound (to another owner), and what `submit` raises.
        """
        task_type, submission = await self._reading.submission(caller.owner, body)
        draft = traced(draft_of(caller, task_type, submission, self._clock.now(), task_id), traceparent)
        draft = await self._budgets.bound(caller, task_type, draft)
        key = owned(caller.owner, f"PUT {task_id}")
        draft = structs.replace(
            draft,
            is_chosen=True,
            cache_key=None,
            on_conflict="reject" if draft.on_conflict == "return" else draft.on_conflict,
            idempotency=Idempotency(key=key, fingerprint=fingerprint(submission), reply=b"", expires_at=_NEVER),
        )
        try:
            receipt = _only(await self._store(draft))
        except (Conflict, Expired) as error:
            if error.kind.name in ("conflict", "expired"):
                await self._tasks.get(
                    caller, task_id
                )  # another owner's id is answered as in every other request for it
            raise
        if receipt.outcome == "mismatched":
            await self._tasks.get(caller, task_id)
            raise Conflict(f"task {task_id} was submitted by another request")
        if receipt.outcome == "replayed":
            return Submitted(draft, await self._tasks.get(caller, task_id), replayed=True)
        return Submitted(draft)

    async def _read_replay(self, caller: Caller, task_id: UUID, body: bytes) -> tuple[TaskType, Submission]:
        await self._tasks.get(caller, task_id)
        original = await self._engine.control.find_draft(task_id)
        if original is None:  # the task has just been erased
            raise NotFound(f"there is no task {task_id}")
        return await self._reading.replay(caller.owner, body, original)

    async def _accept(
        self,
        caller: Caller,
        reading: Awaitable[tuple[TaskType, Submission]],
        *,
        idempotency_key: str | None,
        traceparent: str | None = None,
        schedule_id: UUID | None = None,
        is_awaited: bool = False,
    ) -> Submitted:
        """Store the submission that `reading` returns. schedule_id: of the schedule that it comes from.

        Every coroutine that waits for a commit costs about a microsecond: there are few here.
        """
        task_type, submission = await reading
        draft = draft_of(caller, task_type, submission, self._clock.now())
        if task_type.costs:
            draft = await self._budgets.bound(caller, task_type, draft)
        if schedule_id is not None:
            draft = structs.replace(draft, extra=structs.replace(draft.extra or Extra(), schedule_id=schedule_id))
        draft = traced(draft, traceparent)
        if is_awaited:
            draft = structs.replace(draft, is_awaited=True)
        if idempotency_key is None:
            return await self._answer(_only(await self._store(draft)), draft)
        return await self._submit_once(draft, submission, idempotency_key)

    async def _submit_once(self, draft: Draft, submission: Submission, client_key: str) -> Submitted:
        key = owned(draft.owner, client_key)
        if key in self._in_flight:
            raise Conflict(
                f"a request with Idempotency-Key {client_key!r} is under way",
                name="idempotency-in-flight",
                retry_after=timedelta(seconds=1),
            )
        idempotency = Idempotency(
            key=key,
            fingerprint=fingerprint(submission, _schedule_of(draft)),
            reply=_encode(as_accepted(draft)),
            expires_at=draft.created_at + KEEP_KEYS_FOR,
        )
        self._in_flight.add(key)
        try:
            receipt = _only(await self._store(structs.replace(draft, idempotency=idempotency)))
        finally:
            self._in_flight.discard(key)
        if receipt.outcome == "mismatched":
            raise Invalid(
                f"Idempotency-Key {client_key!r} was used for another request: task {receipt.task_id}",
                name="idempotency-key-reuse",
            )
        if receipt.outcome == "replayed" and receipt.reply is not None:
            await self._check_kept(receipt)
            known = _decode_task(receipt.reply) if receipt.reply else await self._as_it_is(receipt.task_id)
            return Submitted(draft, known, replayed=True)
        return await self._answer(receipt, draft)

    async def _answer(self, receipt: Receipt, draft: Draft) -> Submitted:
        """Return the task that answers for a submission: its own, or the one that it has joined."""
        is_stored = receipt.outcome == "stored"
        # Read the task: dependencies may keep it waiting, or have failed it at once.
        is_alone = not draft.depends_on and draft.after_group is None
        found = None if is_stored and is_alone else await self._as_it_is(receipt.task_id)
        return Submitted(draft, found, is_awaited=draft.is_awaited and is_stored)

    async def _as_it_is(self, task_id: UUID) -> Task:
        task = await self._engine.find(task_id)
        if task is None:
            raise NotFound(f"task {task_id}, which answered for this request, was erased a moment ago")
        return task

    async def submit_many(
        self, caller: Caller, wanted: Sequence[Wanted], key: str | None
    ) -> list[Accepted | RequestError]:
        """Accept a part of a batch in one commit; return the outcome of each submission. Raises Unavailable."""
        now = self._clock.now()
        made, pauses = [], Pauses()
        for one in wanted:
            made.append(await self._draft_of(caller, one, key, now))
            if pauses.due():
                await pauses.pause()
        drafts = [draft for draft in made if isinstance(draft, Draft)]
        receipts = iter(await self._let_in(drafts, self._engine.submit) if drafts else ())
        return [_accepted(next(receipts), key) if isinstance(draft, Draft) else draft for draft in made]

    async def _draft_of(self, caller: Caller, wanted: Wanted, key: str | None, now: datetime) -> Draft | RequestError:
        """Return the draft of a submission in a batch, or why the caller may not make it."""
        place, task_type, submission = wanted
        try:
            draft = draft_of(caller, task_type, submission, now)
        except RequestError as error:
            return error
        draft = await self._budgets.bound(caller, task_type, draft)
        if key is None:
            return draft
        idempotency = Idempotency(
            key=owned(caller.owner, f"BATCH {place} {key}"),
            fingerprint=fingerprint(submission),
            reply=b"",
            expires_at=now + KEEP_KEYS_FOR,
        )
        return structs.replace(draft, idempotency=idempotency)

    async def _check_kept(self, receipt: Receipt) -> None:
        """Raise Expired if the task of an idempotency key was erased, which the key may outlive."""
        tombstone = await self._engine.tombstones.find(receipt.task_id)
        if tombstone is not None:
            raise Expired.of(receipt.task_id, tombstone.expired_at)

    def _store(self, draft: Draft) -> Awaitable[list[Receipt]]:
        schedule_id = _schedule_of(draft)
        if schedule_id is None:
            return self._let_in([draft], self._engine.submit)
        return self._let_in([draft], lambda drafts: self._trigger(schedule_id, *drafts))

    async def _trigger(self, schedule_id: UUID, draft: Draft) -> list[Receipt]:
        return [await self._engine.schedules.trigger(schedule_id, draft)]

    async def _let_in(
        self, drafts: Sequence[Draft], store: Callable[[Sequence[Draft]], Awaitable[list[Receipt]]]
    ) -> list[Receipt]:
        """Store drafts within the limits of pending tasks and open queues: every submission passes here."""
        await self._admission.check(len(drafts))
        entered: list[OwnerQueue] = []
        try:
            return await store(await self._open_queues.bound(drafts, entered))
        except Unavailable:  # the last result of the readiness check no longer holds
            self._store_check.forget()
            raise
        finally:
            self._open_queues.leave(entered)


def _only(receipts: Sequence[Receipt]) -> Receipt:
    """Return the receipt of a single submission. Raises its refusal."""
    [receipt] = receipts
    if receipt.refusal is not None:
        raise receipt.refusal
    return receipt


def _schedule_of(draft: Draft) -> UUID | None:
    return None if draft.extra is None else draft.extra.schedule_id


def _accepted(receipt: Receipt, key: str | None) -> Accepted | RequestError:
    """Return the outcome of a submission for the reply to its batch."""
    if receipt.outcome == "mismatched":
        return Invalid(
            f"Idempotency-Key {key!r} was used for another batch: with task {receipt.task_id} at this place",
            name="idempotency-key-reuse",
        )
    return receipt.refusal or Accepted(receipt.task_id, receipt.outcome == "replayed")
