"""The fields of a form: a shape, filled with a value.

The name of a control is the JSON Pointer of its value, so that a fault's pointer finds its field. What belongs to the
control has the same name behind a word: `set:` how a group is set, `json:` that the text is JSON, `item:` a row of a
list, `key:` the name in a row of a map, `more:` members without a field, `empty:` and `null:` boxes for these values,
`box:` whether a checkbox stands for a value that was left out. Within a variant of a union, but the first, its number
and a dot come first: `1./deliver/bucket`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from tasker.validation.jsontext import escape
from tasker.web.forms.exact import ABSENT, MORE, Absent, Broken, Given, Value, is_visible, write
from tasker.web.forms.matching import best_variant
from tasker.web.forms.shapes import Kind, Member, Shape
from tasker.web.forms.texts import has_own_control, option_text, text_of

MANY = 5
"""Options from which a choice is a list to open instead of radio buttons."""
MAX_ROWS = 100
"""Rows of a list or map that have controls of their own; with more of them the whole is JSON."""
MAX_FILLED = 2_000
"""Fields of a form, from which on groups are JSON."""
_LEFT_OUT_IF_EMPTY = frozenset({Kind.TEXT, Kind.NUMBER, Kind.DATE, Kind.MOMENT, Kind.TIME, Kind.DURATION, Kind.UUID})
_SAFE = re.compile(r"[^A-Za-z0-9_]")


_EXAMPLES = {
    Kind.DECIMAL: "1.50",
    Kind.MOMENT: "2026-01-31T12:00:00Z",
    Kind.TIME: "12:00:00Z",
    Kind.DURATION: "PT30S",
    Kind.SECONDS: "90, or PT1M30S",
    Kind.UUID: "00000000-0000-0000-0000-000000000000",
}


class Choice(NamedTuple):
    """A radio button or an option."""

    value: str
    label: str


class Place(NamedTuple):
    """Where a field is. pointer: of its value. chain: the variants around it. path: the pointer, but rows by number.

    is_item: it is a row of a list or map.
    """

    label: str
    pointer: str = ""
    chain: tuple[int, ...] = ()
    path: str = ""
    is_required: bool = True
    is_item: bool = False

    @property
    def name(self) -> str:
        """The name of its control."""
        return f"{'-'.join(map(str, self.chain))}.{self.path}" if any(self.chain) else self.path

    def member(self, name: str, is_required: bool) -> Place:
        """Return the place of a member of an object."""
        step = f"/{escape(name)}"
        return Place(name, self.pointer + step, self.chain, self.path + step, is_required)

    def row(self, index: int, key: str | None = None) -> Place:
        """Return the place of a row of a list, or of a map, where it has a key."""
        step = str(index) if key is None else escape(key)
        label = f"{self.label} {index + 1}" if key is None else f"value of {key}" if key else "value"
        return Place(label, f"{self.pointer}/{step}", self.chain, f"{self.path}/{index}", True, is_item=True)

    def variant(self, index: int) -> Place:
        """Return the same place in a variant of a union."""
        return self._replace(chain=(*self.chain, index), is_required=True)


PARAMS = Place("params")


@dataclass(slots=True, kw_only=True)
class Field:
    """One field: what it shows and what its controls hold.

    is_json: it is shown as JSON, though its shape has a better control. text: of the control, or the JSON. choice: the
    value of its radio buttons `choices`; without choices it is posted as a hidden field. fields: of the members, the
    rows or the variants; keys: of the rows of a map. more: JSON of further members, None where there is no place for
    them. is_checked: of a checkbox. box: of a checkbox, "auto" if it stands for a value that is left out, else "set".
    has_empty, has_null: whether there is a box for the empty text, and for null; is_empty, is_null: whether it is
    checked. is_new: it was just added.
    """

    place: Place
    shape: Shape
    is_json: bool = False
    text: str = ""
    choice: str = ""
    choices: tuple[Choice, ...] = ()
    fields: list[Field] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)
    more: str | None = None
    is_checked: bool = False
    box: str = ""
    has_empty: bool = False
    is_empty: bool = False
    has_null: bool = False
    is_null: bool = False
    is_new: bool = False
    faults: list[str] = field(default_factory=list)

    @property
    def id(self) -> str:
        """The id of its control; no other control of the page has it."""
        return id_of(self.place.name)

    @property
    def kind(self) -> str:
        """The name of the kind of its control, in lower case, for the templates."""
        return "json" if self.is_json else self.shape.kind.name.lower()

    @property
    def control(self) -> str:
        """The name of its control, or of all of them."""
        return f"json:{self.place.name}" if self.is_json or not self.place.name else self.place.name

    @property
    def is_area(self) -> bool:
        """Whether its control has several lines."""
        return self.kind == "json" or self.shape.is_long or "\n" in self.text

    @property
    def is_grouped(self) -> bool:
        """Whether it has several controls, which its label names together."""
        radios = self.shape.kind in (Kind.CHOICE, Kind.BOOL) and self.choices and not self.is_select
        return not self.is_json and (self.shape.kind.is_group or bool(radios))

    @property
    def is_select(self) -> bool:
        """Whether its choices are a list to open."""
        return not self.is_json and self.shape.kind is Kind.CHOICE and len(self.shape.options) >= MANY

    @property
    def is_short(self) -> bool:
        """Whether it is an object whose members fit into a line."""
        return not (self.is_json or self.choices or self.more is not None) and not any(
            one.is_json or one.is_area or one.shape.kind.is_group or one.faults for one in self.fields
        )

    @property
    def about(self) -> str:
        """The ids of what describes its control."""
        ids = ([f"{self.id}-e"] if self.faults else []) + ([f"{self.id}-d"] if self.has_description else [])
        return " ".join(ids)

    @property
    def has_description(self) -> bool:
        """Whether its description stands below its control."""
        return bool(self.shape.description) and not self.place.is_item and self.shape.kind is not Kind.OBJECT

    @property
    def placeholder(self) -> str:
        """What an empty control shows: what then applies, else an example."""
        return _EXAMPLES.get(self.shape.kind, "") if self.hint in ("", "not set") else self.hint

    @property
    def hint(self) -> str:
        """What applies if it is left empty."""
        default = self.shape.default
        if isinstance(default, Absent) or default is None:
            return "" if self.place.is_required else "not set"
        shown = default if isinstance(default, str) else write(default)
        return shown if len(shown) <= 60 else f"{shown[:60]}..."

    @property
    def active(self) -> list[Field]:
        """The fields within it whose values count: of a union only the variant that is chosen."""
        if self.is_json or self.choice in ("", "null"):
            return [] if self.shape.kind.is_group else self.fields
        if self.shape.kind is Kind.UNION:
            return [one for index, one in enumerate(self.fields) if self.choice == f"v{index}"]
        return self.fields

    def all_active(self) -> Iterator[Field]:
        """Yield it and all the fields within it whose values count."""
        yield self
        for one in self.active:
            yield from one.all_active()


def id_of(name: str) -> str:
    """Return the id of a control from its name. Different names have different ids."""
    return "f" + _SAFE.sub(lambda match: "-" if match[0] == "/" else f".{ord(match[0]):x}.", name)


def fill(shape: Shape, value: Given, *, add: str | None = None, root: Place = PARAMS) -> Field:
    """Return the form of a whole schema, filled with a value. add: the name of a list or map that gets an empty row."""
    return _Filler(add).field(shape, value, root)


def place_faults(form: Field, faults: Sequence[tuple[str, str]]) -> list[tuple[Field, str]]:
    """Put faults (pointer, detail) at their fields; return for each the field, which is the nearest one above it."""
    by_pointer: dict[str, Field] = {}
    for one in form.all_active():
        by_pointer[one.place.pointer] = one  # a union's variant comes after the union
    placed = []
    for pointer, detail in faults:
        found, at = pointer, None
        while (at := by_pointer.get(found)) is None:
            found = found.rpartition("/")[0]
        rest = pointer[len(found) :].strip("/")
        at.faults.append(f"{rest}: {detail}" if rest else detail)
        placed.append((at, detail))
    return placed


def blank(shape: Shape, *, is_item: bool = False) -> Given:
    """Return what a field is filled with that nobody has touched, if it must have a value. is_item: it is a row."""
    match shape.kind:
        case Kind.OBJECT:
            given = {one.name: blank(one.shape) for one in shape.members if one.is_required}
            return {name: each for name, each in given.items() if not isinstance(each, Absent)}
        case Kind.LIST:
            return []
        case Kind.MAP:
            return {}
        case Kind.UNION:
            return blank(shape.variants[0].shape, is_item=is_item)
        case Kind.BOOL:
            return False
        case Kind.CONST:
            return shape.options[0]
    return "" if is_item else ABSENT


class _Filler:
    def __init__(self, add: str | None) -> None:
        self._add = add
        self._left = MAX_FILLED

    def field(self, shape: Shape, value: Given, place: Place) -> Field:
        """Return the field of a shape, filled with a value."""
        if self._add == place.name and shape.kind in (Kind.LIST, Kind.MAP) and not isinstance(value, list | dict):
            value = blank(shape)
        self._left -= 1
        is_full = self._left < 0 and shape.kind.is_group and not isinstance(value, Absent)
        made = None if is_full else self._native(shape, value, place)
        if made is None:
            made = Field(place=place, shape=shape, is_json=True, text=_json(value))
        if made.shape.kind is Kind.SECRET or shape.is_secret:
            made.text = ""
        if not (made.is_json or shape.kind.is_group or shape.kind is Kind.JSON):
            made.is_null = value is None
            made.has_null = made.is_null or _offers_null(shape, place)
        return made

    def _native(self, shape: Shape, value: Given, place: Place) -> Field | None:
        """Return the field with its own control, None if that cannot hold the value."""
        if shape.kind is Kind.JSON:
            return Field(place=place, shape=shape, text=_json(value))
        if isinstance(value, Broken):
            return None
        match shape.kind:
            case Kind.OBJECT | Kind.LIST | Kind.MAP:
                return self._group(shape, value, place)
            case Kind.UNION:
                return self._union(shape, value, place)
            case Kind.BOOL if (made := _checkbox(shape, value, place)) is not None:
                return made
        return _scalar(shape, value, place)

    def _group(self, shape: Shape, value: Given, place: Place) -> Field | None:
        made = Field(place=place, shape=shape, choice="1")
        inner = blank(shape) if value is None or isinstance(value, Absent) else value
        if isinstance(value, Absent):
            made.choice = "auto" if _may_be_empty(shape) else ""
        elif value is None:
            made.choice = "null"
        if made.choice == "null" and not shape.is_nullable:
            return None
        choices = _group_choices(shape, value, place)
        made.choices = (*choices, Choice("1", "set")) if choices else ()
        if shape.kind is Kind.OBJECT:
            return self._object(made, inner)
        return self._list(made, inner) if shape.kind is Kind.LIST else self._map(made, inner)

    def _object(self, made: Field, value: Given) -> Field | None:
        if not isinstance(value, dict):
            return None
        known = {one.name for one in made.shape.members}
        for one in made.shape.members:
            made.fields.append(self._member(one, value, made.place))
        rest: dict[str, Value] = {name: each for name, each in value.items() if name not in known}
        broken = rest.pop(MORE, None)
        if isinstance(broken, Broken):
            made.more = broken.text
        elif rest or made.shape.is_open:
            made.more = _json(rest) if rest else ""
        return made

    def _member(self, member: Member, value: Mapping[str, Value], place: Place) -> Field:
        return self.field(member.shape, value.get(member.name, ABSENT), place.member(member.name, member.is_required))

    def _list(self, made: Field, value: Given) -> Field | None:
        if not isinstance(value, list) or len(value) > MAX_ROWS:
            return None
        item = made.shape.item
        assert item is not None
        made.fields = [self.field(item, each, made.place.row(index)) for index, each in enumerate(value)]
        if self._add == made.place.name:
            made.fields.append(self._new_row(item, made.place.row(len(value))))
            made.choice = "1"
        return made

    def _map(self, made: Field, value: Given) -> Field | None:
        if not isinstance(value, dict) or len(value) > MAX_ROWS or not all(map(_is_key, value)):
            return None
        item = made.shape.item
        assert item is not None
        made.keys = list(value)
        rows = enumerate(value.items())
        made.fields = [self.field(item, each, made.place.row(index, key)) for index, (key, each) in rows]
        if self._add == made.place.name:
            made.keys.append("")
            made.fields.append(self._new_row(item, made.place.row(len(value), "")))
            made.choice = "1"
        return made

    def _new_row(self, item: Shape, place: Place) -> Field:
        made = first = self.field(item, blank(item, is_item=True), place)
        while first.active and first.shape.kind.is_group:
            first = first.active[0]
        first.is_new = True
        return made

    def _union(self, shape: Shape, value: Given, place: Place) -> Field | None:
        if value is None and not shape.is_nullable:
            return None
        chosen = None if value is None or isinstance(value, Absent) else best_variant(shape, value)
        if chosen is None and not (value is None or isinstance(value, Absent)):
            return None
        made = Field(place=place, shape=shape, choice="null" if value is None else "")
        made.choice = made.choice if chosen is None else f"v{chosen}"
        labels = [Choice(f"v{index}", one.label) for index, one in enumerate(shape.variants)]
        made.choices = (*_group_choices(shape, value, place), *labels)
        if isinstance(value, Absent) and place.is_required and shape.variants[0].shape.kind in _LEFT_OUT_IF_EMPTY:
            made.choice, made.choices = "v0", made.choices[1:]
        for index, one in enumerate(shape.variants):
            inner = value if index == chosen else blank(one.shape, is_item=place.is_item)
            made.fields.append(self.field(one.shape, inner, place.variant(index)))
        return made


def _scalar(shape: Shape, value: Given, place: Place) -> Field | None:
    """Return the field of one control, None if it cannot hold the value."""
    made = Field(place=place, shape=shape)
    made.has_empty = shape.kind is Kind.TEXT and not place.is_item and (shape.takes_empty or value == "")
    if shape.kind in (Kind.CHOICE, Kind.BOOL):
        _offer(made, value)
    if isinstance(value, Absent):
        return made
    if value is None:
        return made if shape.is_nullable else None
    if value == "" and (place.is_item or shape.kind is Kind.TEXT):
        made.is_empty = not place.is_item
        return made
    text = text_of(shape, value)
    if text is None or not has_own_control(shape, text):
        return None
    made.text = text
    return made


def _offer(made: Field, value: Given) -> None:
    """Set the choices of a choice or a yes or no. A default is chosen if the value is left out."""
    shape, place = made.shape, made.place
    texts = [option_text(one) for one in shape.options] if shape.kind is Kind.CHOICE else ["true", "false"]
    words = texts if shape.kind is Kind.CHOICE else ["yes", "no"]
    made.choices = tuple(map(Choice, texts, words))
    default = None if isinstance(shape.default, Absent) else text_of(shape, shape.default)
    if default is not None and not shape.is_nullable and not place.is_item:
        made.text, made.box = default, "auto" if isinstance(value, Absent) else "set"
    elif not place.is_required:
        made.choices = (Choice("", "not set"), *made.choices)
    elif value in (ABSENT, "") and len(texts) >= MANY:
        made.choices = (Choice("", "choose"), *made.choices)


def _checkbox(shape: Shape, value: Given, place: Place) -> Field | None:
    """Return a yes or no as a checkbox; None if it may also be left out without a default, or is null."""
    if isinstance(value, bool):
        if shape.is_nullable or not (place.is_required or isinstance(shape.default, bool)):
            return None
        return Field(place=place, shape=shape, is_checked=value, box="set")
    if isinstance(value, Absent) and isinstance(shape.default, bool) and not shape.is_nullable:
        return Field(place=place, shape=shape, is_checked=shape.default, box="auto")
    return None


def _group_choices(shape: Shape, value: Given, place: Place) -> tuple[Choice, ...]:
    """Return the choices of a group beside being set."""
    found: list[Choice] = []
    if (isinstance(value, Absent) or not place.is_required) and not _may_be_empty(shape):
        found.append(Choice("", "not set"))
    if value is None or _offers_null(shape, place):
        found.append(Choice("null", "null"))
    return tuple(found)


def _may_be_empty(shape: Shape) -> bool:
    """Tell whether a list or map that is left out means the same as an empty one."""
    return shape.kind in (Kind.LIST, Kind.MAP) and shape.default in ([], {}) and not shape.is_nullable


def _offers_null(shape: Shape, place: Place) -> bool:
    """Tell whether null means something else than leaving the value out."""
    return shape.is_nullable and (place.is_required or shape.default is not None)


def _is_key(key: str) -> bool:
    return key not in ("", MORE) and "\n" not in key and "\t" not in key and is_visible(key)


def _json(value: Given) -> str:
    if isinstance(value, Absent):
        return ""
    if isinstance(value, Broken):
        return value.text
    return write(value, "  ")
