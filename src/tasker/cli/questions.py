"""`tasker question`: what tasks ask people."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Annotated

from cyclopts import App, Parameter
from cyclopts.validators import Number

from tasker.cli.options import DEFAULT_OUTPUT, Output, print_found

if TYPE_CHECKING:
    from tasker.wire.steps import OpenQuestion

app = App(name="question", help="Show what tasks ask; `tasker input` answers.")


@app.command
def ls(
    *,
    limit: Annotated[int, Parameter(help="How many at most.", validator=Number(gte=1, lte=100))] = 20,
    output: Output = DEFAULT_OUTPUT,
) -> int:
    """List the questions that wait for an answer, those that have waited longest first."""
    with output.connect() as client:
        found = list(client.questions.find_many(limit=limit))
    header = ("TASK", "TYPE", "NAME", "ASKED", "MESSAGE")
    row = partial(_row, now=datetime.now(UTC))
    return print_found(found, header, row, json=output.json, empty="No task asks anything.")


def _row(asked: OpenQuestion, now: datetime) -> tuple[str, ...]:
    from tasker.cli.terminal import ago

    return str(asked.task_id), asked.type, asked.name, ago(asked.asked_at, now), asked.message
