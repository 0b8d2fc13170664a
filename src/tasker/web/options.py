"""The options of a submission as a form: the members of the body of POST /task beside `type` and `params`."""

from __future__ import annotations

from tasker.model import Task
from tasker.tasktypes.tasktype import TaskType
from tasker.web.forms.exact import ABSENT, Given, Number, Value, exact, parse
from tasker.web.forms.fields import Place
from tasker.web.forms.shapes import Kind, Member, Shape

ROOT = Place("options", path="option:")
"""Options have names of their own: a param may be called like an option."""


def shape_of_options(task_type: TaskType) -> Shape:
    """Return the shape of the options. An empty field shows what the type has."""
    policy = task_type.policy
    timeout = ABSENT if policy.timeout is None else Number(f"{policy.timeout.total_seconds():g}")
    text = Shape(kind=Kind.TEXT, words="text")
    shapes = {
        "queue": _option(Kind.TEXT, "text", "The queue to wait in.", task_type.queue),
        "priority": _option(
            Kind.NUMBER, "whole number, -100 to 100", "Larger starts first.", exact(task_type.priority), is_whole=True
        ),
        "delay": _option(Kind.SECONDS, Kind.SECONDS.value, "Not before this time has passed."),
        "run_at": _option(Kind.MOMENT, "date and time with a zone", "Not before this time; not with `delay`."),
        "timeout": _option(Kind.SECONDS, Kind.SECONDS.value, "Of each attempt.", timeout),
        "retry": _option(
            Kind.NUMBER, "whole number", "Attempts in all.", exact(policy.retry.max_attempts), is_whole=True
        ),
        "tags": Shape(kind=Kind.LIST, words="list, at most 20", item=text, default=[]),
        "unique_key": _option(Kind.TEXT, "text", "Only one open task of the type has this key at a time."),
        "on_conflict": Shape(
            kind=Kind.CHOICE,
            words="choice",
            description="If an open task has the unique key.",
            options=("return", "reject", "replace"),
            default="return",
        ),
        "deadline": _option(Kind.MOMENT, "date and time with a zone", "No attempt starts after this time."),
        "cache": _option(Kind.SECONDS, Kind.SECONDS.value, "Take the result of an equal task that is not older."),
        "retention": _option(
            Kind.SECONDS, 'seconds, a duration, or "forever"', "How long the task is kept after its end."
        ),
        "concurrency_key": _option(Kind.TEXT, "text", "Tasks with the same key share a limit of their queue."),
        "weight": _option(
            Kind.NUMBER, "whole number", "How many slots of its queue it takes.", Number("1"), is_whole=True
        ),
        "depends_on": Shape(
            kind=Kind.LIST,
            words="list of task ids",
            item=Shape(kind=Kind.UUID, words="task id"),
            default=[],
        ),
        "group": _option(Kind.TEXT, "text", "The group of the task; made by its first task."),
        "metadata": _option(Kind.JSON, "a JSON object", "Your own notes, at most 16 KiB."),
        "webhook": _option(Kind.JSON, "a JSON object", "`url`, `events` and `secret`: told what becomes of the task."),
    }
    members = tuple(Member(name, shape, is_required=False) for name, shape in shapes.items())
    return Shape(kind=Kind.OBJECT, members=members)


def _option(kind: Kind, words: str, description: str, default: Given = ABSENT, *, is_whole: bool = False) -> Shape:
    return Shape(kind=kind, words=words, description=description, default=default, is_whole=is_whole)


def options_of(task: Task) -> dict[str, Value]:
    """Return the options of a task that a copy of it has too; the rest of them a replay keeps by itself."""
    found: dict[str, Value] = {"queue": task.queue, "priority": exact(task.priority)}
    if task.tags:
        found["tags"] = list(task.tags)
    if bytes(task.metadata) != b"{}":
        found["metadata"] = parse(bytes(task.metadata).decode())
    return found
