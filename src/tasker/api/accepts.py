"""Whether a client takes a media type: the Accept header (RFC 9110, 12.5.1)."""

from __future__ import annotations

import re

_QUALITY = re.compile(r"\s*q\s*=\s*([01](?:\.[0-9]{0,3})?)\s*", re.IGNORECASE)


def accepts(accept: bytes, media: str) -> bool:
    """Tell whether an Accept header takes `media`; the most specific range decides, q=0 refuses.

    An empty header, and a reply of any type ("*/*"), fit always.
    """
    wanted = media.partition(";")[0].strip().lower()
    if wanted == "*/*" or not accept.strip():
        return True
    best = (-1, 0.0)
    for item in accept.decode("latin-1").lower().split(","):
        name, *parameters = item.split(";")
        best = max(best, (_how_specific(name.strip(), wanted), _quality(parameters)))
    return best[0] >= 0 and best[1] > 0


def _how_specific(name: str, wanted: str) -> int:
    """Return how closely a range names `wanted`: 2 exactly, 1 its family, 0 anything, -1 not at all."""
    ranges = ("*/*", wanted.partition("/")[0] + "/*", wanted)
    return ranges.index(name) if name in ranges else -1


def _quality(parameters: list[str]) -> float:
    for parameter in parameters:
        found = _QUALITY.fullmatch(parameter)
        if found:
            return float(found[1])
    return 1.0
