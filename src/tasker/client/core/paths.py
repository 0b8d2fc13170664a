"""Ids and names as parts of paths."""

from __future__ import annotations

from urllib.parse import quote
from uuid import UUID

_DOTS = {".": "%2E", "..": "%2E%2E"}
"""What clients of HTTP take for steps in a path."""


def segment(name: UUID | str) -> str:
    """Return an id or a name as one part of a path: whatever it holds, it leads to nothing else.

    Applications pass ids that their own users send.
    """
    text = str(name)
    return _DOTS.get(text) or quote(text, safe="")
