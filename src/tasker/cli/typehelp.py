"""The help of a task type, as `tasker run TYPE --help` shows it: what it does, and its params. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from shlex import quote
from textwrap import wrap
from typing import Any

from tasker.cli.flags import Flag, Flags, branches

_WORDS = {"string": "TEXT", "integer": "INTEGER", "number": "NUMBER", "boolean": "true|false", "object": "JSON"}
_COLUMN = 30
"""Width of the column with the flags; wider ones stand on a line of their own."""
_MOST_CHOICES = 8


def describe_type(task_type: Mapping[str, Any], width: int) -> str:
    """Return a task type of GET /type/{name} as text of at most `width` columns."""
    flags = Flags(task_type)
    lines = [f"Usage: tasker run [OPTIONS] {task_type['name']} [PARAMS] [OPTIONS]", ""]
    for paragraph in (task_type.get("description") or "").splitlines():
        lines += wrap(paragraph, width) or [""]
    if not flags.params:
        return "\n".join([*lines, "", "It takes no params."])
    lines += ["", _heading(task_type)]
    for flag in flags.params:
        lines += _row(flag, flags, task_type["input_schema"], width)
    words = list(_words(task_type.get("example") or [], flags.required))
    if words:
        lines += ["", f"Example: {' '.join(['tasker run', task_type['name'], *words])}"]
    return "\n".join(lines)


def _heading(task_type: Mapping[str, Any]) -> str:
    names = list(task_type.get("positional") or ())
    if task_type.get("rest"):
        names.append(f"{task_type['rest']}...")
    by_position = f", or by position: {' '.join(names)}" if names else ""
    return f"Params (also as name=value{by_position}):"


def _row(flag: Flag, flags: Flags, whole: Mapping[str, Any], width: int) -> Iterator[str]:
    """Yield the lines about a param."""
    left = f"  {_name(flag)}{_placeholder(flag, whole)}"
    about = wrap(" ".join(_about(flag, flags, whole)), max(width - _COLUMN, 30))
    if len(left) > _COLUMN - 2:
        yield left
    elif about:
        yield f"{left:<{_COLUMN}}{about.pop(0)}"
    else:
        yield left
    yield from (" " * _COLUMN + line for line in about)


def _name(flag: Flag) -> str:
    return f"--[no-]{flag.name[2:]}" if flag.is_switch else flag.name


def _placeholder(flag: Flag, whole: Mapping[str, Any]) -> str:
    """Return what stands for the value of a flag."""
    if flag.is_switch:
        return ""
    choices = [json_or_text(choice) for branch in branches(flag.schema, whole) for choice in branch.get("enum", ())]
    if choices and flag.items is None:
        return f" {'|'.join(choices[:_MOST_CHOICES])}{'|...' if len(choices) > _MOST_CHOICES else ''}"
    kinds = (flag.items or frozenset()) if flag.items is not None else flag.kinds
    words = sorted({_WORDS[kind] for kind in kinds if kind in _WORDS} - ({"INTEGER"} if "number" in kinds else set()))
    return f" {'|'.join(words) or 'JSON'}{' ...' if flag.items is not None else ''}"


def _about(flag: Flag, flags: Flags, whole: Mapping[str, Any]) -> Iterator[str]:
    """Yield what is said about a param: its description, its default, how to give it."""
    texts = [flag.schema.get("description"), *(branch.get("description") for branch in branches(flag.schema, whole))]
    texts += [one.get("description") for one in flag.schema.get("anyOf", ())]
    text = next((text for text in texts if text), "")
    if text:
        yield text if text.endswith((".", "?")) else f"{text}."
    if flag.items is not None:
        yield "May be repeated."
    members = [member.name for member in flags.members(flag)]
    if members:
        yield f"Also {', '.join(members)}."
    if flag.path[0] in flags.required:
        yield "[required]"
    elif flag.schema.get("default") not in (None, [], ""):
        yield f"[default: {json_or_text(flag.schema['default'])}]"


def _words(example: Any, required: Sequence[str]) -> Iterator[str]:
    """Yield an example's params as words of a shell's command line, by name only those that are required."""
    if isinstance(example, list):
        yield from (quote(json_or_text(value)) for value in example)
        return
    for name, value in example.items():
        if name in required:
            yield f"--{name.replace('_', '-')} {quote(json_or_text(value))}"


def json_or_text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
