"""Read pages such as README.md: code blocks in order, and the comparison of shortened replies with real ones."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from textwrap import dedent
from typing import Any, NamedTuple

PROJECT = Path(__file__).parents[2]
TEXT = (PROJECT / "README.md").read_text(encoding="utf-8")
MORE = "..."
"""In the README's JSON: at the end of an object it stands for more members, in a string for a text that varies."""

_RUNNABLE = {"bash", "python"}
_OUTPUT = {"json", "text", "http", "jsonl"}
_BLOCK = re.compile(r"^( *)```(\w*)\n(.*?)^ *```(?:\n|\Z)(\n?)", re.MULTILINE | re.DOTALL)
_VOLATILE = re.compile(r".*_at|time_to_first_token|(in|out)put_tokens|finish_reason|request_id")
"""Members whose values differ from run to run; their types do not."""


class Block(NamedTuple):
    """A code block. follows: it stands directly after another one, and is its output."""

    language: str
    text: str
    follows: bool


class Example(NamedTuple):
    """Commands (or a Python program) of the README, and the output that it shows, or None."""

    language: str
    text: str
    output: Block | None

    @property
    def name(self) -> str:
        return self.text.strip().splitlines()[-1][:100]


def blocks(page: str = TEXT) -> Iterator[Block]:
    """Yield the code blocks of a page, in order."""
    end = -1
    for match in _BLOCK.finditer(page):
        yield Block(match[2], dedent(match[3]) if match[1] else match[3], match.start() == end)
        end = match.end() if not match[4] else -1


def examples(found: Sequence[Block] | None = None) -> list[Example]:
    """Return the examples among blocks that can be run, in order."""
    found = list(blocks()) if found is None else found
    if not found:
        return []
    after = [block if block.follows and block.language in _OUTPUT else None for block in found[1:]]
    pairs = zip(found, [*after, None], strict=True)
    return [Example(block.language, block.text, output) for block, output in pairs if block.language in _RUNNABLE]


def find_block(language: str, part: str) -> str:
    """Return the only block of the language that contains `part`."""
    (found,) = [block.text for block in blocks() if block.language == language and part in block.text]
    return found


def read_json(text: str) -> Any:
    """Return the value of the README's JSON; an object that ends in `...` has the member MORE."""
    return json.loads(re.sub(r",\s*\.\.\.\s*\}", f', "{MORE}": null}}', text))


def differences(shown: Any, real: Any, path: str = "") -> list[str]:
    """Return the differences: missing or additional members, other types, other values that do not vary."""
    match shown, real:
        case dict(), dict():
            return _differing_members(shown, real, path)
        case list(), list() if len(shown) == len(real):
            pairs = enumerate(zip(shown, real, strict=True))
            return [line for index, (a, b) in pairs for line in differences(a, b, f"{path}/{index}")]
    return [] if _is_alike(shown, real, path) else [f"{path}: shown {shown!r}, got {real!r}"]


def _differing_members(shown: dict[str, Any], real: dict[str, Any], path: str) -> list[str]:
    names = set(shown) - {MORE}
    lines = [f"{path}/{name}: shown, not there" for name in names - set(real)]
    if MORE not in shown:
        lines += [f"{path}/{name}: there, not shown" for name in set(real) - names]
    for name in sorted(names & set(real)):
        lines += differences(shown[name], real[name], f"{path}/{name}")
    return lines


def _is_alike(shown: Any, real: Any, path: str) -> bool:
    if type(shown) is not type(real):
        return False
    if _VOLATILE.fullmatch(path.rpartition("/")[2]):
        return True
    if isinstance(shown, str) and shown.endswith(MORE):
        return bool(real)
    return bool(shown == real)
