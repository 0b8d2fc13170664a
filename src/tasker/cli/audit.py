"""`tasker audit`: who did what."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from cyclopts import App, Parameter
from cyclopts.validators import Number

from tasker.cli.options import DEFAULT_OUTPUT, Output, print_found

if TYPE_CHECKING:
    from tasker.wire.audit import AuditEntry

app = App(name="audit", help="Show who did what (with an admin's key).")


@app.command
def ls(
    *,
    limit: Annotated[int, Parameter(help="How many entries at most.", validator=Number(gte=1))] = 50,
    output: Output = DEFAULT_OUTPUT,
) -> int:
    """List what was done, newest first: all that changes something, but for submissions of tasks."""
    with output.connect() as client:
        found = list(client.audit.find_many(limit=limit))
    header = ("TIME", "OWNER", "KEY", "ACTION", "TARGET", "FROM", "OUTCOME")
    return print_found(found, header, _row, json=output.json, empty="Nothing was done.")


def _row(entry: AuditEntry) -> tuple[str, ...]:
    from tasker.cli.times import local

    outcome = "-" if entry.outcome is None else str(entry.outcome)
    who = entry.owner or "-", entry.key_id or "-"
    return local(entry.time), *who, entry.action, entry.target or "-", entry.address, outcome
