"""`tasker input`: show what a task asks, and answer it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from tasker.cli.exits import Exit
from tasker.cli.options import DEFAULT_OUTPUT, Output

if TYPE_CHECKING:
    from uuid import UUID

    from tasker.client import Question, Tasker

_EXAMPLES = 10
"""Choices that are shown."""


def input_(
    task_id: str,
    name: str | None = None,
    /,
    *value: Annotated[str, Parameter(allow_leading_hyphen=True)],
    output: Output = DEFAULT_OUTPUT,
) -> int:
    """Answer a question of a task; without NAME and VALUE, show what it asks.

    Parameters
    ----------
    task_id
        The id that `tasker run` or the API gave.
    name
        The question, as it is shown without this.
    value
        The answer: one word, which is JSON or else a text; or the members of an object as for `tasker run`: key=text,
        key:=json, key=@file. `@file` or - (standard input) stands for the file's content.
    """
    from tasker.cli.params import UsageError, read_value
    from tasker.cli.service import to_json
    from tasker.cli.taskids import find_task_id
    from tasker.cli.terminal import note, show

    if name is not None and not value:
        raise UsageError(f"VALUE: expected the answer to {name!r}; `tasker input {task_id}` shows what is asked")
    with output.connect() as client:
        wanted = find_task_id(client, task_id)
        if name is None:
            asked = client.get(wanted).input
            if asked is None and not output.json:
                note("It asks nothing.")
            else:
                show(to_json(asked) if asked is None or output.json else "\n".join(_lines(asked)))
            return Exit.OK
        task = client.input(wanted, name, read_value(value, _schema_of(client, wanted, name)))
        if output.json:
            show(to_json(task))
        else:
            note(f"Answered; the task is {task.status}.")
    return Exit.OK


def _schema_of(client: Tasker, task_id: UUID, name: str) -> Mapping[str, Any]:
    """Return the schema of a question; {} if it is not shown."""
    from tasker.client import NotAllowed

    try:
        asked = client.get(task_id).input
    except NotAllowed:  # a key that may answer may lack the right to read
        return {}
    return asked.schema if asked is not None and asked.name == name else {}


def _answer_lines(schema: Mapping[str, Any]) -> Iterator[str]:
    """Yield what an answer may be: the choices, the members of an object, its kind, or else the schema itself."""
    from tasker.cli.params import kinds_of_schema, properties_of
    from tasker.cli.service import to_text

    choices, properties = schema.get("enum"), properties_of(schema)
    if choices:
        more = ", ..." if len(choices) > _EXAMPLES else ""
        yield f"choices:   {', '.join(to_text(choice) for choice in choices[:_EXAMPLES])}{more}"
    elif properties:
        members = (f"{name} ({' or '.join(sorted(kinds)) or 'any'})" for name, kinds in properties.items())
        yield f"members:   {', '.join(members)}"
    elif kinds := kinds_of_schema(schema):
        yield f"answer:    {' or '.join(sorted(kinds))}"
    else:
        yield f"schema:    {to_text(schema)}"


def _lines(asked: Question) -> Iterator[str]:
    """Yield a question as lines `name: value`."""
    from tasker.cli.times import local

    yield f"name:      {asked.name}"
    yield f"message:   {asked.message}"
    yield from _answer_lines(asked.schema)
    yield f"asked:     {local(asked.asked_at)}"
    if asked.expires_at is not None:
        yield f"expires:   {local(asked.expires_at)}"
