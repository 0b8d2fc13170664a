"""Whether a client takes a media type: the Accept header (RFC 9110, 12.5.1)."""

from __future__ import annotations

import re
from collections.abc import Sequence

_QUALITY = re.compile(r"\s*q\s*=\s*([01](?:\.[0-9]{0,3})?)\s*", re.IGNORECASE)


def accepts(accept: bytes, media: str) -> bool:
    """Tell whether an Accept header takes `media`; the most specific range decides, q=0 refuses.

    An empty header takes everything, and every header takes a reply of any type ("*/*").
    """
    return media.startswith("*/*") or choose(accept, [media]) is not None


def choose(accept: bytes | None, offered: Sequence[str]) -> str | None:
    """Return the offered media type that the client prefers; the first of equal ones, None if it takes none."""
    if accept is None or not accept.strip():
        return offered[0]
    ranked = [(_preference(accept, media), -place, media) for place, media in enumerate(offered)]
    (quality, _), _, media = max(ranked)
    return media if quality > 0 else None


def _preference(accept: bytes, media: str) -> tuple[float, int]:
    """Return the quality of a media type, and how specific the range was that gave it."""
    wanted = media.partition(";")[0].strip().lower()
    found = (-1, 0.0)
    for item in accept.decode("latin-1").lower().split(","):
        name, *parameters = item.split(";")
        found = max(found, (_specificity(name.strip(), wanted), _quality(parameters)))
    specific, quality = found
    return (quality if specific >= 0 else 0.0), specific


def _specificity(name: str, wanted: str) -> int:
    """Return how specific a range that covers `wanted` is: 2 the type itself, 1 its family, 0 any; -1: it does not."""
    ranges = ("*/*", wanted.partition("/")[0] + "/*", wanted)
    return ranges.index(name) if name in ranges else -1


def _quality(parameters: list[str]) -> float:
    for parameter in parameters:
        found = _QUALITY.fullmatch(parameter)
        if found:
            return float(found[1])
    return 1.0
