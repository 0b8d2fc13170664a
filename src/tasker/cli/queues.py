"""`tasker queue`: pause, resume and limit queues."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import App, Parameter

from tasker.cli.exits import Exit
from tasker.cli.options import DEFAULT_OUTPUT, DEFAULT_SERVICE, Output, Service, print_found

if TYPE_CHECKING:
    from tasker.client import Queue

Name = Annotated[str, Parameter(help="The name of the queue.")]

app = App(name="queue", help="Pause, resume and limit queues, for every worker at once.")


@app.command
def ls(*, output: Output = DEFAULT_OUTPUT) -> int:
    """List the queues that hold open tasks or are limited: a table on a terminal, tab-separated lines elsewhere."""
    with output.connect() as client:
        found = list(client.queues.find_many())
    header = ("QUEUE", "PENDING", "SCHEDULED", "RUNNING", "LIMITS")
    return print_found(found, header, _row, json=output.json, empty="No queue holds open tasks or is limited.")


@app.command
def pause(name: Name, /, *, service: Service = DEFAULT_SERVICE) -> int:
    """Start no more tasks of a queue until it is resumed; running tasks go on."""
    return _change(name, service, {"paused": True})


@app.command
def resume(name: Name, /, *, service: Service = DEFAULT_SERVICE) -> int:
    """Let the tasks of a queue start again."""
    return _change(name, service, {"paused": False})


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Limits:
    """The limits that a queue may have."""

    concurrency: Annotated[str | None, Parameter(help="How many of its tasks may run at a time.")] = None
    per_key: Annotated[
        str | None, Parameter(help="How many tasks of one owner with the same concurrency key may run at a time.")
    ] = None
    rate: Annotated[str | None, Parameter(help="How many units of weight may start in each --per seconds.")] = None
    per: Annotated[float | None, Parameter(help="Seconds of the rate; default: 1.")] = None
    burst: Annotated[
        int | None, Parameter(help="How many units may start at once after a pause; default: a tenth of the rate.")
    ] = None
    shared_keys: Annotated[
        bool | None, Parameter(help="Whether --per-key counts the tasks of all owners together.")
    ] = None

    def read(self) -> dict[str, Any]:
        """Return the settings that are given. Raises UsageError."""
        from tasker.cli.params import UsageError

        given = {"concurrency": self.concurrency, "concurrency_per_key": self.per_key}
        fields: dict[str, Any] = {field: _number(value) for field, value in given.items() if value is not None}
        if self.rate is not None:
            limit = _number(self.rate)
            fields["rate"] = None if limit is None else {"limit": limit, "per": self.per, "burst": self.burst}
        elif self.per is not None or self.burst is not None:
            raise UsageError("--per and --burst belong to a --rate")
        if self.shared_keys is not None:
            fields["shared_keys"] = self.shared_keys
        if not fields:
            raise UsageError("expected --concurrency, --per-key, --rate or --shared-keys")
        return fields


NO_LIMITS = Limits()


@app.command(name="set")
def set_(name: Name, /, *, limits: Limits = NO_LIMITS, service: Service = DEFAULT_SERVICE) -> int:
    """Set limits of a queue; `none` removes one, and limits that are not given stay as they are."""
    return _change(name, service, limits.read())


def _number(text: str) -> int | str | None:
    """Return the number, or None for `none`; any other text as it is: the service says what is wrong with it."""
    if text == "none":
        return None
    return int(text) if re.fullmatch(r"-?[0-9]{1,19}", text) else text


def _change(name: str, service: Service, fields: dict[str, Any]) -> int:
    from tasker.cli.terminal import note

    with service.connect() as client:
        queue = client.queues.change(name, **fields)
    note(f"Queue {queue.name}: {_limits(queue)}.")
    return Exit.OK


def _row(queue: Queue) -> tuple[str, ...]:
    return queue.name, str(queue.pending), str(queue.scheduled), str(queue.running), _limits(queue)


def _limits(queue: Queue) -> str:
    """Describe the settings of a queue."""
    words = ["paused"] if queue.paused else []
    if queue.concurrency is not None:
        words.append(f"{queue.concurrency:,} at a time")
    if queue.concurrency_per_key is not None:
        words.append(f"{queue.concurrency_per_key:,} per key")
    if queue.shared_keys:
        words.append("keys shared by all owners")
    if queue.rate is not None:
        words.append(f"{queue.rate.limit:,} in {queue.rate.per:g} s (burst {queue.rate.burst:,})")
    return ", ".join(words) or "no limits"
