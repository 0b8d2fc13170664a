"""Check a JSON Schema from outside: of a `gpt` task, or of a question to a person.

It fetches nothing, and takes time in proportion to the schema, which is bounded.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import lru_cache
from itertools import islice
from typing import Any
from urllib.parse import unquote

import msgspec

from tasker.errors import Fault
from tasker.validation.jsontext import escape
from tasker.validation.patterns import compile_pattern

Schema = dict[str, Any]

MAX_SIZE = 32 * 1024
"""Bytes of the schema's JSON text."""
MAX_SCHEMAS = 1_000
"""Schemas in it, itself included. The check takes a quarter of a millisecond for each."""
MAX_VALUES = 5_000
"""JSON values in it, such as those of an `enum`."""
MAX_DEPTH = 40
"""Levels of its JSON. Each takes some of Python's stack when a text is checked."""
MAX_PATTERN = 1_000
"""Characters of a regular expression."""
MAX_PATTERNS = 100
_MAX_DETAIL = 200
_MAX_FAULTS = 20

_IN_MAPS = ("properties", "$defs", "definitions", "dependentSchemas", "patternProperties")
_IN_LISTS = ("allOf", "anyOf", "oneOf", "prefixItems")
_UNEVALUATED = ("unevaluatedItems", "unevaluatedProperties")
_ALONE = ("items", "additionalProperties", "not", "if", "then", "else", "contains", "propertyNames", *_UNEVALUATED)
"""Keywords whose values are objects of schemas, lists of schemas, and single schemas."""
_REFUSED = {
    "$id": "is not supported; refer to `#/$defs/...`",
    "$anchor": "is not supported; refer to `#/$defs/...`",
    "$dynamicRef": "is not supported; use `$ref`",
    "$dynamicAnchor": "is not supported; use `$ref`",
    "patternProperties": "is not supported; name the properties",
}
_encode = msgspec.json.Encoder(order="sorted").encode


def check_schema(schema: Schema) -> tuple[Fault, ...]:
    """Return the faults of a schema, with pointers relative to it; none if it can be used."""
    text = _encode(schema)
    if len(text) > MAX_SIZE:
        return (Fault("", f"expected at most {MAX_SIZE:,} bytes of JSON, got {len(text):,}"),)
    return _check(text)


@lru_cache(maxsize=256)  # a large one takes a quarter of a second, and clients reuse theirs
def _check(text: bytes) -> tuple[Fault, ...]:
    from jsonschema import Draft202012Validator

    schema = msgspec.json.decode(text)
    if why := _too_large(schema):  # first: the rest walks all of it
        return (Fault("", why),)
    found = Draft202012Validator(Draft202012Validator.META_SCHEMA).iter_errors(schema)
    faults = (Fault("".join(f"/{escape(str(part))}" for part in e.absolute_path), shorten(e.message)) for e in found)
    return _first(faults) or _first(_own_faults(schema))


def _first(faults: Iterator[Fault]) -> tuple[Fault, ...]:
    """Return the distinct ones of the first faults; the rest is not computed."""
    return tuple(dict.fromkeys(islice(faults, _MAX_FAULTS)))


def _too_large(schema: Schema) -> str | None:
    """Return which limit the schema exceeds, or None."""
    values, level = 0, [schema]
    for _ in range(MAX_DEPTH + 1):
        values += len(level)
        if values > MAX_VALUES:
            return f"expected at most {MAX_VALUES:,} values in it"
        level = [inner for value in level for inner in _within(value)]
        if not level:
            break
    else:
        return f"expected at most {MAX_DEPTH} levels"
    patterns = 0
    for count, (_, node) in enumerate(walk(schema), start=1):
        patterns += "pattern" in node
        if count > MAX_SCHEMAS or patterns > MAX_PATTERNS:
            return f"expected at most {MAX_SCHEMAS:,} schemas in it, and {MAX_PATTERNS} patterns"
    return None


def _within(value: Any) -> Iterable[Any]:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()


def _own_faults(schema: Schema) -> Iterator[Fault]:
    """Yield the faults of what JSON Schema allows and Tasker does not."""
    places = dict(walk(schema))
    references = _References(places)
    for pointer, node in places.items():
        for word, refusal in _REFUSED.items():
            if word in node:
                yield Fault(f"{pointer}/{word}", refusal)
        if "$schema" in node and pointer:
            yield Fault(f"{pointer}/$schema", "is allowed at the top only")
        if "$ref" in node and (why := references.fault_of(node)):
            yield Fault(f"{pointer}/$ref", shorten(why))
        if "pattern" in node and (why := _pattern_fault(node["pattern"])):
            yield Fault(f"{pointer}/pattern", shorten(why))


def _pattern_fault(pattern: str) -> str | None:
    if len(pattern) > MAX_PATTERN:
        return f"expected at most {MAX_PATTERN:,} characters, got {len(pattern):,}"
    try:
        compile_pattern(pattern)
    except ValueError as error:
        return f"is not a regular expression of the supported kind (RE2): {error}"
    return None


def walk(schema: Any, pointer: str = "") -> Iterator[tuple[str, Schema]]:
    """Yield `schema` and every schema in it, each with its pointer. Skip what is no object."""
    if not isinstance(schema, dict):
        return
    yield pointer, schema
    for word in _IN_MAPS:
        if isinstance(members := schema.get(word), dict):
            for name, member in members.items():
                yield from walk(member, f"{pointer}/{word}/{escape(name)}")
    for word in _IN_LISTS:
        if isinstance(members := schema.get(word), list):
            for index, member in enumerate(members):
                yield from walk(member, f"{pointer}/{word}/{index}")
    for word in _ALONE:
        if word in schema:
            yield from walk(schema[word], f"{pointer}/{word}")


class _References:
    """The references of a schema. Each is followed once, however many lead to it."""

    def __init__(self, places: dict[str, Schema]) -> None:
        self._places = places
        self._known: dict[str, str | None] = {}

    def fault_of(self, node: Schema) -> str | None:
        """Return the fault of a node's reference, or of the chain that it starts; None if there is none."""
        followed: list[str] = []
        why: str | None = None
        while "$ref" in node:
            ref = node["$ref"]
            if ref in self._known:
                why = self._known[ref]
                break
            followed.append(ref)
            self._known[ref] = "refers to itself without end"  # stands if the chain returns here
            found = self._places.get(unquote(ref[1:])) if ref.startswith("#") else None
            if found is None:
                why = f"expected a schema within this one, like `#/$defs/name`, got {ref!r}"
                break
            node = found
        self._known.update(dict.fromkeys(followed, why))
        return why


def shorten(text: str) -> str:
    """Return the text, cut to a length that fits into a fault."""
    return text if len(text) <= _MAX_DETAIL else text[:_MAX_DETAIL] + "..."
