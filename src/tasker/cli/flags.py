"""A task type's own params as flags: `tasker run thumbnail --url https://... --width 3`. Pure.

`--width 3` means what `width=3` means; `_` and `-` are the same in a name. A param that takes an array may be repeated.
A boolean is `--crop` or `--no-crop`. A member of an object has a dot: `--person.name Ann`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from itertools import chain, takewhile
from typing import Any

from tasker.cli.params import UsageError, kinds_within, read_text, refuse_shared_input, resolve

_OPTION = re.compile(r"-[A-Za-z]|--[^\W\d_].*")
"""A number such as -4 is none."""
Schema = Mapping[str, Any]


@dataclass(frozen=True)
class Flag:
    """A param, or a member of one that is an object. items: the kinds of its elements, if it takes an array."""

    path: tuple[str, ...]
    kinds: frozenset[str]
    items: frozenset[str] | None = None
    schema: Schema = field(default_factory=dict, repr=False, compare=False)

    @property
    def name(self) -> str:
        """The name as it is shown."""
        return "--" + ".".join(self.path).replace("_", "-")

    @property
    def is_switch(self) -> bool:
        """Whether it takes no value."""
        return "boolean" in self.kinds and self.kinds <= {"boolean", "null"}

    @property
    def is_secret(self) -> bool:
        return any(branch.get("writeOnly") is True for branch in branches(self.schema, {}))

    def read(self, texts: Sequence[str]) -> Any:
        """Return the value that the texts of its uses stand for. Raises UsageError."""
        try:
            if self.items is None:
                if len(texts) > 1:
                    raise UsageError("given twice")
                return read_text(texts[0], self.kinds)
            return self._read_array(texts)
        except UsageError as error:
            raise UsageError(f"{self.name}: {error}") from None

    def _read_array(self, texts: Sequence[str]) -> Any:
        assert self.items is not None
        if len(texts) == 1:
            whole = read_text(texts[0], self.kinds)
            if isinstance(whole, list) or self.kinds - {"array", "null"} or (whole is None and "null" in self.kinds):
                return whole
        return [read_text(text, self.items) for text in texts]


class Flags:
    """The flags of a task type, as GET /type/{name} shows it."""

    def __init__(self, task_type: Schema) -> None:
        self._whole: Schema = task_type["input_schema"]
        self.required: Sequence[str] = self._whole.get("required", ())
        self.params = tuple(self._flag((name,), member) for name, member in self._whole.get("properties", {}).items())

    def find(self, name: str) -> Flag | None:
        """Return the flag of a name without its dashes; None if the type has no such param."""
        first, *rest = name.split(".")
        found = next((flag for flag in self.params if _plain(flag.path[0]) == _plain(first)), None)
        for part in rest:
            if found is None:
                return None
            members = (flag for flag in self.members(found) if _plain(flag.path[-1]) == _plain(part))
            found = next(members, None) or self._any_member(found, part)
        return found

    def members(self, flag: Flag) -> Iterator[Flag]:
        """Yield the flags of an object's members."""
        for branch in branches(flag.schema, self._whole):
            for name, member in branch.get("properties", {}).items():
                yield self._flag((*flag.path, name), member)

    def _any_member(self, flag: Flag, name: str) -> Flag | None:
        """Return the flag of a member of an object that may have any."""
        for branch in branches(flag.schema, self._whole):
            if isinstance(branch.get("additionalProperties"), dict):
                return self._flag((*flag.path, name), branch["additionalProperties"])
        return None

    def names(self) -> list[str]:
        return [flag.name for flag in self.params]

    def _flag(self, path: tuple[str, ...], schema: Schema) -> Flag:
        kinds = kinds_within(schema, self._whole)
        arrays = [branch for branch in branches(schema, self._whole) if branch.get("type") == "array"]
        items = kinds_within(arrays[0].get("items", {}), self._whole) if arrays else None
        return Flag(path, kinds, items, schema)


@dataclass(frozen=True)
class Split:
    """The words after a task type. params: what the flags say. used: them by their paths, with the texts given.

    own: the options of the command. words: all else, in order.
    """

    params: dict[str, Any] = field(default_factory=dict)
    used: dict[tuple[str, ...], tuple[str, ...]] = field(default_factory=dict)
    own: list[str] = field(default_factory=list)
    words: list[str] = field(default_factory=list)


def branches(schema: Schema, whole: Schema) -> Iterator[Schema]:
    """Yield the schemas of which a value fits one, without references and unions."""
    found = resolve(schema, whole)
    several = found.get("anyOf") or found.get("oneOf")
    if several is None:
        yield found
        return
    for one in several:
        yield from branches(one, whole)


def has_options(words: Sequence[str]) -> bool:
    """Tell whether there is an option among the words, before `--`."""
    return any(_is_option(word) for word in takewhile(lambda word: word != "--", words))


def split_at_type(words: Sequence[str], options: Mapping[str, bool]) -> tuple[list[str], list[str]]:
    """Return the options before the first word that is none, and that word with all after it.

    options: those of the command; whether each takes a value.
    """
    index = 0
    while index < len(words) and _is_option(words[index]):
        index += 2 if options.get(words[index], False) else 1
    return list(words[:index]), list(words[index:])


def split(words: Sequence[str], flags: Flags | None, options: Mapping[str, bool]) -> Split:
    """Sort the words after a task type; a flag of the type goes before an option of the command. Raises UsageError."""
    texts: dict[tuple[str, ...], list[str]] = {}
    found: dict[tuple[str, ...], Flag] = {}
    own: list[str] = []
    others: list[str] = []
    left = list(words)
    while left:
        word = left.pop(0)
        if word == "--":
            others += left
            break
        if not _is_option(word):
            others.append(word)
            continue
        name, equals, text = word.partition("=")
        use = _find_use(name, flags)
        if use is not None:
            flag, switch = use
            value = _switch(flag, name, switch, text if equals else None) if switch else None
            found[flag.path] = flag
            texts.setdefault(flag.path, []).append(value or (text if equals else _take(flag.name, left, flags)))
        elif name in options:
            own.append(word)
            if options[name] and not equals and left:
                own.append(left.pop(0))
        else:
            raise UsageError(_unknown(name, flags, options))
    used = {path: tuple(several) for path, several in texts.items()}
    refuse_shared_input(others, chain.from_iterable(used.values()))
    return Split(_build({flag: used[path] for path, flag in found.items()}), used, own, others)


def _is_option(word: str) -> bool:
    return _OPTION.fullmatch(word.partition("=")[0]) is not None


def _find_use(name: str, flags: Flags | None) -> tuple[Flag, str] | None:
    """Return the flag that a word names, and "true" or "false" if it is a switch; None for no flag of the type."""
    if flags is None or not name.startswith("--"):
        return None
    flag = flags.find(name[2:])
    if flag is not None:
        return flag, "true" if flag.is_switch else ""
    if name.startswith("--no-"):
        flag = flags.find(name[5:])
        if flag is not None and flag.is_switch:
            return flag, "false"
    return None


def _switch(flag: Flag, name: str, switch: str, text: str | None) -> str:
    if text is None:
        return switch
    if switch == "false":
        raise UsageError(f"{name}: it takes no value; give {flag.name}={text}")
    return text


def _take(name: str, left: list[str], flags: Flags | None) -> str:
    """Return the word after a flag. Raises UsageError if there is none."""
    if not left or left[0] == "--" or (left[0].startswith("--") and _find_use(left[0].partition("=")[0], flags)):
        more = f", got {left[0]}; a text that begins with -- is given as {name}=TEXT" if left else ""
        raise UsageError(f"{name}: expected a value{more}")
    return left.pop(0)


def _unknown(name: str, flags: Flags | None, options: Mapping[str, bool]) -> str:
    known = [*(flags.names() if flags else ()), *options]
    close = get_close_matches(name.replace("_", "-"), known, n=1)
    hint = f" Did you mean {close[0]}?" if close else ""
    what = "no param of the type and no option of the command has this name"
    if flags is None:
        what = "no option of the command has this name, and the type's params are not known: give them as name=value"
    return f"{name}: {what}.{hint}\nAfter -- every word is a param, also one that begins with a dash."


def _build(used: Mapping[Flag, Sequence[str]]) -> dict[str, Any]:
    """Return the params that flags stand for. Raises UsageError."""
    whole = {flag.path: flag.name for flag in used}
    params: dict[str, Any] = {}
    for flag, texts in used.items():
        place = params
        for length in range(1, len(flag.path)):
            if flag.path[:length] in whole:
                raise UsageError(f"{flag.name}: {whole[flag.path[:length]]} is given as a whole, too")
            place = place.setdefault(flag.path[length - 1], {})
        place[flag.path[-1]] = flag.read(texts)
    return params


def _plain(name: str) -> str:
    return name.replace("-", "_")
