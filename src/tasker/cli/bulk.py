"""`tasker bulk`: cancel, retry or delete all tasks of a filter."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, Literal
from uuid import UUID

from cyclopts import App, Parameter
from cyclopts.validators import Number

from tasker.cli.exits import Exit
from tasker.cli.options import DEFAULT_OUTPUT, Output, print_found
from tasker.cli.tasks import ALL, Filter

if TYPE_CHECKING:
    from tasker.client import Tasker
    from tasker.wire.bulk import Bulk, BulkReply

Action = Literal["cancel", "retry", "delete"]
_Flag = Annotated[bool, Parameter(negative="", show_default=False)]
BulkId = Annotated[str, Parameter(help="The id of the bulk action: tasker bulk ls.")]
_DONE = {"cancel": "cancelled or asked to stop", "retry": "to run again", "delete": "erased"}
_SHORTEST, _LONGEST = 0.1, 1.0
"""Seconds between two looks."""

app = App(name="bulk", help="Cancel, retry or delete all tasks of a filter.")


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class How:
    """How to act on the tasks."""

    all: Annotated[bool, Parameter(negative="", show_default=False, help="Every task, instead of a filter.")] = False
    dry_run: Annotated[bool, Parameter(negative="", show_default=False, help="Only print how many tasks it is.")] = (
        False
    )
    at_most: Annotated[
        int | None,
        Parameter(help="Change nothing if there are more (exit code 6).", validator=Number(gte=0)),
    ] = None
    yes: Annotated[bool, Parameter(alias="-y", negative="", show_default=False, help="Do not ask.")] = False
    detach: Annotated[
        bool, Parameter(alias="-d", negative="", show_default=False, help="Do not wait for the end; print its id.")
    ] = False


HOW = How()


@app.command
def cancel(*, filter: Filter = ALL, how: How = HOW, output: Output = DEFAULT_OUTPUT) -> int:
    """Cancel open tasks: pending ones at once, running ones are asked to stop."""
    return _act("cancel", filter, how, output)


@app.command
def retry(*, filter: Filter = ALL, how: How = HOW, output: Output = DEFAULT_OUTPUT) -> int:
    """Run failed and cancelled tasks again, under their ids."""
    return _act("retry", filter, how, output)


@app.command
def delete(*, filter: Filter = ALL, how: How = HOW, output: Output = DEFAULT_OUTPUT) -> int:
    """Erase tasks that have ended, with their results."""
    return _act("delete", filter, how, output)


@app.command
def ls(
    *,
    limit: Annotated[int, Parameter(help="How many at most.", validator=Number(gte=1))] = 20,
    output: Output = DEFAULT_OUTPUT,
) -> int:
    """List the bulk actions, newest first."""
    with output.connect() as client:
        found = list(client.bulk.find_many(limit=limit))
    header = ("BULK", "ACTION", "STATE", "DONE", "SKIPPED", "TO GO", "BEGAN", "FILTER")
    row = partial(_row, now=datetime.now(UTC))
    return print_found(found, header, row, json=output.json, empty="No bulk actions.")


@app.command(name="show")
def show_(bulk_id: BulkId, /, *, wait: _Flag = False, output: Output = DEFAULT_OUTPUT) -> int:
    """Show how far a bulk action is.

    Parameters
    ----------
    wait
        Wait until it has ended.
    """
    with output.connect() as client:
        wanted = _read_id(bulk_id)
        if wait:
            _follow(client, wanted)
        return _print(client.bulk.get(wanted), output)


@app.command
def stop(bulk_id: BulkId, /, *, output: Output = DEFAULT_OUTPUT) -> int:
    """Stop a bulk action; what is done stays done."""
    with output.connect() as client:
        return _print(client.bulk.stop(_read_id(bulk_id)), output)


@app.command
def undo(bulk_id: BulkId, /, *, output: Output = DEFAULT_OUTPUT) -> int:
    """Undo a retry: stop it, and cancel those of its tasks that have not started since."""
    with output.connect() as client:
        return _print(client.bulk.undo(_read_id(bulk_id)), output)


def _act(action: Action, filter: Filter, how: How, output: Output) -> int:
    from tasker.cli.params import UsageError

    given = {name: _several(name, value) for name, value in filter.read().items()}
    if bool(given) == how.all:
        raise UsageError("give a filter (--status failed, --tag NAME...), or --all for every task, and not both")
    with output.connect() as client:
        if how.dry_run:
            return _print_count(action, client.bulk.count(action, all=how.all, **given), output)
        up_to = None
        if not how.yes:
            found = client.bulk.count(action, all=how.all, **given)
            if not _agree(action, found):
                return Exit.USAGE
            up_to = found.up_to or None
        begin = {"cancel": client.bulk.cancel, "retry": client.bulk.retry, "delete": client.bulk.delete}[action]
        bulk = begin(at_most=how.at_most, up_to=up_to, all=how.all, **given)
        assert isinstance(bulk.bulk_id, UUID)
        return _end(client, bulk.bulk_id, detach=how.detach, output=output)


def _several(name: str, value: Any) -> Any:
    """Return the values of a filter that takes several, which a command line has with commas."""
    return value.split(",") if name in {"status", "type", "queue"} else value


def _agree(action: Action, found: BulkReply) -> bool:
    """Ask whether to act on so many tasks; without a terminal the answer is no, and why."""
    from tasker.cli.terminal import confirm, count_tasks, note

    question = f"{action.capitalize()} {count_tasks(found.matched or 0)}?"
    if confirm(question, default=False):
        return True
    if not sys.stdin.isatty():
        note(f"tasker: {question} Nobody can be asked here: give --yes (and --at-most {found.matched})")
    return False


def _print_count(action: Action, found: BulkReply, output: Output) -> int:
    from tasker.cli.service import to_json
    from tasker.cli.terminal import note, show

    if output.json:
        show(to_json(found))
    else:
        show(str(found.matched))
        note(f"tasks that `tasker bulk {action}` would act on; nothing is changed")
    return Exit.OK


def _end(client: Tasker, bulk_id: UUID, *, detach: bool, output: Output) -> int:
    """Follow a bulk action to its end, and say what it has done."""
    from tasker.cli.terminal import note, show

    if detach:
        show(str(bulk_id))
        return Exit.OK
    try:
        _follow(client, bulk_id)
    except KeyboardInterrupt:
        note(f"\nNo longer waiting; it goes on. Look: tasker bulk show {bulk_id}; end it: tasker bulk stop {bulk_id}")
        return Exit.INTERRUPTED
    return _print(client.bulk.get(bulk_id), output)


def _follow(client: Tasker, bulk_id: UUID) -> None:
    """Wait until a bulk action has ended, with a bar on a terminal."""
    from tasker.cli.terminal import has_cursor

    bulk = client.bulk.get(bulk_id)
    with _bar(bulk) if has_cursor(sys.stderr) and bulk.ended_at is None else nullcontext(_ignore) as tell:
        pause = _SHORTEST
        while bulk.ended_at is None:
            time.sleep(pause)
            pause = min(pause * 2, _LONGEST)
            bulk = client.bulk.get(bulk_id)
            tell(bulk)


@contextmanager
def _bar(begin: Bulk) -> Iterator[Callable[[Bulk], None]]:
    """Yield what shows on the terminal how far a bulk action is."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    columns = BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(compact=True)
    with Progress(*columns, console=Console(file=sys.stderr), transient=True) as progress:
        bar = progress.add_task(begin.action, total=begin.matched)
        yield lambda bulk: progress.update(bar, completed=bulk.done + bulk.skipped)


def _ignore(bulk: Bulk) -> None:
    """Show nothing."""


def _print(bulk: Bulk, output: Output) -> int:
    from tasker.cli.service import to_json
    from tasker.cli.terminal import show

    show(to_json(bulk) if output.json else "\n".join(_lines(bulk)))
    return Exit.OK


def _lines(bulk: Bulk) -> Iterator[str]:
    """Yield a bulk action as lines `name: value`, without those that have no value."""
    from tasker.cli.times import local

    skips = ", ".join(f"{count:,} {reason}" for reason, count in bulk.skips.items())
    yield f"bulk:      {bulk.bulk_id}"
    yield f"action:    {bulk.action} ({bulk.state})"
    yield f"tasks:     {_filter(bulk)}"
    yield f"done:      {bulk.done:,} {_DONE[bulk.action]}"
    if bulk.skipped:
        yield f"skipped:   {bulk.skipped:,} ({skips})"
    if bulk.ended_at is None:
        yield f"to go:     {'unknown' if bulk.to_go is None else f'{bulk.to_go:,}'}"
    if bulk.started_at is not None:
        yield f"began:     {local(bulk.started_at)}"
    if bulk.ended_at is not None:
        yield f"ended:     {local(bulk.ended_at)}"
    if bulk.action == "retry":
        yield f"undo:      tasker bulk undo {bulk.bulk_id}"


def _row(bulk: Bulk, now: datetime) -> tuple[str, ...]:
    from tasker.cli.terminal import ago

    to_go = "-" if bulk.to_go is None else str(bulk.to_go)
    counts = str(bulk.done), str(bulk.skipped), to_go
    return (
        str(bulk.bulk_id),
        bulk.action,
        bulk.state,
        *counts,
        ago(bulk.started_at, now) if bulk.started_at else "-",
        _filter(bulk),
    )


def _filter(bulk: Bulk) -> str:
    if bulk.given is not None:
        return f"{bulk.given:,} given ones"
    members = (f"{name}={_text(value)}" for name, value in bulk.filter.items() if value not in (None, []))
    return " ".join(members) or "all"


def _text(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)


def _read_id(text: str) -> UUID:
    """Return the id of a bulk action. Raises UsageError."""
    from tasker.cli.params import UsageError

    try:
        return UUID(text)
    except ValueError:
        raise UsageError(f"BULK_ID: expected a UUID, got {text!r}; `tasker bulk ls` lists them") from None
