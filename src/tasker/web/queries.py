"""The query of pages: their parameters, and their addresses with one thing changed. The address is the state."""

from __future__ import annotations

from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Iterable
from datetime import timedelta
from itertools import islice
from urllib.parse import parse_qsl, urlencode
from uuid import UUID

from tasker.api.calls import Parameter, one_of, text_of

SINCE = {
    "15m": timedelta(minutes=15),
    "1h": timedelta(hours=1),
    "24h": timedelta(hours=24),
    "7d": timedelta(days=7),
    "30d": timedelta(days=30),
}
"""The windows that `since=` and `window=` name."""
WINDOW_NAMES = {"15m": "15 min", "1h": "1 h", "24h": "24 h", "7d": "7 d", "30d": "30 d"}
WINDOW_WORDS = {"15m": "15 minutes", "1h": "hour", "24h": "24 hours", "7d": "7 days", "30d": "30 days"}
"""What comes after "in the last"."""
MOST_ROWS = 200
"""Rows of a page that are kept up to date."""
_TEXT = {"type": "string"}


def query_parameter(name: str, description: str, most: int = 2000) -> Parameter:
    """Return a parameter of any text."""
    return Parameter(name, description, _TEXT, text_of(most))


def window_parameter(name: str, description: str) -> Parameter:
    """Return a parameter that names a window of time up to now."""
    return Parameter(name, description, {"type": "string", "enum": list(SINCE)}, one_of(*SINCE))


def rows_parameter() -> Parameter:
    """Return the parameter that names the tasks in sight of a page."""
    return Parameter("rows", "The tasks in sight.", _TEXT, unpack_ids)


def open_parameter() -> Parameter:
    """Return the parameter that says how the first of the rows were shown."""
    return query_parameter(
        "open", "The first letters of the statuses of the first rows, which had not ended.", MOST_ROWS
    )


def pack_ids(ids: Iterable[str]) -> str:
    """Return ids in 22 characters each, at most MOST_ROWS of them: the limit of an address is 8 KiB."""
    return ".".join(urlsafe_b64encode(UUID(one).bytes).rstrip(b"=").decode() for one in islice(ids, MOST_ROWS))


def unpack_ids(text: str) -> tuple[UUID, ...]:
    """Return the ids that `pack_ids` packed. Raises ValueError."""
    try:
        return tuple(UUID(bytes=urlsafe_b64decode(one + "==")) for one in text.split(".")[:MOST_ROWS])
    except ValueError:
        raise ValueError("expected the rows of a page") from None


def pairs_of(query_string: str) -> list[tuple[str, str]]:
    """Return the pairs of a query, without empty ones: a form sends its empty fields too."""
    return [(name, value) for name, value in parse_qsl(query_string) if value]


def address(pairs: Iterable[tuple[str, str]]) -> str:
    """Return a query with these pairs, as an address relative to its page; "?" is the page without a query."""
    return "?" + urlencode(list(pairs), safe=":,")


def without(pairs: Iterable[tuple[str, str]], *names: str) -> list[tuple[str, str]]:
    """Return the pairs but those of these names."""
    return [pair for pair in pairs if pair[0] not in names]


def replaced(pairs: Iterable[tuple[str, str]], name: str, value: str | None, *drop: str) -> str:
    """Return the address with another value of a parameter, None for without it; also without those of `drop`."""
    kept = without(pairs, name, *drop)
    return address(kept if value is None else [*kept, (name, value)])
