"""A posted form, read by walking the shape that it was made of. Nothing is validated: that is the API's part."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from tasker.web.forms.exact import ABSENT, MORE, Absent, Broken, Given, Value, parse, write
from tasker.web.forms.fields import MAX_ROWS, PARAMS, Place
from tasker.web.forms.shapes import Kind, Member, Shape
from tasker.web.forms.texts import value_of

_EMPTY_ITEM = "expected JSON, got nothing"


def read(shape: Shape, pairs: Iterable[tuple[str, str]], *, remove: str | None = None, root: Place = PARAMS) -> Given:
    """Return the value that a posted form stands for. pairs: names and values, in the order of the form.

    remove: the name of a row that is left out. Never raises: what cannot be read is a text, or Broken.
    """
    return _Reader(pairs, remove).value(shape, root)


class _Reader:
    def __init__(self, pairs: Iterable[tuple[str, str]], remove: str | None) -> None:
        self._posted: dict[str, str] = {}
        self._rows: defaultdict[str, list[int]] = defaultdict(list)
        for name, text in pairs:
            if name not in self._posted:
                self._posted[name] = text.replace("\r\n", "\n").replace("\r", "\n")
                self._add_row(name, remove)

    def _add_row(self, name: str, remove: str | None) -> None:
        """Remember the row of a list or map whose marker this is."""
        word, _, row = name.partition(":")
        above, _, index = row.rpartition("/")
        if word in ("item", "key") and row != remove and index.isascii() and index.isdigit() and len(index) < 6:
            self._rows[above].append(int(index))

    def value(self, shape: Shape, place: Place) -> Given:
        """Return the value of a field, `ABSENT` if it is left out."""
        found = self._any(shape, place)
        if not place.is_item or not isinstance(found, Absent):
            return found
        return Broken("", _EMPTY_ITEM) if shape.kind is Kind.JSON else ""

    def _any(self, shape: Shape, place: Place) -> Given:
        name = place.name
        if (text := self._posted.get(f"json:{name}")) is not None:
            return _from_json(text)
        if shape.kind.is_group:
            return self._group(shape, place, self._posted.get(f"set:{name}", "auto"))
        if f"null:{name}" in self._posted:
            return None
        text = self._posted.get(name, "")
        if shape.kind is Kind.JSON:
            return _from_json(text)
        box = self._posted.get(f"box:{name}")
        if shape.kind is Kind.BOOL and box is not None:
            is_checked = text == "true"
            return ABSENT if box == "auto" and is_checked is shape.default else is_checked
        if text == "" and f"empty:{name}" in self._posted:
            return ""
        found = value_of(shape, text)
        return ABSENT if box == "auto" and found == shape.default else found

    def _group(self, shape: Shape, place: Place, choice: str) -> Given:
        if choice == "null":
            return None
        if choice == "":
            return ABSENT
        match shape.kind:
            case Kind.UNION:
                return self._union(shape, place, choice)
            case Kind.OBJECT:
                return self._object(shape, place)
            case Kind.LIST:
                found: Given = self._list(shape, place)
            case _:
                found = self._map(shape, place)
        return ABSENT if choice == "auto" and not found else found

    def _union(self, shape: Shape, place: Place, choice: str) -> Given:
        for index, one in enumerate(shape.variants):
            if choice == f"v{index}":
                within = place.variant(index)
                if one.shape.kind.is_group and f"json:{within.name}" not in self._posted:
                    return self._group(one.shape, within, "set")
                return self.value(one.shape, within)
        return ABSENT

    def _object(self, shape: Shape, place: Place) -> Given:
        found: dict[str, Value] = {}
        for member in shape.members:
            value = self._member(member, place)
            if not isinstance(value, Absent):
                found[member.name] = value
        more = _from_json(self._posted.get(f"more:{place.name}", ""))
        if isinstance(more, Absent):
            return found
        if not isinstance(more, dict):
            more = (
                more if isinstance(more, Broken) else Broken(self._posted[f"more:{place.name}"], "expected an object")
            )
            return {**found, MORE: more}
        if twice := next((member.name for member in shape.members if member.name in more), None):
            detail = f"`{twice}` has a field of its own"
            return {**found, MORE: Broken(self._posted[f"more:{place.name}"], detail)}
        return {**found, **more}

    def _member(self, member: Member, place: Place) -> Given:
        return self.value(member.shape, place.member(member.name, member.is_required))

    def _list(self, shape: Shape, place: Place) -> list[Value]:
        assert shape.item is not None
        found = []
        for index in self._indices(place):
            value = self.value(shape.item, place.row(index))
            if not isinstance(value, Absent):
                found.append(value)
        return found

    def _map(self, shape: Shape, place: Place) -> Value:
        assert shape.item is not None
        found: dict[str, Value] = {}
        for index in self._indices(place):
            row = place.row(index, "")
            key = self._posted.get(f"key:{row.name}", "")
            value = self.value(shape.item, row)
            if key == "" and value in ("", [], {}, Broken("", _EMPTY_ITEM)):
                continue  # a row that was added and left empty
            if key in found:
                return self._broken_map(shape, place, f"the name {key[:100]!r} is given twice")
            if not isinstance(value, Absent):
                found[key] = value
        return found

    def _broken_map(self, shape: Shape, place: Place, detail: str) -> Broken:
        """Return a map in which a name is given twice, as the text of JSON that nothing accepts."""
        assert shape.item is not None
        members = []
        for index in self._indices(place):
            row = place.row(index, "")
            members.append(f"{write(self._posted.get(f'key:{row.name}', ''))}: {write(self.value(shape.item, row))}")
        return Broken("{" + ", ".join(members) + "}", detail)

    def _indices(self, place: Place) -> list[int]:
        return sorted(set(self._rows.get(place.name, ())))[: 2 * MAX_ROWS]


def _from_json(text: str) -> Given:
    return ABSENT if text.strip() == "" else parse(text)
