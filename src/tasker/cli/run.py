"""`tasker run`: submit a task, follow it, print its result."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from tasker.cli.exits import Exit
from tasker.cli.given import NOTHING_GIVEN, Given
from tasker.cli.options import DEFAULT_SERVICE, Detach, Json, Logs, Quiet, Service, Timeout
from tasker.cli.submission import NO_OPTIONS, Submission

if TYPE_CHECKING:
    from uuid import UUID

    from tasker.cli.following import View
    from tasker.client import Tasker


def run(
    type: str,
    /,
    *params: str,
    detach: Detach = False,
    timeout: Timeout = None,
    logs: Logs = False,
    quiet: Quiet = False,
    json: Json = False,
    submission: Submission = NO_OPTIONS,
    service: Service = DEFAULT_SERVICE,
    given: Annotated[Given, Parameter(parse=False)] = NOTHING_GIVEN,
) -> int:
    """Submit a task, wait for it and print its result.

    Params by position are JSON values or else strings: tasker run sum 4 2, tasker run reverse "Hello".
    Params by name are flags, or name=value, read as the type says, or name:=JSON: tasker run gpt "Hello"
    --max-tokens 40, tasker run gpt prompt="Hello" max_tokens=40. `tasker run TYPE --help` shows the params of a type.
    A flag after the type is the type's param, if it has one of this name; give options before the type to be sure.
    @file and - (standard input) stand for what they hold; alone and with a JSON array or object, for all params.
    After -- every word is a param, also one that begins with a dash.
    On a terminal you see the text as it is written, and progress. Ctrl-C stops the waiting, never the task; twice
    within a second cancels it. While the service is stopping it stores the task and runs it after the restart: the
    command says so, and ends with exit code 75.

    Parameters
    ----------
    type
        A task type of the service.
    params
        What the task is given.
    """
    from tasker.cli.faults import explain
    from tasker.cli.following import View
    from tasker.cli.service import read_params_of
    from tasker.cli.terminal import note
    from tasker.client import InvalidRequest

    options = submission.read()
    with service.connect() as client:
        read = read_params_of(client, type, params, given)
        try:
            handle = client.submit_params(type, read, options=options)
        except InvalidRequest as error:
            return explain(error, given.describe)
        except KeyboardInterrupt:
            note("\nNo answer came yet: the task may be stored. `tasker ls` shows it.")
            return Exit.INTERRUPTED
        view = View(json, quiet, logs)
        return follow_submitted(client, handle.task_id, handle.awaits_restart, view, detach=detach, timeout=timeout)


def follow_submitted(
    client: Tasker, task_id: UUID, awaits_restart: bool, view: View, *, detach: bool, timeout: float | None
) -> int:
    """Follow a task that was just submitted, or print its id; return the exit code."""
    from tasker.cli.faults import explain
    from tasker.cli.following import follow
    from tasker.cli.streams import OutputError, ReaderGone
    from tasker.cli.terminal import note, show
    from tasker.client import AwaitsRestart

    try:
        if detach:
            show(str(task_id))
            return Exit.OK
        if awaits_restart:
            return explain(AwaitsRestart(task_id))
        return follow(client, task_id, timeout, view)
    except OutputError as error:
        if not isinstance(error, ReaderGone):
            note(f"The task is kept: tasker get {task_id} --wait")
        raise
