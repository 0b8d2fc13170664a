"""`tasker input`: show what a task asks, and answer it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from tasker.cli.exits import Exit
from tasker.cli.options import DEFAULT_OUTPUT, Output

if TYPE_CHECKING:
    from tasker.client import Question

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
    from tasker.cli.tasks import read_task_id
    from tasker.cli.terminal import note, show

    wanted = read_task_id(task_id)
    if name is not None and not value:
        raise UsageError(f"VALUE: expected the answer to {name!r}; `tasker input {task_id}` shows what is asked")
    with output.connect() as client:
        asked = client.get(wanted).input
        if name is None:
            if output.json:
                show(to_json(asked))
            elif asked is None:
                note("It asks nothing.")
            else:
                show("\n".join(_lines(asked)))
            return Exit.OK
        schema = asked.schema if asked is not None and asked.name == name else {}
        task = client.input(wanted, name, read_value(value, schema))
        if output.json:
            show(to_json(task))
        else:
            note(f"Answered; the task is {task.status}.")
    return Exit.OK


def _lines(asked: Question) -> Iterator[str]:
    """Yield a question as lines `name: value`."""
    from tasker.cli.service import to_text
    from tasker.cli.tasks import local

    yield f"name:      {asked.name}"
    yield f"message:   {asked.message}"
    choices: list[Any] | None = asked.schema.get("enum")
    if choices:
        more = ", ..." if len(choices) > _EXAMPLES else ""
        yield f"choices:   {', '.join(to_text(choice) for choice in choices[:_EXAMPLES])}{more}"
    else:
        yield f"schema:    {to_text(asked.schema)}"
    yield f"asked:     {local(asked.asked_at)}"
    if asked.expires_at is not None:
        yield f"expires:   {local(asked.expires_at)}"
