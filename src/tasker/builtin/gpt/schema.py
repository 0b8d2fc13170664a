"""JSON Schemas that a text has to fit: checked when a task is submitted, said to the model, and held to its text.

Schemas come from clients, texts from models: neither may reach the network, nor keep the service busy for long.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from contextvars import ContextVar
from functools import lru_cache
from itertools import islice
from time import monotonic
from typing import Any, NamedTuple
from urllib.parse import unquote

import msgspec

from tasker.builtin.gpt.strict import is_strict, to_object
from tasker.builtin.gpt.text import mend_escapes
from tasker.errors import Fail, Fault
from tasker.validation.jsontext import escape

Schema = dict[str, Any]

MAX_SIZE = 32 * 1024
"""Bytes of a schema's JSON text."""
MAX_SCHEMAS = 1_000
"""Schemas within one, itself included: looking at each takes a quarter of a millisecond."""
MAX_VALUES = 5_000
"""Values of its JSON, such as the words of an `enum`."""
MAX_DEPTH = 40
"""Levels of its JSON: each one takes some of Python's stack when a text is held against the schema."""
MAX_PATTERN = 1_000
"""Characters of a regular expression."""
MAX_PATTERNS = 100
MAX_SECONDS = 1.0
"""How long a text is held against a schema: one that refers to itself in many ways could take for ever."""
_PATTERN_MEMORY = 256 << 10
"""Bytes of a compiled pattern: so many steps of it are taken for each byte of a text at the most."""
_MAX_WORDS = 200
_MAX_FAULTS = 20

IN_MAPS = ("properties", "$defs", "definitions", "dependentSchemas", "patternProperties")
IN_LISTS = ("allOf", "anyOf", "oneOf", "prefixItems")
ALONE = (
    "items", "additionalProperties", "not", "if", "then", "else", "contains", "propertyNames", "unevaluatedItems",
    "unevaluatedProperties",
)  # fmt: skip
_REFUSED = {
    "$id": "names of schemas are not taken; refer to `#/$defs/...`",
    "$anchor": "names of schemas are not taken; refer to `#/$defs/...`",
    "$dynamicRef": "is not taken; use `$ref`",
    "$dynamicAnchor": "is not taken; use `$ref`",
    "patternProperties": "is not taken; name the properties",
}
_encode = msgspec.json.Encoder(order="sorted").encode


def check_schema(schema: Schema) -> tuple[Fault, ...]:
    """Return what is wrong with a schema, the pointers being relative to it; nothing if it can be used."""
    text = _encode(schema)
    if len(text) > MAX_SIZE:
        return (Fault("", f"expected at most {MAX_SIZE:,} bytes of JSON, got {len(text):,}"),)
    return _check(text)


@lru_cache(maxsize=256)  # it takes a quarter of a second for a large one, and clients use theirs again and again
def _check(text: bytes) -> tuple[Fault, ...]:
    from jsonschema import Draft202012Validator

    schema = msgspec.json.decode(text)
    if why := _too_large(schema):  # before anything looks at all of it, or goes down with it
        return (Fault("", why),)
    found = Draft202012Validator(Draft202012Validator.META_SCHEMA).iter_errors(schema)
    faults = (Fault("".join(f"/{escape(str(part))}" for part in e.absolute_path), _short(e.message)) for e in found)
    return _first(faults) or _first(_own_faults(schema))


def _first(faults: Iterator[Fault]) -> tuple[Fault, ...]:
    """Return the first different ones: what comes behind them is not looked for."""
    return tuple(dict.fromkeys(islice(faults, _MAX_FAULTS)))


def _too_large(schema: Schema) -> str | None:
    """Return what a schema has too much of, None if it can be looked at."""
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
    """Yield what a schema may not hold here although it is one."""
    places = dict(walk(schema))
    ends = _Ends(places)
    for pointer, node in places.items():
        for word, refusal in _REFUSED.items():
            if word in node:
                yield Fault(f"{pointer}/{word}", refusal)
        if "$schema" in node and pointer:
            yield Fault(f"{pointer}/$schema", "is taken at the top alone")
        if "$ref" in node and (why := ends.fault_of(node)):
            yield Fault(f"{pointer}/$ref", _short(why))
        if "pattern" in node and (why := _pattern_fault(node["pattern"])):
            yield Fault(f"{pointer}/pattern", _short(why))


def _pattern_fault(pattern: str) -> str | None:
    if len(pattern) > MAX_PATTERN:
        return f"expected at most {MAX_PATTERN:,} characters, got {len(pattern):,}"
    try:
        compile_pattern(pattern)
    except ValueError as error:
        return f"is no regular expression that is taken here: {error}"
    return None


@lru_cache(maxsize=256)
def compile_pattern(pattern: str) -> Any:
    r"""Return a regular expression that takes time in proportion to a text, whatever the two are.

    The dialect is RE2's, with the escapes of ECMA-262 beside it that JSON Schemas have: `\u00e9`, `\cJ`. No look-around
    and no reference back, which neither the local model's grammar knows. Raises ValueError.
    """
    import re2

    options = re2.Options()
    options.max_mem = _PATTERN_MEMORY
    options.log_errors = False
    try:
        return re2.compile(_ESCAPES.sub(_as_re2, pattern), options)
    except re2.error as error:
        [words] = error.args
        raise ValueError(words.decode(errors="replace") if isinstance(words, bytes) else str(words)) from None
    except UnicodeEncodeError:
        raise ValueError("it holds half a character") from None


_ESCAPES = re.compile(r"\\(?:u([0-9a-fA-F]{4})|c([A-Za-z])|.)", re.DOTALL)


def _as_re2(found: re.Match[str]) -> str:
    if found[1] is not None:
        return rf"\x{{{found[1]}}}"
    return rf"\x{ord(found[2].upper()) - 64:02x}" if found[2] is not None else found[0]


def walk(schema: Any, pointer: str = "") -> Iterator[tuple[str, Schema]]:
    """Yield every schema within `schema`, itself first, each with where it is; what is none is passed over."""
    if not isinstance(schema, dict):
        return
    yield pointer, schema
    for word in IN_MAPS:
        if isinstance(members := schema.get(word), dict):
            for name, member in members.items():
                yield from walk(member, f"{pointer}/{word}/{escape(name)}")
    for word in IN_LISTS:
        if isinstance(members := schema.get(word), list):
            for index, member in enumerate(members):
                yield from walk(member, f"{pointer}/{word}/{index}")
    for word in ALONE:
        if word in schema:
            yield from walk(schema[word], f"{pointer}/{word}")


class _Ends:
    """Where the references of a schema lead: each is followed once, however many lead to it."""

    def __init__(self, places: dict[str, Schema]) -> None:
        self._places = places
        self._known: dict[str, str | None] = {}

    def fault_of(self, node: Schema) -> str | None:
        """Return what is wrong with the reference of a node, or with one that it leads to at once."""
        followed: list[str] = []
        why: str | None = None
        while "$ref" in node:
            ref = node["$ref"]
            if ref in self._known:
                why = self._known[ref]
                break
            followed.append(ref)
            self._known[ref] = "refers to itself, without end"  # if the way comes by here again
            found = self._places.get(unquote(ref[1:])) if ref.startswith("#") else None
            if found is None:
                why = f"expected a schema within this one, like `#/$defs/name`, got {ref!r}"
                break
            node = found
        self._known.update(dict.fromkeys(followed, why))
        return why


class Shape(NamedTuple):
    """What a text has to be: `asked` is the schema that a model is given, `strict` whether it must keep to the letter.

    is_wrapped: what is asked for is an object with the value in it, as some models write nothing but objects.
    """

    schema: Schema
    asked: Schema
    strict: bool
    is_wrapped: bool

    def read(self, text: str) -> Any:
        """Return the value that the text holds; raises Fail if it holds none that fits. Do it in a thread."""
        try:
            value = msgspec.json.decode(mend_escapes(text))
        except (msgspec.DecodeError, RecursionError) as error:
            raise _mismatch(f"it is not JSON ({error})") from None
        if self.is_wrapped:
            if not isinstance(value, dict) or value.keys() != {"value"}:
                raise _mismatch("expected an object that holds `value` alone")
            value = value["value"]
        _hold_against(self.schema, value)
        return value


def make_shape(schema: Schema, *, objects_only: bool) -> Shape:
    """Return what a text must be to fit a schema that `check_schema` has found good.

    objects_only: of a model that takes schemas of objects alone, and strict ones of a small part of JSON Schema.
    """
    plain = {word: value for word, value in schema.items() if word != "$schema"}
    if not objects_only:
        return Shape(plain, plain, strict=True, is_wrapped=False)
    is_object = plain.get("type") == "object"
    asked = plain if is_object else to_object(plain)
    strict = is_strict(asked)
    return Shape(plain, asked, strict, is_wrapped=not is_object)


def _mismatch(why: str) -> Fail:
    """Another text may fit: the attempt is tried again."""
    return Fail(f"the model's text does not fit the schema: {why}", retry=True, problem="gpt-schema-mismatch")


def _not_held(why: str) -> Fail:
    """No other text would fare better."""
    return Fail(f"the model's text cannot be held against the schema: {why}", problem="gpt-schema-mismatch")


class _TooLongError(Exception):
    """The schema takes too long."""


class _BadPatternError(Exception):
    """A pattern cannot be used: it was taken by an earlier version."""


_until: ContextVar[float] = ContextVar("_until")


def _hold_against(schema: Schema, value: Any) -> None:
    from referencing import Registry

    _until.set(monotonic() + MAX_SECONDS)
    try:
        validator = _validator_class()(schema, registry=Registry())  # one that fetches nothing
        error = next(validator.iter_errors(value), None)
    except _TooLongError:
        raise _not_held("that takes too long") from None
    except _BadPatternError as error:
        raise _not_held(_short(f"a pattern is not taken any more: {error}")) from None
    except RecursionError:
        raise _not_held("it refers to itself, without end") from None
    except ArithmeticError:
        raise _not_held("a number is too large") from None
    if error is not None:
        place = "".join(f"/{escape(str(part))}" for part in error.absolute_path)
        raise _mismatch(_short(f"{error.message}") + (f" at {place}" if place else ""))


@lru_cache(maxsize=1)
def _validator_class() -> Any:
    """Return a validator that looks at the clock with each word of the schema, and whose patterns have a limit too."""
    from jsonschema import Draft202012Validator, validators

    checks = {word: _timed(check) for word, check in Draft202012Validator.VALIDATORS.items()}
    extend: Any = validators.extend  # comes without types
    return extend(Draft202012Validator, {**checks, "pattern": _timed(_pattern)})


def _timed(check: Callable[..., Any]) -> Callable[..., Any]:
    def checked(validator: Any, word: Any, value: Any, schema: Any) -> Any:
        if monotonic() > _until.get():
            raise _TooLongError
        return check(validator, word, value, schema)

    return checked


def _pattern(validator: Any, pattern: str, value: Any, _: Any) -> Iterator[Any]:
    from jsonschema import ValidationError

    try:
        if validator.is_type(value, "string") and compile_pattern(pattern).search(value) is None:
            yield ValidationError(f"{value!r} does not match {pattern!r}")
    except ValueError as error:
        raise _BadPatternError(str(error)) from None


def _short(words: str) -> str:
    return words if len(words) <= _MAX_WORDS else words[:_MAX_WORDS] + "..."
