"""`tasker failure`: what fails, and how often."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import App, Parameter
from cyclopts.validators import Number

from tasker.cli.exits import Exit
from tasker.cli.options import DEFAULT_OUTPUT, Output, print_found

if TYPE_CHECKING:
    from tasker.wire.failures import FailureGroup

Window = Annotated[Literal["1h", "24h", "7d", "30d", "90d"], Parameter(help="How far to look back.")]

app = App(name="failure", help="Show what fails: failures of a type with nearly the same message are one group.")


@app.command
def ls(
    *,
    window: Window = "24h",
    type: Annotated[str | None, Parameter(help="Only failures of this type; several with commas.")] = None,
    queue: Annotated[str | None, Parameter(help="Only failures in this queue; several with commas.")] = None,
    owner: Annotated[str | None, Parameter(help="Only failures of this owner.")] = None,
    limit: Annotated[int, Parameter(help="How many groups at most.", validator=Number(gte=1))] = 20,
    output: Output = DEFAULT_OUTPUT,
) -> int:
    """List the groups of failures, those that failed last first."""
    with output.connect() as client:
        found = list(client.failures.find_many(window=window, type=type, queue=queue, owner=owner, limit=limit))
    header = ("FAILURE", "TYPE", "COUNT", "LAST", "WHAT")
    row = partial(_row, now=datetime.now(UTC))
    return print_found(found, header, row, json=output.json, empty="Nothing has failed.")


@app.command(name="show")
def show_(
    failure_id: Annotated[str, Parameter(help="An id of `tasker failure ls`.")],
    /,
    *,
    window: Window = "90d",
    output: Output = DEFAULT_OUTPUT,
) -> int:
    """Show one group of failures, its newest task, and how to act on its tasks."""
    from tasker.cli.service import to_json
    from tasker.cli.terminal import show
    from tasker.errors import NotFound

    with output.connect() as client:
        found = next(iter(client.failures.find_many(window=window, error=failure_id, limit=1)), None)
    if found is None:
        raise NotFound(f"there is no failure {failure_id!r} in the last {window}; `tasker failure ls` lists them")
    show(to_json(found) if output.json else "\n".join(_lines(found)))
    return Exit.OK


def _row(group: FailureGroup, now: datetime) -> tuple[str, ...]:
    from tasker.cli.terminal import ago

    return group.failure_id, group.type, str(group.count), ago(group.last_at, now), _what(group)


def _what(group: FailureGroup) -> str:
    kind = group.exception or group.problem.rpartition("/")[2]
    return f"{kind}: {group.message}" if group.message else kind


def _lines(group: FailureGroup) -> Iterator[str]:
    from tasker.cli.times import local

    yield f"failure:   {group.failure_id}"
    yield f"type:      {group.type}"
    yield f"what:      {_what(group)}"
    yield f"count:     {group.count:,}"
    yield f"first:     {local(group.first_at)}"
    yield f"last:      {local(group.last_at)}"
    if group.owner is not None:
        yield f"owner:     {group.owner}"
    if group.sample is not None:
        yield f"newest:    {group.sample.task_id}: {group.sample.detail}"
        yield f"more:      tasker get {group.sample.task_id} --attempts"
    yield f"retry all: tasker bulk retry --error {group.failure_id}"
