"""Named queries from .sql files, with the words filled in that differ between the engines.

`{name}` becomes the word of that name, `{name:argument}` the word with the argument in the place of its `{}`.
Shared queries take named values (`:name`). Their words, which each engine defines:

schema      where the tables are
now         the time of the transaction
bytewise    the collation by which texts are compared byte for byte
any         `{any:values}`: the condition on a column's being among a list of texts
any_id      `{any_id:values}`: the same for UUIDs
index       `{index:name}`: the index that the planner must take, where it may be told so
skip_locked at the end of a selection of rows to delete: leave out rows that another transaction has locked
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Any

from tasker.engines.shared.tables import DELIVERIES, SCHEDULES, WEBHOOKS
from tasker.model.usage import COUNTED

_WORDS = {
    "schedule": SCHEDULES.columns,
    "webhook": WEBHOOKS.columns,
    "delivery": DELIVERIES.columns,
    "counted": ", ".join(COUNTED),
    "counted_values": ", ".join(f":{name}" for name in COUNTED),
    "counted_sums": ", ".join(f"CAST(sum({name}) AS bigint)" for name in COUNTED),
}
"""Words that are the same for all engines."""
_PACKAGE = files(__package__)


def load_queries(package: Traversable, words: Mapping[str, str]) -> dict[str, str]:
    """Return the queries in an engine's package and those that all engines share, by name."""
    scripts = [file for one in (_PACKAGE, package) for file in (one / "queries").iterdir()]
    text = "\n".join(file.read_text() for file in scripts if file.name.endswith(".sql"))
    parts = re.split(r"^-- name: (\w+)\n", text, flags=re.MULTILINE)[1:]
    return {name: fill(body, {**_WORDS, **words}) for name, body in zip(parts[::2], parts[1::2], strict=True)}


def fill(text: str, words: Mapping[str, str]) -> str:
    """Return the text with its words filled in."""
    return re.sub(r"\{(\w+)(?::(\w+))?\}", lambda match: words[match[1]].replace("{}", match[2] or ""), text).strip()


def join_terms(terms: list[str], asked: Iterable[tuple[str, Any]], values: list[Any]) -> str:
    """Return the condition that the terms and those of the `asked` values hold; add these values to `values`.

    asked: terms with `%d` in the place of a value's number, and the values; None for those that are not given.
    """
    for term, value in asked:
        if value is not None:
            values.append(value)
            terms.append(term % len(values))
    return " AND ".join(terms)
