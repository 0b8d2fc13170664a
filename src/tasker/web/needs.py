"""What needs somebody: failing types, questions, paused queues, types without a worker, silent workers, late tasks.

Pure: facts in, notes out.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Literal, NamedTuple

from tasker.model import PartitionStats, WorkerState
from tasker.model.queues import QueueSettings
from tasker.model.steps import OpenQuestion
from tasker.service.stats import Part
from tasker.web import texts, times

LATE_AFTER = timedelta(minutes=5)
"""A due task that has waited longer is worth a note."""
MOST_ASKED = 100
"""Questions that are counted."""
_LEAST_FAILED = 3
_FAILING_SHARE = 0.1
"""A type fails if at least so many tasks, and this share of those that ended, failed in the window."""
_MOST = 5
"""Notes of one kind."""

Kind = Literal["failing", "asks", "paused", "no_worker", "silent", "late"]


class Note(NamedTuple):
    """One thing that needs somebody. subject: the name of a type, queue or worker. says: the rest of the sentence.

    sample: a text of a task, shown as such. task_id: of the one task that asks.
    """

    kind: Kind
    subject: str
    says: str
    sample: str = ""
    failure_id: str = ""
    task_id: str = ""


class Facts(NamedTuple):
    """What is known. fleet: the workers that are not silent. samples: an error, and its group, of each failing type.

    tells_who: whether the caller may know who paused a queue. questions: the oldest that wait for people, at most
    MOST_ASKED and one more.
    """

    now: datetime
    types: Sequence[Part]
    counts: Sequence[PartitionStats]
    settings: Mapping[str, QueueSettings]
    fleet: Sequence[WorkerState]
    silent: Sequence[WorkerState]
    samples: Mapping[str, tuple[str, str]]
    tells_who: bool
    questions: Sequence[OpenQuestion] = ()


def find_needs(facts: Facts) -> list[Note]:
    """Return what needs somebody, the most urgent first."""
    paused = {name for name, settings in facts.settings.items() if settings.paused}
    orphans = _orphans(facts, paused)
    return [
        *_failing(facts)[:_MOST],
        *_asking(facts),
        *_paused(facts, paused)[:_MOST],
        *_without_worker(facts, orphans)[:_MOST],
        *_silent(facts)[:_MOST],
        *_late(facts, paused, orphans)[:_MOST],
    ]


def _failing(facts: Facts) -> list[Note]:
    notes: list[tuple[int, Note]] = []
    for part in facts.types:
        failed, ended = part.total.failed, ended_in(part)
        if failed >= _LEAST_FAILED and failed >= _FAILING_SHARE * ended:
            sample, failure_id = facts.samples.get(part.name or "", ("", ""))
            says = f"fails: {times.number(failed)} of the {times.number(ended)} tasks that ended"
            notes.append((failed, Note("failing", part.name or "", says, sample, failure_id)))
    return [note for _, note in sorted(notes, key=lambda pair: -pair[0])]


def _asking(facts: Facts) -> list[Note]:
    if not facts.questions:
        return []
    tasks = len({one.task_id for one in facts.questions})
    many = f"more than {MOST_ASKED}" if len(facts.questions) > MOST_ASKED else times.number(tasks)
    first = facts.questions[0].asked
    since = times.span((facts.now - first.asked_at).total_seconds())
    is_one = tasks == 1 and len(facts.questions) <= MOST_ASKED
    says = f"{'waits' if is_one else 'wait'} for a person, {'' if is_one else 'the first '}for {since}"
    task_id = str(facts.questions[0].task_id) if is_one else ""
    return [
        Note("asks", f"{many} {'task' if is_one else 'tasks'}", says, texts.line(first.message, 120), task_id=task_id)
    ]


def ended_in(part: Part) -> int:
    """Return how many tasks ended in a window."""
    return part.total.completed + part.total.failed + part.total.cancelled


def _paused(facts: Facts, paused: Collection[str]) -> list[Note]:
    return [
        Note("paused", name, f"is paused{_by_whom(facts, name)}: {_waiting(facts, _of_queue(facts, name))}")
        for name in sorted(paused)
    ]


def _of_queue(facts: Facts, name: str) -> list[PartitionStats]:
    return [one for one in facts.counts if one.queue == name]


def _by_whom(facts: Facts, name: str) -> str:
    pause = facts.settings[name].pause
    if pause is None:
        return ""
    who = (pause.key or pause.owner) if facts.tells_who else ""
    since = f" for {times.span((facts.now - pause.at).total_seconds())}"
    return f"{since}, by {texts.line(who, 60)}" if who else since


def _orphans(facts: Facts, paused: Collection[str]) -> dict[str, list[PartitionStats]]:
    """Return the due tasks, by type, that no worker takes."""
    found: dict[str, list[PartitionStats]] = {}
    for one in facts.counts:
        if one.pending and one.queue not in paused and not any(_takes(worker, one) for worker in facts.fleet):
            found.setdefault(one.type, []).append(one)
    return found


def _takes(worker: WorkerState, one: PartitionStats) -> bool:
    info = worker.info
    return one.type in info.types and (info.queues is None or one.queue in info.queues)


def _without_worker(facts: Facts, orphans: Mapping[str, list[PartitionStats]]) -> list[Note]:
    return [Note("no_worker", name, _waiting(facts, counts)) for name, counts in sorted(orphans.items())]


def _silent(facts: Facts) -> list[Note]:
    return [
        Note("silent", f"{one.info.host} {one.info.pid}", f"was last heard of {times.ago(one.heartbeat_at, facts.now)}")
        for one in facts.silent
    ]


def _late(facts: Facts, paused: Collection[str], orphans: Collection[str]) -> list[Note]:
    by_queue: dict[str, list[PartitionStats]] = {}
    for one in facts.counts:
        if one.queue not in paused and one.type not in orphans:
            by_queue.setdefault(one.queue, []).append(one)
    return [
        Note("late", name, _waiting(facts, counts))
        for name, counts in sorted(by_queue.items())
        if (oldest := _oldest(counts)) is not None and facts.now - oldest > LATE_AFTER
    ]


def _oldest(counts: Sequence[PartitionStats]) -> datetime | None:
    return min((one.oldest_due_at for one in counts if one.oldest_due_at is not None), default=None)


def _waiting(facts: Facts, counts: Sequence[PartitionStats]) -> str:
    """Return how many tasks wait, and for how long the oldest has."""
    number = sum(one.pending for one in counts)
    if not number:
        return "nothing waits"
    oldest = _oldest(counts)
    since = "" if oldest is None else f", the oldest for {times.span((facts.now - oldest).total_seconds())}"
    return f"{times.number(number)} task{'s wait' if number != 1 else ' waits'}{since}"
