"""Named queries from .sql files, with placeholders for the SQL that differs between the engines.

`{name}` is replaced by the text of that name, `{name:argument}` by the text with the argument in place of its `{}`.
Shared queries take named values (`:name`). Each engine defines these placeholders:

schema      where the tables are
now         the time of the transaction
bytewise    the collation that compares texts byte for byte
any         `{any:values}`: the condition that a column is among a list of texts
any_id      `{any_id:values}`: the same for UUIDs
index       `{index:name}`: the index that the planner must use, if the engine can prescribe one
level       the level in the `data` of a log event
empty       an empty value of bytes
skip_locked at the end of a SELECT of rows to delete: leave out rows that another transaction has locked
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from importlib.resources import files
from importlib.resources.abc import Traversable

from tasker.engines.shared.rollup import SUMMED
from tasker.engines.shared.tables import BULKS, DELIVERIES, GROUPS, SCHEDULES, STEPS, WEBHOOKS
from tasker.model.archive import StoredStep
from tasker.model.steps import SHOWN_BYTES
from tasker.model.usage import COUNTED

_WORDS = {
    "schedule": SCHEDULES.columns,
    "webhook": WEBHOOKS.columns,
    "delivery": DELIVERIES.columns,
    "bulk": ", ".join(f"bulk.{name}" for name in BULKS.fields),
    "group": GROUPS.columns,
    "step": ", ".join(f"step.{name}" for name in STEPS.fields),
    "shown_step": ", ".join(
        {"value": f"substr(step.value, 1, {SHOWN_BYTES + 1}) AS value", "secret_value": "NULL AS secret_value"}.get(
            name, f"step.{name}"
        )
        for name in STEPS.fields
    ),
    "archived_step": ", ".join(f"step.{name}" for name in StoredStep.__struct_fields__ if name != "is_secret"),
    "counted": ", ".join(COUNTED),
    "counted_values": ", ".join(f":{name}" for name in COUNTED),
    "counted_sums": ", ".join(f"CAST(sum({name}) AS bigint)" for name in COUNTED),
    "summed": ", ".join(SUMMED),
    "summed_values": ", ".join(f":{name}" for name in SUMMED),
    "summed_sums": ", ".join(f"CAST(sum({name}) AS bigint)" for name in SUMMED),
    "summed_added": ", ".join(f"{name} = kept.{name} + excluded.{name}" for name in SUMMED),
}
"""Placeholders with the same text for all engines."""
_PACKAGE = files(__package__)


def load_queries(package: Traversable, words: Mapping[str, str]) -> dict[str, str]:
    """Return the queries in an engine's package and those that all engines share, by name."""
    scripts = [file for one in (_PACKAGE, package) for file in (one / "queries").iterdir()]
    text = "\n".join(file.read_text() for file in scripts if file.name.endswith(".sql"))
    parts = re.split(r"^-- name: (\w+)\n", text, flags=re.MULTILINE)[1:]
    return {name: fill(body, {**_WORDS, **words}) for name, body in zip(parts[::2], parts[1::2], strict=True)}


def fill(text: str, words: Mapping[str, str]) -> str:
    """Return the text with its placeholders replaced."""
    return re.sub(r"\{(\w+)(?::(\w+))?\}", lambda match: words[match[1]].replace("{}", match[2] or ""), text).strip()
