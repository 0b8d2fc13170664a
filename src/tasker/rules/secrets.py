"""Secret params: replaced by MASK in the params that are stored and shown, and put back only for the function.

`tasker.secret` marks a parameter as secret.
"""

from __future__ import annotations

import json
import re
from bisect import bisect_right
from collections.abc import Callable, Collection, Iterator
from itertools import islice
from typing import Any, NamedTuple, TypeVar, get_args
from urllib.parse import quote

import msgspec
from msgspec import Meta, Raw, Struct

from tasker.model import Report, TaskProblem
from tasker.model.steps import NewStep

MASK = "***"
secret = Meta(extra_json_schema={"writeOnly": True, "format": "password"})
"""Marks a parameter whose value is never shown: `token: Annotated[str, secret]`. The function gets the value."""

_MASK_JSON = Raw(b'"***"')
_LEAST = 4
"""Minimum length in characters of a value that is searched for in reports: shorter ones occur in ordinary words."""
_LEAST_OF_A_LINE = 8
"""The same minimum for one line of a value that has several lines."""
MAX_TEXTS = 1_000
"""Limit of the searched texts in one task's secret params: each delays the start of the task by about 20 us."""
_FEW = 300
"""Number of texts up to which replacing one after the other is fastest."""
_DEEPEST = 200
"""Levels of nesting within which texts are searched for; deeper parts are masked as a whole."""
_PLAIN = re.compile(r"[A-Za-z0-9_.~-]*")
"""Texts that have the same form in Python, JSON and URLs."""
_ESCAPED = re.compile(r"%[0-9A-F]{2}")
_Top = list[Raw] | dict[str, Raw]
_decode: msgspec.json.Decoder[_Top] = msgspec.json.Decoder(_Top)
_encode = msgspec.json.Encoder().encode
S = TypeVar("S", bound=Struct)
_decode_kept = msgspec.json.Decoder(dict[str, Raw]).decode


class Erased(Exception):
    """The secrets of a task were erased."""


class Hidden(NamedTuple):
    """Params with masks, and the secrets that these replace (None: no secrets), both as JSON text."""

    params: bytes
    secrets: bytes | None


class Places(NamedTuple):
    """The secret params of a task type: their names, the names of all params by position, the name of *args."""

    names: frozenset[str]
    positional: tuple[str, ...]
    rest: str | None

    def of(self, params: Collection[Any]) -> Iterator[int | str]:
        """Yield the keys of an object, or the indices of an array, that have a secret value."""
        if isinstance(params, dict):
            yield from self.names & params.keys()
            return
        for place in range(len(params)):
            name = self.positional[place] if place < len(self.positional) else self.rest
            if name in self.names:
                yield place


def is_secret(hint: Any) -> bool:
    """Tell whether an annotation marks its parameter, or a part of it, as secret."""
    return hint is secret or any(is_secret(part) for part in (*get_args(hint), *getattr(hint, "__metadata__", ())))


def hide(params: bytes, places: Places) -> Hidden:
    """Replace the secrets of params by masks."""
    top: Any = _decode.decode(params)
    kept = {}
    for place in places.of(top):
        kept[str(place)] = top[place]
        top[place] = _MASK_JSON
    return Hidden(_encode(top), _encode(kept)) if kept else Hidden(params, None)


def find_masks(params: Any, places: Places) -> list[int | str]:
    """Return the keys or indices of decoded params that have the mask instead of a secret."""
    return [place for place in places.of(params) if params[place] == MASK]


def has_too_many(params: Any, places: Places) -> bool:
    """Tell whether the secrets of decoded params have more than MAX_TEXTS texts to search for."""
    texts = (text for place in places.of(params) for text in _texts(params[place]))
    return next(islice(texts, MAX_TEXTS, None), None) is not None


def reveal(params: bytes, secrets: bytes | None, places: Places) -> bytes:
    """Put the secrets back into params. Raises Erased if params have masks, and the secrets are gone."""
    top: Any = _decode.decode(params)
    if secrets is None:
        if any(bytes(top[place]) == bytes(_MASK_JSON) for place in places.of(top)):
            raise Erased
        return params
    for place, value in _decode_kept(secrets).items():
        top[int(place) if isinstance(top, list) else place] = value
    return _encode(top)


class Scrubber:
    """Masks secrets in what a task reports, the longest first, also in the forms of Python, JSON and URLs.

    The time for a text depends only on its own length, however many secrets there are. A secret that is reported in
    pieces is not found.
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
        return self._struct(problem)

    def report(self, report: Report) -> Report:
        events = tuple(
            msgspec.structs.replace(event, data=_encode(self._members(msgspec.json.decode(event.data))))
            for event in report.events
        )
        progress = None if report.progress is None else self._struct(report.progress)
        usage = None if report.usage is None else _encode(self._walk(msgspec.json.decode(report.usage)))
        steps = tuple(self.step(step) for step in report.steps)
        return msgspec.structs.replace(report, events=events, steps=steps, progress=progress, usage=usage)

    def step(self, step: NewStep) -> NewStep:
        """Mask secrets in what a step shows; if its value has any, the value itself becomes its `secret_value`."""
        value, question = self._json(step.value, self._walk), self._json(step.question, self._members)
        secret_value = step.secret_value if value == step.value else step.value
        return msgspec.structs.replace(step, value=value, question=question, secret_value=secret_value)

    def _json(self, text: bytes | None, mask: Callable[[Any], Any]) -> bytes | None:
        """Return a JSON text with secrets masked; the text itself if it has none."""
        if text is None:
            return None
        value = msgspec.json.decode(text)
        masked = mask(value)
        return text if masked == value else _encode(masked)

    def _struct(self, one: S) -> S:
        """Mask secrets in the texts of a struct, and of those in it; its own names stay."""
        texts = ((name, getattr(one, name)) for name in one.__struct_fields__)
        masked = {name: self._struct(it) if isinstance(it, Struct) else self._walk(it) for name, it in texts}
        return msgspec.structs.replace(one, **masked)

    def _members(self, value: Any) -> Any:
        """Mask secrets in an object of ours, whose own names stay."""
        return {name: self._walk(member) for name, member in value.items()} if isinstance(value, dict) else value

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
    """Finds the longest of many texts at a position: by its first characters, then by binary search.

    The texts are sorted. If any of them is a prefix of the text at the position, it is the last one that does not sort
    after that text, or a prefix of that one. So few comparisons suffice, without the memory of an automaton.
    """

    def __init__(self, texts: Collection[str]) -> None:
        self._starts = {text[:_LEAST] for text in texts}
        self._texts = sorted(texts)
        self._longest = max(map(len, texts))
        self._outer = [-1] * len(texts)  # the longest other text that is its prefix, -1 for none
        self._jump = [-1] * len(texts)  # a shorter prefix, so that few steps lead to any of them
        self._depth = [0] * len(texts)
        self._nest()

    def mask(self, text: str) -> str:
        """Return the text with each secret replaced by MASK; secrets that overlap get one for all of them."""
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
        """Return the length of the longest secret at a position; 0 for none."""
        texts = self._texts
        found = bisect_right(texts, text[place : place + self._longest]) - 1
        while found >= 0 and not text.startswith(texts[found], place):
            jump = self._jump[found]
            is_inside = jump >= 0 and not text.startswith(texts[jump], place)
            found = jump if is_inside else self._outer[found]
        return len(texts[found]) if found >= 0 else 0

    def _nest(self) -> None:
        """Find for each text the longest other text that is its prefix, and jumps for a logarithmic number of steps."""
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
    """Yield every text of a value that is long enough to search for."""
    if isinstance(value, str):
        if len(value) >= _LEAST:
            yield value
        lines = value.splitlines()
        if len(lines) > 1:  # a key in PEM form may be reported line by line
            yield from (line for line in lines if len(line) >= _LEAST_OF_A_LINE)
    elif isinstance(value, dict | list):
        for part in (*value, *value.values()) if isinstance(value, dict) else value:
            yield from _texts(part)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield from _texts(str(value))


def _variants(text: str) -> Iterator[str]:
    """Yield the forms of a text: as it is, percent-encoded, as Python and JSON write it."""
    yield text
    if _PLAIN.fullmatch(text):
        return
    for safe in ("", "/", "!'()*", ";,/?:@&=+$!'()*#"):  # as Python and JavaScript's two functions encode it
        encoded = quote(text, safe=safe, errors="surrogatepass")
        for shown in (encoded, encoded.replace("%20", "+")):
            yield shown
            yield _ESCAPED.sub(lambda found: found[0].lower(), shown)
    for shown in (repr(text)[1:-1], json.dumps(text)[1:-1], json.dumps(text, ensure_ascii=False)[1:-1]):
        yield shown
        yield json.dumps(shown, ensure_ascii=False)[1:-1]
