"""What may go to a terminal or into a log line: nothing that moves a cursor or forges a line."""

from __future__ import annotations

import os
from typing import TextIO


def has_colours(stream: TextIO) -> bool:
    """Tell whether to colour what goes to `stream` (https://no-color.org)."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def escape(text: str, keep: str = "") -> str:
    """Replace what does not print (control characters, ANSI sequences, line ends, bidi marks) by its escape.

    Characters of `keep` stay as they are.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in keep else c.encode("unicode_escape").decode() for c in text)
