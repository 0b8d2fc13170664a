"""Pages of lists."""

from __future__ import annotations

from typing import Generic, TypeVar

from msgspec import Struct

T = TypeVar("T")


class PageOf(Struct, Generic[T], frozen=True, kw_only=True):
    """A part of a list, newest first. `next_cursor` is opaque; None at the end of the list."""

    items: list[T]
    next_cursor: str | None = None
