"""`tasker schedule`: submit tasks by the clock."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any
from uuid import UUID, uuid4

from cyclopts import App, Parameter

from tasker.cli.exits import Exit
from tasker.cli.options import DEFAULT_OUTPUT, DEFAULT_SERVICE, Output, Service, print_found

if TYPE_CHECKING:
    from tasker.client import Schedule, Tasker

Which = Annotated[str, Parameter(help="The name of the schedule, or its id.")]

app = App(name="schedule", help="Submit tasks by the clock: make, list, pause and trigger schedules.")


@app.command
def add(
    name: str,
    type: str,
    /,
    *params: str,
    cron: str | None = None,
    every: str | None = None,
    time_zone: str | None = None,
    missed: str | None = None,
    overlap: str | None = None,
    output: Output = DEFAULT_OUTPUT,
) -> int:
    """Create a schedule, which submits a task at each tick.

    Parameters
    ----------
    name
        Its name, for the other commands.
    type
        The type of its tasks.
    params
        Params of its tasks, as for `tasker run`: by position, or as name=value.
    cron
        Minute, hour, day of month, month and weekday: "30 2 * * *".
    every
        Instead of cron: seconds, or a duration (90s, 5m, 2h, 1d, PT90S).
    time_zone
        Time zone of the cron rule, such as Europe/Berlin; default: UTC.
    missed
        What to do about ticks that were missed while no service ran: once (the default), skip, all.
    overlap
        What to do at a tick while an earlier task is open: allow (the default), skip, replace.
    """
    from tasker.cli.params import UsageError
    from tasker.cli.service import read_params_of, to_json
    from tasker.cli.terminal import note, show

    if (cron is None) == (every is None):
        raise UsageError('give --cron ("30 2 * * *") or --every (90s, 5m, 1d), and not both')
    options = {"cron": cron, "interval": _interval(every), "time_zone": time_zone, "missed": missed, "overlap": overlap}
    given = {option: value for option, value in options.items() if value is not None}
    with output.connect() as client:
        made = client.schedules.create(name, {"type": type, "params": read_params_of(client, type, params)}, **given)
    if output.json:
        show(to_json(made))
    else:
        note(f"Schedule {made.name}: the first task is submitted {_when(made)}.")
        show(str(made.schedule_id))
    return Exit.OK


@app.command
def ls(*, output: Output = DEFAULT_OUTPUT) -> int:
    """List the schedules, newest first: a table on a terminal, tab-separated lines elsewhere."""
    with output.connect() as client:
        found = list(client.schedules.find_many())
    header, empty = (
        ("NAME", "TYPE", "RULE", "NEXT", "LAST"),
        "There are no schedules: make one with `tasker schedule add`.",
    )
    return print_found(found, header, _row, json=output.json, empty=empty)


@app.command
def show(which: Which, /, *, count: int = 5, output: Output = DEFAULT_OUTPUT) -> int:
    """Show one schedule, and its next ticks.

    Parameters
    ----------
    count
        How many ticks to show.
    """
    from tasker.cli.service import to_json
    from tasker.cli.terminal import show

    with output.connect() as client:
        schedule = _find(client, which)
        ticks = client.schedules.next_ticks(schedule.schedule_id, count) if count > 0 else []
    show(to_json(schedule) if output.json else "\n".join(_lines(schedule, ticks)))
    return Exit.OK


@app.command
def change(
    which: Which,
    /,
    *params: str,
    type: str | None = None,
    cron: str | None = None,
    every: Annotated[str | None, Parameter(alias="--interval")] = None,
    time_zone: str | None = None,
    missed: str | None = None,
    overlap: str | None = None,
    name: str | None = None,
    output: Output = DEFAULT_OUTPUT,
) -> int:
    """Change a schedule; what is not given stays as it is, and its id and its tasks, too.

    Parameters
    ----------
    params
        Params of its tasks, as for `tasker run`: those by name replace those of the same names, those by position all.
    type
        Another type of its tasks; then give all params.
    cron
        Another rule, instead of what it has: "30 2 * * *".
    every
        Another interval, instead of what it has: seconds, or a duration (90s, 5m, 2h, 1d, PT90S).
    time_zone
        Time zone of the cron rule.
    missed
        What to do about missed ticks: once, skip, all.
    overlap
        What to do at a tick while an earlier task is open: allow, skip, replace.
    name
        Another name.
    """
    from tasker.cli.params import UsageError
    from tasker.cli.service import to_json
    from tasker.cli.terminal import note, show

    options = {"name": name, "time_zone": time_zone, "missed": missed, "overlap": overlap}
    given: dict[str, Any] = {option: value for option, value in options.items() if value is not None}
    given |= _change_of_rule(cron, every)
    if not (given or params or type is not None):
        raise UsageError("give what to change: params, --cron, --every, --time-zone, --missed, --overlap, --name")
    with output.connect() as client:
        schedule = _find(client, which)
        if params or type is not None:
            given["task"] = _change_of_task(client, schedule, type, params)
        changed = client.schedules.change(schedule.schedule_id, **given)
    if output.json:
        show(to_json(changed))
    else:
        note(f"Schedule {changed.name}: {_rule(changed)}, {_when(changed)}.")
    return Exit.OK


@app.command
def pause(which: Which, /, *, service: Service = DEFAULT_SERVICE) -> int:
    """Pause a schedule: it has no ticks until it is resumed, and misses none."""
    return _change(which, service, paused=True)


@app.command
def resume(which: Which, /, *, service: Service = DEFAULT_SERVICE) -> int:
    """Resume a schedule, from its next tick on."""
    return _change(which, service, paused=False)


@app.command
def rm(which: Which, /, *, service: Service = DEFAULT_SERVICE) -> int:
    """Erase a schedule; its tasks stay."""
    from tasker.cli.terminal import note

    with service.connect() as client:
        schedule = _find(client, which)
        client.schedules.delete(schedule.schedule_id)
    note(f"Schedule {schedule.name} is erased.")
    return Exit.OK


@app.command
def trigger(which: Which, /, *, service: Service = DEFAULT_SERVICE) -> int:
    """Submit a task of the schedule now, and print its id."""
    from tasker.cli.terminal import show

    with service.connect() as client:
        task = client.schedules.trigger(_find(client, which).schedule_id, idempotency_key=str(uuid4()))
    show(str(task.task_id))
    return Exit.OK


def _change(which: str, service: Service, *, paused: bool) -> int:
    from tasker.cli.terminal import note

    with service.connect() as client:
        schedule = client.schedules.change(_find(client, which).schedule_id, paused=paused)
    note(f"Schedule {schedule.name}: {_when(schedule)}.")
    return Exit.OK


def _change_of_rule(cron: str | None, every: str | None) -> dict[str, Any]:
    """Return the fields of another rule, which takes the place of either kind. Raises UsageError."""
    from tasker.cli.params import UsageError

    if cron is not None and every is not None:
        raise UsageError('give --cron ("30 2 * * *") or --every (90s, 5m, 1d), and not both')
    return {} if cron is None and every is None else {"cron": cron, "interval": _interval(every)}


def _change_of_task(client: Tasker, schedule: Schedule, type: str | None, words: tuple[str, ...]) -> dict[str, Any]:
    """Return the submission of a schedule with what the words change. Raises UsageError."""
    from tasker.cli.params import as_named, read_accepts
    from tasker.cli.service import read_params_of

    old = schedule.task
    wanted = str(old["type"]) if type is None else type
    params = read_params_of(client, wanted, words)
    if type is None and isinstance(params, dict):
        params = as_named(old.get("params"), read_accepts(client.find_type(wanted))) | params
    return {**old, "type": wanted, "params": params}


def _find(client: Tasker, which: str) -> Schedule:
    """Return the schedule with this name or id. Raises NotFound."""
    from tasker import client as clients
    from tasker.errors import NotFound

    try:
        found = client.schedules.find(which) or client.schedules.get(UUID(which))
    except (ValueError, clients.NotFound):
        raise NotFound(f"there is no schedule {which!r}; `tasker schedule ls` lists them") from None
    return found


def _interval(every: str | None) -> float | str | None:
    """Return the seconds; a text that begins with P as it is, for the service to read. Raises UsageError."""
    from tasker.cli.params import UsageError, read_seconds

    if every is None or every[:1] in "Pp":
        return every
    seconds = read_seconds(every)
    if seconds is not None:
        return seconds
    try:
        return float(every)
    except ValueError:
        raise UsageError(f"--every: expected seconds, or a duration (90s, 5m, 2h, 1d, PT90S), got {every!r}") from None


def _row(schedule: Schedule) -> tuple[str, ...]:
    return schedule.name, str(schedule.task["type"]), _rule(schedule), _next(schedule), _last(schedule)


def _rule(schedule: Schedule) -> str:
    if schedule.cron is None:
        return f"every {schedule.interval:g} s"
    return schedule.cron if schedule.time_zone == "UTC" else f"{schedule.cron} {schedule.time_zone}"


def _next(schedule: Schedule) -> str:
    from tasker.cli.terminal import ago

    if schedule.next_fire_at is None:
        return "paused" if schedule.paused else "never again"
    return ago(schedule.next_fire_at, datetime.now(UTC))


def _when(schedule: Schedule) -> str:
    at = schedule.next_fire_at
    return _next(schedule) if at is None else f"{_next(schedule)}, at {_local(at)}"


def _last(schedule: Schedule) -> str:
    from tasker.cli.terminal import ago

    skip = schedule.last_skip
    if skip is not None and (schedule.last_fired_at is None or skip.tick > schedule.last_fired_at):
        return f"{skip.reason} {ago(skip.tick, datetime.now(UTC))}"
    return ago(schedule.last_fired_at, datetime.now(UTC)) if schedule.last_fired_at else "never"


def _lines(schedule: Schedule, ticks: list[datetime]) -> Iterator[str]:
    from tasker.cli.service import to_text

    values: dict[str, Any] = {
        "schedule": schedule.schedule_id,
        "name": schedule.name,
        "rule": _rule(schedule),
        "task": to_text(schedule.task),
        "missed": schedule.missed,
        "overlap": schedule.overlap,
        "from": schedule.starts_at and _local(schedule.starts_at),
        "until": schedule.ends_at and _local(schedule.ends_at),
        "next": _next(schedule),
        "last": _last(schedule),
        "last task": schedule.last_task_id,
    }
    yield from (f"{name + ':':<10} {value}" for name, value in values.items() if value is not None)
    if schedule.last_skip is not None:
        skip = schedule.last_skip
        yield f"{'skipped:':<10} {_local(skip.tick)}: {skip.reason}{f': {skip.detail}' if skip.detail else ''}"
    yield from (f"{'tick:':<10} {_local(tick)}" for tick in ticks)


def _local(time: datetime) -> str:
    return time.astimezone().isoformat(sep=" ", timespec="seconds")
