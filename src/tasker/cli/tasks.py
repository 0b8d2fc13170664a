"""`tasker ls` and `tasker get`: list tasks, and show one."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Annotated
from uuid import UUID

from cyclopts import Parameter
from cyclopts.validators import Number

from tasker.cli.exits import Exit
from tasker.cli.options import DEFAULT_OUTPUT, Output, Timeout, print_found

if TYPE_CHECKING:
    from tasker.client import Step, Task
    from tasker.model import Attempt

_NEXT = {"sleeping": "goes on", "waiting_for_children": "at latest", "input_required": "at latest"}
"""What the next attempt of a task is to one who waits for it, by its reason."""
_Flag = Annotated[bool, Parameter(negative="", show_default=False)]


def ls(
    *,
    status: str | None = None,
    type: str | None = None,
    queue: str | None = None,
    tag: str | None = None,
    parent: str | None = None,
    limit: Annotated[int, Parameter(validator=Number(gte=1))] = 20,
    quiet: Annotated[bool, Parameter(alias="-q", negative="", show_default=False)] = False,
    output: Output = DEFAULT_OUTPUT,
) -> int:
    """List tasks, newest first: a table on a terminal, tab-separated lines elsewhere.

    Parameters
    ----------
    status
        Only tasks that are pending, running, completed, failed or cancelled; several with commas.
    type
        Only tasks of this type.
    queue
        Only tasks of this queue.
    tag
        Only tasks with this tag.
    parent
        Only children of this task.
    limit
        How many tasks at most.
    quiet
        Print only the ids.
    """
    from tasker.cli.terminal import show

    with output.connect() as client:
        found = list(client.find_many(status=status, type=type, queue=queue, tag=tag, parent=parent, limit=limit))
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
    wait: _Flag = False,
    timeout: Timeout = None,
    attempts: _Flag = False,
    steps: _Flag = False,
    output: Output = DEFAULT_OUTPUT,
) -> int:
    """Show one task.

    Parameters
    ----------
    task_id
        The id that `tasker run` or the API gave.
    wait
        Wait until it has ended and print its result, as `tasker run` does (exit code 1 if it failed).
    attempts
        Show when each attempt ran and how it ended.
    steps
        Show what it has done once and remembers, and what it waits for.
    """
    from tasker.cli.service import follow, to_json
    from tasker.cli.terminal import show

    wanted = read_task_id(task_id)
    with output.connect() as client:
        if wait:
            return follow(client, wanted, timeout, as_json=output.json)
        task = client.get(wanted, attempts=attempts, steps=steps)
        show(to_json(task) if output.json else "\n".join(_lines(task)))
    return Exit.OK


def read_task_id(task_id: str) -> UUID:
    """Return the id of a task from a command line. Raises UsageError."""
    from tasker.cli.params import UsageError

    try:
        return UUID(task_id)
    except ValueError:
        raise UsageError(f"TASK_ID: expected a UUID, got {task_id!r}; `tasker ls -q` lists them") from None


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
    from tasker.cli.service import describe_progress, to_text

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
    yield f"attempts:  {task.attempt} ({task.tries_left} tries left)"
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


def local(time: datetime) -> str:
    """Return a time as this machine's clock shows it."""
    return time.astimezone().isoformat(sep=" ", timespec="milliseconds")


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
