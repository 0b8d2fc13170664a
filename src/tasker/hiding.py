"""Secret params: taken out of what is stored as a task's params and shown, and put back for the function alone.

What stands in their place is MASK. It is `tasker.secret` that marks a parameter.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator
from typing import Any, NamedTuple, get_args
from urllib.parse import quote

import msgspec
from msgspec import Meta, Raw

from tasker.model import Progress, Report, TaskProblem

MASK = "***"
secret = Meta(extra_json_schema={"writeOnly": True, "format": "password"})
"""Marks a parameter whose value is shown nowhere: `token: Annotated[str, secret]`. The function gets the value."""

_MASK_JSON = Raw(b'"***"')
_LEAST = 4
"""Characters that a value needs to be looked for in what a task says: shorter ones are parts of ordinary words."""
_LEAST_OF_A_LINE = 8
_ESCAPED = re.compile(r"%[0-9A-F]{2}")
_Top = list[Raw] | dict[str, Raw]
_decode: msgspec.json.Decoder[_Top] = msgspec.json.Decoder(_Top)
_encode = msgspec.json.Encoder().encode
_decode_kept = msgspec.json.Decoder(dict[str, Raw]).decode


class Erased(Exception):
    """The secrets of a task are no longer there."""


class Hidden(NamedTuple):
    """Params as they are shown, and what was taken out of them (None: nothing), both as JSON text."""

    params: bytes
    secrets: bytes | None


class Places(NamedTuple):
    """Where a task type has its secret params: their names, those that an array reaches in order, that of *args."""

    names: frozenset[str]
    positional: tuple[str, ...]
    rest: str | None

    def of(self, params: Collection[Any]) -> Iterator[int | str]:
        """Yield the keys of an object, or the indices of an array, that hold a secret."""
        if isinstance(params, dict):
            yield from self.names & params.keys()
            return
        for place in range(len(params)):
            name = self.positional[place] if place < len(self.positional) else self.rest
            if name in self.names:
                yield place


def is_secret(hint: Any) -> bool:
    """Tell whether an annotation marks its parameter, or a part of it."""
    return hint is secret or any(is_secret(part) for part in (*get_args(hint), *getattr(hint, "__metadata__", ())))


def hide(params: bytes, places: Places) -> Hidden:
    """Take the secrets out of params."""
    top: Any = _decode.decode(params)
    kept = {}
    for place in places.of(top):
        kept[str(place)] = top[place]
        top[place] = _MASK_JSON
    return Hidden(_encode(top), _encode(kept)) if kept else Hidden(params, None)


def find_masks(params: Any, places: Places) -> list[int | str]:
    """Return where params, as decoded, hold the mask in the place of a secret."""
    return [place for place in places.of(params) if params[place] == MASK]


def reveal(params: bytes, secrets: bytes | None, places: Places) -> bytes:
    """Put the secrets back into params. Raises Erased if they are not there, and were."""
    top: Any = _decode.decode(params)
    if secrets is None:
        if any(bytes(top[place]) == bytes(_MASK_JSON) for place in places.of(top)):
            raise Erased
        return params
    for place, value in _decode_kept(secrets).items():
        top[int(place) if isinstance(top, list) else place] = value
    return _encode(top)


class Scrubber:
    """Takes secrets out of what a task says: each text of them that stands there whole.

    It is found as Python, JSON and URLs (percent-encoding) show it, too.

    A text that comes in pieces is not found.
    """

    def __init__(self, secrets: bytes) -> None:
        found = {variant for text in _texts(msgspec.json.decode(secrets)) for variant in _variants(text)}
        self._texts = sorted(found, key=len, reverse=True)

    def text(self, text: str) -> str:
        for one in self._texts:
            text = text.replace(one, MASK)
        return text

    def problem(self, problem: TaskProblem) -> TaskProblem:
        return msgspec.convert(self._walk(msgspec.to_builtins(problem)), TaskProblem)

    def report(self, report: Report) -> Report:
        events = tuple(
            msgspec.structs.replace(event, data=_encode(self._walk(msgspec.json.decode(event.data))))
            for event in report.events
        )
        progress = report.progress
        if progress is not None:
            progress = msgspec.convert(self._walk(msgspec.to_builtins(progress)), Progress)
        usage = None if report.usage is None else _encode(self._walk(msgspec.json.decode(report.usage)))
        return msgspec.structs.replace(report, events=events, progress=progress, usage=usage)

    def _walk(self, value: Any) -> Any:
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, list):
            return [self._walk(item) for item in value]
        if isinstance(value, dict):
            return {self.text(key): self._walk(member) for key, member in value.items()}
        return value


def _texts(value: Any) -> Iterator[str]:
    """Yield every text of a value that is long enough to be told from others."""
    if isinstance(value, str):
        if len(value) >= _LEAST:
            yield value
        lines = value.splitlines()
        if len(lines) > 1:  # a key in PEM form is shown line by line
            yield from (line for line in lines if len(line) >= _LEAST_OF_A_LINE)
    elif isinstance(value, dict | list):
        for part in (*value, *value.values()) if isinstance(value, dict) else value:
            yield from _texts(part)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield from _texts(str(value))


def _variants(text: str) -> Iterator[str]:
    """Yield how a text may be shown: as it is, percent-encoded, as Python and JSON write it."""
    yield text
    for safe in ("", "/", "!'()*", ";,/?:@&=+$!'()*#"):  # as Python, and as JavaScript's two functions have it
        encoded = quote(text, safe=safe, errors="surrogatepass")
        for shown in (encoded, encoded.replace("%20", "+")):
            yield shown
            yield _ESCAPED.sub(lambda found: found[0].lower(), shown)
    for shown in (repr(text)[1:-1], json.dumps(text)[1:-1], json.dumps(text, ensure_ascii=False)[1:-1]):
        yield shown
        yield json.dumps(shown, ensure_ascii=False)[1:-1]
