"""The server's log: one line for each event, as text on a terminal and as JSON elsewhere.

No value can forge a line or move a terminal's cursor: characters that do not print are escaped. In the text form the
lines of a traceback follow their event, each after a bar.
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Mapping
from typing import Any, Literal, TextIO

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from tasker.logs.attempt import add_attempt
from tasker.logs.printing import escape, has_colours
from tasker.logs.redaction import redacted

_TALKATIVE = ("asyncio", "httpcore2", "httpx2", "openai")  # they log each request, openai its body too
_COLOURS = {"debug": "2", "warning": "33", "error": "31", "critical": "31;1"}


def configure_logs(
    level: str = "info", format: Literal["auto", "text", "json"] = "auto", stream: TextIO | None = None
) -> None:
    """Send structlog's events and those of the standard `logging` to `stream` (default: standard error).

    Values bound with `structlog.contextvars`, and the attempt that code runs for, appear on every line.
    """
    stream = stream or sys.stderr
    as_text = stream.isatty() if format == "auto" else format == "text"
    renderer = TextRenderer(has_colours(stream)) if as_text else render_json
    numeric = logging.getLevelNamesMapping()[level.upper()]
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        add_attempt,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        _redact,
    ]
    structlog.configure(
        processors=[*shared, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(numeric),
        logger_factory=structlog.WriteLoggerFactory(stream),
        cache_logger_on_first_use=True,
    )
    _route_standard_logging(stream, numeric, shared, renderer)


def _route_standard_logging(stream: TextIO, level: int, shared: list[Processor], renderer: Processor) -> None:
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.add_logger_name, structlog.stdlib.ExtraAdder(), *shared],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for name in _TALKATIVE:
        logging.getLogger(name).setLevel(max(level, logging.WARNING))
    logging.captureWarnings(True)


def _redact(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Remove the secrets of tasks from an event."""
    for name, value in event.items():
        text = value if isinstance(value, str) else str(value)
        if (shown := redacted(text)) != text:
            event[name] = shown
    return event


def render_json(_logger: WrappedLogger, _method: str, event: EventDict) -> str:
    """Return the event as one line of JSON in ASCII."""
    first = {
        "timestamp": event.pop("timestamp", None),
        "level": event.pop("level", None),
        "event": event.pop("event", ""),
    }
    try:
        return json.dumps(first | dict(event), default=str)
    except (TypeError, ValueError):  # keys that are not strings, or a value that contains itself
        return json.dumps(first | {str(key): str(value) for key, value in event.items()})


class TextRenderer:
    """Renders an event for people: time, level, message, then key=value."""

    def __init__(self, colours: bool = False) -> None:
        self._colours = colours

    def __call__(self, _logger: WrappedLogger, _method: str, event: EventDict) -> str:
        level = str(event.pop("level", "info"))
        time = str(event.pop("timestamp", ""))[11:23]
        message = escape(str(event.pop("event", "")))
        trace = str(event.pop("exception", None) or "")
        head = self._paint(level, f"{time} {level:<7} {message}")
        return "\n".join([head + _pairs(event), *(f"    | {escape(line)}" for line in trace.splitlines())])

    def _paint(self, level: str, text: str) -> str:
        colour = _COLOURS.get(level) if self._colours else None
        return f"\x1b[{colour}m{text}\x1b[0m" if colour else text


def _pairs(values: Mapping[str, Any]) -> str:
    return "".join(f"  {escape(str(key))}={_quote(value)}" for key, value in values.items())


def _quote(value: object) -> str:
    text = escape(str(value))
    return json.dumps(text, ensure_ascii=False) if not text or any(char in text for char in ' "=') else text
