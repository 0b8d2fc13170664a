"""The use cases of steps: what a task has done and waits for, its children, and the questions that people answer."""

from __future__ import annotations

import json
from datetime import datetime
from uuid import UUID

import msgspec
from msgspec import structs

from tasker.clock import Clock
from tasker.engines.protocol import Engine
from tasker.errors import Conflict, Fault, NotFound
from tasker.model import Task, TaskFilter
from tasker.model.keys import Caller
from tasker.model.steps import OpenQuestion, Question, Step
from tasker.rules.steps import is_asked
from tasker.service.check_threads import CheckThreads, CheckTimeout
from tasker.service.tasks import Tasks
from tasker.validation.answers import answer_faults
from tasker.validation.faults import Faults
from tasker.validation.jsontext import read_json

SHOWN_STEPS = 1000
"""Steps that are shown with a task: the last ones."""
_LAST_QUESTIONS = 1000
"""Questions of one task, the last ones, that an answer may be for."""
_NAMED = 5
"""Names of other questions in a refusal."""
SHOWN_CHILDREN = 20
"""Children that are shown with a task; its list of children has all of them."""
MAX_ANSWER = 1 << 20
"""Limit of an answer in bytes of JSON, unless the service has another."""


class StepService:
    """The steps of stored tasks. For a caller, tasks that it may not see do not exist.

    threads: check answers. max_answer: limit of an answer in bytes of JSON.
    """

    def __init__(
        self, engine: Engine, clock: Clock, tasks: Tasks, threads: CheckThreads, max_answer: int = MAX_ANSWER
    ) -> None:
        self._store = engine.steps
        self._clock = clock
        self._tasks = tasks
        self._threads = threads
        self._max_answer = max_answer

    async def find(self, caller: Caller, task_id: UUID, *, limit: int = SHOWN_STEPS) -> list[Step]:
        """Return the last steps of a task in the order of their numbers, secrets masked. Raises NotFound, Expired.

        A value of more than SHOWN_BYTES is cut off after that.
        """
        await self._tasks.get(caller, task_id)
        return await self._store.find_last(task_id, limit=limit)

    async def get(self, caller: Caller, task_id: UUID, key: str) -> Step:
        """Return a step with its whole value, secrets masked. Raises NotFound, Expired."""
        await self._tasks.get(caller, task_id)
        for step in await self._store.find_some(task_id, [key]):
            return structs.replace(step, secret_value=None)
        raise NotFound(f"task {task_id} has no step {key!r}")

    async def children(self, caller: Caller, task_id: UUID, *, limit: int = SHOWN_CHILDREN) -> list[Task]:
        """Return some children of a task, the newest first, as lists show tasks."""
        page = await self._tasks.find_many(caller, TaskFilter(parent=task_id), limit=limit)
        return page.items

    async def question(
        self, caller: Caller, task_id: UUID, name: str | None = None, asked_at: datetime | None = None
    ) -> Step:
        """Return the oldest open question of a task, or of that name; asked_at: the one that was asked then.

        Raises NotFound, Expired, Conflict (it does not ask this, or no more).
        """
        task = await self._tasks.get(caller, task_id)
        if task.status.is_terminal:
            raise Conflict(f"the task has ended ({task.status.value}) and asks nothing")
        asked, now = await self._asked(task_id), self._clock.now()
        meant = _matching(asked, name, asked_at)
        for step in meant:
            if is_asked(step, now):
                return step
        open_ = [step.name for step in asked if is_asked(step, now)] if caller.may("read") else []
        raise Conflict(_refusal(meant, name, list(dict.fromkeys(open_))))

    async def answer(
        self, caller: Caller, task_id: UUID, name: str, value: bytes, *, asked_at: datetime | None = None
    ) -> Task:
        """Answer the oldest open question of that name with a JSON text; return the task.

        asked_at: answer only the question that was asked then (Asked.asked_at). The same answer once more, by the same
        owner, changes nothing and is no error, unless the name is asked again. Raises NotFound, Expired, Conflict (it
        does not ask this, it is answered, or its time is over), Malformed, Invalid with every fault, each at a JSON
        Pointer below /value.
        """
        try:
            step = await self.question(caller, task_id, name, asked_at)
            await self._check(caller, step, value)
            return await self._store.answer(task_id, step.key, value, caller.owner)
        except Conflict:
            if await self._is_repeated(caller, task_id, name, value, asked_at):
                return await self._tasks.get(caller, task_id)
            raise

    async def questions(self, caller: Caller, *, limit: int) -> list[OpenQuestion]:
        """Return the questions that wait for people in tasks that the caller may see, oldest first."""
        return await self._store.find_questions(owner=caller.only, limit=limit)

    async def _check(self, caller: Caller, step: Step, value: bytes) -> None:
        """Raise Invalid, Malformed for an answer that the question does not take."""
        faults = Faults()
        if len(value) > self._max_answer:
            faults.add("/value", f"expected at most {self._max_answer:,} bytes of JSON, got {len(value):,}")
            faults.check()
        given, schema = read_json(value), bytes(question_of(step).schema)
        try:
            found = await self._threads.run(caller.owner, lambda: answer_faults(schema, given))
        except CheckTimeout:
            found = [Fault("", f"cannot be checked: that takes more than {self._threads.within:g} s")]
        for fault in found:
            faults.put(Fault(f"/value{fault.pointer}", fault.detail))
        faults.check()

    async def _is_repeated(
        self, caller: Caller, task_id: UUID, name: str, value: bytes, asked_at: datetime | None
    ) -> bool:
        """Tell whether the newest such question has this answer already, from the same owner."""
        asked = _matching(await self._asked(task_id), name, asked_at)
        if not asked or asked[-1].answered_by != caller.owner:
            return False
        [last] = await self._store.find_some(task_id, [asked[-1].key]) or [asked[-1]]
        return last.value is not None and _is_same(last.value, value)

    async def _asked(self, task_id: UUID) -> list[Step]:
        """Return the questions of a task, oldest first."""
        return await self._store.find_last(task_id, limit=_LAST_QUESTIONS, kind="input")


def question_of(step: Step) -> Question:
    """Return the question of a step of kind `input`."""
    assert step.question is not None
    return _decode_question(step.question)


_decode_question = msgspec.json.Decoder(Question).decode


def _matching(asked: list[Step], name: str | None, asked_at: datetime | None) -> list[Step]:
    """Return the questions of that name (None: of any)."""
    return [step for step in asked if name in (None, step.name) and asked_at in (None, step.started_at)]


def _refusal(asked: list[Step], name: str | None, others: list[str]) -> str:
    """Return why none of these questions can be answered. others: what else the task asks."""
    if not asked:
        hint = f"; it asks {', '.join(map(repr, others[:_NAMED]))}" if others else ""
        return f"the task does not ask {'anything' if name is None else repr(name)}{hint}"
    last = asked[-1]
    if last.finished_at is not None and last.answered_by is not None:
        return f"{last.name!r} is answered already"
    return f"the time to answer {last.name!r} is over"


def _is_same(one: bytes, other: bytes) -> bool:
    """Tell whether two JSON texts have the same meaning."""

    return one == other or _meaning(one) == _meaning(other)


def _meaning(text: bytes) -> str:
    return json.dumps(read_json(text), sort_keys=True)
