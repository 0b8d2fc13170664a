"""The limits of queues in the one process that holds the file: what is set is in memory, what is spent in the table.

Everything here is part of a piece of work inside a transaction. A queue without settings is not known here, and costs
nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from datetime import timedelta
from typing import Any

import apsw
import msgspec

from tasker.clock import from_micros
from tasker.engines.shared.gates import ROUNDS, WINDOW, Candidate, Gate
from tasker.engines.shared.values import encode
from tasker.engines.sqlite.bounds import Partition
from tasker.engines.sqlite.rows import Row
from tasker.engines.sqlite.sql import QUERIES
from tasker.model.queues import QueueSettings, QueueState, Rate, Slot

_decode_rate = msgspec.json.Decoder(Rate).decode
_MICRO = timedelta(microseconds=1)
_UNTIL_TOLD = 1 << 62
"""When a line is looked at again whose gate opens by no time."""

FindDue = Callable[[apsw.Connection, Partition, int, int], list[Row]]


class Limits:
    """Gates of limited queues, one set for each transaction, and the lines that are known to be behind shut ones."""

    def __init__(self) -> None:
        self._settings: dict[str, QueueSettings] = {}
        self._gates: dict[str, Gate] = {}
        self._shut: dict[str, dict[Partition, int]] = {}
        self._now = 0
        self.has_parked = True
        """Whether a task may be parked."""

    def load(self, connection: apsw.Connection) -> set[Partition]:
        """Read what is set; return the lines to look at again."""
        self._settings = {state.name: state for state, *_ in map(_settings_of, connection.execute(QUERIES["queues"]))}
        shut = {line for lines in self._shut.values() for line in lines}
        self._shut.clear()
        self.has_parked = connection.execute(QUERIES["any_parked"]).get is not None
        return shut

    def holds(self, queue: str) -> bool:
        """Tell whether anything is set of a queue."""
        return queue in self._settings

    @property
    def settings(self) -> dict[str, QueueSettings]:
        return self._settings

    def of(self, queue: str) -> QueueSettings:
        """Return what is set of a queue, as far as it is loaded."""
        return self._settings.get(queue) or QueueSettings(name=queue)

    def begin(self, now: int) -> set[Partition]:
        """Begin to choose in a transaction, at `now` (microseconds); return the lines to look at again."""
        self._now = now
        self._gates.clear()
        open_ = {line for lines in self._shut.values() for line, until in lines.items() if until <= now}
        for line in open_:
            del self._shut[line[0]][line]
        return open_

    def end(self, connection: apsw.Connection) -> None:
        """Store what was spent."""
        for name, gate in self._gates.items():
            if gate.has_spent:
                connection.execute(QUERIES["spend"], (gate.tokens, self._now, name))

    def slot_freed(self, queue: str) -> set[Partition]:
        """Return the lines to look at again after an attempt of a queue has ended."""
        return set(self._shut.pop(queue, ()))

    @property
    def opens_at(self) -> int | None:
        """When the next gate opens by time (microseconds); None if none does."""
        times = (until for lines in self._shut.values() for until in lines.values() if until < _UNTIL_TOLD)
        return min(times, default=None)

    def gate(self, connection: apsw.Connection, queue: str) -> Gate:
        """Return the gate of a limited queue, as it is by now in this transaction."""
        gate = self._gates.get(queue)
        if gate is None:
            gate = self._gates[queue] = _open_gate(connection, queue, self._now)
        return gate

    def shut_queues(self, connection: apsw.Connection, queues: Sequence[str]) -> list[str]:
        """Return those of these queues of which nothing may start."""
        return [queue for queue in queues if self.holds(queue) and self.gate(connection, queue).is_shut]

    def choose(
        self, connection: apsw.Connection, queue: str, lines: Sequence[Partition], find_due: FindDue, room: int
    ) -> list[Candidate]:
        """Return the first tasks of one queue's lines that may start, at most `room`; park those whose key is taken.

        The lines are then shut if the gate lets nothing through.
        """
        gate = self.gate(connection, queue)
        most = gate.free_slots(room)
        passing: list[Candidate] = []
        window = max(most, WINDOW) if gate.has_keys else most
        for last in range(ROUNDS - 1, -1, -1) if most else ():
            found = [one for line in lines for one in self._candidates(connection, line, find_due, gate, window)]
            found.sort(key=lambda one: one.rank)
            self._count_keys(connection, gate, found)
            passing, blocked, is_cut = gate.sift(found, most)
            for one in blocked:
                connection.execute(QUERIES["park"], (one.place[0],))
                self.has_parked = True
            if is_cut or not blocked or len(found) < window:
                break
            if not last and not passing:  # there may be more behind those: go on with the next transaction
                self._note_shut(lines, self._now)
            window *= 2
        if not passing:
            self._shut_lines(lines, gate)
        return passing

    def _shut_lines(self, lines: Sequence[Partition], gate: Gate) -> None:
        if gate.is_shut:
            self._note_shut(lines, _UNTIL_TOLD)
        elif gate.opens_in is not None:
            self._note_shut(lines, self._now + gate.opens_in // _MICRO)

    def _note_shut(self, lines: Sequence[Partition], until: int) -> None:
        for line in lines:
            self._shut.setdefault(line[0], {})[line] = until

    def _count_keys(self, connection: apsw.Connection, gate: Gate, found: Sequence[Candidate]) -> None:
        if not gate.has_keys:
            return
        for one in found:
            if one.slot is not None and not gate.knows(one.slot):
                gate.note_running(one.slot, running_with_key(connection, one.slot))

    def _candidates(
        self, connection: apsw.Connection, line: Partition, find_due: FindDue, gate: Gate, limit: int
    ) -> list[Candidate]:
        slot = gate.settings.slot
        rows: list[Any] = find_due(connection, line, self._now, limit)
        return [
            Candidate((priority, due_at, seq), line[0], weight, None if key is None else slot(owner, key), (seq, line))
            for priority, due_at, seq, weight, owner, key in rows
        ]

    def admit_suspect(self, connection: apsw.Connection, one: Candidate) -> bool:
        """Let a suspect start, if it may."""
        gate = self.gate(connection, one.queue)
        self._count_keys(connection, gate, [one])
        if gate.admit(one):
            return True
        self._shut_lines([one.place[1]], gate)
        return False

    def unpark(self, connection: apsw.Connection, slot: Slot, limit: int, now: int) -> list[Row]:
        """Put the first parked tasks of a key into line; return queue, type, due time and interruptions of each."""
        query = QUERIES["unpark" if slot.owner is None else "unpark_own"]
        return connection.execute(query, slot._asdict() | {"now": now, "limit": limit}).fetchall()

    def unpark_many(self, connection: apsw.Connection, now: int, limit: int) -> list[Row]:
        """Put parked tasks back into line for which there is room, at most `limit`: a person's hand, or a new limit."""
        rows: list[Row] = []
        keys: list[Row] = connection.execute(QUERIES["parked_keys"]).fetchall()
        self.has_parked = bool(keys)
        settings = {queue: find_settings(connection, queue)[0] for queue in {queue for queue, _, _ in keys}}
        for slot in dict.fromkeys(settings[queue].slot(owner, key) for queue, owner, key in keys):
            most = settings[slot.queue].concurrency_per_key
            room = limit - len(rows)
            if most is not None:
                room = min(room, most - running_with_key(connection, slot))
            if room > 0:
                rows += self.unpark(connection, slot, room, now)
        return rows


def running_with_key(connection: apsw.Connection, slot: Slot) -> int:
    """Return how many attempts run of the tasks that share a concurrency key."""
    query = QUERIES["running_with_key" if slot.owner is None else "running_with_own_key"]
    return int(connection.execute(query, slot._asdict()).get)


def read_states(connection: apsw.Connection, now: int, names: Collection[str] | None) -> list[QueueState]:
    """Return the queues with settings, as they are now; of these alone, if given."""
    rows: list[Row] = connection.execute(QUERIES["queues"]).fetchall()
    among = None if names is None else frozenset(names)
    return [_state_of(connection, row, now) for row in rows if among is None or row[0] in among]


def find_settings(connection: apsw.Connection, name: str) -> tuple[QueueSettings, float, int]:
    """Return what is set of a queue, what its bucket held, and when (microseconds)."""
    row = connection.execute(QUERIES["queue_by_name"], (name,)).fetchone()
    return (QueueSettings(name=name), 0.0, 0) if row is None else _settings_of(row)


def store_settings(connection: apsw.Connection, settings: QueueSettings, tokens: float, now: int) -> None:
    """Set what is set of a queue; one of which nothing is set has no row."""
    if settings.is_plain:
        connection.execute(QUERIES["delete_queue"], (settings.name,))
        return
    rate = None if settings.rate is None else encode(settings.rate)
    values = (
        settings.name, int(settings.paused), settings.concurrency, settings.concurrency_per_key, rate,
        int(settings.shared_keys), tokens, now,
    )  # fmt: skip
    connection.execute(QUERIES["put_queue"], values)


def tokens_now(rate: Rate | None, tokens: float, since: int, now: int) -> float:
    """Return what a bucket holds now."""
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
    name, paused, concurrency, per_key, rate, shared_keys, tokens, refilled_at = row
    settings = QueueSettings(
        name=name, paused=bool(paused), concurrency=concurrency, concurrency_per_key=per_key,
        rate=None if rate is None else _decode_rate(rate), shared_keys=bool(shared_keys),
    )  # fmt: skip
    return settings, tokens, refilled_at


def _state_of(connection: apsw.Connection, row: Row, now: int) -> QueueState:
    settings, tokens, since = _settings_of(row)
    running = connection.execute(QUERIES["running_in_queue"], (settings.name,)).get
    return QueueState(settings=settings, running=running, tokens=tokens_now(settings.rate, tokens, since, now))
