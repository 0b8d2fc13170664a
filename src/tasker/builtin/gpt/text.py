"""Repairs surrogates in a provider's text: pairs that are split over two pieces, and lone ones. Pure.

JSON writes an emoji as two escapes, its surrogates. UTF-8 cannot hold a lone one, so that such a text could not be
stored.
"""

from __future__ import annotations

import re

_SURROGATES = re.compile(
    r"(\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|\\[^u])|\\u[dD][89a-fA-F][0-9a-fA-F]{2}"
)


class Joiner:
    """Joins surrogate pairs that are split over two pieces of a text."""

    def __init__(self) -> None:
        self._held = ""

    def add(self, piece: str) -> str:
        """Return the piece, perhaps empty. A high surrogate at its end is held back for the next piece."""
        text = self._held + piece
        self._held = text[-1] if "\ud800" <= text[-1:] <= "\udbff" else ""
        return mend(text.removesuffix(self._held))

    def end(self) -> str:
        """Return U+FFFD if a high surrogate is held back, else an empty text."""
        held, self._held = self._held, ""
        return mend(held)


def mend(text: str) -> str:
    """Return `text` with surrogate pairs joined, and U+FFFD for each lone surrogate."""
    return text if text.isascii() else text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def mend_escapes(text: str) -> str:
    r"""Return JSON text with the escape `\ufffd` for each lone escaped surrogate."""
    return _SURROGATES.sub(lambda found: found[1] or r"\ufffd", text)
