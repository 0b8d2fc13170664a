"""`tasker cancel`, `tasker retry` and `tasker rm`: change tasks, one or several.

Each takes ids, or the beginning of one, or `-` for ids on standard input: tasker ls -q --status failed | tasker retry -
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from tasker.cli.exits import Exit
from tasker.cli.options import DEFAULT_OUTPUT, DEFAULT_SERVICE, Output, Service, Timeout
from tasker.cli.taskids import for_each, read_many

if TYPE_CHECKING:
    from uuid import UUID

    from tasker.client import Task

Ids = Annotated[str, Parameter(help="Ids of tasks, or the beginning of one; - reads them from standard input.")]
Quiet = Annotated[bool, Parameter(alias="-q", negative="", show_default=False, help="Print only the ids.")]


def cancel(task_id: Ids, /, *more: Ids, quiet: Quiet = False, output: Output = DEFAULT_OUTPUT) -> int:
    """Cancel tasks: pending ones at once; running ones are asked to stop, and ended after a grace period.

    Prints the id of each and its status. With several tasks it goes on after a failure, and ends with the largest exit
    code.
    """
    with output.connect() as client:
        return for_each(client, (task_id, *more), lambda wanted: _show(client.cancel(wanted), output, quiet=quiet))


def retry(
    task_id: Ids,
    /,
    *more: Ids,
    from_: Annotated[
        str | None, Parameter(name="--from", help="Run this step again, and all that were stored after it.")
    ] = None,
    forget: Annotated[
        tuple[str, ...], Parameter(negative="", show_default=False, help="Run only this step again; may be repeated.")
    ] = (),
    wait: Annotated[
        bool, Parameter(alias="-w", negative="", show_default=False, help="Wait for each, and print its result.")
    ] = False,
    timeout: Timeout = None,
    quiet: Quiet = False,
    output: Output = DEFAULT_OUTPUT,
) -> int:
    """Run failed or cancelled tasks again, under the same ids, with all their tries.

    They keep their steps and completed children, unless --from or --forget names steps.
    """
    from tasker.cli.following import View, follow

    with output.connect() as client:

        def again(wanted: UUID) -> int:
            task = client.retry(wanted, from_=from_, forget=forget)
            if wait:
                return follow(client, wanted, timeout, View(output.json, quiet))
            return _show(task, output, quiet=quiet)

        return for_each(client, (task_id, *more), again)


def rm(
    task_id: Ids,
    /,
    *more: Ids,
    yes: Annotated[
        bool, Parameter(alias="-y", negative="", show_default=False, help="Do not ask; needed without a terminal.")
    ] = False,
    service: Service = DEFAULT_SERVICE,
) -> int:
    """Erase tasks that have ended, with everything that belongs to them."""
    from tasker.cli.terminal import show

    ids = read_many((task_id, *more))
    if ids and not yes and not _is_sure(len(ids)):
        return Exit.USAGE
    with service.connect() as client:

        def erase(wanted: UUID) -> int:
            client.delete(wanted)
            show(str(wanted))
            return Exit.OK

        return for_each(client, ids, erase)


def _is_sure(number: int) -> bool:
    """Ask whether to erase so many tasks."""
    from tasker.cli.terminal import confirm, count_tasks, note

    what = count_tasks(number)
    if confirm(f"Erase {what}, with the results and logs?", default=False):
        return True
    note(f"Nothing is erased. Without a terminal, or not to be asked: --yes ({what})")
    return False


def _show(task: Task, output: Output, *, quiet: bool) -> int:
    """Print a task that was changed."""
    from tasker.cli.service import to_line
    from tasker.cli.terminal import show

    asked = " (asked to stop)" if task.cancel_requested_at is not None and not task.status.is_terminal else ""
    text = f"{task.task_id}\t{task.status}{asked}"
    show(to_line(task) if output.json else str(task.task_id) if quiet else text)
    return Exit.OK
