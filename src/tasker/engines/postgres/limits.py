"""The limits of queues, exact over all processes: whoever claims from a limited queue holds its row of settings.

Counted is what the tables say while the row is held: every start of another process has been stored by then, and an end
that has not only makes the count too large. PgQueuer's own concurrency limits are those of one entrypoint, as each
worker says, and count its picked jobs: they bound neither a queue nor a key.

Tasks in a queue without settings never come here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid5

import msgspec

from tasker.engines.postgres.line import MANAGERS, Line, Picked, Place, at_level, level_of, lines_of
from tasker.engines.postgres.transaction import Connection, Freed, Transaction
from tasker.engines.shared.gates import ROUNDS, WINDOW, Candidate, Gate, merge
from tasker.engines.shared.refusals import too_many
from tasker.engines.shared.values import encode
from tasker.model.queues import MOST_BEFORE, QueueChange, QueueSettings, QueueState, Rate, Slot, tokens_after
from tasker.model.queues import Place as Location
from tasker.release import LIMITS
from tasker.rules.lifecycle import MAX_INTERRUPTIONS

PARKED = "//parked"
"""Where the jobs of parked tasks are: no queue's name is empty."""
_SETTINGS = 0x71756575
"""The class of the advisory lock of the settings of queues: "queu"."""
_CLOCK_STEP = timedelta(seconds=10)
"""By so much two transactions never differ."""
_UNPARK = 1000
"""Tasks that go back into line with a change; the others do with the sweeps that follow."""
_LIFT = 1000
"""Jobs that are moved with a change, or a look; the others with the looks that follow."""
_decode_rate = msgspec.json.Decoder(Rate).decode
_decode_all = msgspec.json.Decoder(list[QueueSettings]).decode


class Gates:
    """The gates of some queues, held by one transaction."""

    def __init__(self, gates: dict[str, Gate], times: dict[str, datetime]) -> None:
        self.by_queue = gates
        self._times = times
        self.looks_again = False
        """Whether there may be more behind what was parked."""

    @property
    def opens_in(self) -> timedelta | None:
        """How long until one opens by itself; None if none does."""
        if self.looks_again:
            return timedelta(0)
        return min((gate.opens_in for gate in self.by_queue.values() if gate.opens_in is not None), default=None)

    @property
    def spent(self) -> list[tuple[str, float, datetime]]:
        """What to store: of each queue its name, what its bucket holds, and since when."""
        return [(name, gate.tokens, self._times[name]) for name, gate in self.by_queue.items() if gate.has_spent]


class Limits:
    """What is set of queues, on the tables of one schema; `known` is what this process saw last."""

    def __init__(self, queries: dict[str, str], line: Line) -> None:
        self._queries = queries
        self._line = line
        self._text: str | None = None
        self.known: dict[str, QueueSettings] = {}

    def hear(self, text: str | None) -> None:
        """Learn what is set: JSON of the table, or None for nothing."""
        if text != self._text:
            self._text = text
            self.known = {} if text is None else {settings.name: settings for settings in _decode_all(text)}

    def open_lines(self, lines: Iterable[str]) -> list[str]:
        """Return those of `lines` whose queue is not paused."""
        if not self.known:
            return list(lines)
        return [line for line in lines if not self._is_paused(_queue_of(line))]

    def to_lift(self, lines: Iterable[str]) -> list[str]:
        """Return those of `lines` that workers might take who do not keep to what is set of their queue.

        Such come of older processes, and of the time before anything was set.
        """
        if not self.known:
            return []
        return [line for line in lines if _queue_of(line) in self.known and level_of(line) < LIMITS]

    async def lift(self, tx: Transaction, lines: Iterable[str]) -> bool:
        """Move the first jobs of these lines to where only workers take them that keep to limits.

        Tell whether there may be more.
        """
        done = [await tx.execute(self._queries["lift"], line, at_level(line, LIMITS), _LIFT) for line in lines]
        return f"UPDATE {_LIFT}" in done

    async def lift_older(self, tx: Transaction) -> bool:
        """Lift what is left of all queues with settings; tell whether there may be more."""
        lines = [
            line
            for row in await tx.fetch(self._queries["types_in_limited_queues"])
            for line in lines_of(row["queue"], row["type"])
            if level_of(line) < LIMITS
        ]
        used = await tx.fetch(self._queries["lines_in_use"], lines) if lines else []
        return await self.lift(tx, [row["name"] for row in used])

    def keep_all(self, lines: Iterable[str]) -> bool:
        """Tell whether every one of these lines has a gate: then it is known why nothing was claimed."""
        return all(_queue_of(line) in self.known for line in lines)

    def _is_paused(self, queue: str) -> bool:
        settings = self.known.get(queue)
        return settings is not None and settings.paused

    # in a claim

    async def hold(self, tx: Transaction, lines: Collection[str]) -> Gates | None:
        """Hold the gates of the limited queues among these lines; None if there is none."""
        names = sorted({_queue_of(line) for line in lines} & self.known.keys()) if self.known else []
        rows = await tx.fetch(self._queries["hold_queues"], names) if names else []
        if not rows:
            return None
        settings = {row["name"]: _settings_of(row) for row in rows}
        counted = [name for name, one in settings.items() if one.concurrency is not None]
        found = await tx.fetch(self._queries["running_in_queues"], counted) if counted else []
        running = {row["queue"]: row["running"] for row in found}
        gates = {
            row["name"]: Gate(
                settings[row["name"]], running=running.get(row["name"], 0), tokens=_tokens(settings[row["name"]], row)
            )
            for row in rows
        }
        for row in rows:
            gates[row["name"]].has_spent = _is_set_back(row)
        return Gates(gates, {row["name"]: row["now"] if _is_set_back(row) else _since(row) for row in rows})

    async def take(self, tx: Transaction, worker: str, lines: Sequence[str], limit: int, gates: Gates) -> list[Picked]:
        """Take the first jobs out of `lines` that their gates let through, at most `limit`."""
        by_queue: dict[str, list[str]] = {}
        free = []
        for line in lines:
            queue = _queue_of(line)
            if queue in gates.by_queue:
                by_queue.setdefault(queue, []).append(line)
            else:
                free.append(line)
        found: list[Candidate] = []
        for queue, own in by_queue.items():
            found += await self._passing(tx, own, limit, gates, gates.by_queue[queue])
        unlimited = await self._line.take(tx, worker, free, limit) if free else []
        found += [Candidate((-job.priority, job.job_id), "", 1, None, job) for job in unlimited]
        chosen: list[Picked] = [one.place for one in merge(found, gates.by_queue, limit)]
        await self._settle(tx, worker, chosen, unlimited)
        return chosen

    async def _settle(
        self, tx: Transaction, worker: str, chosen: Sequence[Picked], unlimited: Sequence[Picked]
    ) -> None:
        """Mark what was chosen as picked, and put back what was picked and not chosen."""
        picked = {job.job_id for job in unlimited}
        wanted = {job.job_id for job in chosen}
        if wanted - picked:
            await tx.execute(self._queries["pick"], list(wanted - picked), uuid5(MANAGERS, worker))
        if picked - wanted:
            await tx.execute(self._queries["put_back"], list(picked - wanted))

    async def _passing(
        self, tx: Transaction, lines: Sequence[str], limit: int, gates: Gates, gate: Gate
    ) -> list[Candidate]:
        """Return the first candidates of one queue that may start, at most `limit`; park those whose key is taken."""
        most = gate.free_slots(limit)
        passing: list[Candidate] = []
        window = max(most, WINDOW) if gate.has_keys else most
        for last in range(ROUNDS - 1, -1, -1) if most else ():
            found = await self._peek(tx, lines, window, gate.settings)
            await self._count_keys(tx, gate, found)
            passing, blocked, is_cut = gate.sift(found, most)
            if blocked:
                jobs: list[Picked] = [one.place for one in blocked]
                ids = [job.job_id for job in jobs], [job.task_id for job in jobs]
                await tx.execute(self._queries["park"], *ids, PARKED)
            if is_cut or not blocked or len(found) < window:
                break
            if not last and not passing:
                gates.looks_again = True
            window *= 2
        return passing

    async def _peek(
        self, tx: Transaction, lines: Sequence[str], limit: int, settings: QueueSettings
    ) -> list[Candidate]:
        """Return the first jobs of these lines, which are of one queue."""
        rows = await tx.fetch(self._queries["peek"], lines, limit)
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
        if not gate.has_keys:
            return
        slots = list({one.slot for one in found if one.slot is not None and not gate.knows(one.slot)})
        if not slots:
            return
        owners, keys = [slot.owner for slot in slots], [slot.key for slot in slots]
        name = gate.settings.name
        for row in await tx.fetch(self._queries["running_with_keys"], name, owners, keys):
            gate.note_running(Slot(name, row["owner"], row["key"]), row["running"])

    async def spend(self, tx: Transaction, gates: Gates) -> None:
        """Store what a claim has spent."""
        if gates.spent:
            await tx.execute(self._queries["spend"], *(list(column) for column in zip(*gates.spent, strict=True)))

    # when a slot is free again

    async def freed(self, tx: Transaction, ended: Sequence[Freed]) -> None:
        """Tell that attempts have ended: others may start."""
        if self.known:
            tx.partitions |= {any_line(queue) for queue, _, _ in ended if self._has_slots(queue)}
        keyed = [(queue, owner, key) for queue, owner, key in ended if key is not None]
        if keyed:
            # A claim that counted the ended attempt as running has stored by then what it parked.
            held = await tx.fetch(self._queries["hold_queues"], sorted({queue for queue, _, _ in keyed}))
            limited = {row["name"]: _settings_of(row) for row in held if row["concurrency_per_key"] is not None}
            slots = [limited[queue].slot(owner, key) for queue, owner, key in keyed if queue in limited]
            await self._unpark(tx, Counter(slots))

    async def not_started(self, tx: Transaction, task_ids: Sequence[UUID]) -> None:
        """Tell that what a claim took could not be started: for the sake of its key others were parked."""
        if self.known:
            await self.left(tx, await tx.fetch(self._queries["keys_of"], task_ids))

    async def left(self, tx: Transaction, rows: Sequence[Any]) -> None:
        """Tell that tasks have left the line, by queue, owner and concurrency_key: others were parked behind them."""
        keyed = [row for row in rows if row["concurrency_key"] is not None]
        if not keyed:
            return
        # Not what is `known`: a process that runs nothing knows nothing.
        names = list({row["queue"] for row in keyed})
        sharing = {row["name"] for row in await tx.fetch(self._queries["sharing_queues"], names)}
        slots = (
            Slot(row["queue"], None if row["queue"] in sharing else row["owner"], row["concurrency_key"])
            for row in keyed
        )
        await self._unpark(tx, Counter(slots))

    def _has_slots(self, queue: str) -> bool:
        settings = self.known.get(queue)
        return settings is not None and settings.concurrency is not None

    async def unpark_many(self, tx: Transaction, limit: int, queue: str | None = None) -> int:
        """Put parked tasks for which there is room back into line, about `limit`; return how many."""
        rows = await tx.fetch(self._queries["parked_with_room"], queue, limit)
        slots: dict[Slot, int] = {}
        left = limit
        for row in rows:
            if row["free"] > 0 and left > 0:
                slots[Slot(row["queue"], row["owner"], row["concurrency_key"])] = min(row["free"], left)
                left -= min(row["free"], left)
        return await self._unpark(tx, slots)

    async def _unpark(self, tx: Transaction, slots: Mapping[Slot, int]) -> int:
        """Put the first parked tasks back into line, so many for each slot; return how many."""
        rows: list[Any] = []
        shared = [(slot.queue, slot.key, free) for slot, free in slots.items() if slot.owner is None]
        own = [(*slot, free) for slot, free in slots.items() if slot.owner is not None]
        for query, values in (("unpark", shared), ("unpark_own", own)):
            if values:
                columns = (list(column) for column in zip(*values, strict=True))
                rows += await tx.fetch(self._queries[query], *columns)
        places = [
            Place(
                row["task_id"], row["queue"], row["type"], row["priority"], row["interruptions"] >= MAX_INTERRUPTIONS,
                LIMITS,
            )
            for row in rows
        ]  # fmt: skip
        if places:
            keys, lines = [str(place.task_id) for place in places], [place.line for place in places]
            await tx.execute(self._queries["move_jobs"], keys, lines)
        tx.partitions.update(place.line for place in places)
        return len(places)

    # what a person does

    async def find_all(self, connection: Connection, names: Collection[str] | None) -> list[QueueState]:
        """Return the queues of which anything is set; of these alone, if given."""
        rows = await connection.fetch(self._queries["queues"], None if names is None else list(names))
        found = [(row, _settings_of(row)) for row in rows]
        return [QueueState(settings=one, running=row["running"], tokens=_tokens(one, row)) for row, one in found]

    async def find_names(self, connection: Connection, after: str, limit: int) -> list[Any]:
        """Return the first queues behind a name that hold open tasks or have settings."""
        return list(await connection.fetch(self._queries["queue_names"], after, limit))

    async def find_open(self, connection: Connection, owner: str) -> list[str]:
        """Return the queues in which an owner has open tasks."""
        if owner:
            rows = await connection.fetch(self._queries["open_queues_of"], owner)
        else:
            rows = await connection.fetch(self._queries["open_queues_of_nobody"])
        return [row["queue"] for row in rows]

    async def find_place(self, connection: Connection, task_id: UUID, owner: str | None) -> Location | None:
        """Return where in line a due task is, among an owner's if given."""
        row = await connection.fetchrow(self._queries["place_of"], task_id, str(task_id))
        if row is None:
            return None
        priority = row["priority"]
        if owner is None:
            types = await connection.fetch(self._queries["types_in_queue"], row["queue"])
            own = [line for one in types for line in lines_of(row["queue"], one["type"])]
            before = await connection.fetchval(self._queries["jobs_before"], own, priority, row["id"], MOST_BEFORE)
        else:
            place = row["queue"], priority, row["due_at"], row["seq"]
            before = await connection.fetchval(self._queries["own_before"], owner, *place, MOST_BEFORE)
        return Location(before=before, weight=row["weight"], key_running=row["key_running"])

    async def find_run_time(self, connection: Connection, task_id: UUID) -> timedelta | None:
        """Return how long tasks like this one took."""
        seconds: float | None = await connection.fetchval(self._queries["run_time"], task_id)
        return None if seconds is None else timedelta(seconds=seconds)

    async def change(self, tx: Transaction, name: str, change: QueueChange, most: int | None) -> QueueSettings:
        """Set something of a queue. Done again, it sets the same again. Raises Conflict where `most` others are set."""
        await tx.execute(self._queries["new_queue"], name)
        row = await tx.fetchrow(self._queries["hold_queues"], [name])
        old = _settings_of(row)
        new = change.apply(old)
        is_one_more = old.is_plain and not new.is_plain
        if most is not None and is_one_more:
            await tx.execute(self._queries["hold_owner"], _SETTINGS, "")
            if await tx.fetchval(self._queries["count_other_queues"], name) >= most:
                raise too_many("queues with settings (TASKER_MAX_QUEUES)", most)
        if new.is_plain:
            await tx.execute(self._queries["delete_queue"], name)
        else:
            tokens = tokens_after(old, new, _tokens(old, row))
            rate = None if new.rate is None else encode(new.rate)
            await tx.execute(
                self._queries["set_queue"], name, new.paused, new.concurrency, new.concurrency_per_key, rate, tokens,
                new.shared_keys,
            )  # fmt: skip
        if is_one_more:
            types = await tx.fetch(self._queries["types_in_queue"], name)
            lines = [line for one in types for line in lines_of(name, one["type"])]
            await self.lift(tx, [line for line in lines if not level_of(line)])
        if not new.counts_as(old):
            await self.unpark_many(tx, _UNPARK, name)
        tx.partitions.add(any_line(name))
        return new


def any_line(queue: str) -> str:
    """Return what stands in news for every line of a queue: no type has such a name."""
    return f"{queue}/*"


def _queue_of(line: str) -> str:
    return line.partition("/")[0]


def _settings_of(row: Any) -> QueueSettings:
    return QueueSettings(
        name=row["name"], paused=row["paused"], concurrency=row["concurrency"],
        concurrency_per_key=row["concurrency_per_key"], rate=None if row["rate"] is None else _decode_rate(row["rate"]),
        shared_keys=row["shared_keys"],
    )  # fmt: skip


def _slot_of(settings: QueueSettings, row: Any) -> Slot | None:
    """Return what a task's row with owner and concurrency_key shares with others."""
    key = row["concurrency_key"]
    return None if key is None else settings.slot(row["owner"], key)


def _since(row: Any) -> datetime:
    """Return since when a bucket holds what it holds, once it is refilled now."""
    since: datetime = max(row["refilled_at"], row["now"])  # a transaction that began before another has committed
    return since


def _is_set_back(row: Any) -> bool:
    """Tell whether the database's clock was set back since a bucket was refilled: it counts from now on."""
    return row["rate"] is not None and row["refilled_at"] - row["now"] > _CLOCK_STEP


def _tokens(settings: QueueSettings, row: Any) -> float:
    if settings.rate is None:
        return 0.0
    return settings.rate.refill(row["tokens"], row["now"] - row["refilled_at"])
