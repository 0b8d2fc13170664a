"""Storing drafts: many submissions in one transaction, each with its place in line."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any
from uuid import UUID

from tasker.engines.postgres.attachments import insert_secrets
from tasker.engines.postgres.changes import Changes
from tasker.engines.postgres.line import Line, Place
from tasker.engines.postgres.promotion import promote
from tasker.engines.postgres.tables import PostgresRows, Texts
from tasker.engines.postgres.ties import Options, Ties, is_tied
from tasker.engines.postgres.transaction import Transaction
from tasker.engines.shared.journal import created
from tasker.engines.shared.refusals import id_taken
from tasker.engines.shared.stores.webhooks import attach, attach_to_joined, check_join
from tasker.engines.shared.values import encode
from tasker.errors import Expired
from tasker.model import Change, Draft, Idempotency, Receipt, Status
from tasker.release import LIMITS


class Submits:
    """Storing drafts, on the tables of one schema."""

    def __init__(self, texts: Texts, line: Line, options: Options, changes: Changes) -> None:
        self._texts = texts
        self._queries = texts.queries
        self._line = line
        self._options = options
        self._changes = changes

    async def store(self, tx: Transaction, drafts: Sequence[Draft]) -> list[Receipt]:
        """Store all drafts but those for which another task answers. Safe to do again after an answer was lost."""
        known = await _settle_keys(tx, self._queries, drafts)
        new = [(place, draft) for place, draft in enumerate(drafts) if place not in known]
        tied = [(place, draft) for place, draft in new if is_tied(draft)]
        plain = [draft for _, draft in new if not is_tied(draft)]
        if plain:
            await self._insert(tx, plain)
        if tied:
            await self._options.lock(tx, [draft for _, draft in tied])
        for place, draft in tied:  # each sees those before it
            known[place] = await self._store_tied(tx, draft)
        return [known.get(place) or Receipt(draft.task_id, "stored") for place, draft in enumerate(drafts)]

    async def _store_tied(self, tx: Transaction, draft: Draft) -> Receipt:
        """Store a draft that is tied to other tasks, as these allow."""
        if not draft.is_chosen and await tx.fetchval(self._queries["is_stored"], draft.task_id):
            return Receipt(draft.task_id, "stored")  # by an earlier try; what became of it since is another matter
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
            ties = await self._options.find(tx, draft)  # what it depends on may have ended by that
        for seq in await self._insert(tx, [draft], waits=bool(ties.waits_for)):  # none: it was there
            if ties.waits_for:
                await self._options.wait_for(tx, seq, ties.waits_for)
            if ties.error is not None:
                await self._options.fail_pending(tx, {seq: ties.error})
        return Receipt(draft.task_id, "stored")

    async def _find_ties(self, tx: Transaction, draft: Draft) -> Ties:
        """Return what a draft found, or why it is refused."""
        ties = await self._options.find(tx, draft)
        refusal = draft.refusal if ties.receipt is None else None
        if ties.receipt is not None and ties.receipt.outcome == "joined" and draft.webhook is not None:
            refusal = await check_join(self._rows(tx), draft.webhook, ties.receipt.task_id)
        return ties if refusal is None else Ties(Receipt(draft.task_id, "refused", refusal=refusal))

    async def _insert(self, tx: Transaction, drafts: Sequence[Draft], *, waits: bool = False) -> list[int]:
        """Store drafts and put those in line that are due; return their seqs. waits: they wait for other tasks."""
        chosen = [draft.task_id for draft in drafts if draft.is_chosen]
        if chosen:
            await _check_not_expired(tx, self._queries, chosen)
        rows = await tx.fetch(self._queries["insert_tasks"], *_columns(drafts))
        _check_chosen(drafts, {row["task_id"] for row in rows})
        lined = {} if waits else {row["task_id"]: row["has_settings"] for row in rows if row["lined"]}
        if lined and rows[0]["others_due"]:
            await promote(tx, self._queries, self._line)  # due for longer: first come, first served
        places = [
            Place(draft.task_id, draft.queue, draft.type, draft.priority, level=LIMITS if lined[draft.task_id] else 0)
            for draft in drafts
            if draft.task_id in lined
        ]
        if places:
            await self._line.join(tx, places)
        if any(draft.secrets is not None for draft in drafts):
            await insert_secrets(tx, self._queries, drafts, {row["task_id"] for row in rows})
        if any(draft.webhook is not None for draft in drafts):
            stored = {row["task_id"] for row in rows}
            given = [(draft.webhook, draft.task_id) for draft in drafts if draft.webhook and draft.task_id in stored]
            await attach(self._rows(tx), given)
        tx.partitions.update(place.line for place in places)
        tx.journal += [created(row["task_id"]) for row in rows]
        tx.changes += [Change(row["task_id"], Status.PENDING) for row in rows]
        return [row["seq"] for row in rows]

    def _rows(self, tx: Transaction) -> PostgresRows:
        return PostgresRows(self._texts, tx.connection, tx)


async def _check_not_expired(tx: Transaction, queries: dict[str, str], task_ids: list[UUID]) -> None:
    """Raise Expired if one of these chosen ids is that of a task whose time is over."""
    row = await tx.fetchrow(queries["when_expired"], task_ids)
    if row is not None:
        raise Expired.of(row["task_id"], row["expired_at"])


def _check_chosen(drafts: Sequence[Draft], stored: Collection[UUID]) -> None:
    """Raise Conflict if a chosen id was not stored: its key is new, so that no earlier try of ours has stored it."""
    for draft in drafts:
        if draft.is_chosen and draft.task_id not in stored:
            raise id_taken(draft.task_id)


def _columns(drafts: Sequence[Draft]) -> list[list[Any]]:
    rows = [
        (
            draft.task_id, draft.type, draft.queue, draft.priority, draft.created_at, draft.run_at, draft.max_attempts,
            draft.policy, draft.metadata, draft.params, encode(draft.tags).decode() if draft.tags else None,
            draft.owner, draft.retention, _rare(draft),
        )
        for draft in drafts
    ]  # fmt: skip
    return [list(column) for column in zip(*rows, strict=True)]


def _rare(draft: Draft) -> str | None:
    """Return the options that few drafts have as JSON, in one column: each array of a batch costs all of it."""
    given = {
        "deadline": draft.deadline, "unique_key": draft.unique_key, "concurrency_key": draft.concurrency_key,
        "weight": None if draft.weight == 1 else draft.weight, "cache_key": draft.cache_key,
        "extra": None if draft.extra is None else encode(draft.extra).decode(),
    }  # fmt: skip
    rare = {name: value for name, value in given.items() if value is not None}
    return encode(rare).decode() if rare else None


async def _settle_keys(tx: Transaction, queries: dict[str, str], drafts: Sequence[Draft]) -> dict[int, Receipt]:
    """Keep the new idempotency keys; return the receipts of the drafts whose key was known, by their place."""
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
    """Tell whether an earlier try, whose answer was lost, has kept the key; of a chosen id that says nothing."""
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
