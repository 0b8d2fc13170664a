"""`tasker ls` and `tasker get`: list tasks, and show one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter
from cyclopts.validators import Number

from tasker.cli.exits import Exit
from tasker.cli.options import DEFAULT_OUTPUT, Logs, Output, Quiet, Timeout, print_found
from tasker.cli.taskids import find_task_id
from tasker.cli.times import local

if TYPE_CHECKING:
    from tasker.client import Step, Task
    from tasker.model import Attempt

_NEXT = {"sleeping": "goes on", "waiting_for_children": "at latest", "input_required": "at latest"}
"""What the next attempt of a task is to one who waits for it, by its reason."""
_Flag = Annotated[bool, Parameter(negative="", show_default=False)]


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Filter:
    """Which tasks; without any of these, all."""

    status: Annotated[
        str | None, Parameter(help="pending, running, completed, failed or cancelled; several with commas.")
    ] = None
    type: Annotated[str | None, Parameter(help="Only tasks of this type; several with commas.")] = None
    queue: Annotated[str | None, Parameter(help="Only tasks of this queue; several with commas.")] = None
    tag: Annotated[str | None, Parameter(help="Only tasks with this tag.")] = None
    group: Annotated[str | None, Parameter(help="Only tasks of this group.")] = None
    parent: Annotated[str | None, Parameter(help="Only children of this task.")] = None
    schedule_id: Annotated[str | None, Parameter(name="--schedule", help="Only tasks of this schedule, by id.")] = None
    error: Annotated[str | None, Parameter(help="Only failed tasks of this failure group.")] = None
    q: Annotated[str | None, Parameter(help="Only tasks with this text in their params or their error.")] = None
    owner: Annotated[str | None, Parameter(help="Only tasks of this owner.")] = None
    bulk: Annotated[str | None, Parameter(help="Only tasks that this bulk action has changed.")] = None
    created_after: Annotated[str | None, Parameter(help="Submitted after this time, or within 90s, 2h, 7d.")] = None
    created_before: Annotated[str | None, Parameter(help="Submitted before this time, or longer ago than 2h.")] = None
    ended_after: Annotated[str | None, Parameter(help="Ended after this time, or within 2h.")] = None
    ended_before: Annotated[str | None, Parameter(help="Ended before this time, or longer ago than 2h.")] = None

    def read(self) -> dict[str, Any]:
        """Return the filters as the client takes them. Raises UsageError."""
        from tasker.cli.times import read_moment

        now = datetime.now(UTC)
        given = {field.name: getattr(self, field.name) for field in fields(self)}
        for name in ("created_after", "created_before", "ended_after", "ended_before"):
            given[name] = read_moment(f"--{name.replace('_', '-')}", given[name], now)
        return {name: value for name, value in given.items() if value is not None}


ALL = Filter()


def ls(
    *,
    filter: Filter = ALL,
    limit: Annotated[int, Parameter(validator=Number(gte=1))] = 20,
    quiet: Annotated[bool, Parameter(alias="-q", negative="", show_default=False)] = False,
    output: Output = DEFAULT_OUTPUT,
) -> int:
    """List tasks, newest first: a table on a terminal, tab-separated lines elsewhere.

    Parameters
    ----------
    limit
        How many tasks at most.
    quiet
        Print only the ids.
    """
    from tasker.cli.terminal import show

    filters = filter.read()
    with output.connect() as client:
        found = list(client.find_many(**filters, limit=limit))
    if quiet and not output.json:
        for task in found:
            show(str(task.task_id))
        return Exit.OK
    header = ("TASK", "TYPE", "STATUS", "ATTEMPT", "SUBMITTED", "DETAIL")
    row = partial(_row, now=datetime.now(UTC))
    return print_found(found, header, row, json=output.json, empty="No tasks.")


def get(
    task_id: str,
    /,
    *,
    wait: Annotated[bool, Parameter(alias="-w", negative="", show_default=False)] = False,
    timeout: Timeout = None,
    logs: Logs = False,
    quiet: Quiet = False,
    attempts: _Flag = False,
    steps: _Flag = False,
    output: Output = DEFAULT_OUTPUT,
) -> int:
    """Show one task.

    Parameters
    ----------
    task_id
        The id that `tasker run` or the API gave; or its beginning.
    wait
        Wait until it has ended and print its result, as `tasker run` does (exit code 1 if it failed).
    attempts
        Show when each attempt ran and how it ended.
    steps
        Show what it has done once and remembers, and what it waits for.
    """
    from tasker.cli.following import View, follow
    from tasker.cli.service import to_json
    from tasker.cli.terminal import show

    with output.connect() as client:
        wanted = find_task_id(client, task_id)
        if wait:
            return follow(client, wanted, timeout, View(output.json, quiet, logs))
        task = client.get(wanted, attempts=attempts, steps=steps)
        show(to_json(task) if output.json else "\n".join(_lines(task)))
    return Exit.OK


def _row(task: Task, now: datetime) -> tuple[str, ...]:
    from tasker.cli.terminal import ago

    submitted = ago(task.created_at, now) if task.created_at else ""
    return (str(task.task_id), task.type, task.status, str(task.attempt), submitted, _detail(task))


def _detail(task: Task) -> str:
    if task.error is not None and task.status != "completed":
        return task.error.detail
    return (task.progress.message if task.progress else None) or task.reason or ""


def _lines(task: Task) -> Iterator[str]:
    """Yield a task as lines `name: value`, without those that have no value."""
    from tasker.cli.progress import describe_progress
    from tasker.cli.service import to_text

    yield f"task:      {task.task_id}"
    yield f"type:      {task.type}"
    yield f"status:    {describe_progress(task).removeprefix(task.type).strip()}"
    yield f"queue:     {task.queue}, priority {task.priority}"
    if task.waiting_for is not None:
        yield f"waits for: {task.waiting_for}"
    yield f"params:    {to_text(task.params)}"
    if task.status == "completed":
        yield f"result:    {to_text(task.result)}"
    if task.error is not None:
        yield f"error:     {task.error.title}: {task.error.detail}"
        yield from (f"           {line}" for line in (task.error.traceback or "").splitlines())
    tries = "1 try" if task.tries_left == 1 else f"{task.tries_left} tries"
    yield f"attempts:  {task.attempt} ({tries} left)"
    times = {"submitted": task.created_at, "started": task.started_at, "finished": task.finished_at}
    times |= {_NEXT.get(task.reason or "", "next try"): task.next_attempt_at} if task.status == "pending" else {}
    yield from (f"{name + ':':<10} {local(time)}" for name, time in times.items() if time)
    for name, value in {"usage": task.usage, "tags": task.tags, "metadata": task.metadata}.items():
        if value:
            yield f"{name + ':':<10} {to_text(value)}"
    yield from _family_lines(task)
    yield from (f"attempt {one.attempt}: {_describe_attempt(one)}" for one in task.attempts or ())
    yield from (f"step {one.number}: {_describe_step(one)}" for one in task.steps or ())


def _family_lines(task: Task) -> Iterator[str]:
    if task.parent_id is not None:
        yield f"parent:    {task.parent_id}"
    if task.children is not None:
        counts = ((name, getattr(task.children, name)) for name in task.children.__struct_fields__)
        yield "children:  " + ", ".join(f"{count:,} {name}" for name, count in counts if count)
    if task.input is not None:
        yield f"asks:      {task.input.name}: {task.input.message} (tasker input {task.task_id})"


def _describe_step(step: Step) -> str:
    from tasker.cli.service import to_text

    begin = f"{step.key}, {step.kind} {step.state}, {local(step.started_at)}"
    if step.finished_at is not None:
        begin += f" to {local(step.finished_at)}"
    elif step.until is not None:
        begin += f" until {local(step.until)}"
    if step.children is not None:
        return f"{begin}: {step.children.total - step.children.open:,} of {step.children.total:,} have ended"
    if step.value_preview is not None:
        return f"{begin}: {step.value_preview}..."
    return begin if step.kind == "sleep" or step.state == "waiting" else f"{begin}: {to_text(step.value)}"


def _describe_attempt(attempt: Attempt) -> str:
    end = f" to {local(attempt.finished_at)}" if attempt.finished_at else ""
    why = f": {attempt.error.detail}" if attempt.error else ""
    memory = f", {attempt.peak_memory / 2**20:,.0f} MiB" if attempt.peak_memory else ""
    return f"{attempt.ending or 'running'}, {local(attempt.started_at)}{end}, {attempt.worker}{memory}{why}"
