"""Steps, children and questions of tasks: the parts of a Task that show them, and the operation that answers."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from typing import Any, cast

from msgspec import Raw

from tasker.api.calls import Call, Parameter, choices_parameter, whole
from tasker.api.operation import get, ok, post
from tasker.api.receipts import show_task
from tasker.api.replies import JSON_HEADERS, Reply, encode, json_reply, retry_after, retry_in
from tasker.clock import Clock
from tasker.errors import Fault, Invalid
from tasker.model import Task
from tasker.model.keys import Caller
from tasker.model.steps import SHOWN_BYTES, OpenQuestion, Step
from tasker.model.tasks import PREVIEW_BYTES
from tasker.requests.steps import InputBody, read_input
from tasker.rules.steps import state_of
from tasker.rules.waiting import SOON
from tasker.service import Service
from tasker.service.steps import SHOWN_STEPS, question_of
from tasker.wire import steps as wire
from tasker.wire import tasks as wire_tasks

INCLUDE = choices_parameter(
    "include",
    "Also `attempts`: when, where and how each attempt ended; `steps`: what it has done once and remembers, or waits"
    f" for, the last {SHOWN_STEPS:,}; `children`: the newest ones, as `child_tasks`. Repeated or separated by commas.",
    ("attempts", "steps", "children"),
)
MOST_QUESTIONS = 100
"""Questions in a list. Each may take 64 KiB, of which a list shows the beginning of the message."""
QUESTIONS = Parameter(
    "limit",
    f"The most questions in the list; by default, and at most, {MOST_QUESTIONS}.",
    {"type": "integer", "minimum": 1, "default": MOST_QUESTIONS},
    whole(1, MOST_QUESTIONS),
)
_SHOWN = 400
"""Characters of a message in a list."""
_UNTOLD = "does not fit the question; a key with the scope read may see why"


class StepOperations:
    """Show steps and children of tasks, and answer their questions."""

    tag = "tasks"

    def __init__(self, service: Service, clock: Clock) -> None:
        self._steps = service.steps
        self._clock = clock

    @post(
        "/task/{task_id}/input",
        "Answer a question of a task",
        ok(
            "The task; it goes on with the answer. The same answer once more changes nothing.",
            wire_tasks.Task,
            ("Retry-After",),
            receipt=wire_tasks.TaskReceipt,
        ),
        scope="control",
        problems=("expired", "conflict"),
        body=InputBody,
        example={"name": "approve", "value": True},
    )
    async def answer_task(self, call: Call) -> Reply:
        call.query()
        given = read_input(await call.body())
        caller = call.caller
        try:
            task = await self._steps.answer(caller, call.task_id(), given.name, given.value, asked_at=given.asked_at)
        except Invalid:
            if caller.may("read"):
                raise
            raise Invalid(f"/value: {_UNTOLD}", faults=[Fault("/value", _UNTOLD)]) from None
        again = retry_after(task, self._clock.now()) if caller.may("read") else retry_in(task, SOON)
        return Reply(200, show_task(caller, task), JSON_HEADERS + again)

    @get(
        "/question",
        "List the questions that wait for people, the oldest first",
        ok("The questions of tasks that the key sees.", wire.QuestionPage),
        parameters=(QUESTIONS,),
    )
    async def list_questions(self, call: Call) -> Reply:
        found = await self._steps.questions(call.caller, limit=call.query().get("limit", MOST_QUESTIONS))
        return json_reply(wire.QuestionPage(items=[_question_view(one) for one in found]))

    async def parts(self, caller: Caller, task: Task, include: Collection[str]) -> bytes:
        """Return the members of a Task that `include` asks for, as `encode_task` takes them. Raises NotFound."""
        parts = b""
        if "steps" in include:
            steps = await self._steps.find(caller, task.task_id)
            now = self._clock.now()
            parts += b',"steps":' + encode([view_of(step, task, now) for step in steps])
        if "children" in include:
            children = await self._steps.children(caller, task.task_id)
            parts += b',"child_tasks":[%b]' % b",".join([show_task(caller, child) for child in children])
        return parts


def view_of(step: Step, task: Task, now: datetime) -> wire.Step:
    """Return a step of a task as the API shows it."""
    value = step.value
    preview: str | None = None
    if value is not None and len(value) > SHOWN_BYTES:
        preview, value = value[:PREVIEW_BYTES].decode(errors="ignore"), None
    return wire.Step(
        number=step.number,
        key=step.key,
        name=step.name,
        kind=step.kind,
        state=state_of(step, task, now),
        attempt=step.attempt,
        started_at=step.started_at,
        finished_at=step.finished_at,
        value=None if value is None else cast(Any, Raw(value)),
        value_preview=preview,
        until=step.until,
        message=question_of(step).message if step.question is not None else None,
        answered_by=step.answered_by or None,
        children=_children_of(step) if step.kind == "children" else None,
    )


def _question_view(question: OpenQuestion) -> wire.OpenQuestion:
    path = f"/task/{question.task_id}"
    return wire.OpenQuestion(
        task_id=question.task_id,
        type=question.type,
        name=question.asked.name,
        message=question.asked.message[:_SHOWN],
        asked_at=question.asked.asked_at,
        expires_at=question.asked.expires_at,
        owner=question.owner or None,
        links={"task": path, "input": f"{path}/input"},
    )


def _children_of(step: Step) -> wire.StepChildren:
    return wire.StepChildren(
        total=step.total,
        open=step.open_children,
        completed=step.completed,
        failed=step.failed,
        cancelled=step.cancelled,
    )
