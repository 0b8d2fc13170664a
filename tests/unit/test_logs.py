"""The log: what an event looks like in each form, and that no value can forge a line."""

from __future__ import annotations

import contextvars
import io
import json
import logging
import subprocess
import sys
import warnings
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from tasker.logs.attempt import ATTEMPT, LoggedAttempt
from tasker.logs.printing import escape, has_colours
from tasker.logs.setup import TextRenderer, configure_logs, render_json
from tasker.model import new_task_id
from tasker.testing import START

NASTY = "a\r\n2026 ERROR forged\x1b[2J\x9b31m\u2028\u202e\x00"


@pytest.fixture(autouse=True)
def untouched_logging() -> Iterator[None]:
    """Restore what `configure_logs` changes in this process."""
    root = logging.getLogger()
    handlers, level, before = root.handlers[:], root.level, structlog.get_config()
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        yield
        logging.captureWarnings(False)
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.configure(**before)
    structlog.contextvars.clear_contextvars()


class Terminal(io.StringIO):
    """A stream that claims to be a terminal."""

    def isatty(self) -> bool:
        return True


def lines(stream: io.StringIO) -> list[str]:
    return stream.getvalue().removesuffix("\n").split("\n")


def json_lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in lines(stream)]


def test_json_is_one_line_in_ascii_for_each_event() -> None:
    stream = io.StringIO()
    configure_logs("info", "json", stream)
    structlog.get_logger().info(NASTY, value=NASTY, lone="\ud800", other={"k": [1]}, kind=ValueError)
    (event,) = json_lines(stream)
    assert stream.getvalue().isascii()
    assert list(event)[:3] == ["timestamp", "level", "event"]
    assert (event["event"], event["value"], event["lone"]) == (NASTY, NASTY, "\ud800")
    assert (event["other"], event["kind"]) == ({"k": [1]}, str(ValueError))


def test_text_is_one_printable_line_for_each_event() -> None:
    stream = io.StringIO()
    configure_logs("info", "text", stream)
    structlog.get_logger().info(NASTY, **{"value": NASTY, "k\ney": 1, "quoted": 'a "b"', "empty": ""})
    (line,) = lines(stream)
    assert line.isprintable()
    assert r"info    a\r\n2026 ERROR forged\x1b[2J\x9b31m" in line
    assert r"k\ney=1" in line
    assert line.endswith('quoted="a \\"b\\""  empty=""')


@pytest.mark.parametrize("format", ["json", "text"])
def test_the_standard_library_is_routed_through(format: Any) -> None:
    stream = io.StringIO()
    configure_logs("info", format, stream)
    logging.getLogger("some.library").warning("said %s", "a\nb", extra={"more": 3})
    logging.getLogger("some.library").debug("not said")
    warnings.warn("careful", UserWarning, stacklevel=1)
    first, second = lines(stream)
    assert r"said a\nb" in first
    assert all(part in first for part in ("some.library", "warning", "more"))
    assert "careful" in second


@pytest.mark.parametrize("name", ["httpx2", "openai", "asyncio"])
def test_talkative_libraries_log_from_warnings_on(name: str) -> None:
    stream = io.StringIO()
    configure_logs("debug", "json", stream)
    logging.getLogger(name).info("HTTP Request: POST, with a body")
    logging.getLogger(name).warning("trouble")
    assert [event["event"] for event in json_lines(stream)] == ["trouble"]


def test_bound_values_are_on_every_line() -> None:
    stream = io.StringIO()
    configure_logs("info", "json", stream)
    with structlog.contextvars.bound_contextvars(task_id="t1", attempt=2):
        structlog.get_logger().info("own")
        logging.getLogger("library").info("its")
    structlog.get_logger().info("after")
    own, its, after = json_lines(stream)
    assert [(event["task_id"], event["attempt"]) for event in (own, its)] == [("t1", 2)] * 2
    assert "task_id" not in after


def test_an_attempt_is_named_on_its_lines() -> None:
    stream = io.StringIO()
    configure_logs("info", "json", stream)

    def speak() -> None:
        structlog.get_logger().info("own")
        logging.getLogger("library").info("its")

    attempt = LoggedAttempt(new_task_id(START), 2, "sum")
    context = contextvars.copy_context()
    context.run(ATTEMPT.set, attempt)
    context.run(speak)
    structlog.get_logger().info("after")
    own, its, after = json_lines(stream)
    for line in own, its:
        assert (line["task_id"], line["attempt"], line["type"]) == (str(attempt.task_id), 2, "sum")
    assert "task_id" not in after


def test_the_level_applies_to_both() -> None:
    stream = io.StringIO()
    configure_logs("error", "json", stream)
    for logger in (structlog.get_logger(), logging.getLogger("library")):
        logger.warning("no")
        logger.error("yes")
    assert [event["event"] for event in json_lines(stream)] == ["yes", "yes"]


def test_a_traceback_stays_in_its_event_in_json() -> None:
    stream = io.StringIO()
    configure_logs("info", "json", stream)
    fail_and_log()
    (event,) = json_lines(stream)
    assert event["exception"].endswith(f"ValueError: {NASTY}")


def test_the_lines_of_a_traceback_follow_bars_in_text() -> None:
    stream = io.StringIO()
    configure_logs("info", "text", stream)
    fail_and_log()
    first, *rest = lines(stream)
    assert "failed" in first
    assert rest
    assert all(line.startswith("    | ") and line.isprintable() for line in rest)


def fail_and_log() -> None:
    try:
        raise ValueError(NASTY)
    except ValueError:
        structlog.get_logger().exception("failed")


def test_values_that_json_cannot_hold_are_logged_too() -> None:
    loop: list[Any] = []
    loop.append(loop)
    line = render_json(None, "info", {"event": "odd", "value": loop, "pair": {(1, 2): 3}})
    assert json.loads(line)["event"] == "odd"


@pytest.mark.parametrize(("stream", "is_json"), [(Terminal(), False), (io.StringIO(), True)])
def test_auto_is_text_on_a_terminal_and_json_elsewhere(stream: io.StringIO, is_json: bool) -> None:
    configure_logs("info", "auto", stream)
    structlog.get_logger().info("hello")
    assert stream.getvalue().startswith("{") is is_json


def test_colours_are_for_terminals_that_want_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    assert has_colours(Terminal())
    assert not has_colours(io.StringIO())
    monkeypatch.setenv("TERM", "dumb")
    assert not has_colours(Terminal())
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("NO_COLOR", "1")
    assert not has_colours(Terminal())


def test_a_colour_cannot_be_set_by_a_value() -> None:
    line = TextRenderer(colours=True)(None, "error", {"event": "x\x1b[0m", "level": "error", "timestamp": ""})
    assert line.startswith("\x1b[31m")
    assert line.count("\x1b") == 2


@pytest.mark.parametrize(
    ("text", "escaped"), [("plain é 👍", "plain é 👍"), ("\x1b[1m", r"\x1b[1m"), ("a\tb\n", "a\tb\\n")]
)
def test_escape_keeps_the_given_characters(text: str, escaped: str) -> None:
    assert escape(text, keep="\t") == escaped


def test_a_process_logs_to_standard_error() -> None:
    program = (
        "import structlog; from tasker.logs.setup import configure_logs as c; c(); structlog.get_logger().info('x')"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == ""
    assert json.loads(done.stderr)["event"] == "x"
