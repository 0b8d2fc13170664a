"""What one transaction changes about tasks, and the sums that such changes become. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import msgspec
from msgspec import Struct

from tasker.model import Status
from tasker.model.stats import (
    ALL_OWNERS,
    COUNTS,
    HOUR,
    MINUTE,
    RUN_BOUNDS,
    WAIT_BOUNDS,
    Figures,
    StatsFilter,
    StatsRow,
    run_bucket,
    wait_bucket,
)

Key = tuple[str, str, str]
"""Owner, type and queue of a task."""
RUN_COLUMNS = tuple(f"run_{place}" for place in range(len(RUN_BOUNDS) + 1))
WAIT_COLUMNS = tuple(f"wait_{place}" for place in range(len(WAIT_BOUNDS) + 1))
SUMMED = (*COUNTS, *RUN_COLUMNS, *WAIT_COLUMNS)
"""The columns of the sums."""
_RUNS, _WAITS = len(COUNTS), len(COUNTS) + len(RUN_COLUMNS)


class TaskChange(Struct, array_like=True):
    """What one transaction has changed about the tasks of one key. minute: when, counted from 1970.

    pending, waiting, running: by how much the numbers of open tasks grew; `waiting` ones are pending for a time or for
    other tasks, or were when they were stored so. runs, waits: the places of times in their histograms.
    """

    minute: int
    owner: str
    type: str
    queue: str
    pending: int = 0
    waiting: int = 0
    running: int = 0
    submitted: int = 0
    started: int = 0
    completed: int = 0
    failed: int = 0
    cancelled: int = 0
    retried: int = 0
    run_time: int = 0
    wait_time: int = 0
    runs: list[int] = []
    waits: list[int] = []


pack = msgspec.msgpack.Encoder().encode
"""Returns the bytes of a list of changes."""
unpack = msgspec.msgpack.Decoder(list[TaskChange]).decode
"""Returns the changes in bytes that `pack` returned."""


class Changes:
    """Gathers what one transaction changes. Times are microseconds."""

    __slots__ = ("_changes", "_minute")

    def __init__(self, now: int) -> None:
        self._minute = now // 60_000_000
        self._changes: dict[Key, TaskChange] = {}

    def take(self) -> list[TaskChange]:
        """Return what was gathered, and start anew."""
        changes, self._changes = list(self._changes.values()), {}
        return changes

    def submitted(self, key: Key, *, waits: bool = False) -> None:
        """Count a new pending task. waits: for a time or for others."""
        one = self._changes.get(key) or self._begin(key)
        one.submitted += 1
        one.pending += 1
        one.waiting += waits

    def started(self, key: Key, waited: int, *, was_waiting: bool = False) -> None:
        """Count an attempt of a pending task that was due `waited` ago."""
        one = self._changes.get(key) or self._begin(key)
        one.started += 1
        one.pending -= 1
        one.running += 1
        one.waiting -= was_waiting
        waited = max(waited, 0)
        one.wait_time += waited
        one.waits.append(wait_bucket(waited))

    def ended(self, key: Key, status: Status, ran: int | None) -> None:
        """Count the end of a running task. ran: its last attempt's time; None if that is unknown."""
        one = self._changes.get(key) or self._begin(key)
        one.running -= 1
        _count_end(one, status)
        if ran is not None:
            _count_run(one, ran)

    def again(self, key: Key, ran: int | None, *, waits: bool, is_retry: bool) -> None:
        """Count an attempt after which its task is pending again. is_retry: because it failed."""
        one = self._changes.get(key) or self._begin(key)
        one.running -= 1
        one.pending += 1
        one.waiting += waits
        one.retried += is_retry
        if ran is not None:
            _count_run(one, ran)

    def dropped(self, key: Key, status: Status, *, was_waiting: bool) -> None:
        """Count the end of a pending task."""
        one = self._changes.get(key) or self._begin(key)
        one.pending -= 1
        one.waiting -= was_waiting
        _count_end(one, status)

    def reopened(self, key: Key) -> None:
        """Count an ended task that is pending again."""
        one = self._changes.get(key) or self._begin(key)
        one.pending += 1
        one.retried += 1

    def moved(self, key: Key, waiting: int) -> None:
        """Count pending tasks that begin to wait (1), or no longer wait (-1), for a time or for others."""
        one = self._changes.get(key) or self._begin(key)
        one.waiting += waiting

    def adopted(self, key: Key, status: str, *, waits: bool) -> None:
        """Count an imported task, if it is open. Nothing has happened to it now."""
        if status in ("pending", "running"):
            one = self._changes.get(key) or self._begin(key)
            one.pending += status == "pending"
            one.waiting += waits
            one.running += status == "running"

    def _begin(self, key: Key) -> TaskChange:
        change = self._changes[key] = TaskChange(self._minute, *key)
        return change


def merged(changes: Iterable[TaskChange]) -> list[TaskChange]:
    """Return one change for each minute and key. The first of several takes up the others."""
    known: dict[tuple[int, str, str, str], TaskChange] = {}
    for change in changes:
        one = known.setdefault((change.minute, change.owner, change.type, change.queue), change)
        if one is not change:
            _take_up(one, change)
    return list(known.values())


def _take_up(one: TaskChange, other: TaskChange) -> None:
    for name in ("pending", "waiting", "running", *COUNTS):
        setattr(one, name, getattr(one, name) + getattr(other, name))
    one.runs += other.runs
    one.waits += other.waits


def _count_end(one: TaskChange, status: Status) -> None:
    if status is Status.COMPLETED:
        one.completed += 1
    elif status is Status.FAILED:
        one.failed += 1
    else:
        one.cancelled += 1


def _count_run(one: TaskChange, ran: int) -> None:
    ran = max(ran, 0)
    one.run_time += ran
    one.runs.append(run_bucket(ran))


class SumKey(NamedTuple):
    """The key of a sum. unit: its length in seconds; bucket: when it begins, in seconds since 1970."""

    unit: int
    owner: str
    bucket: int
    type: str
    queue: str


def add_sums(changes: Iterable[TaskChange], shown: Callable[[str, int, str], str]) -> dict[SumKey, list[int]]:
    """Return the sums (SUMMED) that changes add: by minute and by hour, for their owner and for all.

    shown: returns the name under which an owner's queue counts in an hour (seconds).
    """
    sums: dict[SumKey, list[int]] = {}
    for change in changes:
        moment = change.minute * MINUTE
        hour = moment - moment % HOUR
        for owner in (change.owner, ALL_OWNERS):
            queue = shown(owner, hour, change.queue)
            for key in (
                SumKey(MINUTE, owner, moment, change.type, queue),
                SumKey(HOUR, owner, hour, change.type, queue),
            ):
                figures = sums.get(key)
                if figures is None:
                    figures = sums[key] = [0] * len(SUMMED)
                _add(figures, change)
    return {key: sums[key] for key in sorted(sums) if any(sums[key])}


def add_open(changes: Iterable[TaskChange]) -> dict[Key, list[int]]:
    """Return by how much changes raise the numbers of pending, waiting and running tasks."""
    counts: dict[Key, list[int]] = {}
    for change in changes:
        known = counts.setdefault((change.owner, change.type, change.queue), [0, 0, 0])
        known[0] += change.pending
        known[1] += change.waiting
        known[2] += change.running
    return {key: counts[key] for key in sorted(counts) if any(counts[key])}


def figures_of(sums: list[int]) -> Figures:
    """Return the figures of sums in the order of SUMMED."""
    counts = dict(zip(COUNTS, sums[:_RUNS], strict=True))
    return Figures(**counts, runs=sums[_RUNS:_WAITS], waits=sums[_WAITS:])


def values_of(where: StatsFilter) -> dict[str, Any]:
    """Return the values by which the kept sums of a window are selected."""
    return {
        "first": where.first,
        "before": where.before,
        "until": where.until,
        "step": where.span.step,
        "unit": where.span.unit,
        "group": where.group,
        "owner": ALL_OWNERS if where.owner is None else where.owner,
        "type": where.type,
        "queue": where.queue,
    }


def window_rows(
    where: StatsFilter, stored: Iterable[tuple[int, str, list[int]]], changes: Iterable[TaskChange]
) -> list[StatsRow]:
    """Return the rows of a window. stored: step, name and SUMMED of kept sums; changes: what is not in them yet."""
    sums = {(step, name): figures for step, name, figures in stored}
    for change in changes:
        moment = change.minute * MINUTE
        step = where.place_of(moment - moment % where.span.unit)
        if step is None or not where.holds(change.owner, change.type, change.queue):
            continue
        key = step, where.name_of(change.type, change.queue)
        if key not in sums:
            sums[key] = [0] * len(SUMMED)
        _add(sums[key], change)
    return [StatsRow(step, name, figures_of(figures)) for (step, name), figures in sums.items() if any(figures)]


def _add(figures: list[int], change: TaskChange) -> None:
    for place, name in enumerate(COUNTS):
        figures[place] += getattr(change, name)
    for run in change.runs:
        figures[_RUNS + run] += 1
    for wait in change.waits:
        figures[_WAITS + wait] += 1
