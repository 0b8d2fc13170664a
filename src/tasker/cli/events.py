"""`tasker logs`, `tasker output` and `tasker events`: what happened to a task, and what happens to it now."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from queue import Empty
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

from cyclopts import Parameter
from cyclopts.validators import Number

from tasker.cli.exits import Exit
from tasker.cli.options import DEFAULT_OUTPUT, Output
from tasker.cli.params import UsageError
from tasker.cli.records import describe_log, to_columns
from tasker.cli.taskids import find_task_id
from tasker.cli.times import local

if TYPE_CHECKING:
    from tasker.client import Event, Reset, Tasker

T = TypeVar("T")

Follow = Annotated[
    bool,
    Parameter(alias="-f", negative="", show_default=False, help="Go on with what comes, until the task has ended."),
]
Level = Literal["debug", "info", "warning", "error"]
_LATEST = 1.0
"""Seconds without an event of an open task after which there are no more for now."""


def logs(
    task_id: str,
    /,
    *,
    follow: Follow = False,
    level: Annotated[Level, Parameter(help="Only records of this level, or a higher one.")] = "debug",
    tail: Annotated[int, Parameter(help="Begin with at most so many records.", validator=Number(gte=1))] = 100,
    output: Output = DEFAULT_OUTPUT,
) -> int:
    """Show what a task has logged and printed, oldest first.

    A line has the time, the level and the message, in a pipe with tabs between; --json prints JSON Lines.
    """
    from tasker.cli.service import to_line
    from tasker.cli.terminal import show

    with output.connect() as client:
        for entry in client.logs(find_task_id(client, task_id), follow=follow, level=level, tail=tail):
            show(to_line(entry) if output.json else describe_log(entry))
    return Exit.OK


def output_(task_id: str, /, *, follow: Follow = False, output: Output = DEFAULT_OUTPUT) -> int:
    """Print the text that a task has put out: that of its newest attempt.

    With --follow the text is printed as it is written, until the task has ended; where a new attempt begins, a note
    says so. --json prints the events with the text as JSON Lines.
    """
    from tasker.cli.service import to_line
    from tasker.cli.terminal import show

    with output.connect() as client:
        events = (event for event in _read(client, task_id, follow=follow) if event.type == "output")
        if output.json:
            for event in events:
                show(to_line(event))
        elif follow:
            _print_as_it_comes(events)
        else:
            attempts = [
                [event.chunk for event in several] for _, several in groupby(events, lambda event: event.attempt)
            ]
            if attempts:
                show("".join(attempts[-1]).removesuffix("\n"))
    return Exit.OK


def events(
    task_id: str | None = None,
    /,
    *,
    all: Annotated[bool, Parameter(negative="", show_default=False, help="Of all tasks, instead of one.")] = False,
    follow: Annotated[
        bool,
        Parameter(alias="-f", negative="", show_default=False, help="Go on with what comes; with --all endlessly."),
    ] = False,
    event: Annotated[str | None, Parameter(help="Only these: completed,failed; several with commas.")] = None,
    type: Annotated[str | None, Parameter(help="With --all: only of tasks of this type.")] = None,
    queue: Annotated[str | None, Parameter(help="With --all: only of tasks of this queue.")] = None,
    tag: Annotated[str | None, Parameter(help="With --all: only of tasks with this tag.")] = None,
    after: Annotated[
        str | None,
        Parameter(
            help='After this sequence; with --all after this cursor, or "oldest". By default from the beginning on, '
            "and with --all --follow from now on."
        ),
    ] = None,
    output: Output = DEFAULT_OUTPUT,
) -> int:
    """Show what happened to a task, or to all tasks, oldest first.

    A line has the time, the task, the attempt, the type of the event and more about it, in a pipe with tabs between;
    --json prints JSON Lines. Types of events: created, started, progress, output, log, retrying, completed, failed,
    cancelled, and those of steps.
    """
    from tasker.cli.service import to_line
    from tasker.cli.terminal import show

    if (task_id is None) != all:
        raise UsageError("give a TASK_ID or --all, and not both")
    if task_id is not None and (type or queue or tag):
        raise UsageError("--type, --queue and --tag go with --all")
    wanted = tuple((event or "").replace(" ", "").split(",")) if event else ()
    with output.connect() as client:
        if task_id is not None:
            first = _read_sequence(after)
            found: Iterator[Any] = (
                one for one in _read(client, task_id, follow=follow, after=first) if not wanted or one.type in wanted
            )
        else:
            begin = after or (None if follow else "oldest")
            found = _so_far(
                lambda: client.follow(after=begin, event=wanted, type=type, queue=queue, tag=tag), endless=follow
            )
        for one in found:
            show(to_line(one) if output.json else _describe(one))
    return Exit.OK


def _read_sequence(after: str | None) -> int:
    if after is None:
        return 0
    if not after.isdigit():
        raise UsageError(f"--after: expected the sequence of an event, got {after!r}")
    return int(after)


def _read(client: Tasker, task_id: str, *, follow: bool, after: int = 0) -> Iterator[Event]:
    """Yield the events of a task: to its end, or those that there are."""
    wanted = find_task_id(client, task_id)
    is_over = not follow and client.get(wanted).status.is_terminal
    return _so_far(lambda: client.events(wanted, after=after), endless=follow or is_over)


def _so_far(read: Callable[[], Iterator[T]], *, endless: bool) -> Iterator[T]:
    """Yield what an iterator yields: to its end, or else until nothing has come for a while."""
    from tasker.cli.following import Background

    if endless:
        yield from read()
        return
    found = Background(read)
    try:
        while (one := found.get(_LATEST)) is not None:
            yield one
    except Empty:
        return


def _print_as_it_comes(events: Iterator[Event]) -> None:
    import sys

    from tasker.cli.terminal import note, printable

    attempt, last = 0, "\n"
    for event in events:
        if attempt and event.attempt != attempt:
            note("" if last.endswith("\n") else "\n")
            note("It is tried again; what follows replaces the text above.")
        attempt, last = event.attempt, event.chunk or last
        sys.stdout.write(printable(event.chunk) if sys.stdout.isatty() else event.chunk)
        sys.stdout.flush()
    if sys.stdout.isatty() and not last.endswith("\n"):
        print(flush=True)


def _describe(event: Event | Reset) -> str:
    from tasker.client import Reset

    if isinstance(event, Reset):
        return to_columns(("", "", "", "reset", event.detail))
    cells = (local(event.time), str(event.task_id), f"attempt {event.attempt}", f"{event.type:<14}", _about(event))
    return to_columns(cells)


def _about(event: Event) -> str:
    """Return what an event says besides its type."""
    from tasker.cli.service import to_text

    match event.type:
        case "output":
            return to_text([event.chunk])[1:-1]
        case "log":
            return f"{event.level}: {event.message}"
        case "failed" if event.task is not None and event.task.error is not None:
            return event.task.error.detail
        case "completed" if event.task is not None:
            return to_text(event.task.result)[:200]
        case "retrying":
            return f"{event.ending}; the next attempt may start in {event.delay or 0:g} s"
        case "progress":
            numbers: Sequence[Any] = (event.fraction, event.current, event.total, event.message)
            return " ".join(f"{one:g}" if isinstance(one, float) else str(one) for one in numbers if one is not None)
    parts = (event.key or event.name, event.message, event.worker, event.reason, event.error and event.error.detail)
    return ", ".join(part for part in parts if part)
