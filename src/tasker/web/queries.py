"""The query of pages: their parameters, and their addresses with one thing changed. The address is the state."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from urllib.parse import parse_qsl, urlencode

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
_TEXT = {"type": "string"}


def query_parameter(name: str, description: str, most: int = 2000) -> Parameter:
    """Return a parameter of any text."""
    return Parameter(name, description, _TEXT, text_of(most))


def window_parameter(name: str, description: str) -> Parameter:
    """Return a parameter that names a window of time up to now."""
    return Parameter(name, description, {"type": "string", "enum": list(SINCE)}, one_of(*SINCE))


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
