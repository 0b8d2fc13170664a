"""What kind of control each place of a JSON Schema (2020-12) has. Pure, and bounded whatever the schema.

Schemas of task types may come from other processes: nothing is taken for granted, and what has no better kind is JSON.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from enum import Enum
from itertools import islice
from typing import Any

from tasker.web.forms.exact import ABSENT, Given, Value, exact, write

MAX_DEPTH = 4
"""Levels of objects, lists and maps below the root that have controls of their own; deeper ones are JSON."""
MAX_FIELDS = 300
"""Places of a schema that have controls of their own; what comes after them is JSON."""
MAX_VARIANTS = 10
MAX_OPTIONS = 200
_MAX_NAME = 200
_MAX_REFERENCES = 20
_MAX_DESCRIPTION = 1_000

Schema = dict[str, Any]


class Kind(Enum):
    """The kind of a control, or of a group of them."""

    TEXT = "text"
    NUMBER = "number"
    DECIMAL = "decimal"
    DATE = "date"
    MOMENT = "date and time"
    TIME = "time"
    DURATION = "duration"
    SECONDS = "seconds, or a duration"
    UUID = "UUID"
    SECRET = "secret"  # noqa: S105  no password
    BOOL = "yes or no"
    CHOICE = "choice"
    CONST = "constant"
    LIST = "list"
    OBJECT = "object"
    MAP = "names and values"
    UNION = "one of several"
    JSON = "JSON"

    @property
    def is_group(self) -> bool:
        """Whether it has fields within it."""
        return self in _GROUPS


_GROUPS = frozenset({Kind.LIST, Kind.OBJECT, Kind.MAP, Kind.UNION})
_FORMATS = {
    "date": Kind.DATE,
    "date-time": Kind.MOMENT,
    "time": Kind.TIME,
    "duration": Kind.DURATION,
    "uuid": Kind.UUID,
    "decimal": Kind.DECIMAL,
    "password": Kind.SECRET,
}
_LONG = frozenset(
    {"prompt", "text", "system", "content", "note", "notes", "body", "message", "description", "instructions"}
)
"""Names of texts that get several lines, if nothing bounds them."""
_TYPE_WORDS = {"string": "text", "integer": "whole number", "array": "list", "boolean": "yes or no"}
_STRUCTURAL = ("allOf", "if", "prefixItems", "patternProperties")


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """How one place of a schema is shown.

    words: its type and bounds. options: of a choice, or the one value of a constant. members: of an object. item: of a
    list or map. variants: of a union. is_open: whether an object takes members that the schema does not name.
    """

    kind: Kind
    words: str = ""
    description: str = ""
    default: Given = ABSENT
    is_nullable: bool = False
    is_secret: bool = False
    is_long: bool = False
    is_whole: bool = False
    is_open: bool = False
    takes_empty: bool = False
    options: tuple[Value, ...] = ()
    members: tuple[Member, ...] = ()
    item: Shape | None = None
    variants: tuple[Variant, ...] = ()


@dataclass(frozen=True, slots=True)
class Member:
    """A member that the schema of an object names."""

    name: str
    shape: Shape
    is_required: bool


@dataclass(frozen=True, slots=True)
class Variant:
    """One of the schemas of a union."""

    label: str
    shape: Shape


def shape_of(schema: object) -> Shape:
    """Return the shape of the schema of params, which may be any JSON value: an object, else JSON."""
    made = _Builder(schema).shape(schema, "", 0)
    if made.kind is not Kind.OBJECT:
        return Shape(kind=Kind.JSON, words="any JSON", description=made.description)
    return replace(made, is_nullable=False, default=ABSENT, is_secret=False)


def shape_of_value(schema: object, name: str = "") -> Shape:
    """Return the shape of the schema of any value. name: of the value."""
    return _Builder(schema).shape(schema, name, 0)


class _Builder:
    def __init__(self, root: object) -> None:
        self._root = root
        self._left = MAX_FIELDS

    def shape(self, schema: object, name: str, depth: int) -> Shape:
        """Return the shape of a part of the schema. name: of the member. depth: levels of groups around it."""
        self._left -= 1
        whole = self._resolve(schema)
        if whole is None:
            return Shape(kind=Kind.JSON, words="any JSON")
        variants, is_nullable = self._variants(whole)
        if any(key in whole for key in _STRUCTURAL) or len(variants) > MAX_VARIANTS:
            made = Shape(kind=Kind.JSON)
        elif len(variants) > 1 and {one.get("type") for one in variants} == {"integer", "number"}:
            made = self._plain({**variants[1], **variants[0], "type": "number"}, name, depth)
        elif len(variants) > 1:
            made = self._union(variants, name, depth)
        else:
            whole = {**variants[0], **_beside(whole)} if variants else whole
            made = self._plain(whole, name, depth)
        is_secret = any(map(_is_secret, (whole, *variants)))
        if is_secret and made.kind is not Kind.SECRET:
            made = Shape(kind=Kind.JSON)
        return replace(
            made,
            words=_words(made, whole),
            description=_text(whole.get("description"))[:_MAX_DESCRIPTION],
            default=_default(whole),
            is_nullable=is_nullable or made.is_nullable,
            is_secret=is_secret,
        )

    def _resolve(self, schema: object) -> Schema | None:
        """Return a schema without its reference; what stands beside it wins. None if there is no such schema."""
        for _ in range(_MAX_REFERENCES):
            if not isinstance(schema, dict):
                return None
            reference = schema.get("$ref")
            if reference is None:
                return schema
            target = self._find(reference)
            if not isinstance(target, dict):
                return None
            schema = {**target, **{key: value for key, value in schema.items() if key != "$ref"}}
        return None

    def _find(self, reference: object) -> object:
        if not isinstance(reference, str) or not reference.startswith("#"):
            return None
        found: object = self._root
        for step in reference[1:].split("/")[1:][:_MAX_REFERENCES]:
            found = found.get(step.replace("~1", "/").replace("~0", "~")) if isinstance(found, dict) else None
        return found

    def _variants(self, schema: Schema) -> tuple[list[Schema], bool]:
        """Return the schemas of a union without null, those of inner unions among them, and whether null is one."""
        found = list(islice(self._flat(schema, 0), MAX_VARIANTS + 2)) if _is_union(schema) else []
        is_null = [one.get("type") == "null" or one.get("const", ABSENT) is None for one in found]
        return [one for one, null in zip(found, is_null, strict=True) if not null], any(is_null)

    def _flat(self, schema: Schema, depth: int) -> Iterator[Schema]:
        if isinstance(types := schema.get("type"), list):
            if schema.get("format") == "decimal":  # a Decimal is a text or a number, and shown as a text
                types = [each for each in types if each != "number"]
            yield from ({**schema, "type": each} for each in types if isinstance(each, str))
            return
        tags = _tags(schema)
        for one in _list(schema.get("anyOf")) or _list(schema.get("oneOf")):
            resolved = self._resolve(one)
            if resolved is None:
                yield {}
            elif _is_union(resolved):
                yield from self._flat(resolved, depth + 1) if depth < MAX_DEPTH else [{}]
            else:
                tag = tags.get(_text(one.get("$ref")) if isinstance(one, dict) else "")
                yield {**resolved, "title": tag} if tag else resolved

    def _union(self, variants: list[Schema], name: str, depth: int) -> Shape:
        labels: list[str] = []
        made = []
        for one in variants:
            label = _label(one, self._resolve)
            label = f"{label} {len(labels) + 1}" if label in labels else label
            labels.append(label)
            made.append(Variant(label, self.shape(one, name, depth)))
        return Shape(kind=Kind.UNION, variants=tuple(made))

    def _plain(self, schema: Schema, name: str, depth: int) -> Shape:
        """Return the shape of a schema that is no union."""
        if "const" in schema or "enum" in schema:
            return _choice(schema)
        kind = schema.get("type")
        if kind == "string":
            return _of_text(schema, name)
        if kind in ("integer", "number"):
            return Shape(kind=Kind.NUMBER, is_whole=kind == "integer")
        if kind == "boolean":
            return Shape(kind=Kind.BOOL)
        if kind in ("array", "object") and depth <= MAX_DEPTH and self._left > 0:
            made = self._list(schema, name, depth) if kind == "array" else self._object(schema, depth)
            return made or Shape(kind=Kind.JSON)
        return Shape(kind=Kind.JSON)

    def _list(self, schema: Schema, name: str, depth: int) -> Shape | None:
        items = schema.get("items")
        if not isinstance(items, dict) or not items:
            return None
        return Shape(kind=Kind.LIST, item=self.shape(items, name, depth + 1))

    def _object(self, schema: Schema, depth: int) -> Shape | None:
        properties, others = schema.get("properties"), schema.get("additionalProperties", True)
        if isinstance(properties, dict) and properties and len(properties) <= self._left:
            required = {each for each in _list(schema.get("required")) if isinstance(each, str)}
            members = [
                Member(name, self.shape(one, name, depth + 1), name in required)
                for name, one in properties.items()
                if isinstance(name, str) and len(name) <= _MAX_NAME and "\0" not in name
            ]
            return Shape(
                kind=Kind.OBJECT, members=tuple(members), is_open=schema.get("additionalProperties", False) is not False
            )
        if not properties and isinstance(others, dict) and others:
            return Shape(kind=Kind.MAP, item=self.shape(others, "", depth + 1))
        return Shape(kind=Kind.OBJECT) if properties == {} and others is False else None


def _is_union(schema: Schema) -> bool:
    """Tell whether a schema has several types. With one type of its own, a union in it only restricts the values."""
    if isinstance(type_ := schema.get("type"), list):
        return True
    return not isinstance(type_, str) and any(_list(schema.get(key)) for key in ("anyOf", "oneOf"))


def _beside(schema: Schema) -> Schema:
    """Return what stands beside a union."""
    return {
        key: value
        for key, value in schema.items()
        if key not in ("anyOf", "oneOf", "discriminator") and not (key == "type" and isinstance(value, list))
    }


def _choice(schema: Schema) -> Shape:
    given = [schema["const"]] if "const" in schema else _list(schema.get("enum"))
    options = [exact(each) for each in given if each is not None]
    is_nullable = None in given
    if not options or len(options) > MAX_OPTIONS or any(isinstance(each, list | dict) for each in options):
        return Shape(kind=Kind.JSON, is_nullable=is_nullable)
    kind = Kind.CONST if len(given) == 1 else Kind.CHOICE
    return Shape(kind=kind, options=tuple(options), is_nullable=is_nullable)


def _of_text(schema: Schema, name: str) -> Shape:
    format_ = _text(schema.get("format"))
    kind = Kind.SECRET if schema.get("writeOnly") is True else _FORMATS.get(format_, Kind.TEXT)
    if kind is not Kind.TEXT:
        return Shape(kind=kind)
    is_free = not any(key in schema for key in ("maxLength", "format", "pattern", "contentEncoding"))
    takes_empty = schema.get("minLength", 0) == 0 and not format_
    return Shape(kind=kind, is_long=is_free and name in _LONG, takes_empty=takes_empty)


def _default(schema: Schema) -> Given:
    try:
        return exact(schema["default"]) if "default" in schema else ABSENT
    except RecursionError:
        return ABSENT


def _is_secret(schema: Schema) -> bool:
    return schema.get("writeOnly") is True or schema.get("format") == "password"


def _tags(schema: Schema) -> dict[str, str]:
    """Return the names that a discriminator gives to the schemas of a union, by their references."""
    discriminator = schema.get("discriminator")
    mapping = discriminator.get("mapping") if isinstance(discriminator, dict) else None
    return {_text(target): _text(tag) for tag, target in mapping.items()} if isinstance(mapping, dict) else {}


def _label(schema: Schema, resolve: Callable[[object], Schema | None]) -> str:
    """Return the name of a variant: its tag, its title, else its type."""
    properties = schema.get("properties")
    for member in properties.values() if isinstance(properties, dict) else ():
        found = resolve(member)
        if found is not None and ("const" in found or len(_list(found.get("enum"))) == 1):
            tag = found["const"] if "const" in found else found["enum"][0]
            return tag if isinstance(tag, str) and tag else write(exact(tag))
    type_ = _text(schema.get("type"))
    return _text(schema.get("title"))[:_MAX_NAME] or _TYPE_WORDS.get(type_, type_) or "JSON"


def _words(made: Shape, schema: Schema) -> str:
    """Return the type and the bounds of a place in words."""
    kind = made.kind
    name = {Kind.JSON: "any JSON", Kind.MOMENT: "date and time with a zone"}.get(kind, kind.value)
    if made.is_whole:
        name = "whole number"
    low, high = _bounds(kind, schema)
    unit = {Kind.TEXT: " characters", Kind.LIST: " items"}.get(kind, "")
    if low and high:
        return f"{name}, {low} to {high}{unit}"
    if low and not (kind is Kind.TEXT and low == "1"):
        return f"{name}, at least {low}{unit.removesuffix('s') if low == '1' else unit}"
    return f"{name}, at most {high}{unit}" if high else name


def _bounds(kind: Kind, schema: Schema) -> tuple[str, str]:
    names = {
        Kind.TEXT: ("minLength", "maxLength"),
        Kind.NUMBER: ("minimum", "maximum"),
        Kind.LIST: ("minItems", "maxItems"),
    }.get(kind, ("", ""))
    low, high = (_shown(schema.get(name)) for name in names)
    return low, high


def _shown(limit: object) -> str:
    if isinstance(limit, bool) or not isinstance(limit, int | float):
        return ""
    return f"{limit:,}" if abs(limit) < 10**15 else write(exact(limit))[:40]


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []
