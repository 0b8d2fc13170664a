"""`tasker webhook`: tell receivers of events."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, Literal
from uuid import UUID

from cyclopts import App, Parameter
from cyclopts.validators import Number

from tasker.cli.exits import Exit
from tasker.cli.options import DEFAULT_OUTPUT, DEFAULT_SERVICE, Output, Service, print_found

if TYPE_CHECKING:
    from tasker.wire.webhooks import Delivery, Webhook

WebhookId = Annotated[str, Parameter(help="The id of the webhook: tasker webhook ls.")]
Limit = Annotated[int, Parameter(help="How many at most.", validator=Number(gte=1))]

app = App(name="webhook", help="Send events to receivers by signed requests.")


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Settings:
    """What a webhook receives, and how."""

    event: Annotated[
        tuple[str, ...],
        Parameter(
            negative="",
            show_default=False,
            help="An event to send, such as task.failed; may be repeated. Else those that end a task.",
        ),
    ] = ()
    type: Annotated[str | None, Parameter(help="Only events of tasks of this type.")] = None
    queue: Annotated[str | None, Parameter(help="Only events of tasks of this queue.")] = None
    tag: Annotated[str | None, Parameter(help="Only events of tasks with this tag.")] = None
    description: Annotated[str | None, Parameter(help="A note of your own.")] = None
    format: Annotated[
        Literal["standard", "slack", "plain"] | None,
        Parameter(help="JSON with the task (standard), text for chats (slack), or plain text."),
    ] = None
    all_owners: Annotated[bool | None, Parameter(help="Whether it gets the events of all owners' tasks (admins).")] = (
        None
    )

    def read(self) -> dict[str, Any]:
        """Return the fields that are given; `none` resets one."""
        given = {field.name: getattr(self, field.name) for field in fields(self) if field.name != "event"}
        found = {name: None if value == "none" else value for name, value in given.items() if value is not None}
        return found | ({"events": list(self.event)} if self.event else {})


SETTINGS = Settings()


@app.command
def create(
    receiver: Annotated[str, Parameter(help="Where events are sent to: an https address.")],
    /,
    *,
    settings: Settings = SETTINGS,
    secret: Annotated[
        str | None,
        Parameter(help="A file with the secret that signs (@file), or - for standard input; else a new one."),
    ] = None,
    output: Output = DEFAULT_OUTPUT,
) -> int:
    """Register a receiver of events, and print the secret that signs its messages: it is shown only this once."""
    from tasker.cli.service import to_json
    from tasker.cli.terminal import note, show

    given = settings.read() | ({} if secret is None else {"secret": _read_secret(secret)})
    with output.connect() as client:
        made = client.webhooks.create(receiver, **given)
    if output.json:
        show(to_json(made))
        return Exit.OK
    note(f"Webhook {made.webhook_id} gets {', '.join(made.events)}. Its secret is shown only this once:")
    show(made.secret)
    return Exit.OK


@app.command
def ls(*, limit: Limit = 50, output: Output = DEFAULT_OUTPUT) -> int:
    """List the webhooks, newest first: a table on a terminal, tab-separated lines elsewhere."""
    with output.connect() as client:
        found = list(client.webhooks.find_many(limit=limit))
    header = ("WEBHOOK", "STATUS", "URL", "EVENTS", "FILTER", "DESCRIPTION")
    empty = "No webhooks: make one with `tasker webhook create`."
    return print_found(found, header, _row, json=output.json, empty=empty)


@app.command(name="show")
def show_(webhook_id: WebhookId, /, *, output: Output = DEFAULT_OUTPUT) -> int:
    """Show a webhook."""
    with output.connect() as client:
        return _print(client.webhooks.get(_read_id(webhook_id)), output)


@app.command
def change(
    webhook_id: WebhookId,
    /,
    *,
    receiver: Annotated[str | None, Parameter(help="Another address to send to.")] = None,
    settings: Settings = SETTINGS,
    output: Output = DEFAULT_OUTPUT,
) -> int:
    """Change what a webhook receives; `none` removes a filter, and what is not given stays as it is."""
    from tasker.cli.params import UsageError

    given = settings.read() | ({} if receiver is None else {"url": receiver})
    if not given:
        raise UsageError("expected --receiver, --event, --type or another option")
    with output.connect() as client:
        return _print(client.webhooks.change(_read_id(webhook_id), **given), output)


@app.command
def pause(webhook_id: WebhookId, /, *, output: Output = DEFAULT_OUTPUT) -> int:
    """Keep events back until the webhook is resumed."""
    with output.connect() as client:
        return _print(client.webhooks.change(_read_id(webhook_id), status="paused"), output)


@app.command
def resume(webhook_id: WebhookId, /, *, output: Output = DEFAULT_OUTPUT) -> int:
    """Send what was kept back, and go on."""
    with output.connect() as client:
        return _print(client.webhooks.change(_read_id(webhook_id), status="active"), output)


@app.command
def rm(webhook_id: WebhookId, /, *, service: Service = DEFAULT_SERVICE) -> int:
    """Erase a webhook and its deliveries."""
    from tasker.cli.terminal import note

    wanted = _read_id(webhook_id)
    with service.connect() as client:
        client.webhooks.delete(wanted)
    note(f"Webhook {wanted} is erased.")
    return Exit.OK


@app.command
def rotate(
    webhook_id: WebhookId,
    /,
    *,
    keep_old_for: Annotated[
        str | None, Parameter(help="How long the old secret signs too: 12h, 2d; default: 1d.")
    ] = None,
    output: Output = DEFAULT_OUTPUT,
) -> int:
    """Sign with a new secret, and for a while also with the old one; print the new one."""
    from tasker.cli.service import to_json
    from tasker.cli.terminal import note, show
    from tasker.cli.times import read_duration

    with output.connect() as client:
        made = client.webhooks.rotate(_read_id(webhook_id), keep_old_for=read_duration(keep_old_for))
    if output.json:
        show(to_json(made))
        return Exit.OK
    note("The new secret is shown only this once:")
    show(made.secret)
    return Exit.OK


@app.command
def deliveries(
    webhook_id: WebhookId,
    /,
    *,
    status: Annotated[
        Literal["pending", "delivered", "failed"] | None, Parameter(help="Only deliveries with this status.")
    ] = None,
    limit: Limit = 20,
    output: Output = DEFAULT_OUTPUT,
) -> int:
    """List the deliveries of a webhook, newest first."""
    with output.connect() as client:
        found = list(client.webhooks.deliveries(_read_id(webhook_id), status=status, limit=limit))
    header = ("DELIVERY", "EVENT", "ABOUT", "STATUS", "TRIES", "CODE", "CREATED", "DETAIL")
    row = partial(_delivery_row, now=datetime.now(UTC))
    return print_found(found, header, row, json=output.json, empty="No deliveries.")


@app.command
def redeliver(
    webhook_id: WebhookId,
    delivery_id: Annotated[str, Parameter(help="The id of the delivery: tasker webhook deliveries.")],
    /,
    *,
    output: Output = DEFAULT_OUTPUT,
) -> int:
    """Send an event once more."""
    from tasker.cli.service import to_json
    from tasker.cli.terminal import note, show

    with output.connect() as client:
        again = client.webhooks.redeliver(_read_id(webhook_id), _read_id(delivery_id, "DELIVERY_ID"))
    if output.json:
        show(to_json(again))
    else:
        note(f"Delivery {delivery_id} is {again.status}: it is sent again soon.")
    return Exit.OK


def _print(webhook: Webhook, output: Output) -> int:
    from tasker.cli.service import to_json
    from tasker.cli.terminal import show

    show(to_json(webhook) if output.json else "\n".join(_lines(webhook)))
    return Exit.OK


def _lines(webhook: Webhook) -> Iterator[str]:
    """Yield a webhook as lines `name: value`, without those that have no value."""
    from tasker.cli.times import local

    values: dict[str, Any] = {
        "webhook": webhook.webhook_id,
        "url": webhook.url,
        "status": f"{webhook.status}: {webhook.reason}" if webhook.reason else webhook.status,
        "events": ", ".join(webhook.events),
        "filter": _filter(webhook) or None,
        "format": webhook.format,
        "note": webhook.description,
        "owners": "all" if webhook.all_owners else None,
        "task": webhook.task_id,
        "failing": webhook.failing_since and f"since {local(webhook.failing_since)}",
        "created": webhook.created_at and local(webhook.created_at),
    }
    yield from (f"{name + ':':<10} {value}" for name, value in values.items() if value is not None)


def _row(webhook: Webhook) -> tuple[str, ...]:
    status = "failing" if webhook.failing_since and webhook.status == "active" else webhook.status
    told = ",".join(webhook.events), _filter(webhook) or "-", webhook.description or ""
    return str(webhook.webhook_id), status, webhook.url, *told


def _filter(webhook: Webhook) -> str:
    names = ("type", "queue", "tag")
    return " ".join(f"{name}={value}" for name in names if (value := getattr(webhook, name)) is not None)


def _delivery_row(delivery: Delivery, now: datetime) -> tuple[str, ...]:
    from tasker.cli.terminal import ago

    code = "-" if delivery.response_code is None else str(delivery.response_code)
    detail = "" if delivery.error is None else delivery.error.detail
    about = str(delivery.task_id or delivery.group or "-")
    counts = delivery.status, str(delivery.attempts), code
    return (
        str(delivery.delivery_id),
        delivery.event,
        about,
        *counts,
        ago(delivery.created_at, now) if delivery.created_at else "-",
        detail,
    )


def _read_secret(source: str) -> str:
    from tasker.cli.params import UsageError, is_source, read_source

    if not is_source(source):
        raise UsageError("--secret: expected @file or -; on the command line other users of this machine could see it")
    return read_source(source).strip()


def _read_id(text: str, name: str = "WEBHOOK_ID") -> UUID:
    """Return an id. Raises UsageError."""
    from tasker.cli.params import UsageError

    try:
        return UUID(text)
    except ValueError:
        raise UsageError(f"{name}: expected a UUID, got {text!r}; `tasker webhook ls` lists webhooks") from None
