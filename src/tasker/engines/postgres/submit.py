"""Submissions: many drafts stored in one transaction, and queued where they are due."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any
from uuid import UUID

from msgspec import structs

from tasker.engines.postgres.attachments import insert_secrets
from tasker.engines.postgres.control import TaskChanges
from tasker.engines.postgres.groups import Member, TaskGroups
from tasker.engines.postgres.jobs import Jobs
from tasker.engines.postgres.partitions import QueuedTask, level_for
from tasker.engines.postgres.stored_steps import StoredSteps
from tasker.engines.postgres.tables import PostgresRows, Texts
from tasker.engines.postgres.ties import TiedTasks, is_tied
from tasker.engines.postgres.transaction import Transaction
from tasker.engines.shared.journal import created
from tasker.engines.shared.refusals import id_taken
from tasker.engines.shared.stores.webhooks import attach, attach_to_joined, check_join
from tasker.engines.shared.ties import Ties
from tasker.engines.shared.values import NEVER, encode
from tasker.errors import Expired
from tasker.model import Change, Draft, Idempotency, Receipt, Status
from tasker.model.inbox import TakenIn
from tasker.rules.arrivals import answered, refused


class Submits:
    """Stores drafts, on the tables of one schema."""

    def __init__(
        self, texts: Texts, jobs: Jobs, ties: TiedTasks, groups: TaskGroups, changes: TaskChanges, steps: StoredSteps
    ) -> None:
        self._steps = steps
        self._texts = texts
        self._queries = texts.queries
        self._jobs = jobs
        self._ties = ties
        self._groups = groups
        self._changes = changes

    async def store(self, tx: Transaction, drafts: Sequence[Draft]) -> list[Receipt]:
        """Store drafts, except where an existing task answers. Safe to repeat after a lost answer."""
        known = await _settle_keys(tx, self._queries, drafts)
        new = [(place, draft) for place, draft in enumerate(drafts) if place not in known]
        tied = [(place, draft) for place, draft in new if is_tied(draft)]
        plain = [draft for _, draft in new if not is_tied(draft)]
        if plain:
            await self._insert(tx, plain)
        if tied:
            await self._ties.lock(tx, [draft for _, draft in tied])
        for place, draft in tied:  # one by one: each draft must see the tasks of those before it
            known[place] = await self._store_tied(tx, draft)
        return [known.get(place) or Receipt(draft.task_id, "stored") for place, draft in enumerate(drafts)]

    async def _store_tied(self, tx: Transaction, draft: Draft) -> Receipt:
        """Store a draft that is tied to other tasks, if they allow it."""
        if not draft.is_chosen and await tx.fetchval(self._queries["is_stored"], draft.task_id):
            return Receipt(draft.task_id, "stored")  # stored by an earlier try, whatever happened to the task since
        ties = await self._find_ties(tx, draft)
        if ties.receipt is not None:
            if draft.idempotency is not None and ties.receipt.outcome != "stored":
                joined = ties.receipt.task_id if ties.receipt.outcome == "joined" else None
                await tx.execute(self._queries["pass_key_on"], draft.idempotency.key, joined)
            if draft.webhook is not None and ties.receipt.outcome == "joined":
                await attach_to_joined(self._rows(tx), draft.webhook, ties.receipt.task_id)
            return ties.receipt
        if ties.replaces is not None:
            await self._changes.cancel_if_open(tx, ties.replaces)
            ties = await self._ties.find(tx, draft)  # this may have ended a dependency
        for row in await self._insert(tx, [draft], waits=ties.waits):  # empty if an earlier try stored it
            seq = row["seq"]
            if ties.waits_for_group and draft.after_group is not None:
                await self._groups.wait_for(tx, seq, draft.owner, draft.after_group)
            if ties.waits:
                await self._ties.wait_for(tx, seq, ties.waits_for)
            if ties.error is not None:
                await self._ties.settle_dependants(tx, await self._ties.fail_pending(tx, {seq: ties.error}))
        return Receipt(draft.task_id, "stored")

    async def _find_ties(self, tx: Transaction, draft: Draft) -> Ties:
        """Return the ties of a draft, or why it is refused."""
        ties = await self._ties.find(tx, draft)
        refusal = draft.refusal if ties.receipt is None else None
        if ties.receipt is not None and ties.receipt.outcome == "joined" and draft.webhook is not None:
            refusal = await check_join(self._rows(tx), draft.webhook, ties.receipt.task_id)
        return ties if refusal is None else Ties(Receipt(draft.task_id, "refused", refusal=refusal))

    async def take_in(self, tx: Transaction, arrivals: Sequence[TakenIn]) -> None:
        """Store the drafts of arrivals: each becomes a task, if only one that has ended and says why."""
        good = [one.draft for one in arrivals if one.error is None]
        ended = [one for one in arrivals if one.error is not None]
        joined = []
        receipts = await self.store(tx, good) if good else []
        for draft, receipt in zip(good, receipts, strict=True):
            if receipt.refusal is not None:
                ended.append(TakenIn(_untied(draft), refused(receipt.refusal)))
            elif receipt.outcome == "joined":
                joined.append(TakenIn(_untied(draft), answered(receipt.task_id)))
        seqs = {} if not ended else await self._insert_idle(tx, [one.draft for one in ended])
        errors = {seqs[one.draft.task_id]: one.error for one in ended if one.error and one.draft.task_id in seqs}
        await self._ties.settle_dependants(tx, await self._ties.fail_pending(tx, errors))
        for one in joined:
            seq = (await self._insert_idle(tx, [one.draft]))[one.draft.task_id]
            await tx.execute(self._queries["set_error"], seq, encode(one.error))
            await self._changes.cancel_if_open(tx, one.draft.task_id)

    async def _insert_idle(self, tx: Transaction, drafts: Sequence[Draft]) -> dict[UUID, int]:
        """Store drafts of tasks that this transaction ends at once; return their seqs."""
        return {row["task_id"]: row["seq"] for row in await self._insert(tx, drafts, waits=True)}

    async def insert_children(
        self, tx: Transaction, drafts: Sequence[Draft], held: Collection[UUID]
    ) -> dict[UUID, int]:
        """Store the drafts of children, and queue those that are due and not `held`; return the seqs of new tasks."""
        rows = await self._insert(tx, drafts, are_children=True, held=held)
        return {row["task_id"]: row["seq"] for row in rows}

    async def _insert(
        self,
        tx: Transaction,
        drafts: Sequence[Draft],
        *,
        waits: bool = False,
        are_children: bool = False,
        held: Collection[UUID] = (),
    ) -> Sequence[Any]:
        """Store drafts and queue those that are due; return their rows. waits: they wait for other tasks."""
        chosen = [draft.task_id for draft in drafts if draft.is_chosen]
        if chosen:
            await _check_not_expired(tx, self._queries, chosen)
        columns = _columns(drafts)
        columns.append([_rare_options(draft, tx.sender, is_child=are_children, held=held) for draft in drafts])
        rows: Sequence[Any] = await tx.fetch(self._queries["insert_tasks"], *columns)
        stored = {row["task_id"] for row in rows}
        _check_chosen(drafts, stored)
        await self._attach(tx, drafts, stored)
        due = {} if waits else {row["task_id"]: row["has_settings"] for row in rows if row["lined"]}
        if due and rows[0]["others_due"]:
            await self._jobs.promote(tx)  # they became due earlier, so they go first
        queued = [
            _queued(draft, has_settings=due[draft.task_id], has_steps=are_children or draft.keep_steps_of is not None)
            for draft in drafts
            if draft.task_id in due
        ]
        await self._jobs.enqueue(tx, queued)
        await self._join_groups(tx, drafts, {row["task_id"]: row["seq"] for row in rows})
        tx.journal += [created(row["task_id"]) for row in rows]
        tx.changes += [Change(row["task_id"], Status.PENDING) for row in rows]
        return rows

    async def _attach(self, tx: Transaction, drafts: Sequence[Draft], stored: Collection[UUID]) -> None:
        """Store what belongs to new tasks in other tables."""
        if any(draft.secrets is not None for draft in drafts):
            await insert_secrets(tx, self._queries, drafts, stored)
        if any(draft.webhook is not None for draft in drafts):
            given = [(draft.webhook, draft.task_id) for draft in drafts if draft.webhook and draft.task_id in stored]
            await attach(self._rows(tx), given)
        if any(draft.keep_steps_of is not None for draft in drafts):
            copies = [(draft.task_id, draft.keep_steps_of) for draft in drafts if draft.task_id in stored]
            await self._steps.copy(tx, [(new, other) for new, other in copies if other is not None])

    async def _join_groups(self, tx: Transaction, drafts: Sequence[Draft], stored: Mapping[UUID, int]) -> None:
        """Add stored drafts, given with their seqs, to their groups."""
        named = [(draft, draft.group) for draft in drafts if draft.extra is not None and draft.task_id in stored]
        members = [Member(stored[draft.task_id], draft.owner, name) for draft, name in named if name is not None]
        await self._groups.join(tx, members)

    def _rows(self, tx: Transaction) -> PostgresRows:
        return PostgresRows(self._texts, tx.connection, tx)


def _untied(draft: Draft) -> Draft:
    """Return the draft of a task that ends at once, whatever other tasks do."""
    extra = None if draft.extra is None else structs.replace(draft.extra, depends_on=(), depends_on_group=None)
    return structs.replace(
        draft, extra=extra, unique_key=None, cache_key=None, refusal=None, join_refusal=None, run_at=None, deadline=None
    )


def _queued(draft: Draft, *, has_settings: bool, has_steps: bool) -> QueuedTask:
    level = level_for(has_settings=has_settings, has_steps=has_steps)
    return QueuedTask(draft.task_id, draft.queue, draft.type, draft.priority, level=level)


async def _check_not_expired(tx: Transaction, queries: dict[str, str], task_ids: list[UUID]) -> None:
    """Raise Expired if one of these chosen ids belongs to an expired task."""
    row = await tx.fetchrow(queries["when_expired"], task_ids)
    if row is not None:
        raise Expired.of(row["task_id"], row["expired_at"])


def _check_chosen(drafts: Sequence[Draft], stored: Collection[UUID]) -> None:
    """Raise Conflict if a chosen id was not stored: its idempotency key is new, so no earlier try has stored it."""
    for draft in drafts:
        if draft.is_chosen and draft.task_id not in stored:
            raise id_taken(draft.task_id)


def _columns(drafts: Sequence[Draft]) -> list[list[Any]]:
    """Return the parameters of `insert_tasks`, but for the rarely used options."""
    return [
        [draft.task_id for draft in drafts],
        [draft.type for draft in drafts],
        [draft.queue for draft in drafts],
        [draft.priority for draft in drafts],
        [draft.created_at for draft in drafts],
        [draft.run_at for draft in drafts],
        [draft.max_attempts for draft in drafts],
        [draft.policy for draft in drafts],
        [draft.metadata for draft in drafts],
        [draft.params for draft in drafts],
        [encode(draft.tags).decode() if draft.tags else None for draft in drafts],
        [draft.owner for draft in drafts],
        [draft.retention for draft in drafts],
    ]


def _rare_options(draft: Draft, sender: str, *, is_child: bool, held: Collection[UUID]) -> str | None:
    """Return the rarely used options as JSON in one column: each further array would cost time in every batch.

    sender: this process, as notifications name it.
    """
    options = {
        "deadline": draft.deadline,
        "unique_key": draft.unique_key,
        "concurrency_key": draft.concurrency_key,
        "weight": None if draft.weight == 1 else draft.weight,
        "cache_key": draft.cache_key,
        "extra": None if draft.extra is None else encode(draft.extra).decode(),
        "has_dependants": is_child or draft.group is not None or None,
        "awaited": draft.is_awaited or draft.webhook is not None or None,
        "waiter": sender if draft.is_awaited and draft.webhook is None else None,
        "held": NEVER if draft.task_id in held else None,
    }
    given = {name: value for name, value in options.items() if value is not None}
    return encode(given).decode() if given else None


async def _settle_keys(tx: Transaction, queries: dict[str, str], drafts: Sequence[Draft]) -> dict[int, Receipt]:
    """Store new idempotency keys; return the receipts of drafts whose key is known, by the draft's index."""
    keyed = [(place, draft, draft.idempotency) for place, draft in enumerate(drafts) if draft.idempotency is not None]
    if not keyed:
        return {}
    first: dict[str, tuple[int, Draft, Idempotency]] = {}
    for place, draft, key in keyed:
        first.setdefault(key.key, (place, draft, key))
    kept = await _insert_keys(tx, queries, [(draft, key) for _, draft, key in first.values()])
    owners = {name: (draft.task_id, key.fingerprint, key.reply) for name, (_, draft, key) in first.items()}
    lost = [name for name in first if name not in kept]
    for row in await tx.fetch(queries["find_keys"], lost) if lost else ():
        owners[row["key"]] = row["task_id"], row["fingerprint"], row["reply"]
    return {
        place: _receipt(key, *owners[key.key])
        for place, draft, key in keyed
        if not (first[key.key][0] == place and (key.key in kept or _is_ours(draft, owners[key.key][0])))
    }


def _is_ours(draft: Draft, owner: UUID) -> bool:
    """Return whether an earlier try, whose answer was lost, stored the key; unknown, so False, for a chosen id."""
    return owner == draft.task_id and not draft.is_chosen


async def _insert_keys(
    tx: Transaction, queries: dict[str, str], keyed: Sequence[tuple[Draft, Idempotency]]
) -> set[str]:
    rows = [(key.key, draft.task_id, key.fingerprint, key.expires_at, key.reply) for draft, key in keyed]
    kept = await tx.fetch(queries["insert_keys"], *(list(column) for column in zip(*rows, strict=True)))
    return {row["key"] for row in kept}


def _receipt(key: Idempotency, task_id: Any, fingerprint: bytes, reply: bytes) -> Receipt:
    same = fingerprint == key.fingerprint
    return Receipt(task_id, "replayed" if same else "mismatched", reply if same else None)
