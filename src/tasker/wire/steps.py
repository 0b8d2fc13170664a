"""Steps of tasks as the API shows them, and the questions that tasks wait with."""

from __future__ import annotations

from typing import Annotated, Any
from uuid import UUID

from msgspec import Meta, Struct

from tasker.model.steps import StepKind
from tasker.rules.steps import StepState
from tasker.wire.shapes import Always, Moment, Sometimes, choices


class Question(Struct, frozen=True, kw_only=True):
    """What a task asks a person. `schema`: the JSON Schema of the answer; its `enum` has the choices, if any."""

    name: str
    message: str
    schema: dict[str, Any]
    asked_at: Moment
    expires_at: Sometimes[Moment] | None = None


class OpenQuestion(Struct, frozen=True, kw_only=True):
    """A question that waits for a person, and its task, whose `input` has all of it, with the schema of the answer.

    `message`: up to 400 characters of it. `owner`: whose task it is; null if it was submitted without a key.
    """

    task_id: UUID
    type: str
    name: str
    message: str
    asked_at: Moment
    expires_at: Moment | None
    owner: str | None
    links: dict[str, str]


class QuestionPage(Struct, frozen=True, kw_only=True):
    """The questions that have waited longest, as many as `limit` says; `next_cursor` is always null."""

    items: list[OpenQuestion]
    next_cursor: Always[str | None] = None


class StepChildren(Struct, frozen=True, kw_only=True):
    """How many children a step has, and how many of them are open or have ended in which way."""

    total: int
    open: int
    completed: int
    failed: int
    cancelled: int


class Step(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Something that a task has done once and remembers, or waits for. `attempt`: the one that stored it.

    `value`: a step's result, or the answer to a question; null if it is longer than 4 KiB, then `value_preview` has the
    text that it begins with. `until`: the end of a sleep, or of the time of a question. `message`: the question.
    `answered_by`: the owner who answered, where keys are used.
    """

    number: int
    key: str
    name: str
    kind: Annotated[str, choices(StepKind)]
    state: Annotated[
        str,
        choices(StepState),
        Meta(description="`failed`: children failed or were cancelled. `timed_out`: nobody answered in time."),
    ]
    attempt: int
    started_at: Moment
    finished_at: Moment | None
    value: Any
    value_preview: Sometimes[str] | None = None
    until: Sometimes[Moment] | None = None
    message: Sometimes[str] | None = None
    answered_by: Sometimes[str] | None = None
    children: Sometimes[StepChildren] | None = None
