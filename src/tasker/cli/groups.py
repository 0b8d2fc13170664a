"""`tasker group`: show groups of tasks, wait for them, cancel them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from cyclopts import App, Parameter

from tasker.cli.exits import Exit
from tasker.cli.options import DEFAULT_OUTPUT, DEFAULT_SERVICE, Output, Service, Timeout, print_found

if TYPE_CHECKING:
    from tasker.wire.groups import Group, GroupInList

Name = Annotated[str, Parameter(help="The name of the group.")]

app = App(name="group", help="Show, await and cancel groups of tasks (tasker run --group NAME).")


@app.command
def ls(*, output: Output = DEFAULT_OUTPUT) -> int:
    """List the groups, those with open tasks first: a table on a terminal, tab-separated lines elsewhere."""
    with output.connect() as client:
        found = list(client.groups.find_many())
    header = ("GROUP", "PENDING", "RUNNING", "COMPLETED", "FAILED", "CANCELLED")
    return print_found(found, header, _row, json=output.json, empty="No groups.")


@app.command(name="show")
def show_(
    name: Name,
    /,
    *,
    wait: Annotated[
        bool, Parameter(negative="", show_default=False, help="Wait until none of its tasks is open.")
    ] = False,
    timeout: Timeout = None,
    output: Output = DEFAULT_OUTPUT,
) -> int:
    """Show how many tasks of a group have which status, and the first failures.

    With --wait the exit code is 1 if a task failed or was cancelled, and 124 if the time is up.
    """
    from tasker.cli.service import to_json
    from tasker.cli.terminal import show

    with output.connect() as client:
        group = client.groups.wait(name, timeout) if wait else client.groups.get(name)
    show(to_json(group) if output.json else "\n".join(_lines(group)))
    has_failed = wait and bool(group.tasks.failed or group.tasks.cancelled)
    return Exit.TASK_FAILED if has_failed else Exit.OK


@app.command
def cancel(name: Name, /, *, service: Service = DEFAULT_SERVICE) -> int:
    """Cancel all open tasks of a group: pending ones at once, running ones are asked to stop."""
    from tasker.cli.terminal import note

    with service.connect() as client:
        done = client.groups.cancel(name)
    more = " The service goes on with the rest." if done.state == "running" else ""
    note(f"Group {name}: {done.done:,} tasks are cancelled or asked to stop.{more}")
    return Exit.OK


def _row(group: GroupInList) -> tuple[str, ...]:
    tasks = group.tasks
    counts = (tasks.pending, tasks.running, tasks.completed, tasks.failed, tasks.cancelled)
    return group.name, *map(str, counts)


def _lines(group: Group) -> list[str]:
    tasks = group.tasks
    counts = (
        (tasks.pending, "pending"),
        (tasks.running, "running"),
        (tasks.completed, "completed"),
        (tasks.failed, "failed"),
        (tasks.cancelled, "cancelled"),
    )
    lines = [f"{group.name}: " + (", ".join(f"{number:,} {what}" for number, what in counts if number) or "no tasks")]
    if group.oldest_open is not None:
        lines.append(f"oldest open task: {group.oldest_open}")
    return lines + [f"failed: {one.task_id} {one.type}: {one.detail}" for one in group.failures]
