"""The limits of queues, in the one process that holds the file. Settings are in memory, spent tokens in the table.

Every function runs inside a transaction. A queue without settings is not in memory, and costs nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

import apsw

from tasker.clock import MICROSECOND, from_micros
from tasker.engines.shared.gates import ROUNDS, WINDOW, Candidate, Gate
from tasker.engines.shared.rollup import Key
from tasker.engines.shared.values import decode_pause, decode_rate, encode
from tasker.engines.sqlite.bounds import Partition
from tasker.engines.sqlite.rows import Row
from tasker.engines.sqlite.sql import QUERIES
from tasker.model.queues import QueueSettings, QueueState, Rate, Slot

_UNTIL_CHANGE = 1 << 62
"""Stands for the opening time of a gate that does not open by time, only by new settings or an ended attempt."""

FindDue = Callable[[apsw.Connection, Partition, int, int], list[Row]]


class Limits:
    """The gates of limited queues, made in each transaction, and the partitions known to be behind shut gates."""

    def __init__(self) -> None:
        self._settings: dict[str, QueueSettings] = {}
        self._gates: dict[str, Gate] = {}
        self._shut: dict[str, dict[Partition, int]] = {}
        self._now = 0
        self._parked_later: list[Key] = []
        self.has_parked = True
        """Whether any task may be parked."""

    def load(self, connection: apsw.Connection) -> set[Partition]:
        """Read the settings; return the partitions to look at again."""
        self._settings = {state.name: state for state, *_ in map(_settings_of, connection.execute(QUERIES["queues"]))}
        shut = {partition for partitions in self._shut.values() for partition in partitions}
        self._shut.clear()
        self.has_parked = connection.execute(QUERIES["any_parked"]).get is not None
        return shut

    def holds(self, queue: str) -> bool:
        """Return whether a queue has settings."""
        return queue in self._settings

    @property
    def settings(self) -> dict[str, QueueSettings]:
        return self._settings

    def of(self, queue: str) -> QueueSettings:
        """Return the loaded settings of a queue; without any, the defaults."""
        return self._settings.get(queue) or QueueSettings(name=queue)

    def begin(self, now: int) -> set[Partition]:
        """Begin to choose tasks in a transaction, at `now` (microseconds); return the partitions to look at again."""
        self._now = now
        self._gates.clear()
        self._parked_later = []
        opened = {partition for shut in self._shut.values() for partition, until in shut.items() if until <= now}
        for partition in opened:
            del self._shut[partition[0]][partition]
        return opened

    def end(self, connection: apsw.Connection) -> list[Key]:
        """Store the tokens that were spent; return the keys of parked tasks that had waited for a time before."""
        for name, gate in self._gates.items():
            if gate.has_spent:
                connection.execute(QUERIES["spend"], (gate.tokens, self._now, name))
        return self._parked_later

    def slot_freed(self, queue: str) -> set[Partition]:
        """Return the partitions to look at again after an attempt of a queue has ended."""
        return set(self._shut.pop(queue, ()))

    @property
    def opens_at(self) -> int | None:
        """When the next gate opens by time alone (microseconds); None if none does."""
        times = (until for shut in self._shut.values() for until in shut.values() if until < _UNTIL_CHANGE)
        return min(times, default=None)

    def gate(self, connection: apsw.Connection, queue: str) -> Gate:
        """Return the gate of a limited queue in this transaction."""
        gate = self._gates.get(queue)
        if gate is None:
            gate = self._gates[queue] = _open_gate(connection, queue, self._now)
        return gate

    def shut_queues(self, connection: apsw.Connection, queues: Sequence[str]) -> list[str]:
        """Return the queues from which no task may start."""
        return [queue for queue in queues if self.holds(queue) and self.gate(connection, queue).is_shut]

    def choose(
        self, connection: apsw.Connection, queue: str, partitions: Sequence[Partition], find_due: FindDue, limit: int
    ) -> list[Candidate]:
        """Return the first tasks of one queue's partitions that may start, at most `limit`.

        Park tasks whose key is taken. If the gate lets none through, the partitions are shut.
        """
        gate = self.gate(connection, queue)
        most = gate.free_slots(limit)
        passing: list[Candidate] = []
        window = max(most, WINDOW) if gate.has_keys else most
        for last in range(ROUNDS - 1, -1, -1) if most else ():
            found = [
                one
                for partition in partitions
                for one in self._candidates(connection, partition, find_due, gate, window)
            ]
            found.sort(key=lambda one: one.rank)
            self._count_keys(connection, gate, found)
            passing, blocked, is_cut = gate.sift(found, most)
            for one in blocked:
                self._park(connection, one.place[0])
            if is_cut or not blocked or len(found) < window:
                break
            if (
                not last and not passing
            ):  # tasks that may start can follow the parked ones: continue in the next transaction
                self._note_shut(partitions, self._now)
            window *= 2
        if not passing:
            self._shut_behind(gate, partitions)
        return passing

    def _park(self, connection: apsw.Connection, seq: int) -> None:
        *key, had_waited = connection.execute(QUERIES["park"], (seq,)).fetchone()  # type: ignore[misc]
        self.has_parked = True
        if had_waited:
            self._parked_later.append((str(key[0]), str(key[1]), str(key[2])))

    def _shut_behind(self, gate: Gate, partitions: Sequence[Partition]) -> None:
        if gate.is_shut:
            self._note_shut(partitions, _UNTIL_CHANGE)
        elif gate.opens_in is not None:
            self._note_shut(partitions, self._now + gate.opens_in // MICROSECOND)

    def _note_shut(self, partitions: Sequence[Partition], until: int) -> None:
        for partition in partitions:
            self._shut.setdefault(partition[0], {})[partition] = until

    def _count_keys(self, connection: apsw.Connection, gate: Gate, found: Sequence[Candidate]) -> None:
        if not gate.has_keys:
            return
        for one in found:
            if one.slot is not None and not gate.knows(one.slot):
                gate.note_running(one.slot, running_with_key(connection, one.slot))

    def _candidates(
        self, connection: apsw.Connection, partition: Partition, find_due: FindDue, gate: Gate, limit: int
    ) -> list[Candidate]:
        slot_of = gate.settings.slot
        found: list[Candidate] = []
        for priority, due_at, seq, weight, owner, key in find_due(connection, partition, self._now, limit):
            slot = None if key is None else slot_of(owner, key)
            found.append(Candidate((priority, due_at, seq), partition[0], weight, slot, (seq, partition)))
        return found

    def admit_suspect(self, connection: apsw.Connection, one: Candidate) -> bool:
        """Tell whether a suspect may start; if so, spend its slot and tokens."""
        gate = self.gate(connection, one.queue)
        self._count_keys(connection, gate, [one])
        if gate.admit(one):
            return True
        self._shut_behind(gate, [one.place[1]])
        return False

    def unpark(self, connection: apsw.Connection, slot: Slot, limit: int, now: int) -> list[Row]:
        """Put the first parked tasks of a key back; return queue, type, due time and interruptions of each."""
        query = QUERIES["unpark" if slot.owner is None else "unpark_own"]
        return connection.execute(query, slot._asdict() | {"now": now, "limit": limit}).fetchall()

    def unpark_many(self, connection: apsw.Connection, now: int, limit: int) -> list[Row]:
        """Put back parked tasks whose key has a free slot, at most `limit`: after a new limit or a manual change."""
        rows: list[Row] = []
        keys: list[Row] = connection.execute(QUERIES["parked_keys"]).fetchall()
        self.has_parked = bool(keys)
        settings = {queue: find_settings(connection, queue)[0] for queue in {queue for queue, _, _ in keys}}
        for slot in dict.fromkeys(settings[queue].slot(owner, key) for queue, owner, key in keys):
            most = settings[slot.queue].concurrency_per_key
            free = limit - len(rows)
            if most is not None:
                free = min(free, most - running_with_key(connection, slot))
            if free > 0:
                rows += self.unpark(connection, slot, free, now)
        return rows


def running_with_key(connection: apsw.Connection, slot: Slot) -> int:
    """Count the running attempts of the tasks that share a concurrency key."""
    query = QUERIES["running_with_key" if slot.owner is None else "running_with_own_key"]
    return int(connection.execute(query, slot._asdict()).get)


def read_states(connection: apsw.Connection, now: int, names: Collection[str] | None) -> list[QueueState]:
    """Return the state of the queues with settings; only of those named, if names are given."""
    rows: list[Row] = connection.execute(QUERIES["queues"]).fetchall()
    among = None if names is None else frozenset(names)
    return [_state_of(connection, row, now) for row in rows if among is None or row[0] in among]


def find_settings(connection: apsw.Connection, name: str) -> tuple[QueueSettings, float, int]:
    """Return the settings of a queue, and the tokens of its bucket at a time (microseconds)."""
    row = connection.execute(QUERIES["queue_by_name"], (name,)).fetchone()
    return (QueueSettings(name=name), 0.0, 0) if row is None else _settings_of(row)


def store_settings(connection: apsw.Connection, settings: QueueSettings, tokens: float, now: int) -> None:
    """Store the settings of a queue; without any it has no row."""
    if settings.is_plain:
        connection.execute(QUERIES["delete_queue"], (settings.name,))
        return
    rate = None if settings.rate is None else encode(settings.rate)
    values = (
        settings.name,
        int(settings.paused),
        settings.concurrency,
        settings.concurrency_per_key,
        rate,
        int(settings.shared_keys),
        None if settings.pause is None else encode(settings.pause),
        tokens,
        now,
    )
    connection.execute(QUERIES["put_queue"], values)


def tokens_now(rate: Rate | None, tokens: float, since: int, now: int) -> float:
    """Return the tokens that a bucket holds now."""
    return 0.0 if rate is None else rate.refill(tokens, from_micros(now) - from_micros(since))


def _open_gate(connection: apsw.Connection, queue: str, now: int) -> Gate:
    settings, tokens, since = find_settings(connection, queue)
    running = 0
    if settings.concurrency is not None:
        running = connection.execute(QUERIES["running_in_queue"], (queue,)).get
    gate = Gate(settings, running=running, tokens=tokens_now(settings.rate, tokens, since, now))
    gate.has_spent = settings.rate is not None and since > now  # the clock was set back: count from now on
    return gate


def _settings_of(row: Row) -> tuple[QueueSettings, float, int]:
    name, paused, concurrency, per_key, rate, shared_keys, pause, tokens, refilled_at = row
    settings = QueueSettings(
        name=name,
        paused=bool(paused),
        concurrency=concurrency,
        concurrency_per_key=per_key,
        rate=None if rate is None else decode_rate(rate),
        shared_keys=bool(shared_keys),
        pause=None if pause is None else decode_pause(pause),
    )
    return settings, tokens, refilled_at


def _state_of(connection: apsw.Connection, row: Row, now: int) -> QueueState:
    settings, tokens, since = _settings_of(row)
    running = connection.execute(QUERIES["running_in_queue"], (settings.name,)).get
    return QueueState(settings=settings, running=running, tokens=tokens_now(settings.rate, tokens, since, now))
