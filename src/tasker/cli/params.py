"""Reads a task's params from the words of a command line.

By position, each word is a JSON value, or else a string: `4`, `true`, `[1,2]`, `hello`, `'"4"'` (a string).
By name: `key=text`, `key:=json`, `key=@file`, `key:=@file`. A word `@file` or `-` (standard input) stands for the
file's content; if it is the only word and holds a JSON array or object, it is the params as a whole.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Sequence
from math import isinf
from pathlib import Path
from typing import Any

from msgspec import Raw

from tasker.encoding import is_kept
from tasker.errors import TaskerError

_NAMED = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)(:?=)(.*)", re.DOTALL)

_STANDARD = {"-", "@-"}  # a lone dash comes as the latter (cli/__init__.py)


class UsageError(TaskerError):
    """The command line cannot be understood."""


def read_params(words: Sequence[str]) -> list[Any] | dict[str, Any]:
    """Return the params that `words` stand for. Raises UsageError."""
    if len(words) == 1 and _is_source(words[0]):
        value = _guess(_content(words[0]))
        return value if isinstance(value, list | dict) else [value]
    named = [match for word in words if (match := _NAMED.fullmatch(word))]
    if not named:
        return [_guess(_content(word) if _is_source(word) else word) for word in words]
    if len(named) < len(words):
        raise UsageError("give the params by position or by name, not both; quote a text with = as '\"a=b\"'")
    params: dict[str, Any] = {}
    for key, operator, text in (match.groups() for match in named):
        if key in params:
            raise UsageError(f"{key}: given twice")
        params[key] = _named_value(key, operator, text)
    return params


def _is_source(word: str) -> bool:
    return word == "-" or (word.startswith("@") and len(word) > 1)


def _content(source: str) -> str:
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


def _named_value(key: str, operator: str, text: str) -> Any:
    content = _content(text) if _is_source(text) else text
    if operator == "=":
        return content
    try:
        return _parse(content)
    except ValueError as error:
        raise UsageError(f"{key}: expected JSON after :=, got {content[:80]!r}: {error}") from error


def _parse(text: str) -> Any:
    return json.loads(text, parse_constant=_refuse, parse_float=_number)


def _number(digits: str) -> float | Raw:
    """Return a float, or the digits as they are where no float keeps them: they may be meant for a Decimal."""
    number = float(digits)
    if isinf(number):
        raise UsageError(f"{digits[:80]}: the number is too large")
    return number if is_kept(digits, number) else Raw(digits.encode())


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is not JSON")
