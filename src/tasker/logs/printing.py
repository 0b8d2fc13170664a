"""Escapes text for a terminal or a log line, so that it cannot move the cursor or forge a line."""

from __future__ import annotations

import os
from typing import TextIO


def has_colours(stream: TextIO) -> bool:
    """Tell whether to colour what goes to `stream` (https://no-color.org)."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def escape(text: str, keep: str = "") -> str:
    """Replace characters that do not print (control characters, line ends, bidi marks) by their escapes.

    Characters of `keep` stay as they are.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in keep else c.encode("unicode_escape").decode() for c in text)
