"""The command `tasker batch`: read what it is told, submit the rows, or run them and write their results."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter
from cyclopts.validators import Number

from tasker.cli.batch.items import Format
from tasker.cli.options import DEFAULT_OUTPUT, Output
from tasker.cli.submission import NO_OPTIONS, Submission

if TYPE_CHECKING:
    from tasker.cli.batch.rows import Shape
    from tasker.client import Tasker

_MAPPED = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)=(.+)", re.DOTALL)
_MOST_IN_FLIGHT = 500
_Flag = Annotated[bool, Parameter(negative="", show_default=False)]


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class FileOptions:
    """How to read the file."""

    type: Annotated[str | None, Parameter(help="Rows are params of this type; else they are whole submissions.")] = None
    map: Annotated[
        tuple[str, ...],
        Parameter(
            negative="",
            show_default=False,
            help="PARAM=COLUMN: the column (or member) of a param; may be repeated. Else those of the same names.",
        ),
    ] = ()
    format: Annotated[
        Format | None,
        Parameter(show_default=False, help="Of the file; else by the end of its name, or JSON Lines."),
    ] = None


DEFAULT_FILE = FileOptions()


def batch(
    file: str,
    /,
    *params: str,
    reading: FileOptions = DEFAULT_FILE,
    out: Annotated[Path | None, Parameter(show_default=False)] = None,
    retry_failed: _Flag = False,
    max_in_flight: Annotated[int, Parameter(validator=Number(gte=1, lte=_MOST_IN_FLIGHT))] = 50,
    dry_run: _Flag = False,
    quiet: Annotated[bool, Parameter(alias="-q", negative="", show_default=False)] = False,
    for_all: Submission = NO_OPTIONS,
    output: Output = DEFAULT_OUTPUT,
) -> int:
    """Submit a task for each row of a file: JSON Lines, a JSON array, or CSV with --type.

    The options of `tasker run` hold for all tasks; a row that is a whole submission may say otherwise. --key is that of
    the batch: the same file under the same key makes each task only once, for a day.
    With --out it waits for the tasks and writes a line for each row, in the order of the rows. Stopped in any way, the
    same command goes on where it was, and runs no row twice. Exit code 1 if a row was refused or failed.

    Parameters
    ----------
    file
        The file, or - for standard input.
    params
        With --type, params of all rows besides their own: key=value, or key:=json.
    out
        Run the tasks, and write their results to this file, as JSON Lines.
    retry_failed
        With --out: run once more the rows that were refused, failed or cancelled.
    max_in_flight
        With --out: how many tasks may be open at a time.
    dry_run
        Only check the rows; submit nothing.
    quiet
        Print only the ids of the tasks; with --out nothing.
    """
    from tasker.cli.batch.out import run_file
    from tasker.cli.batch.source import opened
    from tasker.cli.batch.submitting import submit_file
    from tasker.cli.params import UsageError
    from tasker.cli.targets import find_target

    _check_flags(out, for_all, retry_failed=retry_failed, dry_run=dry_run)
    with opened(file, reading.format) as source, output.connect() as client:
        if reading.type is None and source.format in {"csv", "tsv"}:
            raise UsageError("CSV needs --type: its columns are params")
        shape = _read_shape(client, reading, params, for_all)
        if out is None:
            return submit_file(
                client, source, shape, key=for_all.key, dry_run=dry_run, quiet=quiet, as_json=output.json
            )
        return run_file(
            output.connect_async,
            source,
            shape,
            out,
            told={**vars(reading), **vars(for_all), "params": params, "format": source.format},
            url=find_target(output.url, output.profile).url,
            in_flight=max_in_flight,
            retry_failed=retry_failed,
            quiet=quiet,
            as_json=output.json,
        )


def _check_flags(out: Path | None, for_all: Submission, *, retry_failed: bool, dry_run: bool) -> None:
    """Refuse flags that do not go together. Raises UsageError."""
    from tasker.cli.params import UsageError

    if out is None and retry_failed:
        raise UsageError("--retry-failed belongs to --out")
    if out is not None and dry_run:
        raise UsageError("give --out or --dry-run, and not both")
    if out is not None and for_all.key is not None:
        raise UsageError("--key is for batches without --out; with it, no row is submitted twice")


def _read_shape(client: Tasker, reading: FileOptions, params: Sequence[str], for_all: Submission) -> Shape:
    """Return how rows become submissions. Raises UsageError, NotFound for an unknown type."""
    from tasker.cli.batch.rows import Shape
    from tasker.cli.params import Accepts, UsageError, read_accepts, read_params
    from tasker.client import NotAllowed

    if reading.type is None:
        if reading.map or params:
            raise UsageError("--map and params belong to --type; rows without it are whole submissions")
        return Shape(options=for_all.read().as_json())
    known: Mapping[str, object] | None = None
    try:
        task_type = client.find_type(reading.type)
        accepts = read_accepts(task_type)
        known = _find_names(task_type["input_schema"])
    except NotAllowed:  # a key that may submit may lack the right to read
        accepts = Accepts({})
    shared = read_params(params, lambda: accepts) if params else {}
    if not isinstance(shared, Mapping):
        raise UsageError("PARAMS: expected key=value or key:=json")
    columns = _read_map(reading.map)
    for name in [*columns, *shared]:
        if known is not None and name not in known:
            where = "--map" if name in columns else "PARAMS"
            raise UsageError(f"{where}: {reading.type} has no param {name!r}; it has {', '.join(known) or 'none'}")
    return Shape(reading.type, columns, shared, for_all.read().as_json(), accepts)


def _find_names(schema: Mapping[str, Any]) -> Mapping[str, object] | None:
    """Return the params of a task type by their names; None if it takes any name."""
    return schema.get("properties", {}) if schema.get("additionalProperties") is False else None


def _read_map(words: Sequence[str]) -> dict[str, str]:
    from tasker.cli.params import UsageError

    columns: dict[str, str] = {}
    for word in words:
        found = _MAPPED.fullmatch(word)
        if found is None or found[1] in columns:
            raise UsageError(f"--map: expected PARAM=COLUMN, each param once, got {word!r}")
        columns[found[1]] = found[2]
    return columns
