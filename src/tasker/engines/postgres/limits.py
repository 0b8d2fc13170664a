"""The limits of queues, exact across all processes: a claim from a limited queue locks the row of its settings.

Running attempts are counted from the tables while the row is locked: the starts of other processes are stored already,
and an end that is not stored yet only makes the count too large. PgQueuer's own concurrency limits are per entrypoint,
are set by each worker, and count picked jobs: they limit neither a queue nor a key.

Tasks in a queue without settings never come here.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec

from tasker.engines.postgres.jobs import Jobs, Picked, manager_of
from tasker.engines.postgres.partitions import at_level, level_of, partitions_of, queue_of
from tasker.engines.postgres.transaction import Transaction
from tasker.engines.shared.gates import ROUNDS, WINDOW, Candidate, Gate, merge
from tasker.engines.shared.values import decode_pause, decode_rate
from tasker.model.queues import QueueSettings, Slot
from tasker.release import LIMITS

PARKED = "//parked"
"""The partition of parked tasks' jobs: no queue's name is empty."""
_CLOCK_STEP = timedelta(seconds=10)
"""Largest clock step that is not taken for a clock reset: the times of two transactions never differ by so much."""
_LIFT = 1000
"""Limit of jobs that are moved together with a change of settings or a look; later looks move the others."""
_decode_all = msgspec.json.Decoder(list[QueueSettings]).decode


class Gates:
    """The gates of some queues, whose settings one transaction has locked."""

    def __init__(self, gates: dict[str, Gate], times: dict[str, datetime]) -> None:
        self.by_queue = gates
        self._times = times
        self.looks_again = False
        """Whether there may be more behind what was parked."""

    @property
    def opens_in(self) -> timedelta | None:
        """Time until the first one opens by itself; None if none does."""
        if self.looks_again:
            return timedelta(0)
        return min((gate.opens_in for gate in self.by_queue.values() if gate.opens_in is not None), default=None)

    @property
    def spent(self) -> list[tuple[str, float, datetime]]:
        """Rows to store: the name of each queue, the tokens in its bucket, and the time of that count."""
        return [(name, gate.tokens, self._times[name]) for name, gate in self.by_queue.items() if gate.has_spent]


class Limits:
    """The limits of queues, on the tables of one schema. known: the settings that this process read last."""

    def __init__(self, queries: dict[str, str], jobs: Jobs) -> None:
        self._queries = queries
        self._jobs = jobs
        self._text: str | None = None
        self.known: dict[str, QueueSettings] = {}

    def load(self, text: str | None) -> None:
        """Take over all settings: JSON of the table, or None if there are none."""
        if text != self._text:
            self._text = text
            self.known = {} if text is None else {settings.name: settings for settings in _decode_all(text)}

    def open_partitions(self, partitions: Iterable[str]) -> list[str]:
        """Return the partitions whose queue is not paused."""
        if not self.known:
            return list(partitions)
        return [partition for partition in partitions if not self._is_paused(queue_of(partition))]

    def gate_all(self, partitions: Iterable[str]) -> bool:
        """Return whether all of these partitions have gates: then the gates explain an empty claim."""
        return all(map(self.has_gate, partitions))

    def has_gate(self, partition: str) -> bool:
        return queue_of(partition) in self.known

    def _is_paused(self, queue: str) -> bool:
        settings = self.known.get(queue)
        return settings is not None and settings.paused

    # lifting: moves jobs that older processes queued, or that were queued before the queue had settings

    def to_lift(self, partitions: Iterable[str]) -> list[str]:
        """Return the partitions from which older workers take jobs although the queue has settings."""
        if not self.known:
            return []
        return [
            partition for partition in partitions if queue_of(partition) in self.known and level_of(partition) < LIMITS
        ]

    async def lift(self, tx: Transaction, partitions: Iterable[str]) -> bool:
        """Move the first jobs of these partitions to the partitions of workers that obey limits.

        Return whether there may be more.
        """
        done = [
            await tx.execute(self._queries["lift"], partition, at_level(partition, LIMITS), _LIFT)
            for partition in partitions
        ]
        return f"UPDATE {_LIFT}" in done

    async def lift_older(self, tx: Transaction) -> bool:
        """Lift the remaining jobs of all queues with settings; return whether there may be more."""
        partitions = [
            partition
            for row in await tx.fetch(self._queries["types_in_limited_queues"])
            for partition in partitions_of(row["queue"], row["type"])
            if level_of(partition) < LIMITS
        ]
        used = await tx.fetch(self._queries["partitions_in_use"], partitions) if partitions else []
        return await self.lift(tx, [row["name"] for row in used])

    # in a claim

    async def hold(self, tx: Transaction, partitions: Collection[str]) -> Gates | None:
        """Lock the settings of the limited queues among these partitions; return their gates, None without any."""
        names = sorted({queue_of(partition) for partition in partitions} & self.known.keys()) if self.known else []
        rows = await tx.fetch(self._queries["hold_queues"], names) if names else []
        if not rows:
            return None
        settings = {row["name"]: settings_of(row) for row in rows}
        counted = [name for name, one in settings.items() if one.concurrency is not None]
        found = await tx.fetch(self._queries["running_in_queues"], counted) if counted else []
        running = {row["queue"]: row["running"] for row in found}
        gates, times = {}, {}
        for row in rows:
            name = row["name"]
            gate = gates[name] = Gate(
                settings[name], running=running.get(name, 0), tokens=tokens_in(settings[name], row)
            )
            gate.has_spent = _is_set_back(row)
            times[name] = row["now"] if gate.has_spent else _since(row)
        return Gates(gates, times)

    async def take(
        self, tx: Transaction, worker: str, partitions: Sequence[str], limit: int, gates: Gates
    ) -> list[Picked]:
        """Take the first jobs of these partitions that their gates admit, at most `limit`."""
        by_queue: dict[str, list[str]] = {}
        free = []
        for partition in partitions:
            queue = queue_of(partition)
            if queue in gates.by_queue:
                by_queue.setdefault(queue, []).append(partition)
            else:
                free.append(partition)
        found: list[Candidate] = []
        for queue, own in by_queue.items():
            found += await self._passing(tx, own, limit, gates, gates.by_queue[queue])
        unlimited = await self._jobs.take(tx, worker, free, limit) if free else []
        found += [Candidate((-job.priority, job.job_id), "", 1, None, job) for job in unlimited]
        chosen: list[Picked] = [one.place for one in merge(found, gates.by_queue, limit)]
        await self._settle(tx, worker, chosen, unlimited)
        return chosen

    async def spend(self, tx: Transaction, gates: Gates) -> None:
        """Store the tokens that a claim has spent."""
        if gates.spent:
            await tx.execute(self._queries["spend"], *(list(column) for column in zip(*gates.spent, strict=True)))

    async def _settle(
        self, tx: Transaction, worker: str, chosen: Sequence[Picked], unlimited: Sequence[Picked]
    ) -> None:
        """Mark the chosen jobs as picked, and put back jobs that were picked but not chosen."""
        picked = {job.job_id for job in unlimited}
        wanted = {job.job_id for job in chosen}
        if wanted - picked:
            await tx.execute(self._queries["pick"], list(wanted - picked), manager_of(worker))
        if picked - wanted:
            await tx.execute(self._queries["put_back"], list(picked - wanted))

    async def _passing(
        self, tx: Transaction, partitions: Sequence[str], limit: int, gates: Gates, gate: Gate
    ) -> list[Candidate]:
        """Return the first candidates of one queue that may start, at most `limit`; park those whose key is taken."""
        most = gate.free_slots(limit)
        passing: list[Candidate] = []
        window = max(most, WINDOW) if gate.has_keys else most
        for last in range(ROUNDS - 1, -1, -1) if most else ():
            found = await self._peek(tx, partitions, window, gate.settings)
            await self._count_keys(tx, gate, found)
            passing, blocked, is_cut = gate.sift(found, most)
            if blocked:
                await self._park(tx, [one.place for one in blocked])
            if is_cut or not blocked or len(found) < window:
                break
            if not last and not passing:
                gates.looks_again = True
            window *= 2
        return passing

    async def _park(self, tx: Transaction, jobs: Sequence[Picked]) -> None:
        ids = [job.job_id for job in jobs], [job.task_id for job in jobs]
        await tx.execute(self._queries["park"], *ids, PARKED)

    async def _peek(
        self, tx: Transaction, partitions: Sequence[str], limit: int, settings: QueueSettings
    ) -> list[Candidate]:
        """Return the first jobs of these partitions, which are of one queue."""
        rows = await tx.fetch(self._queries["peek"], partitions, limit)
        jobs = [
            Picked(row["id"], UUID(bytes=row["payload"]), row["priority"]) for row in rows if row["payload"] is not None
        ]
        costs = await tx.fetch(self._queries["costs"], [job.task_id for job in jobs]) if jobs else []
        cost = {row["task_id"]: (row["weight"], _slot_of(settings, row)) for row in costs}
        found = [
            Candidate((-job.priority, job.job_id), settings.name, *cost.get(job.task_id, (0, None)), job)
            for job in jobs
        ]
        return sorted(found, key=lambda one: one.rank)

    async def _count_keys(self, tx: Transaction, gate: Gate, found: Sequence[Candidate]) -> None:
        """Tell the gate how many tasks run for each concurrency key that it has no count for."""
        if not gate.has_keys:
            return
        slots = list({one.slot for one in found if one.slot is not None and not gate.knows(one.slot)})
        if not slots:
            return
        owners, keys = [slot.owner for slot in slots], [slot.key for slot in slots]
        name = gate.settings.name
        for row in await tx.fetch(self._queries["running_with_keys"], name, owners, keys):
            gate.note_running(Slot(name, row["owner"], row["key"]), row["running"])


def settings_of(row: Any) -> QueueSettings:
    """Return the settings in a queue's row."""
    return QueueSettings(
        name=row["name"],
        paused=row["paused"],
        concurrency=row["concurrency"],
        concurrency_per_key=row["concurrency_per_key"],
        rate=None if row["rate"] is None else decode_rate(row["rate"]),
        shared_keys=row["shared_keys"],
        pause=None if row["pause"] is None else decode_pause(row["pause"]),
    )


def tokens_in(settings: QueueSettings, row: Any) -> float:
    """Return the tokens in a queue's bucket now."""
    if settings.rate is None:
        return 0.0
    return settings.rate.refill(row["tokens"], row["now"] - row["refilled_at"])


def _slot_of(settings: QueueSettings, row: Any) -> Slot | None:
    """Return the slot of a task's row, which has owner and concurrency_key."""
    key = row["concurrency_key"]
    return None if key is None else settings.slot(row["owner"], key)


def _since(row: Any) -> datetime:
    """Return the time to store with a bucket that is refilled now."""
    since: datetime = max(row["refilled_at"], row["now"])  # a transaction that began before another has committed
    return since


def _is_set_back(row: Any) -> bool:
    """Return whether the database's clock was set back since a bucket was refilled: then its time starts from now."""
    return row["rate"] is not None and row["refilled_at"] - row["now"] > _CLOCK_STEP
