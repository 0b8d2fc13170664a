"""`tasker usage`: what tasks used up."""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from tasker.cli.exits import Exit
from tasker.cli.options import DEFAULT_OUTPUT, Output

if TYPE_CHECKING:
    from tasker.client import Usage
    from tasker.wire.usage import Figures, UsageRow

_GROUPS = ("day", "owner", "type")
_COLUMNS = ("ATTEMPTS", "FAILED", "RUN TIME", "TOKENS IN", "TOKENS OUT", "COST (USD)")


def usage(
    *,
    from_: Annotated[str | None, Parameter(name="--from")] = None,
    to: str | None = None,
    group: str = "day,owner,type",
    type: str | None = None,
    owner: str | None = None,
    output: Output = DEFAULT_OUTPUT,
) -> int:
    """Show what tasks used up: tokens, cost, run time and counts by day (UTC), owner and type.

    Parameters
    ----------
    from_
        The first day, like 2026-01-31; default: 30 days in all.
    to
        The last day; default: today.
    group
        What to group by: day, owner, type; several with commas.
    type
        Only tasks of this type.
    owner
        Only tasks of this owner.
    """
    from tasker.cli.service import to_json
    from tasker.cli.terminal import note, print_table, show

    by: list[Any] = [name for name in _GROUPS if name in _read_group(group)]
    first, last = _read_day("--from", from_), _read_day("--to", to)
    with output.connect() as client:
        found = client.usage(first=first, last=last, group=by, type=type, owner=owner)
    if output.json:
        show(to_json(found))
        return Exit.OK
    if found.rows:
        rows = [(*_names(row, by), *_figures(row)) for row in found.rows]
        print_table((*(name.upper() for name in by), *_COLUMNS), rows)
    note(_summary(found))
    return Exit.OK


def _read_group(text: str) -> list[str]:
    from tasker.cli.params import UsageError

    names = [name.strip() for name in text.split(",")]
    if not set(names) <= set(_GROUPS):
        raise UsageError(f"--group: expected day, owner or type, separated by commas, got {text!r}")
    return names


def _read_day(name: str, text: str | None) -> date | None:
    from tasker.cli.params import UsageError

    try:
        return None if text is None else date.fromisoformat(text)
    except ValueError:
        raise UsageError(f"{name}: expected a day, like 2026-01-31, got {text!r}") from None


def _names(row: UsageRow, by: list[str]) -> tuple[str, ...]:
    return tuple(str(getattr(row, name) or "-") for name in by)


def _figures(row: Figures) -> tuple[str, ...]:
    tokens = str(row.input_tokens), str(row.output_tokens)
    return str(row.attempts), str(row.failed), f"{row.run_time:.1f} s", *tokens, f"{row.cost:.4f}"


def _summary(usage: Usage) -> str:
    total = usage.total
    summary = f"{usage.first} to {usage.last}: {total.attempts} attempts, {total.cost:.4f} USD"
    if usage.budget is None:
        return summary + "."
    return f"{summary}; today {usage.budget.spent:.4f} of a budget of {usage.budget.daily:g} USD."
