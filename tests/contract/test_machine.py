"""Random lives of tasks, on an engine and on a small model of it: both must always agree.

A failure prints the steps that lead to it, as short as Hypothesis can make them.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections import Counter
from collections.abc import Coroutine
from datetime import date, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any
from uuid import UUID

import msgspec
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    invariant,
    multiple,
    precondition,
    rule,
    run_state_machine_as_test,
)
from msgspec import structs
from tests.contract import kin, ties
from tests.contract.engines import ENGINES
from tests.contract.family_rules import FamilyRules, unhinted
from tests.contract.journal import by_task, read_all
from tests.contract.lives import (
    LETTERS,
    LOG,
    claimed_types,
    crash_rules,
    outcomes,
    policies,
    reply_of,
    submissions,
    unspent,
    wait_and_submit,
    workers,
)  # fmt: skip
from tests.contract.twin import CUT_OFF, LEASE, SECOND, Twin

from tasker.clock import Lagging, elapsed_micros, from_micros, to_micros
from tasker.engines.protocol import ClaimRequest, Engine
from tasker.errors import Conflict, Expired, NotFound
from tasker.model import (
    Claim,
    Draft,
    Event,
    Extra,
    Lease,
    NewEvent,
    PartitionStats,
    Report,
    RetryPolicy,
    Status,
    TaskFilter,
    Transition,
)
from tasker.model.keeping import FOREVER, KEEP_TOMBSTONES_FOR
from tasker.model.queues import QueueChange, QueueSettings
from tasker.model.stats import COUNTS, HOUR, Span, StatsFilter, sum_up
from tasker.model.usage import UsageFilter
from tasker.rules.lifecycle import (
    MAX_INTERRUPTIONS,
    Interrupted,
    Outcome,
    decide,
)
from tasker.testing import ManualClock, make_draft, make_key

MEMORY = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
"""A folder in memory: agreement is tested here, so thousands of steps need not wait for a disk."""
STEPS = [
    sign * step
    for step in (15 * SECOND, timedelta(minutes=10), timedelta(hours=1), timedelta(days=3653))
    for sign in (1, -1)
]
"""Steps by which the wall clock is set."""
FIRST_YEAR, LAST_YEAR = 2000, 2080
LEASE_AFTER_STEP = timedelta(minutes=1)
FOREVER_SPAN = Span(1, 1 << 40, HOUR)
"""A window from 1970 on."""
EVER = UsageFilter(first=date(1971, 1, 1), last=date(9999, 12, 31))


def _by_rank(twin: Twin) -> Any:
    return twin.rank


def _by_priority(twin: Twin) -> Any:
    return twin.rank[0]


def open_counts(twins: list[Twin], now: datetime) -> list[PartitionStats]:
    """Count the open tasks of the model."""
    found: dict[str, PartitionStats] = {}
    for twin in twins:
        if twin.status.is_terminal:
            continue
        known = found.get(twin.draft.type, PartitionStats(queue=twin.draft.queue, type=twin.draft.type))
        is_pending, is_due = twin.status is Status.PENDING, twin.due_at <= now
        oldest = min(filter(None, [known.oldest_due_at, twin.due_at if is_pending and is_due else None]), default=None)
        found[twin.draft.type] = structs.replace(
            known,
            pending=known.pending + (is_pending and is_due),
            scheduled=known.scheduled + (is_pending and not is_due),
            running=known.running + (not is_pending),
            oldest_due_at=oldest,
        )
    return [found[type_] for type_ in sorted(found)]


class EngineMachine(FamilyRules):
    """Every step is done to the engine and to the model."""

    tasks: Bundle[UUID] = FamilyRules.tasks
    claims: Bundle[Claim] = FamilyRules.claims
    known = FamilyRules.known

    def __init__(self, name: str) -> None:
        super().__init__()
        self.make = ENGINES[name]
        self.folder = tempfile.TemporaryDirectory(prefix="tasker-machine-", dir=MEMORY)
        self.runner = asyncio.Runner()
        self.clock = ManualClock()
        self.random = Random(0)
        self.twins: dict[UUID, Twin] = {}
        Twin.happened.clear()
        self.limits = QueueSettings(name="default")
        self.keys: dict[str, tuple[bytes, UUID, datetime]] = {}
        self.past: dict[Lease, Claim] = {}
        self.graves: dict[UUID, tuple[datetime | None, datetime]] = {}
        self.submitted = self.spoken = self.ended = self.tokens = 0
        self.journal: dict[UUID, list[Event]] = {}
        self.cursor: str | None = None
        self.erased_until = 0
        self.engine = self.open()

    def run(self, step: Coroutine[Any, Any, Any]) -> Any:
        async def limited() -> Any:
            async with asyncio.timeout(20):
                return await step

        return self.runner.run(limited())

    def open(self) -> Engine:
        self.opening = self.make(Path(self.folder.name), self.clock)
        engine: Engine = self.run(self.opening.__aenter__())
        self.erasing = Lagging(elapsed_micros(self.clock), self.erased_until)
        return engine

    def close(self) -> None:
        self.run(self.opening.__aexit__(None, None, None))

    def teardown(self) -> None:
        self.agree_on_usage()
        self.agree_on_stats()
        self.read_the_journal()
        self.close()
        self.runner.close()
        self.folder.cleanup()

    # what clients do

    @rule(target=tasks, options=st.lists(submissions, min_size=1, max_size=4), policy=policies, on_crash=crash_rules)
    def submit(self, options: list[Any], policy: RetryPolicy, on_crash: Any) -> Any:
        drafts = [self.draft(option, policy, on_crash) for option in options]
        receipts = self.run(self.engine.submit(drafts))
        expected = [self.expect_submission(draft) for draft in drafts]
        assert [(receipt.task_id, receipt.outcome) for receipt in receipts] == expected
        return multiple(*(task_id for task_id, outcome in expected if outcome == "stored"))

    @rule(
        target=tasks,
        unique_key=st.sampled_from([None, "u"]),
        on_conflict=st.sampled_from(["return", "reject", "replace"]),
        depends_on=st.lists(known, max_size=3, unique=True),
        deadline=st.sampled_from([None, None, 20.5 * SECOND]),
    )
    def submit_tied(
        self, unique_key: str | None, on_conflict: Any, depends_on: list[UUID], deadline: timedelta | None
    ) -> Any:
        now = self.clock.now()
        draft = make_draft(
            now, unique_key=unique_key, on_conflict=on_conflict,
            extra=Extra(depends_on=tuple(depends_on), group="tied"),
            deadline=None if deadline is None else now + deadline,
        )  # fmt: skip
        [receipt] = self.run(self.engine.submit([draft]))
        self.submitted += 1
        expected = ties.submit(self.twins, draft, self.submitted, now)
        assert (receipt.task_id, receipt.outcome) == expected
        return multiple(*([draft.task_id] if receipt.outcome == "stored" else []))

    def draft(self, option: Any, policy: RetryPolicy, on_crash: Any) -> Draft:
        now = self.clock.now()
        priority, delay, type_, key, retention = option
        kept = None if key is None else make_key(now, key[0], fingerprint=key[1], lasts=100.5 * SECOND)
        extra = Extra(group="plain") if priority == 1 else None
        return make_draft(
            now, type=type_, priority=priority, delay=delay, retry=policy, on_crash=on_crash, idempotency=kept,
            retention=retention, extra=extra,
        )  # fmt: skip

    def is_any(self, *statuses: Status) -> bool:
        return any(twin.status in statuses for twin in self.twins.values())

    def expect_submission(self, draft: Draft) -> tuple[UUID, str]:
        key = draft.idempotency
        if key is not None:
            fingerprint, task_id, expires_at = self.keys.get(key.key, (b"", draft.task_id, CUT_OFF))
            if expires_at > self.clock.now():
                return task_id, "replayed" if fingerprint == key.fingerprint else "mismatched"
            self.keys[key.key] = (key.fingerprint, draft.task_id, key.expires_at)
        self.submitted += 1
        self.twins[draft.task_id] = Twin(draft, self.submitted)
        return draft.task_id, "stored"

    @rule(task_id=known)
    def cancel(self, task_id: UUID) -> None:
        if not self.is_allowed(self.engine.cancel(task_id), task_id, Status.PENDING, Status.RUNNING):
            return
        ties.cancel(self.twins, self.twins[task_id], self.clock.now())
        self.agree_on(task_id)

    @rule(task_id=known)
    def retry(self, task_id: UUID) -> None:
        allowed = (Status.FAILED, Status.CANCELLED) if self.may_retry(task_id) else ()
        if self.is_allowed(self.engine.retry(task_id), task_id, *allowed):
            ties.retry(self.twins, self.twins[task_id], self.clock.now())
            self.agree_on(task_id)

    def may_retry(self, task_id: UUID) -> bool:
        """Tell whether other tasks allow it."""
        twin = self.twins.get(task_id)
        return twin is None or ties.may_retry(self.twins, twin, self.clock.now())

    @rule(task_id=known)
    def delete(self, task_id: UUID) -> None:
        child = self.twins.get(task_id)
        parent = None if child is None or child.parent is None else self.twins.get(child.parent)
        allowed = (Status.COMPLETED, Status.FAILED, Status.CANCELLED)
        if parent is not None and not parent.status.is_terminal:
            allowed = ()
        if self.is_allowed(self.engine.delete(task_id), task_id, *allowed):
            ties.delete(self.twins, self.twins[task_id], self.clock.now())
            kept = self.twins.pop(task_id).draft.retention or FOREVER
            self.graves[task_id] = None, self.clock.now() + max(kept, KEEP_TOMBSTONES_FOR)
            self.keys = {name: key for name, key in self.keys.items() if key[1] != task_id}
            assert self.run(self.engine.find(task_id)) is None
            assert self.run(self.engine.find_attempts(task_id)) == []
            assert self.run(self.engine.find_events(task_id)) == []
            self.bury_gone()

    def is_allowed(self, step: Coroutine[Any, Any, Any], task_id: UUID, *allowed: Status) -> bool:
        """Take the step, and check that it is refused exactly if the model forbids it."""
        reply, expired_at = self.run(reply_of(step)), self.expired_at(task_id)
        tombstone = self.run(self.engine.tombstones.find(task_id))
        assert (tombstone and tombstone.expired_at) == expired_at
        twin = self.twins.get(task_id)
        if expired_at is not None:
            assert isinstance(reply, Expired), f"expected Expired, got {reply!r}"
        elif twin is None:
            assert isinstance(reply, NotFound), f"expected NotFound for a task that does not exist, got {reply!r}"
        elif twin.status in allowed:
            assert not isinstance(reply, Exception), f"refused in status {twin.status}: {reply!r}"
        else:
            assert isinstance(reply, Conflict), f"expected Conflict in status {twin.status}, got {reply!r}"
        return not isinstance(reply, Exception)

    def expired_at(self, task_id: UUID) -> datetime | None:
        twin = self.twins.get(task_id)
        if twin is not None:
            return twin.expires_at if twin.is_over(self.clock.now()) else None
        expired_at, forgotten_at = self.graves.get(task_id, (None, CUT_OFF))
        return expired_at if forgotten_at > self.clock.now() else None

    # what workers do

    @precondition(lambda self: self.is_any(Status.PENDING))
    @rule(
        target=claims,
        limit=st.integers(0, 4),
        suspects=st.sampled_from([0, 0, 1, 2]),
        types=claimed_types,
        worker=workers,
    )
    def claim(self, limit: int, suspects: int, types: tuple[str, ...], worker: str) -> Any:
        return multiple(*self.claim_and_check(limit, suspects, types, worker))

    def claim_and_check(self, limit: int, suspects: int, types: tuple[str, ...], worker: str) -> list[Claim]:
        now = self.clock.now()
        due = [twin for twin in self.twins.values() if twin.is_due_for(types, now)]
        line = sorted(due, key=lambda twin: twin.rank)
        request = ClaimRequest(worker=worker, types=types, limit=limit, lease_for=LEASE, suspects=suspects)
        claims: list[Claim] = self.run(self.engine.claim(request, wait_for=timedelta(0)))
        slots = self.slots()
        for is_suspect, room in ((True, suspects), (False, limit)):
            got = [claim for claim in claims if (claim.interruptions >= MAX_INTERRUPTIONS) == is_suspect]
            expected = [twin for twin in line if twin.is_suspect == is_suspect][: min(room, slots)]
            slots -= len(expected)
            key = _by_priority if any(twin.was_passed for twin in due) else _by_rank
            assert [key(twin) for twin in self.twins_of(got)] == [key(twin) for twin in expected]
            for claim, twin in zip(got, self.twins_of(got), strict=True):
                assert twin in due, f"claimed, and not due for {types}: {claim}"
                assert unhinted(claim, twin) == twin.next_claim(worker, now)
                twin.start(claim, now)
                self.past[claim.lease] = claim
                self.agree_on(claim.task_id)
        return claims

    @rule(
        target=claims,
        options=st.lists(submissions, min_size=1, max_size=2),
        limit=st.integers(1, 2),
        types=claimed_types,
        worker=workers,
        ticks=st.integers(0, 6),
    )
    def work_comes_to_a_waiting_worker(
        self, options: list[Any], limit: int, types: tuple[str, ...], worker: str, ticks: int
    ) -> Any:
        """Each draft is a submission of its own; the worker gets the first that it can take, and maybe the second."""
        slots = self.slots()
        due = [twin for twin in self.twins.values() if twin.is_due_for(types, self.clock.now())]
        if slots and not all(twin.is_suspect for twin in due):
            return multiple()  # the worker would not wait
        drafts = [self.draft(option, RetryPolicy(max_attempts=2), "retry") for option in options]
        expected = [self.expect_submission(draft) for draft in drafts]
        takes = [self.twins[task_id] for task_id, outcome in expected if outcome == "stored"]
        takes = [twin for twin in takes if slots and twin.is_due_for(types, self.clock.now())]
        request = ClaimRequest(worker=worker, types=types, limit=limit, lease_for=LEASE)
        receipts, claims = self.run(wait_and_submit(self.engine, request, drafts, ticks, is_served=bool(takes)))
        assert [(receipt.task_id, receipt.outcome) for receipt in receipts] == expected
        assert min(len(takes), 1) <= len(claims) <= min(len(takes), limit, slots)
        twins = {twin.draft.task_id: twin for twin in takes}
        for claim in claims:
            twin = twins[claim.task_id]
            assert unhinted(claim, twin) == twin.next_claim(worker, self.clock.now())
            twins.pop(claim.task_id).start(claim, self.clock.now())
            self.past[claim.lease] = claim
        for task_id in self.twins:
            self.agree_on(task_id)
        return multiple(*claims)

    def twins_of(self, claims: list[Claim]) -> list[Twin]:
        return [self.twins[claim.task_id] for claim in claims]

    def current(self, lease: Lease) -> Twin | None:
        """Return the twin whose current attempt has this lease: the fence, as the model sees it."""
        twin = self.twins.get(lease.task_id)
        is_current = twin is not None and twin.status is Status.RUNNING and twin.attempt == lease.attempt
        return twin if is_current else None

    @rule(claim=claims, outcome=outcomes, speaks=st.booleans())
    def complete(self, claim: Claim, outcome: Outcome, speaks: bool) -> None:
        """Also with leases that were lost long ago."""
        now = self.clock.now()
        change = decide(outcome, claim, now, self.random)
        text, report = self.words() if speaks else ("", None)
        twin = self.current(claim.lease)
        assert self.run(self.engine.complete(claim.lease, change, report)) == (twin is not None)
        if twin is not None:
            if speaks:
                self.note(twin, claim, text)
            self.end(twin, change)
        self.agree_on(claim.task_id)

    @precondition(lambda self: self.past)
    @rule(outcome=outcomes)
    def stale_workers_wake_up(self, outcome: Outcome) -> None:
        """Every worker that ever lost an attempt tries every write with its old lease."""
        stale = [claim for claim in self.past.values() if self.current(claim.lease) is None]
        for claim in stale:
            change = decide(outcome, claim, self.clock.now(), self.random)
            _, report = self.words()
            assert not self.run(self.engine.complete(claim.lease, change))
            assert not self.run(self.engine.complete(claim.lease, change, report))
            assert not self.run(self.engine.record(claim.lease, report))
        lost, cancelled = self.run(self.engine.heartbeat([claim.lease for claim in stale], 10 * LEASE))
        assert (lost, cancelled) == ({claim.lease for claim in stale}, set())
        for task_id in {claim.task_id for claim in stale}:
            self.agree_on(task_id)

    @rule(claim=claims)
    def record(self, claim: Claim) -> None:
        text, report = self.words()
        twin = self.current(claim.lease)
        assert self.run(self.engine.record(claim.lease, report)) == (twin is not None)
        if twin is not None:
            self.note(twin, claim, text)
        self.agree_on(claim.task_id)

    def words(self) -> tuple[str, Report]:
        """Return a text that was never reported before, and the report with it."""
        self.spoken += 1
        text = f"word {self.spoken}"
        event = NewEvent(type="output", time=self.clock.now(), data=msgspec.json.encode({"chunk": text}))
        return text, Report(events=(event,), usage=b'{"output_tokens":%d}' % self.spoken)

    def note(self, twin: Twin, claim: Claim, text: str) -> None:
        """The last report was stored: only the growth of the task's usage is counted."""
        twin.said.append((claim.attempt, text))
        self.tokens += self.spoken - msgspec.json.decode(twin.usage).get("output_tokens", 0)
        twin.usage = b'{"output_tokens":%d}' % self.spoken

    def end(self, twin: Twin, change: Transition) -> None:
        twin.end(change, self.clock.now())
        if twin.status is Status.PENDING and change.ending in ("failed", "timed_out"):
            kin.may_run_again(self.twins, twin)
        ties.settle(self.twins, twin, self.clock.now())
        self.ended += change.ending != "parked"

    @rule(claims=st.lists(claims, min_size=1, max_size=4, unique_by=lambda claim: claim.lease))
    def heartbeat(self, claims: list[Claim]) -> None:
        current = {claim.lease: self.current(claim.lease) for claim in claims}
        # Whoever was cut off by a restart is gone and sends no heartbeat.
        leases = [lease for lease, twin in current.items() if twin is None or twin.lease_until != CUT_OFF]
        lost, cancelled = self.run(self.engine.heartbeat(leases, 20.5 * SECOND))
        assert lost == {lease for lease in leases if current[lease] is None}
        held = {lease: twin for lease in leases if (twin := current[lease]) is not None}
        assert cancelled == {lease for lease, twin in held.items() if twin.cancel_requested}
        for twin in held.values():
            twin.lease_until = self.clock.now() + 20.5 * SECOND

    # what a person sets

    @rule(paused=st.sampled_from([False, False, True]), concurrency=st.sampled_from([None, None, 1, 3]))
    def limit_the_queue(self, paused: bool, concurrency: int | None) -> None:
        """All tasks here are in one queue; what runs goes on."""
        change = QueueChange(paused=paused, concurrency=concurrency)
        assert self.run(self.engine.queues.change("default", change)) == change.apply(self.limits)
        self.limits = change.apply(self.limits)

    def slots(self) -> int:
        """Return how many more attempts may run."""
        running = sum(twin.status is Status.RUNNING for twin in self.twins.values())
        most = 1000 if self.limits.concurrency is None else self.limits.concurrency
        return 0 if self.limits.paused else max(0, most - running)

    # what happens

    @precondition(lambda self: self.twins)
    @rule(seconds=st.sampled_from([1, 7, 31, 61, 601, 90_000]))
    def time_passes(self, seconds: int) -> None:
        self.clock.advance(seconds * SECOND)

    @precondition(lambda self: self.twins)
    @rule(step=st.sampled_from(STEPS))
    def the_clock_is_set(self, step: timedelta) -> None:
        """Set the wall clock alone, while all workers go on: no running attempt is taken over."""
        before = self.clock.now()
        if not FIRST_YEAR <= (before + step).year <= LAST_YEAR:
            return
        late = {twin.draft.task_id for twin in self.twins.values() if twin.lease_until < before}
        self.clock.set(before + step)
        assert {claim.task_id for claim in self.run(self.engine.find_expired(limit=1000))} <= late
        self.run(self.engine.check())
        for twin in self.twins.values():
            twin.clock_was_set(before, step, LEASE_AFTER_STEP if self.engine.is_shared else None)

    @precondition(lambda self: self.is_any(Status.RUNNING))
    @rule()
    def reap(self) -> None:
        now = self.clock.now()
        expired = self.run(self.engine.find_expired(limit=1000))
        cut_off = {
            twin.draft.task_id: twin
            for twin in self.twins.values()
            if twin.status is Status.RUNNING and twin.lease_until < now
        }
        found = {claim.task_id: unspent(claim) for claim in expired}
        assert found == {task_id: unspent(twin.claim) for task_id, twin in cut_off.items() if twin.claim is not None}
        assert set(found) == set(cut_off)
        for claim in expired:
            change = decide(Interrupted(), claim, now, self.random)
            assert self.run(self.engine.complete(claim.lease, change))
            self.end(cut_off[claim.task_id], change)
            self.agree_on(claim.task_id)

    @precondition(lambda self: self.is_any(Status.PENDING, Status.RUNNING))
    @rule()
    def restart(self) -> None:
        self.close()
        self.engine = self.open()
        for twin in () if self.engine.is_shared else self.twins.values():
            twin.lease_until = CUT_OFF
        for task_id in self.twins:
            self.agree_on(task_id)

    @precondition(lambda self: self.is_any(Status.PENDING))
    @rule(target=claims, suspects=st.integers(0, 4))
    def service_ends_under_load(self, suspects: int) -> Any:
        """All in one step, so that three in a row, which make suspects, are not a rarity."""
        claims = self.claim_and_check(4, suspects, ("sum", "gpt"), "worker-1")
        self.restart()
        if self.engine.is_shared:
            self.clock.advance(31 * SECOND)
        self.reap()
        return multiple(*claims)

    @precondition(lambda self: self.twins)
    @rule()
    def read_the_journal(self) -> None:
        """Read on from where the last reading ended: every event of every log was in it once, in order."""
        entries = self.run(read_all(self.engine, self.cursor, limit=7))
        for task_id, events in by_task(entries).items():
            self.journal.setdefault(task_id, []).extend(events)
        self.cursor = entries[-1].cursor if entries else self.cursor
        for task_id in self.twins:
            if not self.expired_at(task_id):
                assert self.journal[task_id] == self.run(self.engine.find_events(task_id))

    @precondition(lambda self: self.keys or self.graves or any(twin.expires_at for twin in self.twins.values()))
    @rule(seconds=st.sampled_from([1, 200]), limit=st.sampled_from([1, 2, 100]))
    def prune(self, seconds: int, limit: int) -> None:
        """In steps, until nothing is left to do. The journal is read first: it is pruned after a day."""
        self.read_the_journal()
        self.cursor = self.run(self.engine.journal.tail())
        self.clock.advance(seconds * SECOND)
        now = self.erase_until()
        over = self.erasable({task_id: twin for task_id, twin in self.twins.items() if twin.is_over(now)})
        for task_id, twin in over.items():
            del self.twins[task_id]
            assert twin.expires_at is not None
            kept = max(twin.draft.retention or FOREVER, KEEP_TOMBSTONES_FOR)
            self.graves[task_id] = twin.expires_at, twin.expires_at + kept
        forgotten = [task_id for task_id, grave in self.graves.items() if grave[1] <= now]
        keys = [name for name, key in self.keys.items() if key[2] < now]
        done = 0
        while step := self.run(self.engine.prune(limit=limit)):
            done += step
        assert done >= len(over) + len(forgotten) + len(keys)  # logs and the journal: more steps
        self.keys = {name: key for name, key in self.keys.items() if name not in keys}
        self.graves = {task_id: grave for task_id, grave in self.graves.items() if task_id not in forgotten}
        for task_id in over:
            self.agree_on(task_id)

    # what must always hold

    @invariant()
    def agree(self) -> None:
        """Nothing is lost, nothing came from nowhere, and every status is the model's."""
        now = self.clock.now()
        self.run(self.engine.fail_overdue(limit=1000))
        ties.pass_deadlines(self.twins, now)
        self.bury_gone()
        page = self.run(self.engine.find_many(TaskFilter(), limit=1000))
        seen = [
            (task.task_id, task.status, task.reason, task.attempt, task.tries_left, task.expires_at)
            for task in page.items
        ]
        alive = [twin for twin in self.twins.values() if not twin.is_over(now)]
        assert seen == [twin.seen(now) for twin in sorted(alive, key=lambda twin: -twin.order)]
        self.agree_on_open_tasks(alive, now)
        self.agree_on_steps(now)
        self.agree_on_groups(alive, now)

    def agree_on_groups(self, alive: list[Twin], now: datetime) -> None:
        """Check that groups count their stored tasks: those that are over may be erased already, or not yet."""
        for name in ("plain", "tied"):
            group = self.run(self.engine.groups.find("", name))
            counted = Counter() if group is None else Counter(structs.asdict(group.tasks))
            least, most = (
                Counter(twin.status.value for twin in twins if twin.draft.group == name)
                for twins in (alive, self.twins.values())
            )
            assert least <= counted <= most, name
            assert group is None or group.is_open == (least["pending"] + least["running"] > 0)

    def agree_on_open_tasks(self, alive: list[Twin], now: datetime) -> None:
        found, expected = self.run(self.engine.stats.open_counts()), open_counts(alive, now)
        if any(twin.was_passed for twin in alive):  # it is due since the clock was set back, or since any time after
            found, expected = ([structs.replace(one, oldest_due_at=None) for one in some] for some in (found, expected))
        assert found == expected

    def erase_until(self) -> datetime:
        """Return the time before which the engine erases; the next process continues from it."""
        self.erased_until = self.erasing.tell(to_micros(self.clock.now()), elapsed_micros(self.clock))
        return from_micros(self.erased_until)

    def agree_on_usage(self) -> None:
        """Check that each end and each report was counted once, also those of erased tasks."""
        rows = self.run(self.engine.usage.find_many(EVER, group=(), limit=1))
        assert [(row.attempts, row.output_tokens) for row in rows] == [(self.ended, self.tokens)] * len(rows)
        assert rows or not self.ended

    @rule(limit=st.sampled_from([1, 3, 1000]))
    def fold_stats(self, limit: int) -> None:
        """Whether changes are in the sums yet makes no difference."""
        self.run(self.engine.stats.fold(limit=limit))
        self.agree_on_stats()

    def agree_on_stats(self) -> None:
        """Check that everything that happened was counted once, also what happened to erased tasks."""
        rows = self.run(self.engine.stats.window(StatsFilter(span=FOREVER_SPAN, now=self.clock.now())))
        figures = sum_up([row.figures for row in rows])
        counted = {name: getattr(figures, name) for name in COUNTS if name not in ("run_time", "wait_time")}
        happened = Twin.happened
        assert counted == {name: happened[name] for name in counted}
        assert (sum(figures.runs), sum(figures.waits)) == (happened["ran"], happened["started"])

    def agree_on(self, task_id: UUID) -> None:
        """Check that attempts are numbered 1, 2, 3..., only the last may be open, and each report is stored once."""
        self.bury_gone()
        twin = None if self.expired_at(task_id) else self.twins.get(task_id)
        attempts = self.run(self.engine.find_attempts(task_id))
        events = self.run(self.engine.find_events(task_id))
        endings = [] if twin is None else twin.endings
        assert [attempt.attempt for attempt in attempts] == [*range(1, len(endings) + 1)]
        assert [attempt.ending for attempt in attempts] == endings
        said = [(event.attempt, msgspec.json.decode(event.data)["chunk"]) for event in events if event.type == "output"]
        assert said == ([] if twin is None else twin.said)
        if twin is None:
            assert events == []
            return
        assert [event.sequence for event in events] == [*range(1, len(events) + 1)]
        shape = "".join(LETTERS.get(event.type, "") for event in events)
        assert LOG.fullmatch(shape), f"no log of a task: {shape}"
        assert shape.count("s") == len(endings)
        assert events[: len(twin.log)] == twin.log, "an event was changed"
        twin.log = events


@pytest.mark.timeout(0 if settings.default.max_examples > 100 else 280)
@pytest.mark.parametrize("name", ENGINES)
def test_an_engine_and_its_model_always_tell_the_same(name: str) -> None:
    run_state_machine_as_test(
        lambda: EngineMachine(name),
        settings=settings(
            max_examples=settings.default.max_examples // (8 if name == "sqlite" else 32),  # a round trip for each step
            stateful_step_count=40,
            deadline=None,
            print_blob=True,
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
        ),
    )
