"""Claim tasks: choose suspects and the first due tasks of some partitions, and start their attempts."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

import apsw

from tasker.clock import MICROSECOND
from tasker.engines.protocol import ClaimRequest
from tasker.engines.shared.gates import Candidate, merge
from tasker.engines.shared.journal import started
from tasker.engines.sqlite.bounds import UNKNOWN, Partition, Rank
from tasker.engines.sqlite.partitions import ABOVE_ALL, Partitions
from tasker.engines.sqlite.rows import Row, claim_of
from tasker.engines.sqlite.sql import QUERIES
from tasker.engines.sqlite.transaction import Transaction
from tasker.model import Claim


class _Looked(NamedTuple):
    """The tasks found in some partitions.

    bound: lower bound of the ranks of their tasks. is_all: no other task in them is due.
    """

    partitions: list[Partition]
    bound: Rank
    found: list[Candidate] = []
    is_all: bool = False


def choose_suspects(
    connection: apsw.Connection, partitions: Partitions, names: Mapping[str, Any], now: int
) -> list[int]:
    """Return the seqs of due suspects that may start. names: the query's values: types, queues and limit."""
    limits = partitions.limits
    queues = [row[0] for row in connection.execute(QUERIES["suspect_queues"])] if limits.settings else []
    values = {**names, "now": now, "shut": json.dumps(limits.shut_queues(connection, queues))}
    rows: list[Row] = connection.execute(QUERIES["due_suspects"], values).fetchall()
    if not rows:
        partitions.has_suspects = connection.execute(QUERIES["any_suspect"]).get is not None
    chosen = []
    for priority, due_at, seq, weight, owner, key, queue, type_ in rows:
        slot = None if key is None else limits.of(queue).slot(owner, key)
        one = Candidate((priority, due_at, seq), queue, weight, slot, (seq, (queue, type_)))
        if not limits.holds(queue) or limits.admit_suspect(connection, one):
            chosen.append(seq)
    return chosen


def choose(
    connection: apsw.Connection,
    partitions: Partitions,
    types: Collection[str],
    queues: Collection[str] | None,
    now: int,
    limit: int,
) -> list[int]:
    """Return the seqs of the first due tasks of these types and queues, by priority and then by time, at most `limit`.

    A partition is looked at only if its bound comes before the last of the tasks found so far.
    """
    found: list[Candidate] = []
    looked: list[_Looked] = []
    for bound, partition in partitions.bounds.pop_all(types, queues):
        if len(found) >= limit and bound > found[limit - 1].rank:
            looked.append(_Looked([partition], bound))
            break
        if partitions.limits.holds(partition[0]):
            here = _look_limited(connection, partitions, partition, types, limit)
        else:
            here = _look(connection, partition, bound, now, limit)
        looked.append(here)
        found += here.found
        if len(found) >= limit:
            found.sort(key=lambda one: one.rank)
    return _settle(connection, partitions, found, looked, limit)


def start_attempt(tx: Transaction, request: ClaimRequest, seq: int, steady: int) -> Claim | None:
    """Begin an attempt; return None if the task's deadline has passed: it is about to be failed."""
    values = {"worker": request.worker, "now": tx.now, "lease_ends": lease_end(steady, request), "seq": seq}
    row = tx.execute(QUERIES["start_attempt"], values).fetchone()
    if row is None:
        return None
    *columns, due_at, has_waited = row
    claim = claim_of(columns)
    tx.journal.append(started(claim.task_id, claim.attempt))
    key = claim.owner, claim.type, claim.queue
    tx.counts.started(key, tx.now - due_at, was_waiting=bool(has_waited))
    return claim


def lease_end(steady: int, request: ClaimRequest) -> int:
    """Return the end of a lease that begins at `steady`; both are microseconds of the monotonic clock."""
    return steady + request.lease_for // MICROSECOND


def _look(connection: apsw.Connection, partition: Partition, bound: Rank, now: int, limit: int) -> _Looked:
    """Look at the first tasks of a partition without limits."""
    rows = _find_due(connection, partition, now, limit)
    found = [Candidate(row, partition[0], 1, None, (row[2], partition)) for row in rows]
    return _Looked([partition], bound, found, len(rows) < limit)


def _look_limited(
    connection: apsw.Connection, partitions: Partitions, partition: Partition, types: Collection[str], limit: int
) -> _Looked:
    """Do what `_look` does for all partitions of a queue with limits; they share its gate."""
    queue = partition[0]
    together = [partition, *((queue, type_) for type_ in types if (queue, type_) in partitions.bounds)]
    for other in together[1:]:
        partitions.bounds.discard(other)
    passing = partitions.limits.choose(connection, queue, together, _find_due_limited, limit)
    # Nothing passes: there is no due task, or the partitions are noted as shut.
    return _Looked(together if passing else [], UNKNOWN, passing)


def _settle(
    connection: apsw.Connection,
    partitions: Partitions,
    found: list[Candidate],
    looked: Sequence[_Looked],
    limit: int,
) -> list[int]:
    """Return the seqs of the first tasks of all, and note the new bounds of their partitions."""
    limited = {one.queue for one in found if partitions.limits.holds(one.queue)}
    gates = {queue: partitions.limits.gate(connection, queue) for queue in limited}
    chosen = merge(found, gates, limit)
    seqs = {one.place[0] for one in chosen}
    for here in looked:
        left = [one.rank for one in here.found if one.place[0] not in seqs]
        if here.is_all and not left:
            continue
        for partition in here.partitions:
            partitions.bounds.add(partition, min(left, default=here.bound))
    return [one.place[0] for one in chosen]


def _find_due(
    connection: apsw.Connection, partition: Partition, now: int, limit: int, query: str = "due_in_level"
) -> list[Row]:
    """Return up to `limit` due tasks of one partition as (-priority, due_at, seq), in this order."""
    rows: list[Row] = []
    level = connection.execute(QUERIES["next_level"], (*partition, ABOVE_ALL)).get
    while level is not None and len(rows) < limit:
        rows += connection.execute(QUERIES[query], (*partition, level, now, limit - len(rows))).fetchall()
        if len(rows) < limit:
            level = connection.execute(QUERIES["next_level"], (*partition, level)).get
    return rows


def _find_due_limited(connection: apsw.Connection, partition: Partition, now: int, limit: int) -> list[Row]:
    """Return what `_find_due` does, with weight, owner and concurrency key of each."""
    return _find_due(connection, partition, now, limit, "limited_in_level")
