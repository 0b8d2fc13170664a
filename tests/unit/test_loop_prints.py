"""What attempts print on a loop: whole lines, of the attempt that has printed them."""

from __future__ import annotations

import contextvars
import io
from functools import partial
from uuid import uuid4

from tasker.executor.loop_prints import MAX_LINE, MAX_LINES, LoopPrints
from tasker.logs.attempt import ATTEMPT, LoggedAttempt
from tasker.logs.redaction import RedactingStream

Line = tuple[str, str]


def make() -> tuple[LoopPrints, list[Line]]:
    lines: list[Line] = []
    return LoopPrints(lambda stream, line: lines.append((stream, line))), lines


def test_pieces_become_lines() -> None:
    prints, lines = make()
    for piece in ("a", " ", "b", "\n\nc\nd"):
        prints.write("stdout", piece)
    prints.write("stderr", "e\nf")
    assert lines == [("stdout", "a b"), ("stdout", "c"), ("stderr", "e")]
    prints.end()
    assert lines[3:] == [("stdout", "d"), ("stderr", "f")]
    prints.end()
    assert len(lines) == 5


def test_a_line_without_end_is_not_gathered_for_ever() -> None:
    prints, lines = make()
    for _ in range(3):
        prints.write("stdout", "x" * MAX_LINE)
    assert [len(line) for _, line in lines] == [2 * MAX_LINE]


def test_it_stops_one_line_after_the_limit() -> None:
    prints, lines = make()
    prints.write("stdout", "x\n" * (MAX_LINES - 1))
    prints.write("stderr", "x\n" * 5)
    prints.end()
    assert len(lines) == MAX_LINES + 1


def test_half_characters_are_escaped() -> None:
    prints, lines = make()
    prints.write("stderr", "\ud800\n")
    assert lines == [("stderr", "\\ud800")]


def _add(lines: list[Line], stream: str, text: str) -> None:
    lines.append((stream, text))


def test_the_services_streams_tell_who_has_printed() -> None:
    """What is printed goes to the service's own stream as before; other code's prints go nowhere else."""
    service = io.StringIO()
    stream = RedactingStream(service, "stdout")
    first, second = contextvars.copy_context(), contextvars.copy_context()
    told: dict[str, list[Line]] = {"first": [], "second": []}
    for name, context in (("first", first), ("second", second)):
        take = partial(_add, told[name])
        context.run(ATTEMPT.set, LoggedAttempt(uuid4(), 1, name, take))
    print("nobody's", file=stream)
    first.run(print, "one", file=stream)
    second.run(print, "two", file=stream)
    assert service.getvalue() == "nobody's\none\ntwo\n"
    assert told == {"first": [("stdout", "one"), ("stdout", "\n")], "second": [("stdout", "two"), ("stdout", "\n")]}
