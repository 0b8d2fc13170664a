"""The use cases of tasks: submit, get, find, wait, cancel, retry, delete."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import NamedTuple, TypeVar
from uuid import UUID

import msgspec
from msgspec import structs

from tasker.clock import Clock
from tasker.engine import Engine
from tasker.errors import Conflict, Expired, Invalid, NotFound, RequestError, Unavailable
from tasker.events import Hub
from tasker.hiding import find_masks
from tasker.history import History
from tasker.model import (
    Attempt,
    Draft,
    Event,
    Extra,
    Idempotency,
    LineStats,
    Page,
    Receipt,
    Task,
    TaskFilter,
    WorkerState,
)
from tasker.model.keys import Caller
from tasker.registry import Registry, TaskType
from tasker.service.admission import Admission
from tasker.service.audit import Audit
from tasker.service.batches import Accepted, Batches, Wanted
from tasker.service.budgets import Budgets
from tasker.service.bulk import Bulk
from tasker.service.drafts import as_accepted, check_submission, draft_of, fingerprint, owned, traced
from tasker.service.feed import HEARTBEAT, Feed
from tasker.service.keys import Keys
from tasker.service.queues import Queues
from tasker.service.readiness import Readiness, StoreCheck
from tasker.service.schedules import Schedules
from tasker.service.usage import UsageService
from tasker.service.waiting import Waiting
from tasker.service.webhooks import Webhooks
from tasker.submission import Submission

KEEP_KEYS_FOR = timedelta(hours=24)
"""How long an idempotency key is remembered."""
_NEVER = datetime(9999, 1, 1, tzinfo=UTC)
"""The end of the keys of chosen ids: they go with their task. No client's key has a blank, as theirs have."""
EVENTS_AT_ONCE = 25
"""So many events of a task are read at once at the most: a reader that is slow has no more of them in memory."""
_LAST_LOOK = 15.0
"""Seconds between looks at a task that is followed: news of it may have been lost."""
_FIRST_LOOK = 0.25
"""The same at first, then longer each time, where other processes run the tasks: they tell of words and ends alone."""

T = TypeVar("T")
_encode = msgspec.json.Encoder().encode
_decode_task = msgspec.json.Decoder(Task).decode


class Submitted(NamedTuple):
    """A task as it was accepted; `replayed` when an earlier request with the same idempotency key submitted it.

    It may be another one that answers for the submission (by `unique_key` or `cache`), as it is now.
    """

    task: Task
    replayed: bool


class Service:
    """What can be asked of Tasker, by any face of it.

    health: what the worker says of itself for readiness, by name: "ok", or what is wrong; None without a worker.
    daily_budget: of owners whose keys have none. max_pending: tasks that may be pending; None for any number.
    """

    def __init__(
        self,
        engine: Engine,
        registry: Registry,
        hub: Hub,
        clock: Clock,
        *,
        health: Callable[[list[LineStats]], dict[str, str]] | None,
        daily_budget: float | None = None,
        max_pending: int | None = None,
        history: History | None = None,
    ) -> None:
        self.registry = registry
        self.audit = Audit(engine.audit, clock)
        self.keys = Keys(engine.keys, clock, is_shared=engine.is_shared)
        self.queues = Queues(engine)
        self.waiting = Waiting(engine, clock, history or History())
        self._admission = Admission(engine, clock, max_pending)
        self._engine = engine
        self._hub = hub
        self._clock = clock
        self._health = health
        self.batches = Batches(self._submit_many)
        self.bulk = Bulk(engine, clock)
        self.usage = UsageService(engine, clock)
        self.budgets = Budgets(engine.usage, self.keys, clock, default=daily_budget)
        self.webhooks = Webhooks(engine, clock)
        self.schedules = Schedules(engine, registry, clock, self.draft)
        self._has_secrets = any(task_type.secrets is not None for task_type in registry)
        self.feed = Feed(engine, hub)
        self._in_flight: set[str] = set()
        self._store_check = StoreCheck(engine, clock)
        self._first_look = _FIRST_LOOK if engine.is_shared else _LAST_LOOK

    async def submit(
        self,
        caller: Caller,
        task_type: TaskType,
        submission: Submission,
        *,
        idempotency_key: str | None = None,
        schedule_id: UUID | None = None,
        traceparent: str | None = None,
    ) -> Submitted:
        """Accept a submission that `submission.read_submission` found valid; return when it is durable.

        schedule_id: the schedule whose task it is. traceparent: the trace that it belongs to (W3C Trace Context).
        Raises Invalid (the key belongs to another request), Conflict (one with the key is under way), Exhausted (its
        type costs, and today's budget is used up), NotFound (the schedule), Unavailable.
        """
        check_submission(caller, submission)
        draft = await self.budgets.bound(caller, task_type, self.draft(caller, task_type, submission))
        if schedule_id is not None:
            draft = structs.replace(draft, extra=structs.replace(draft.extra or Extra(), schedule_id=schedule_id))
        draft = traced(draft, traceparent)
        task = as_accepted(draft)
        if idempotency_key is None:
            receipt = await self._store(draft)
            return Submitted(await self._answering(receipt, task), replayed=False)
        return await self._submit_once(draft, task, submission, idempotency_key)

    def draft(self, caller: Caller, task_type: TaskType, submission: Submission) -> Draft:
        """Return what a valid submission of now is stored as."""
        return draft_of(caller, task_type, submission, self._clock.now())

    async def trigger(self, caller: Caller, schedule_id: UUID, *, idempotency_key: str | None = None) -> Submitted:
        """Submit a task of a schedule now, beside its ticks, also where it is paused or a task of it is open.

        Raises NotFound, and what `submit` does.
        """
        owner, task_type, submission = await self.schedules.template(caller, schedule_id)
        return await self.submit(owner, task_type, submission, idempotency_key=idempotency_key, schedule_id=schedule_id)

    async def original(self, caller: Caller, task_id: UUID) -> Draft:
        """Return what a task was submitted with, for `submission.read_replay`. Raises as `get`."""
        await self.get(caller, task_id)
        draft = await self._engine.control.find_draft(task_id)
        if draft is None:  # it has just been erased
            raise NotFound(f"there is no task {task_id}")
        return draft

    async def put(
        self,
        caller: Caller,
        task_id: UUID,
        task_type: TaskType,
        submission: Submission,
        *,
        traceparent: str | None = None,
    ) -> Submitted:
        """Accept a submission under the client's own id, as `submit` does; the same one again is the task as it is now.

        Raises Conflict (the id belongs to another request), NotFound (to another owner), Exhausted (as `submit`),
        Unavailable.
        """
        check_submission(caller, submission, task_id)
        key = owned(caller.owner, f"PUT {task_id}")
        draft = traced(self.draft(caller, task_type, submission), traceparent)
        draft = await self.budgets.bound(caller, task_type, draft)
        draft = structs.replace(
            draft, task_id=task_id, is_chosen=True, cache_key=None,
            on_conflict="reject" if draft.on_conflict == "return" else draft.on_conflict,
            idempotency=Idempotency(key=key, fingerprint=fingerprint(submission), reply=b"", expires_at=_NEVER),
        )  # fmt: skip
        try:
            receipt = await self._store(draft)
        except (Conflict, Expired) as error:
            if error.kind.name in ("conflict", "expired"):
                await self.get(caller, task_id)  # of another owner's it says no more than anything else does
            raise
        if receipt.outcome == "mismatched":
            await self.get(caller, task_id)
            raise Conflict(f"task {task_id} was submitted by another request")
        if receipt.outcome == "replayed":
            return Submitted(await self.get(caller, task_id), replayed=True)
        return Submitted(as_accepted(draft), replayed=False)

    async def _submit_once(self, draft: Draft, task: Task, submission: Submission, client_key: str) -> Submitted:
        key = owned(draft.owner, client_key)
        if key in self._in_flight:
            raise Conflict(
                f"a request with Idempotency-Key {client_key!r} is under way",
                name="idempotency-in-flight",
                retry_after=timedelta(seconds=1),
            )
        idempotency = Idempotency(
            key=key, fingerprint=fingerprint(submission, _schedule_of(draft)), reply=_encode(task),
            expires_at=draft.created_at + KEEP_KEYS_FOR,
        )  # fmt: skip
        self._in_flight.add(key)
        try:
            receipt = await self._store(structs.replace(draft, idempotency=idempotency))
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
            return Submitted(known, replayed=True)
        return Submitted(await self._answering(receipt, task), replayed=False)

    async def _answering(self, receipt: Receipt, task: Task) -> Task:
        """Return the task that answers for a submission: its own, or the one that it has joined."""
        is_known = receipt.outcome == "stored" and not task.depends_on  # which may keep it waiting, or fail it at once
        return task if is_known else await self._as_it_is(receipt.task_id)

    async def _as_it_is(self, task_id: UUID) -> Task:
        task = await self._engine.find(task_id)
        if task is None:
            raise NotFound(f"task {task_id}, which answered for this request, was erased a moment ago")
        return task

    async def _submit_many(
        self, caller: Caller, wanted: Sequence[Wanted], key: str | None
    ) -> list[Accepted | RequestError]:
        """Accept a part of a batch in one commit; return what became of each submission. Raises Unavailable."""
        now = self._clock.now()
        drafts = []
        for place, task_type, submission in wanted:
            draft = await self.budgets.bound(caller, task_type, draft_of(caller, task_type, submission, now))
            if key is not None:
                idempotency = Idempotency(
                    key=owned(caller.owner, f"BATCH {place} {key}"), fingerprint=fingerprint(submission), reply=b"",
                    expires_at=now + KEEP_KEYS_FOR,
                )  # fmt: skip
                draft = structs.replace(draft, idempotency=idempotency)
            drafts.append(draft)
        return [_accepted(receipt, key) for receipt in await self._store_many(drafts)]

    async def _check_kept(self, receipt: Receipt) -> None:
        """Raise Expired if the task that an idempotency key has submitted is there no more; the key may live longer."""
        tombstone = await self._engine.tombstones.find(receipt.task_id)
        if tombstone is not None:
            raise Expired.of(receipt.task_id, tombstone.expired_at)

    async def _store(self, draft: Draft) -> Receipt:
        schedule_id = _schedule_of(draft)
        if schedule_id is None:
            [receipt] = await self._store_many([draft])
        else:
            await self._admission.check(1)
            receipt = await self._noticing(self._engine.schedules.trigger(schedule_id, draft))
        if receipt.refusal is not None:
            raise receipt.refusal
        return receipt

    async def _store_many(self, drafts: Sequence[Draft]) -> list[Receipt]:
        await self._admission.check(len(drafts))
        return await self._noticing(self._engine.submit(drafts))

    async def _noticing(self, storing: Awaitable[T]) -> T:
        """Await what stores; if it cannot, what a readiness check said a moment ago no longer holds."""
        try:
            return await storing
        except Unavailable:
            self._store_check.forget()
            raise

    async def find(self, caller: Caller, task_id: UUID) -> Task | None:
        """Return the task, or None; another owner's is not there."""
        task = await self._engine.find(task_id)
        return task if task is None or caller.sees(task.owner) else None

    async def get(self, caller: Caller, task_id: UUID) -> Task:
        """Return the task. Raises NotFound, Expired."""
        task = await self.find(caller, task_id)
        if task is None:
            raise await self._missing(caller, task_id)
        return task

    async def _missing(self, caller: Caller, task_id: UUID) -> NotFound:
        """Return what to say of a task that is not there."""
        tombstone = await self._engine.tombstones.find(task_id)
        if tombstone is not None and caller.sees(tombstone.owner):
            return Expired.of(task_id, tombstone.expired_at)
        return NotFound(f"there is no task {task_id}")

    async def _check_owner(self, caller: Caller, task_id: UUID) -> None:
        """Raise NotFound for another owner's task. What a caller sees never changes: the owner of a task is settled."""
        if caller.only is not None:
            await self.get(caller, task_id)

    async def find_many(self, caller: Caller, where: TaskFilter, *, limit: int, cursor: str | None = None) -> Page:
        """Return tasks, newest first. Raises Invalid for a cursor that no page gave out."""
        if caller.only is not None:
            if where.owner not in (None, caller.only):
                return Page(items=[])
            where = structs.replace(where, owner=caller.only)
        return await self._engine.find_many(where, limit=limit, cursor=cursor)

    async def attempts(self, caller: Caller, task_id: UUID) -> list[Attempt]:
        """Return the attempts of a task, oldest first. Raises NotFound for another owner's."""
        await self._check_owner(caller, task_id)
        return await self._engine.find_attempts(task_id)

    async def wait(self, caller: Caller, task_id: UUID, at_most: timedelta) -> Task:
        """Return the task once it has ended, or as it is when time is up or the service stops. Raises NotFound."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + at_most.total_seconds()
        while True:
            with self._hub.ending(task_id) as ended:
                task = await self.get(caller, task_id)
                if task.status.is_terminal or self._hub.closed or loop.time() >= deadline:
                    return task
                timer = loop.call_at(min(deadline, loop.time() + _LAST_LOOK), _finish, ended)
                try:
                    await ended
                finally:
                    timer.cancel()

    async def wait_for_change(
        self, caller: Caller, task_id: UUID, at_most: timedelta, is_new: Callable[[Task], Awaitable[bool]]
    ) -> Task:
        """Return the task once it is another than the caller knows, and otherwise as `wait` does. Raises NotFound."""
        loop = asyncio.get_running_loop()
        deadline, pause = loop.time() + at_most.total_seconds(), self._first_look
        while True:
            with self._hub.changing(task_id) as changed:
                task, left = await self.get(caller, task_id), deadline - loop.time()
                if task.status.is_terminal or self._hub.closed or left <= 0 or await is_new(task):
                    return task
                if not (await asyncio.wait([changed], timeout=min(left, pause)))[0]:
                    pause = min(pause * 2, _LAST_LOOK)

    async def events(self, caller: Caller, task_id: UUID, *, after: int = 0) -> list[Event]:
        """Return the first events of a task with a sequence above `after`, at most EVENTS_AT_ONCE.

        Raises NotFound for another owner's task.
        """
        await self._check_owner(caller, task_id)
        return await self._events(task_id, after)

    async def _events(self, task_id: UUID, after: int) -> list[Event]:
        return await self._engine.find_events(task_id, after=after, limit=EVENTS_AT_ONCE)

    async def follow(self, caller: Caller, task_id: UUID, *, after: int = 0) -> AsyncIterator[list[Event]]:
        """Yield what happens to a task as it happens, from behind `after` on, until it has ended or the service stops.

        Nothing is kept for the reader: while it is slow, nothing more is read for it. Where nothing comes, an empty
        list does every HEARTBEAT seconds. A task that is run again later has a log that goes on: follow it anew.
        Raises NotFound for another owner's task.
        """
        await self._check_owner(caller, task_id)
        loop = asyncio.get_running_loop()
        pause, told_at = self._first_look, loop.time()
        while not self._hub.closed:
            with self._hub.changing(task_id) as changed:
                events = await self._events(task_id, after)
                if events or loop.time() - told_at >= HEARTBEAT:
                    yield events
                    told_at = loop.time()
                if events:
                    after, pause = events[-1].sequence, self._first_look
                elif await self._is_over(task_id, after):
                    return
                elif not (await asyncio.wait([changed], timeout=min(pause, told_at + HEARTBEAT - loop.time())))[0]:
                    pause = min(pause * 2, _LAST_LOOK)

    async def _is_over(self, task_id: UUID, after: int) -> bool:
        """Tell whether the event `after` is the task's last one: it is erased, or has ended and is not run again."""
        task = await self._engine.find(task_id)
        if task is None:
            return True
        return task.status.is_terminal and not await self._engine.find_events(task_id, after=after, limit=1)

    async def cancel(self, caller: Caller, task_id: UUID) -> Task:
        """Cancel a pending task; ask a running one to stop. Raises NotFound, Conflict (it has ended)."""
        await self._check_owner(caller, task_id)
        return await self._engine.cancel(task_id)

    async def retry(self, caller: Caller, task_id: UUID) -> Task:
        """Make a failed or cancelled task pending again. Raises NotFound, Conflict (any other status)."""
        await self._check_owner(caller, task_id)
        if self._has_secrets:
            await self._check_secrets(task_id)
        return await self._engine.retry(task_id)

    async def _check_secrets(self, task_id: UUID) -> None:
        """Raise Conflict for a task that cannot run again: what of its params was secret went with its end."""
        task = await self._engine.find(task_id)
        task_type = None if task is None else self.registry.find(task.type)
        if task is None or task_type is None or task_type.secrets is None or not task.status.is_terminal:
            return
        if find_masks(msgspec.json.decode(task.params), task_type.secrets):
            raise Conflict("its secret params were erased when it ended: submit it again")

    async def delete(self, caller: Caller, task_id: UUID) -> None:
        """Erase a task that has ended. Raises NotFound, Conflict (it is open)."""
        await self._check_owner(caller, task_id)
        await self._engine.delete(task_id)

    async def stats(self) -> list[LineStats]:
        """Return the open tasks by queue and type."""
        return await self._engine.stats()

    async def workers(self, caller: Caller) -> list[WorkerState]:
        """Return the workers of this service, in order of their start; of what they run that which the caller sees."""
        found = await self._engine.workers.find_all()
        if caller.only is None:
            return found
        return [
            structs.replace(state, running=tuple(one for one in state.running if caller.sees(one.owner)))
            for state in found
        ]

    async def readiness(self) -> Readiness:
        """Tell whether the store takes writes, and whether what this process has of a worker lives and keeps up."""
        checks = {"store": await self._store_check.run()}
        if checks["store"] == "ok" and self._health is not None:
            limited = await self.queues.settings()  # what waits there may wait for a limit: nobody is behind
            lines = [line for line in await self._engine.stats() if line.queue not in limited]
            checks |= self._health(lines)
        if self._hub.closed:
            checks["service"] = "stopping"
        return Readiness(all(word == "ok" for word in checks.values()), checks)

    @property
    def stopping(self) -> bool:
        return self._hub.closed

    def stop(self) -> None:
        """Let every wait return now; readiness says that the service is stopping."""
        self._hub.close()


def _finish(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def _schedule_of(draft: Draft) -> UUID | None:
    return None if draft.extra is None else draft.extra.schedule_id


def _accepted(receipt: Receipt, key: str | None) -> Accepted | RequestError:
    """Return what a client is told of a submission of its batch."""
    if receipt.outcome == "mismatched":
        return Invalid(
            f"Idempotency-Key {key!r} was used for another batch: with task {receipt.task_id} at this place",
            name="idempotency-key-reuse",
        )
    return receipt.refusal or Accepted(receipt.task_id, receipt.outcome == "replayed")
