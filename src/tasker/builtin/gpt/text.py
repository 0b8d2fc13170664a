"""Repairs the text of a provider: the two halves of a character in two pieces, and halves that are alone. Pure.

JSON writes an emoji as two escapes, its surrogates. No UTF-8 can hold one of them alone, so that no such text could be
stored.
"""

from __future__ import annotations

import re

_LONE_OR_NOT = re.compile(
    r"(\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|\\[^u])|\\u[dD][89a-fA-F][0-9a-fA-F]{2}"
)


class Joiner:
    """Joins characters that were split over two pieces of a text."""

    def __init__(self) -> None:
        self._held = ""

    def add(self, piece: str) -> str:
        """Return the piece without a first half at its end, which is kept for the next piece; it may be empty."""
        text = self._held + piece
        self._held = text[-1] if "\ud800" <= text[-1:] <= "\udbff" else ""
        return mend(text.removesuffix(self._held))

    def end(self) -> str:
        """Return U+FFFD if the text ended with a first half, else nothing."""
        held, self._held = self._held, ""
        return mend(held)


def mend(text: str) -> str:
    """Return `text` with surrogate pairs joined, and U+FFFD for each surrogate that is alone."""
    return text if text.isascii() else text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def mend_escapes(text: str) -> str:
    r"""Return JSON text with the escape `\ufffd` for each escaped surrogate that is alone."""
    return _LONE_OR_NOT.sub(lambda found: found[1] or r"\ufffd", text)
