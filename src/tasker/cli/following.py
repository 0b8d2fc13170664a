"""Follow a task to its end: its text as it is written, its progress, its log, and then its result.

Text goes to standard output as it comes only if that is a terminal; the result is not printed once more then. Progress,
log and notes go to standard error. In a pipe there is the result alone.
"""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from queue import Empty, SimpleQueue
from threading import Thread
from typing import TYPE_CHECKING, Any, Generic, TypeVar
from uuid import UUID

from tasker.cli.exits import Exit
from tasker.cli.faults import explain
from tasker.cli.terminal import has_cursor, note, printable, show
from tasker.client import ClientError, Conflict, Event, Task, Tasker, WaitTimeout

if TYPE_CHECKING:
    from tasker.cli.progress import StatusLine

T = TypeVar("T")

_GLANCE = 1.0
"""Seconds between looks at a task that does not tell of itself: why it waits may change."""
_FIRST_GLANCE = 0.3
"""Seconds before the first one: a task that takes less shows no progress."""
_SECOND_PRESS = 1.0
"""Seconds in which a second Ctrl-C cancels the task."""


@dataclass(frozen=True)
class View:
    """What is shown of a task that is followed. quiet: only the result. logs: also its log."""

    json: bool = False
    quiet: bool = False
    logs: bool = False

    @property
    def shows_text(self) -> bool:
        return sys.stdout.isatty() and not self.json and not self.quiet

    @property
    def shows_progress(self) -> bool:
        return has_cursor(sys.stderr) and not self.quiet


def follow(client: Tasker, task_id: UUID, timeout: float | None, view: View) -> int:
    """Wait for a task, show what happens to it, and print its result; return the exit code."""
    streamed = Streamed()
    if view.shows_text or view.shows_progress or view.logs:
        events: Background[Any] = Background(lambda: _tell(client, task_id))
        wait: Callable[[], Task] = partial(_Follower(client, task_id, view, streamed, events).run, timeout)
    else:
        events = Background(lambda: iter((client.wait(task_id, timeout),)))
        wait = events.only
    with events.taking_interrupts():
        try:
            task = wait()
        except Interrupted:
            return _detach(client, task_id, events)
        except WaitTimeout as error:
            note(f"tasker: {error}. Wait again: tasker get {task_id} --wait")
            return Exit.WAIT_TIMED_OUT
    return report(client, task, as_json=view.json, streamed=streamed)


def _tell(client: Tasker, task_id: UUID) -> Iterator[Event | Task]:
    """Yield the events of a task as they happen, and at last the task as it ended."""
    last = None
    for event in client.events(task_id):
        yield event
        last = event.task
    yield last if last is not None and last.status.is_terminal else client.wait(task_id)


def _detach(client: Tasker, task_id: UUID, events: Background[Any]) -> int:
    """Leave the task alone and say how to come back; on a terminal a second Ctrl-C cancels it."""
    back = f"the task goes on. Wait again: tasker get {task_id} --wait"
    if not sys.stderr.isatty():
        note(f"No longer waiting; {back}")
        return Exit.INTERRUPTED
    note(f"\nNo longer waiting. Ctrl-C again cancels the task; else {back}")
    if events.is_interrupted_within(_SECOND_PRESS):
        try:
            task = client.cancel(task_id)
        except Conflict as error:
            note(f"\nNot cancelled: {error.detail}")
        else:
            note("\nCancelled." if task.status.is_terminal else "\nCancelled: it is running, and is asked to stop.")
    return Exit.INTERRUPTED


def report(client: Tasker, task: Task, *, as_json: bool, streamed: Streamed | None = None) -> int:
    """Print the result of a task that has ended, or why there is none; return the exit code."""
    from tasker.cli.service import to_json, to_text

    if as_json:
        show(to_json(task))
    try:
        result = client.result_of(task)
    except ClientError as error:
        return explain(error)
    if not as_json and (streamed is None or not streamed.is_all(result)):
        show(to_text(result))
    return Exit.OK


@dataclass
class Streamed:
    """The text of the last attempt that is on the screen already."""

    attempt: int = 0
    parts: list[str] = field(default_factory=list)

    def is_all(self, result: Any) -> bool:
        """Tell whether a result is on the screen."""
        return bool(self.parts) and "".join(self.parts) == result


class Interrupted(Exception):
    """Ctrl-C was pressed."""


class Background(Generic[T]):
    """What an iterator yields, read in a thread: so it can be awaited for a limited time, and by Ctrl-C."""

    def __init__(self, read: Callable[[], Iterator[T]]) -> None:
        self._found: SimpleQueue[tuple[T | None, BaseException | None]] = SimpleQueue()
        self._read = read
        Thread(target=self._run, daemon=True).start()  # ends with the process, whatever it waits for

    def get(self, timeout: float | None = None) -> T | None:
        """Return the next value, None at the end.

        Raises Empty after `timeout` seconds, Interrupted, and as the iterator.
        """
        value, error = self._found.get(timeout=timeout)
        if error is not None:
            raise error
        return value

    def only(self) -> T:
        """Return the first value of an iterator that has one. Raises as `get`."""
        value = self.get()
        assert value is not None
        return value

    @contextmanager
    def taking_interrupts(self) -> Iterator[None]:
        """Let `get` raise Interrupted at Ctrl-C.

        A KeyboardInterrupt comes anywhere, even within the writing of a text, which would then be written twice.
        """
        before = signal.getsignal(signal.SIGINT)
        if before is not signal.default_int_handler:  # ignored, as for what a shell runs in the background
            yield
            return
        signal.signal(signal.SIGINT, lambda *_: self._found.put((None, Interrupted())))
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)

    def is_interrupted_within(self, seconds: float) -> bool:
        """Tell whether Ctrl-C is pressed within so many seconds; values are dropped."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            with suppress(Empty, ClientError):
                try:
                    self.get(left)
                except Interrupted:
                    return True
        return False

    def _run(self) -> None:
        try:
            for value in self._read():
                self._found.put((value, None))
        except Exception as error:  # ClientError, or any fault of the connection: the reader gets it
            self._found.put((None, error))
        else:
            self._found.put((None, None))


class _Follower:
    """Shows the events of one task until it has ended."""

    def __init__(
        self, client: Tasker, task_id: UUID, view: View, streamed: Streamed, events: Background[Event | Task]
    ) -> None:
        self._events = events
        self._client = client
        self._id = task_id
        self._view = view
        self._streamed = streamed
        self._line: StatusLine | None = None
        self._type = ""
        self._is_within_line = False

    def run(self, timeout: float | None) -> Task:
        """Return the task once it has ended. Raises WaitTimeout, ClientError, Interrupted."""
        start, pause = time.monotonic(), _FIRST_GLANCE
        try:
            while True:
                left = None if timeout is None else max(start + timeout - time.monotonic(), 0)
                try:
                    event = self._events.get(pause if left is None else min(pause, left))
                except Empty:
                    if timeout is not None and time.monotonic() - start >= timeout:
                        raise WaitTimeout(self._client.get(self._id), timedelta(seconds=timeout)) from None
                    self._glance()
                    pause = _GLANCE
                    continue
                if isinstance(event, Task):
                    return event
                assert event is not None
                self._show(event)
        finally:
            self._end_line()

    def _show(self, event: Event) -> None:
        match event.type:
            case "output" if self._view.shows_text:
                self._write(event)
            case "progress" if self._view.shows_progress and not self._streamed.parts:
                self._status().progress(self._name(), event)
            case "log" if self._view.logs:
                from tasker.cli.records import describe_log

                self._end_line()
                note(describe_log(event))
            case "input_required" if not self._view.quiet:
                self._end_line()
                note(f"It asks {event.name}: {event.message} (tasker input {self._id})")

    def _write(self, event: Event) -> None:
        """Write a piece of the text; that of a new attempt begins on a new line."""
        self._clear()
        if event.attempt != self._streamed.attempt:
            self._start_again()
            self._streamed.attempt = event.attempt
        self._streamed.parts.append(event.chunk)
        sys.stdout.write(printable(event.chunk))
        sys.stdout.flush()
        self._is_within_line = not event.chunk.endswith("\n")

    def _start_again(self) -> None:
        if self._streamed.parts:
            self._end_line()
            note("It is tried again; what follows replaces the text above.")
        self._streamed.parts.clear()

    def _glance(self) -> None:
        """Show how the task is now, if it does not show itself."""
        if self._view.shows_progress and not self._streamed.parts:
            with suppress(ClientError):  # the stream of events says whether the service is gone for good
                self._status().glance(self._client.get(self._id))

    def _name(self) -> str:
        self._type = self._type or self._client.get(self._id).type
        return self._type

    def _status(self) -> StatusLine:
        if self._line is None:
            from tasker.cli.progress import StatusLine

            self._line = StatusLine()
        return self._line

    def _clear(self) -> None:
        if self._line is not None:
            self._line.clear()

    def _end_line(self) -> None:
        """Make room for a note: it does not go on the line of the text, nor on that of the status."""
        self._clear()
        if self._is_within_line:
            show("")
            self._is_within_line = False
