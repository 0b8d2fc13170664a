"""`tasker replay`: submit a task once more, as it was or edited; or run it here, in a debugger."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from tasker.cli.given import NOTHING_GIVEN, Given
from tasker.cli.options import DEFAULT_SERVICE, Detach, Json, Logs, Quiet, Service, Timeout
from tasker.cli.params import UsageError, as_named, read_accepts, read_params
from tasker.cli.run import follow_submitted
from tasker.cli.submission import NO_OPTIONS, Submission
from tasker.cli.taskids import find_task_id

if TYPE_CHECKING:
    from uuid import UUID

    from tasker.client import Tasker


def replay(
    task_id: str,
    /,
    *params: str,
    keep_steps: Annotated[
        bool,
        Parameter(negative="", show_default=False, help="Begin with the steps of the task, its children excepted."),
    ] = False,
    pdb: Annotated[
        bool, Parameter(negative="", show_default=False, help="Run it here instead, in a debugger; nothing is stored.")
    ] = False,
    tasks: Annotated[
        tuple[str, ...],
        Parameter(negative="", show_default=False, help="With --pdb: the task files; else TASKER_TASKS."),
    ] = (),
    detach: Detach = False,
    wait: Annotated[
        bool, Parameter(alias="-w", negative="", show_default=False, help="Wait for its end, as without it.")
    ] = False,
    timeout: Timeout = None,
    logs: Logs = False,
    quiet: Quiet = False,
    json: Json = False,
    submission: Submission = NO_OPTIONS,
    service: Service = DEFAULT_SERVICE,
    given: Annotated[Given, Parameter(parse=False)] = NOTHING_GIVEN,
) -> int:
    """Submit a task once more as a new one, wait for it and print its result, as `tasker run` does.

    Params that are given by name, as flags or as name=value, replace those of the task; the others stay as they were,
    and so do the other members of an object where a flag names one (--person.name).
    Params by position replace all of them. Options stay as they were, too, but for times, keys and groups.

    Parameters
    ----------
    task_id
        The task; it may have any status.
    params
        What is different, as for `tasker run`.
    """
    from tasker.cli.faults import explain
    from tasker.cli.following import View
    from tasker.client import InvalidRequest

    if wait and detach:
        raise UsageError("give --wait or --detach, and not both")
    options = submission.read()
    with service.connect() as client:
        wanted = find_task_id(client, task_id)
        if pdb:
            from tasker.cli.debug import replay_here

            if params or given.split.params:
                raise UsageError("--pdb runs the task with its stored params; leave out the others")

            return replay_here(client, wanted, tasks)
        try:
            edited = _edit(client, wanted, params, given)
            handle = client.replay(wanted, edited, keep_steps=keep_steps, options=options)
        except InvalidRequest as error:
            return explain(error, given.describe)
        view = View(json, quiet, logs)
        return follow_submitted(client, handle.task_id, handle.awaits_restart, view, detach=detach, timeout=timeout)


def _edit(client: Tasker, task_id: UUID, words: Sequence[str], given: Given) -> Any:
    """Return the params with what the words change; None if they change nothing. Raises UsageError."""
    if not words and not given.split.params:
        return None
    task = client.get(task_id)
    task_type = given.task_type or client.find_type(task.type)
    accepts = read_accepts(task_type)
    read = read_params(words, lambda: accepts, given.split.params)
    if isinstance(read, list):
        return read
    old = as_named(task.params, accepts)
    _check_secrets(old, read, task_type)
    return _merge(old, read, given.split.used)


def _merge(
    old: Mapping[str, Any], new: Mapping[str, Any], used: Collection[tuple[str, ...]], path: tuple[str, ...] = ()
) -> dict[str, Any]:
    """Return params with what is new in them. used: the paths of the flags; one of a member changes only that."""
    merged = dict(old)
    for name, value in new.items():
        place, before = (*path, name), old.get(name)
        is_part = any(len(flag) > len(place) and flag[: len(place)] == place for flag in used)
        merged[name] = _merge(before, value, used, place) if is_part and isinstance(before, Mapping) else value
    return merged


def _check_secrets(old: Mapping[str, Any], new: Mapping[str, Any], task_type: Mapping[str, Any]) -> None:
    """Refuse to send the mask of a secret instead of the secret. Raises UsageError."""
    from tasker.cli.flags import Flags
    from tasker.rules.secrets import MASK

    for flag in Flags(task_type).params:
        name = flag.path[0]
        if flag.is_secret and old.get(name) == MASK and name not in new:
            raise UsageError(f"{flag.name}: it is secret, and not shown to you; to change other params, give it again")
