"""Rules of the state machine about steps, questions and children: one level of children, all of it settled at once."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, multiple, rule
from msgspec import structs
from tests.contract import kin, ties
from tests.contract.kin import StepTwin
from tests.contract.steps import MOST, new_children, new_question, new_step
from tests.contract.twin import SECOND, Twin

from tasker.engines.protocol import Engine
from tasker.model import Claim, Extra, Report, Status, Transition
from tasker.model.steps import Forget, Wait
from tasker.rules.lifecycle import Parked, decide
from tasker.testing import ManualClock, make_draft

LAST = datetime.max.replace(tzinfo=kin.NEVER.tzinfo)
map_keys = st.sampled_from(["map", "call"])
question_keys = st.sampled_from(["approve", "pay"])
child_options = st.lists(
    st.tuples(st.sampled_from(["sum", "gpt"]), st.sampled_from([None, 45.25 * SECOND])), min_size=1, max_size=3
)


class FamilyRules(RuleBasedStateMachine):
    """The other half of the machine, which has the fields."""

    engine: Engine
    clock: ManualClock
    twins: dict[UUID, Twin]
    graves: dict[UUID, tuple[datetime | None, datetime]]
    random: Any
    submitted: int
    run: Any
    current: Any
    is_allowed: Any
    agree_on: Any
    may_retry: Any
    tasks: Bundle[UUID] = Bundle("tasks")
    claims: Bundle[Claim] = Bundle("claims")
    known = tasks | claims.map(lambda claim: claim.task_id)

    @rule(
        target=tasks, claim=claims, key=map_keys, options=child_options, most=st.sampled_from([None, 1, 2]),
        is_detached=st.sampled_from([False, False, True]),
    )  # fmt: skip
    def start_children(self, claim: Claim, key: str, options: list[Any], most: int | None, is_detached: bool) -> Any:
        """Again with the same key: the same children, of which those that are stored stay as they are."""
        twin, now = self.current(claim.lease), self.clock.now()
        if twin is not None and twin.parent is not None:
            return multiple()
        known = None if twin is None else twin.steps.get(key)
        drafts = known.drafts if known is not None else [self.child(claim.task_id, *one) for one in options]
        given = new_children(claim.task_id, drafts, now, key=key, max_in_flight=most, is_detached=is_detached)
        step = self.run(self.engine.steps.start_children(claim.lease, given, most=MOST))
        assert (step is None) == (twin is None)
        if twin is None or known is not None:
            return multiple()
        children = []
        for draft in drafts:
            self.submitted += 1
            children.append(Twin(draft, self.submitted))
        known = StepTwin(key, "children", most=most, is_detached=is_detached, drafts=drafts)
        kin.start(twin, known, self.twins, children)
        for draft in drafts:
            self.agree_on(draft.task_id)
        return multiple(*(draft.task_id for draft in drafts))

    def child(self, parent: UUID, type_: str, retention: timedelta | None) -> Any:
        extra = Extra(parent_id=parent, root_id=parent)
        return make_draft(self.clock.now(), type=type_, retention=retention, extra=extra)

    @rule(claim=claims, seconds=st.sampled_from([None, 0, 10, 60]), keys=st.sets(map_keys | question_keys))
    def park(self, claim: Claim, seconds: int | None, keys: set[str]) -> None:
        twin, now = self.current(claim.lease), self.clock.now()
        steps = [] if twin is None else [twin.steps[key] for key in sorted(keys & twin.steps.keys())]
        if not steps:
            seconds = seconds or 10
        wait = Wait(
            until=None if seconds is None else now + seconds * SECOND,
            inputs=tuple(step.key for step in steps if step.kind == "input"),
            children=tuple(step.key for step in steps if step.kind == "children"),
        )
        change = decide(Parked(wait), claim, now, self.random)
        assert self.run(self.engine.complete(claim.lease, change)) == (twin is not None)
        if twin is not None:
            self.end(twin, change)
            if twin.reason in kin.PARKED and twin.status is Status.PENDING and kin.is_there(twin, wait, now):
                twin.reason, twin.due_at = "queued", now
        self.agree_on(claim.task_id)

    def end(self, twin: Twin, change: Transition) -> None: ...

    @rule(claim=claims, key=st.sampled_from(["charge", "mail"]))
    def put_step(self, claim: Claim, key: str) -> None:
        twin = self.current(claim.lease)
        report = Report(steps=(new_step(self.clock.now(), key),))
        assert self.run(self.engine.record(claim.lease, report)) == (twin is not None)
        if twin is not None:
            twin.steps.setdefault(key, StepTwin(key, is_answered=True))
        self.agree_on(claim.task_id)

    @rule(claim=claims, key=question_keys, timeout=st.sampled_from([None, 20.25 * SECOND]))
    def ask(self, claim: Claim, key: str, timeout: timedelta | None) -> None:
        twin, now = self.current(claim.lease), self.clock.now()
        report = Report(steps=(new_question(now, key, timeout),))
        assert self.run(self.engine.record(claim.lease, report)) == (twin is not None)
        if twin is not None:
            twin.steps.setdefault(key, StepTwin(key, "input", until=None if timeout is None else now + timeout))
        self.agree_on(claim.task_id)

    @rule(task_id=known, key=question_keys)
    def answer(self, task_id: UUID, key: str) -> None:
        twin, now = self.twins.get(task_id), self.clock.now()
        step = None if twin is None else twin.steps.get(key)
        may = step is not None and not step.is_answered and (step.until is None or step.until > now)
        allowed = (Status.PENDING, Status.RUNNING) if may else ()
        if self.is_allowed(self.engine.steps.answer(task_id, key, b"true", "ann"), task_id, *allowed):
            step.is_answered = True
            kin.notice(twin, step, now)
            self.agree_on(task_id)

    @rule(claim=claims, key=question_keys)
    def close_question(self, claim: Claim, key: str) -> None:
        twin = self.current(claim.lease)
        known = None if twin is None else twin.steps.get(key)
        step = self.run(self.engine.steps.close_question(claim.lease, key, None))
        assert (step is None) == (known is None)
        if known is not None:
            known.is_answered = True
        self.agree_on(claim.task_id)

    @rule(claim=claims, key=map_keys)
    def run_children_again(self, claim: Claim, key: str) -> None:
        twin, now = self.current(claim.lease), self.clock.now()
        known = None if twin is None else twin.steps.get(key)
        step = self.run(self.engine.steps.run_children_again(claim.lease, key))
        assert (step is None) == (known is None)
        if known is None or not known.may_run_again:
            return
        for _, task_id in sorted(known.children.items()):
            child = self.twins.get(task_id)
            if child is None or child.parent is None or child.status not in (Status.FAILED, Status.CANCELLED):
                continue
            in_flight = known.in_flight
            ties.retry(self.twins, child, now)
            if known.most is not None and in_flight >= known.most:
                known.in_flight -= 1
                kin.hold(child)
        assert twin is not None
        known.may_run_again = kin.has_stopping(self.twins, twin, known)

    @rule(task_id=known, key=map_keys | question_keys)
    def retry_and_forget(self, task_id: UUID, key: str) -> None:
        twin, now = self.twins.get(task_id), self.clock.now()
        if twin is None or key not in twin.steps:
            return
        allowed = (Status.FAILED, Status.CANCELLED) if self.may_retry(task_id) else ()
        if not self.is_allowed(self.engine.retry(task_id, Forget(names=(key,))), task_id, *allowed):
            return
        step = twin.steps.pop(key)
        for child in kin.children_of(self.twins, twin):
            if child.step is step:
                self.let_go(child, now)
        ties.retry(self.twins, twin, now)
        self.agree_on(task_id)

    def let_go(self, child: Twin, now: datetime) -> None:
        child.parent = child.step = None
        if child.status.is_terminal:
            child.expires_at = None if child.draft.retention is None else child.finished_at + child.draft.retention
        else:
            child.is_held = False
            ties.cancel(self.twins, child, now)

    def bury_gone(self) -> None:
        """Those that a deleted parent has taken along are no longer there."""
        for task_id in [task_id for task_id, twin in self.twins.items() if twin.is_gone]:
            del self.twins[task_id]
            self.graves[task_id] = None, LAST

    def erasable(self, over: dict[UUID, Twin]) -> dict[UUID, Twin]:
        """Return those that can be erased: a parent goes after its children."""
        kept = {twin.parent for task_id, twin in self.twins.items() if task_id not in over}
        return {task_id: twin for task_id, twin in over.items() if task_id not in kept}

    def agree_on_steps(self, now: datetime) -> None:
        """Check what tasks with steps show."""
        for task_id, twin in self.twins.items():
            if not twin.steps or twin.is_over(now):
                continue
            task = self.run(self.engine.find(task_id))
            assert task.children == kin.counts(self.twins, twin)
            assert (None if task.input is None else task.input.name) == kin.asked(twin, now)
            found = {step.key: step for step in self.run(self.engine.steps.find(task_id))}
            assert found.keys() == twin.steps.keys()
            for key, step in twin.steps.items():
                there = found[key]
                assert (there.completed, there.failed, there.cancelled, there.may_run_again) == step.numbers
                assert there.until == step.until
                assert there.is_open == (not step.is_there)


def unhinted(claim: Claim, twin: Twin) -> Claim:
    """Return a claim without its hint that there may be steps, which must not be missing."""
    assert claim.has_steps or (claim.attempt == 1 and not twin.steps)
    return structs.replace(claim, has_steps=False)
