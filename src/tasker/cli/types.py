"""`tasker types` and `tasker type show`: what can be submitted, and how."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import App, Parameter

from tasker.cli.exits import Exit
from tasker.cli.options import DEFAULT_OUTPUT, Output, print_found

if TYPE_CHECKING:
    from tasker.wire.types import Retry, TaskType

Name = Annotated[str, Parameter(help="The name of the task type.")]

app = App(name="type", help="Show a task type.")


def types(
    *,
    quiet: Annotated[bool, Parameter(alias="-q", negative="", show_default=False)] = False,
    output: Output = DEFAULT_OUTPUT,
) -> int:
    """List the task types of the service: a table on a terminal, tab-separated lines elsewhere.

    Parameters
    ----------
    quiet
        Print only the names.
    """
    from tasker.cli.terminal import show

    with output.connect() as client:
        found = list(client.types.find_many())
    if quiet and not output.json:
        for one in found:
            show(one.name)
        return Exit.OK
    return print_found(found, ("TYPE", "PARAMS", "DESCRIPTION"), _row, json=output.json, empty="No task types.")


@app.command(name="show")
def show_(name: Name, /, *, output: Output = DEFAULT_OUTPUT) -> int:
    """Show a task type: what it does, its params, the defaults of its tasks, and an example as a command line."""
    from tasker.cli.service import to_json
    from tasker.cli.terminal import show

    with output.connect() as client:
        found = client.types.get(name)
    show(to_json(found) if output.json else "\n".join(describe(found)))
    return Exit.OK


def _row(found: TaskType) -> tuple[str, ...]:
    missing = "no worker has it; " if found.missing_since else ""
    return found.name, _signature(found), missing + _first_line(found.description)


def _signature(found: TaskType) -> str:
    """Return the names of the params; those in brackets may be left out."""
    required = found.input_schema.get("required", ())
    names = [name if name in required else f"[{name}]" for name in _properties(found) if name != found.rest]
    return ", ".join([*names, *([f"[{found.rest}...]"] if found.rest else [])])


def describe(found: TaskType) -> Iterator[str]:
    """Yield the lines that tell of a type."""
    yield found.name
    if found.description:
        yield from ("", *found.description.strip().splitlines())
    params = list(_describe_params(found))
    if params:
        yield from ("", "Params:", *params)
    yield from ("", f"Returns: {_kinds(found.output_schema, found.output_schema) or 'any JSON'}")
    yield from ("", "Tasks:", *_describe_options(found))
    if found.example or not found.input_schema.get("required"):
        yield from ("", "Example:", f"  {example_of(found)}")


def _describe_params(found: TaskType) -> Iterator[str]:
    required = found.input_schema.get("required", ())
    told = [
        (name, _kinds(schema, found.input_schema) or "any JSON", _rest_of(name, schema, name in required))
        for name, schema in _properties(found).items()
    ]
    widths = [max((len(one[column]) for one in told), default=0) for column in (0, 1)]
    for name, kinds, rest in told:
        yield f"  {name:<{widths[0]}}  {kinds:<{widths[1]}}  {rest}".rstrip()


def _rest_of(name: str, schema: Mapping[str, Any], is_required: bool) -> str:
    from tasker.cli.service import to_text

    need = "required" if is_required else "optional"
    if not is_required and schema.get("default") is not None:
        need = f"default: {to_text(schema['default'])}"
    return ". ".join(part for part in (need, schema.get("description", "")) if part)


def _describe_options(found: TaskType) -> Iterator[str]:
    limits = {"timeout": _seconds(found.timeout), "memory": _memory(found.memory_limit)}
    yield f"  queue {found.queue}, priority {found.priority}"
    yield f"  {_attempts(found.retry)}; on a crash: {found.on_crash}"
    given = [f"{name} {value}" for name, value in limits.items() if value]
    if given:
        yield f"  {', '.join(given)}"
    yield f"  kept {'for ever' if found.retention is None else f'for {_seconds(found.retention)}'} after their end"
    if found.missing_since is not None:
        yield f"  no worker has had this type since {found.missing_since}: its tasks wait"


def example_of(found: TaskType) -> str:
    """Return the example of a type as a command line for a shell."""
    import shlex

    words = ["tasker", "run", found.name]
    if isinstance(found.example, Mapping):
        words += [_named(name, value) for name, value in found.example.items()]
    else:
        words += [_word(value) for value in found.example or ()]
    return shlex.join(words)


def _named(name: str, value: Any) -> str:
    if isinstance(value, str) and value[:1] not in {"@", "-"}:
        return f"{name}={value}"
    return f"{name}:={json.dumps(value, ensure_ascii=False)}"


def _word(value: Any) -> str:
    """Return a param by position: a text as JSON where a reader would take it for something else."""
    from tasker.cli.params import read_params

    is_plain = isinstance(value, str) and value[:1] not in {"@", "-"} and read_params([value]) == [value]
    return str(value) if is_plain else json.dumps(value, ensure_ascii=False)


def _properties(found: TaskType) -> dict[str, Any]:
    properties: dict[str, Any] = found.input_schema.get("properties", {})
    return properties


def _kinds(schema: Mapping[str, Any], whole: Mapping[str, Any]) -> str:
    from tasker.cli.params import kinds_within

    kinds = kinds_within(schema, whole)
    return " or ".join(sorted(kinds - {"integer"} if "number" in kinds else kinds))


def _attempts(retry: Retry) -> str:
    if retry.max_attempts == 1:
        return "one attempt"
    return f"at most {retry.max_attempts} attempts, {retry.initial:g} to {retry.max:g} s between them"


def _seconds(value: float | None) -> str:
    if value is None:
        return ""
    days = value / 86400
    return f"{days:g} days" if days >= 2 and days == int(days) else f"{value:g} s"


def _memory(value: int | None) -> str:
    return f"{value / 2**20:,.0f} MiB" if value else ""


def _first_line(text: str) -> str:
    return text.strip().partition("\n")[0]
