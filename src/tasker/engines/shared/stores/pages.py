"""Pages of lists, newest first: one row more than `limit` is read, each with its seq."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from tasker.engines.shared.cursors import NEWEST, from_cursor, to_cursor

T = TypeVar("T")


def start_of(cursor: str | None) -> int:
    """Return the seq below which a page starts. Raises Invalid for a cursor that no page gave out."""
    return NEWEST if cursor is None else from_cursor(cursor)


def cut(found: Sequence[tuple[int, T]], limit: int) -> tuple[list[T], str | None]:
    """Return the items of a page and the cursor of the next page, None if there is none."""
    return [item for _, item in found[:limit]], to_cursor(found[limit - 1][0]) if len(found) > limit else None
