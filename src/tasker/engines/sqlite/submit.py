"""Submission: store drafts, or answer them with existing tasks.

A function may raise RequestError, but only before its first write (GroupCommit relies on it).
"""

from __future__ import annotations

from uuid import UUID

from tasker.clock import to_micros
from tasker.engines.shared.journal import created, started
from tasker.engines.shared.refusals import id_taken
from tasker.engines.shared.stores.webhooks import attach, attach_to_joined, check_join
from tasker.engines.sqlite import groups
from tasker.engines.sqlite.claim import lease_end
from tasker.engines.sqlite.control import cancel_open
from tasker.engines.sqlite.pending import fail_pending
from tasker.engines.sqlite.retention import check_not_expired
from tasker.engines.sqlite.rows import Row, draft_row, first_claim, task_id_of
from tasker.engines.sqlite.sql import QUERIES
from tasker.engines.sqlite.stored_steps import copy_steps
from tasker.engines.sqlite.tables import at_once, rows_of
from tasker.engines.sqlite.ties import find_ties, wait_for
from tasker.engines.sqlite.transaction import Transaction
from tasker.engines.sqlite.waiters import Waiter, Waiters
from tasker.model import Change, Claim, Draft, Receipt, Status


def insert(tx: Transaction, draft: Draft, waiting: Waiters | None = None) -> Receipt:
    """Store a draft, unless another task answers for it. waiting: waiting claims, one of which may take the task."""
    key = draft.idempotency
    if key is not None:
        known = tx.execute(QUERIES["find_key"], (key.key, tx.now)).fetchone()
        if known is not None:
            task_id, fingerprint, reply = known
            same = fingerprint == key.fingerprint
            return Receipt(task_id_of(task_id), "replayed" if same else "mismatched", reply if same else None)
    if draft.is_chosen:
        _check_free(tx, draft.task_id)
    if _is_tied(draft):
        return _insert_tied(tx, draft)
    store(tx, draft, waiting)
    _keep_key(tx, draft, draft.task_id)
    tx.changes.append(Change(draft.task_id, Status.PENDING))
    return Receipt(draft.task_id, "stored")


def _is_tied(draft: Draft) -> bool:
    """Return whether other tasks may answer for a draft or keep it waiting, or it is refused."""
    if draft.cache_key is not None or draft.unique_key is not None or draft.refusal is not None:
        return True
    return draft.extra is not None and (bool(draft.depends_on) or draft.after_group is not None)


def _insert_tied(tx: Transaction, draft: Draft) -> Receipt:
    """Store a draft that is tied to other tasks, if these allow it."""
    ties = find_ties(tx, draft)
    if ties.receipt is not None:
        return _join(tx, draft, ties.receipt) if ties.receipt.outcome == "joined" else ties.receipt
    if draft.refusal is not None:
        return Receipt(draft.task_id, "refused", refusal=draft.refusal)
    if ties.replaces is not None:
        cancel_open(tx, ties.replaces)
        ties = find_ties(tx, draft)  # the cancelled task may be one that the draft depends on
    seq = store(tx, draft, None)
    _keep_key(tx, draft, draft.task_id)
    if ties.waits_for_group and draft.after_group is not None:
        groups.wait_for(tx, seq, draft.owner, draft.after_group)
    if ties.waits:
        wait_for(tx, seq, ties.waits_for)
    if ties.error is not None:
        fail_pending(tx, seq, ties.error)
        groups.moved(tx, seq, Status.FAILED)
    tx.changes.append(Change(draft.task_id, Status.PENDING if ties.error is None else Status.FAILED))
    return Receipt(draft.task_id, "stored")


def _join(tx: Transaction, draft: Draft, receipt: Receipt) -> Receipt:
    """Let the task of `receipt` answer for the draft; attach the draft's webhook to that task."""
    if draft.webhook is not None:
        refusal = at_once(check_join(rows_of(tx), draft.webhook, receipt.task_id))
        if refusal is not None:
            return Receipt(draft.task_id, "refused", refusal=refusal)
        at_once(attach_to_joined(rows_of(tx), draft.webhook, receipt.task_id))
    _keep_key(tx, draft, receipt.task_id)
    return receipt


def store(tx: Transaction, draft: Draft, waiting: Waiters | None = None) -> int:
    """Store a draft, and return its seq."""
    tx.journal.append(created(draft.task_id))
    may_start = waiting is not None and draft.run_at is None and draft.keep_steps_of is None
    taker = waiting.taker(draft.queue, draft.type, tx.now) if may_start and waiting is not None else None
    row = draft_row(draft, tx.now)
    if waiting is None or taker is None:
        tx.run(QUERIES["insert_task"], row)
        waits = row[3] != "queued"
        tx.counts.submitted((draft.owner, draft.type, draft.queue), waits=waits)
        tx.partitions.joined(draft.queue, draft.type, row[7], later=waits, priority=draft.priority)
        if draft.deadline is not None:
            tx.partitions.note_deadline(to_micros(draft.deadline))
    else:
        taker.served.append(_insert_running(tx, draft, row, taker, waiting.steady))
        tx.journal.append(started(draft.task_id, 1))
    seq = tx.connection.last_insert_rowid()
    tx.stored(seq, row[5])
    if draft.tags:
        tx.connection.executemany(QUERIES["insert_tag"], [(tag, seq) for tag in draft.tags])
    if draft.extra is not None and draft.extra.schedule_id is not None:
        tx.execute(QUERIES["insert_task_schedule"], (draft.extra.schedule_id.bytes, seq))
    if draft.extra is not None and draft.extra.group is not None:
        groups.joined(tx, seq, draft.owner, draft.extra.group)
    if draft.keep_steps_of is not None:
        copy_steps(tx, seq, draft.keep_steps_of)
    if draft.secrets is not None:
        tx.execute(QUERIES["insert_secrets"], (draft.task_id.bytes, draft.secrets))
    if draft.webhook is not None:
        at_once(attach(rows_of(tx), [(draft.webhook, draft.task_id)]))
    return seq


def _insert_running(tx: Transaction, draft: Draft, row: Row, taker: Waiter, steady: int) -> Claim:
    """Store a draft, whose row is given, as a task that the waiting worker already runs."""
    key = draft.owner, draft.type, draft.queue
    tx.counts.submitted(key)
    tx.counts.started(key, 0)
    worker = taker.request.worker
    lease_ends = lease_end(steady, taker.request)
    tx.run(QUERIES["insert_running"], (*row[:3], *row[4:], worker, tx.now, lease_ends))
    return first_claim(draft, worker, tx.moment)


def _keep_key(tx: Transaction, draft: Draft, task_id: UUID) -> None:
    """Store a draft's idempotency key. If another task answers, keep no reply: a replay answers with that task."""
    key = draft.idempotency
    if key is not None:
        reply = key.reply if task_id == draft.task_id else b""
        tx.execute(QUERIES["insert_key"], (key.key, task_id.bytes, key.fingerprint, to_micros(key.expires_at), reply))


def _check_free(tx: Transaction, task_id: UUID) -> None:
    """Raise Conflict if a chosen id belongs to a task, Expired if it belonged to one."""
    check_not_expired(tx, task_id)
    if tx.execute(QUERIES["status_by_id"], (task_id.bytes,)).fetchone():
        raise id_taken(task_id)
