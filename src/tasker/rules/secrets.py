"""Secret params: taken out of what is stored as a task's params and shown, and put back for the function alone.

What stands in their place is MASK. It is `tasker.secret` that marks a parameter.
"""

from __future__ import annotations

import json
import re
from bisect import bisect_right
from collections.abc import Collection, Iterator
from itertools import islice
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
MAX_TEXTS = 1_000
"""Texts to look for that the secret params of one task may have: each takes some 20 us before the task begins."""
_FEW = 300
"""Texts for which a replacement each is the fastest."""
_DEEPEST = 200
"""Levels of what a task says that are looked at; nothing further in is shown."""
_PLAIN = re.compile(r"[A-Za-z0-9_.~-]*")
"""What is shown as it is everywhere."""
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


def has_too_many(params: Any, places: Places) -> bool:
    """Tell whether the secrets of params, as decoded, have more than MAX_TEXTS texts to look for."""
    texts = (text for place in places.of(params) for text in _texts(params[place]))
    return next(islice(texts, MAX_TEXTS, None), None) is not None


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
    """Takes secrets out of what a task says: each text of them that stands there whole, the longest first.

    It is found as Python, JSON and URLs (percent-encoding) show it, too. However many secrets there are, a text takes
    time for its own length.

    A text that comes in pieces is not found.
    """

    def __init__(self, secrets: bytes) -> None:
        found = {variant for text in _texts(msgspec.json.decode(secrets)) for variant in _variants(text)}
        self._texts = sorted(found, key=len, reverse=True) if len(found) <= _FEW else []
        self._many = _Many(found) if len(found) > _FEW else None

    def text(self, text: str) -> str:
        if self._many is not None:
            return self._many.mask(text)
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

    def _walk(self, value: Any, depth: int = 0) -> Any:
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, list | dict) and depth == _DEEPEST:
            return MASK
        if isinstance(value, list):
            return [self._walk(item, depth + 1) for item in value]
        if isinstance(value, dict):
            return {self.text(key): self._walk(member, depth + 1) for key, member in value.items()}
        return value


class _Many:
    """Finds the longest of many texts that stands at a place: by its start, then in their alphabetical order.

    What a text begins with, if anything, is the last one of the order that is not behind it, or the start of that one.
    So the longest is found in a few comparisons, without the memory that an automaton of all of their characters takes.
    """

    def __init__(self, texts: Collection[str]) -> None:
        self._starts = {text[:_LEAST] for text in texts}
        self._texts = sorted(texts)
        self._longest = max(map(len, texts))
        self._outer = [-1] * len(texts)  # the longest of the texts that it begins with, -1 for none
        self._jump = [-1] * len(texts)  # one of those further out, so that few steps lead to any of them
        self._depth = [0] * len(texts)
        self._nest()

    def mask(self, text: str) -> str:
        """Return the text with MASK in the place of each; of those that overlap there is one for all of them."""
        starts, spans, end = self._starts, list[tuple[int, int]](), 0
        for place in range(len(text) - _LEAST + 1):
            if text[place : place + _LEAST] in starts and (size := self._size_at(text, place)):
                if place < end:
                    begin, _ = spans.pop()
                else:
                    begin = place
                end = max(end, place + size)
                spans.append((begin, end))
        pieces, done = list[str](), 0
        for begin, end in spans:
            pieces += text[done:begin], MASK
            done = end
        return "".join((*pieces, text[done:]))

    def _size_at(self, text: str, place: int) -> int:
        """Return the length of the longest that stands at a place, 0 if none does."""
        texts = self._texts
        found = bisect_right(texts, text[place : place + self._longest]) - 1
        while found >= 0 and not text.startswith(texts[found], place):
            jump = self._jump[found]
            is_inside = jump >= 0 and not text.startswith(texts[jump], place)
            found = jump if is_inside else self._outer[found]
        return len(texts[found]) if found >= 0 else 0

    def _nest(self) -> None:
        """Find what each begins with, and jumps of lengths by which the way out has as many steps as its logarithm."""
        outer, jump, depth = self._outer, self._jump, self._depth
        open_: list[int] = []
        for number, text in enumerate(self._texts):
            while open_ and not text.startswith(self._texts[open_[-1]]):
                open_.pop()
            if open_:
                out = open_[-1]
                far = jump[out]
                outer[number], depth[number] = out, depth[out] + 1
                is_even = far >= 0 and jump[far] >= 0 and depth[out] - depth[far] == depth[far] - depth[jump[far]]
                jump[number] = jump[far] if is_even else out
            open_.append(number)


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
    if _PLAIN.fullmatch(text):
        return
    for safe in ("", "/", "!'()*", ";,/?:@&=+$!'()*#"):  # as Python, and as JavaScript's two functions have it
        encoded = quote(text, safe=safe, errors="surrogatepass")
        for shown in (encoded, encoded.replace("%20", "+")):
            yield shown
            yield _ESCAPED.sub(lambda found: found[0].lower(), shown)
    for shown in (repr(text)[1:-1], json.dumps(text)[1:-1], json.dumps(text, ensure_ascii=False)[1:-1]):
        yield shown
        yield json.dumps(shown, ensure_ascii=False)[1:-1]
