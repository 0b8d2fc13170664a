"""Reads a task's params from the words of a command line.

By position, each word is a JSON value, or else a string: `4`, `true`, `[1,2]`, `hello`, `'"4"'` (a string).
By name: `key=text`, `key:=json`, `key=@file`, `key:=@file`. A word `@file` or `-` (standard input) stands for the
file's content; if it is the only word and holds a JSON array or object, that is all of the params.

Params by position may come with params by name, as in a call of Python. The type's schema decides the rest: a text is
read as JSON for a param that takes no string, and stays a text for one that takes only strings. Numbers keep their
digits.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import isinf
from pathlib import Path
from typing import Any

from msgspec import UNSET, Raw

from tasker.errors import TaskerError
from tasker.validation.encoding import is_kept

_NAMED = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)(:?=)(.*)", re.DOTALL)

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_NAMES: dict[type, tuple[str, ...]] = {
    type(None): ("null",),
    bool: ("boolean",),
    int: ("integer", "number"),
    float: ("number",),
    Raw: ("number",),
    str: ("string",),
    list: ("array",),
    dict: ("object",),
}
_STANDARD = {"-", "@-"}  # cli/__init__.py turns a lone dash into the latter


class UsageError(TaskerError):
    """The command line is wrong; the message says what was expected."""


@dataclass(frozen=True)
class Accepts:
    """Which kinds of JSON the params of a task type take: by name, by position, and after the last position.

    rest_name: the name of the param that takes what comes after the last position, "" if there is none.
    """

    named: Mapping[str, frozenset[str]]
    positional: Sequence[str] = ()
    rest: frozenset[str] = frozenset()
    rest_name: str = ""

    def at(self, position: int) -> frozenset[str]:
        return self.named[self.positional[position]] if position < len(self.positional) else self.rest


_ANYTHING = Accepts({})


def read_accepts(task_type: Mapping[str, Any]) -> Accepts:
    """Return what a task type of `GET /type/{name}` takes; nothing for a param whose schema is not simple."""
    schema = task_type["input_schema"]
    named = {name: kinds_within(member, schema) for name, member in schema["properties"].items()}
    rest_name = task_type.get("rest") or ""
    rest = schema["properties"].get(rest_name, {}).get("items", {})
    return Accepts(named, task_type.get("positional") or (), kinds_within(rest, schema), rest_name)


def read_params(
    words: Sequence[str], ask: Callable[[], Accepts] = lambda: _ANYTHING, flags: Mapping[str, Any] | None = None
) -> list[Any] | dict[str, Any]:
    """Return the params that `words` stand for. ask: returns what the type takes, if needed. Raises UsageError.

    flags: params that are read already.
    """
    params = dict(flags or {})
    refuse_shared_input(words)
    if len(words) == 1 and is_source(words[0]):
        value = _guess(read_source(words[0]))
        return _with_flags(value if isinstance(value, list | dict) else [value], params, ask)
    named = [match for word in words if (match := _NAMED.fullmatch(word))]
    accepts = ask() if any(match[2] == "=" for match in named) else _ANYTHING
    for key, operator, text in (match.groups() for match in named):
        if key in params:
            raise UsageError(f"{key}: given twice")
        params[key] = _named_value(key, operator, text, accepts.named.get(key, frozenset()))
    positional = _read_positional([word for word in words if not _NAMED.fullmatch(word)], ask)
    return _with_flags(positional, params, ask) if positional else params or positional


def _with_flags(
    values: list[Any] | dict[str, Any], params: dict[str, Any], ask: Callable[[], Accepts]
) -> list[Any] | dict[str, Any]:
    """Return the params that all `values` are, together with those by name. Raises UsageError."""
    if not params:
        return values
    named = values if isinstance(values, dict) else name_values(values, ask())
    for key in params:
        if key in named:
            raise UsageError(f"{key}: given twice, by position and by name")
    return named | params


def name_values(values: Sequence[Any], accepts: Accepts) -> dict[str, Any]:
    """Return params by position as params by name. Raises UsageError."""
    names = accepts.positional
    if not names:
        raise UsageError("give the params by position or by name, not both; quote a text with = as '\"a=b\"'")
    if len(values) > len(names) and not accepts.rest_name:
        raise UsageError(f"expected at most {len(names)} params by position, got {len(values)}")
    named = dict(zip(names, values, strict=False))
    return named | ({accepts.rest_name: list(values[len(names) :])} if len(values) > len(names) else {})


def as_named(params: Any, accepts: Accepts) -> dict[str, Any]:
    """Return stored params by name. Raises UsageError if some have none."""
    return dict(params) if isinstance(params, Mapping) else name_values(params, accepts) if params else {}


def read_value(words: Sequence[str], schema: Mapping[str, Any]) -> Any:
    """Return the one value that `words` stand for: a word, or the members of an object. Raises UsageError.

    schema: the JSON Schema that it has to fit; {} if unknown.
    """
    taken = kinds_of_schema(schema)
    if taken != {"string"} and all(_NAMED.fullmatch(word) for word in words):
        return read_params(words, lambda: Accepts(properties_of(schema)))
    if len(words) > 1:
        raise UsageError("expected one value, or the members of an object as key=text or key:=json")
    text = read_source(words[0]) if is_source(words[0]) else words[0]
    value = _guess(text)
    return text if "string" in taken and not taken & _kinds_of(value) else value


def read_cell(param: str, text: str, accepts: Accepts) -> Any:
    """Return the value of a cell of a table: a text, or what it is as JSON for a param that takes no text.

    An empty cell of such a param is UNSET. Raises UsageError.
    """
    taken = accepts.named.get(param, frozenset())
    if not taken or "string" in taken:
        return text
    if "boolean" in taken and text.lower() in {"true", "false"}:  # as Python and spreadsheets write them, too
        return text.lower() == "true"
    try:
        return _parse(text) if text.strip() else UNSET
    except ValueError:
        kinds = " or ".join(sorted(taken))
        raise UsageError(f"{param}: expected {kinds}, in JSON, got {text[:80]!r}") from None


def kinds_of_schema(schema: Mapping[str, Any]) -> frozenset[str]:
    """Return the kinds of JSON that fit a schema; none if it is not simple."""
    return kinds_within(schema, schema)


def properties_of(schema: Mapping[str, Any]) -> dict[str, frozenset[str]]:
    """Return the properties of objects that fit a schema, and the kinds of JSON that each takes."""
    properties: Mapping[str, Any] = resolve(schema, schema).get("properties", {})
    return {name: kinds_within(member, schema) for name, member in properties.items()}


def read_seconds(text: str) -> int | None:
    """Return the seconds of a duration with a unit (90s, 5m, 12h, 30d, 8w), None for any other text."""
    found = re.fullmatch(r"(\d{1,6})([smhdw])", text)
    return None if found is None else int(found[1]) * _UNITS[found[2]]


def _read_positional(words: Sequence[str], ask: Callable[[], Accepts]) -> list[Any]:
    texts = [read_source(word) if is_source(word) else word for word in words]
    guessed = [_guess(text) for text in texts]
    if all(isinstance(value, str) for value in guessed):
        return guessed
    accepts = ask()
    kinds = [accepts.at(position) for position in range(len(words))]
    return [
        text if "string" in taken and not taken & _kinds_of(value) else value
        for text, value, taken in zip(texts, guessed, kinds, strict=True)
    ]


def kinds_within(schema: Mapping[str, Any], whole: Mapping[str, Any]) -> frozenset[str]:
    """Return the kinds of JSON that fit a schema; none if the schema is not simple."""
    match schema:
        case {"$ref": str()}:
            return kinds_within(resolve(schema, whole), whole)
        case {"anyOf": list(several)} | {"oneOf": list(several)}:
            each = [kinds_within(one, whole) for one in several]
            return frozenset().union(*each) if all(each) else frozenset()
        case {"enum": list(values)}:
            return frozenset().union(*map(_kinds_of, values))
        case {"type": str(kind)}:
            return frozenset({kind})
        case {"type": list(kinds)}:
            return frozenset(kinds)
    return frozenset()


def resolve(schema: Mapping[str, Any], whole: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the schema that a reference stands for, or the schema itself."""
    ref = schema.get("$ref")
    if not isinstance(ref, str):
        return schema
    found: Mapping[str, Any] = whole.get("$defs", {}).get(ref.rpartition("/")[2], {})
    return found


def _kinds_of(value: Any) -> frozenset[str]:
    """Return JSON Schema's names for the type of a value."""
    return frozenset(_NAMES[type(value)])


def is_source(word: str) -> bool:
    """Tell whether a word stands for the content of a file or of standard input."""
    return word == "-" or (word.startswith("@") and len(word) > 1)


def refuse_shared_input(words: Iterable[str], texts: Iterable[str] = ()) -> None:
    """Raise UsageError if several params are to have the content of standard input: only the first would get it.

    texts: what flags are given.
    """
    named = (match[3] if (match := _NAMED.fullmatch(word)) else word for word in words)
    if sum(text in _STANDARD for text in (*named, *texts)) > 1:
        raise UsageError("standard input: it can be the content of one param only")


def read_source(source: str) -> str:
    """Return the text of a file (@file) or of standard input (- or @-). Raises UsageError."""
    try:
        return sys.stdin.read() if source in _STANDARD else Path(source[1:]).read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise UsageError(f"{_name(source)}: expected text in UTF-8: {error}") from error
    except OSError as error:
        quote = "" if source in _STANDARD else "; quote a text that begins with @ as '\"@text\"'"
        raise UsageError(f"{_name(source)}: {error.strerror}{quote}") from error


def _name(source: str) -> str:
    return "standard input" if source in _STANDARD else source


def _guess(text: str) -> Any:
    try:
        return _parse(text)
    except ValueError:
        return text


def read_text(text: str, taken: frozenset[str]) -> Any:
    """Return the value that a text stands for, where these kinds of JSON are taken. Raises UsageError."""
    content = read_source(text) if is_source(text) else _without_quotes(text)
    return content if not taken or "string" in taken else _guess(content)


def _without_quotes(text: str) -> str:
    """Return a text in quotes that stands for a file without them (`"@me"`) without them, any other as it is."""
    value = _guess(text) if text[:2] in {'"@', '"-'} else None
    return value if isinstance(value, str) and is_source(value) else text


def _named_value(key: str, operator: str, text: str, taken: frozenset[str]) -> Any:
    if operator == "=":
        return read_text(text, taken)
    content = read_source(text) if is_source(text) else text
    try:
        return _parse(content)
    except ValueError as error:
        raise UsageError(f"{key}: expected JSON after :=, got {content[:80]!r}: {error}") from error


def _parse(text: str) -> Any:
    return json.loads(text, parse_constant=_refuse, parse_float=_number)


def _number(digits: str) -> float | Raw:
    """Return a float, or the digits as they are if no float keeps them: they may be meant for a Decimal."""
    number = float(digits)
    if isinf(number):
        raise UsageError(f"{digits[:80]}: the number is too large")
    return number if is_kept(digits, number) else Raw(digits.encode())


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is not JSON")
