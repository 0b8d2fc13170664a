"""The pages of webhooks: list, create, change, pause, rotate the secret, erase; deliveries, and their repetition."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from urllib.parse import urlencode

from tasker.api.pages import list_query, page_parameters
from tasker.api.replies import Reply
from tasker.errors import Fault, Forbidden, RequestError
from tasker.model.events import WEBHOOK_EVENTS
from tasker.model.webhooks import Webhook
from tasker.requests.webhooks import public_event, read_rotation, read_webhook, read_webhook_patch
from tasker.rules.urls import UrlRules
from tasker.service import Service
from tasker.web.fields import Field, controls, others, read_body
from tasker.web.frame import Frame
from tasker.web.page import Form, Visit, act, show

_EVENTS = tuple(map(public_event, WEBHOOK_EVENTS))
_FORMATS = ("standard", "slack", "plain")
_COMMON = (
    Field("url", "text", "Where events are sent: https, a public host.", required=True),
    Field("events", "choices", "None: those that end a task.", _EVENTS, empty="null"),
    Field("type", "text", "Only tasks of this type.", empty="null"),
    Field("queue", "text", "Only tasks of this queue.", empty="null"),
    Field("tag", "text", "Only tasks with this tag.", empty="null"),
    Field("description", "text", "A note of your own.", empty="null"),
    Field("format", "choice", "JSON of Standard Webhooks, Slack's text, or plain text.", _FORMATS, empty="null"),
)
_ALL_OWNERS = Field("all_owners", "flag", "The events of all owners' tasks, for admins.")
_SECRET = Field("secret", "secret", "Signs the messages: whsec_ and base64. Empty: a new one is made.")


class WebhookPages:
    """Show, create, change and erase webhooks. rules: of their URLs."""

    def __init__(self, frame: Frame, service: Service, rules: UrlRules) -> None:
        self._frame = frame
        self._webhooks = service.webhooks
        self._rules = rules

    @show("/webhooks", parameters=page_parameters("webhooks"), nav="Webhooks", icon="webhooks")
    async def webhooks(self, visit: Visit) -> Reply:
        page = await self._webhooks.find_many(visit.caller, **list_query(visit.call))
        return self._frame.render(
            visit,
            "webhooks.html",
            page="webhooks",
            webhooks=page.items,
            older=None if page.next_cursor is None else "?" + urlencode({"cursor": page.next_cursor}),
        )

    @show("/new/webhook", scope="control")
    async def new_webhook(self, visit: Visit) -> Reply:
        return self._form(visit, None, {"format": "standard"})

    @act("/new/webhook", scope="control", deed="create_webhook")
    async def create_webhook(self, visit: Visit) -> Reply:
        """Create a webhook, and show its secret this once. A refused form is shown again with what was wrong."""
        fields = (*self._fields(visit), _SECRET)
        try:
            read = read_webhook(read_body(fields, visit.form), self._rules)
            webhook = await self._webhooks.create(visit.caller, read)
        except RequestError as error:
            return self._refused(visit, None, error)
        visit.call.head.audit_target = str(webhook.webhook_id)
        return await self._show(visit, webhook, secret=webhook.secrets[0].secret)

    @show("/webhook/{webhook_id}", parameters=page_parameters("deliveries"))
    async def webhook(self, visit: Visit) -> Reply:
        return await self._show(visit, await self._webhooks.get(visit.caller, visit.call.id_of("webhook_id")))

    @show("/webhook/{webhook_id}/edit", scope="control")
    async def edit_webhook(self, visit: Visit) -> Reply:
        if not visit.caller.may("read"):
            raise Forbidden("read", "the form shows the webhook")
        webhook = await self._webhooks.get(visit.caller, visit.call.id_of("webhook_id"))
        return self._form(visit, webhook, _given(webhook))

    @act("/webhook/{webhook_id}/edit", scope="control", deed="change_webhook")
    async def change_webhook(self, visit: Visit) -> Reply:
        """Change a webhook. A refused form is shown again with what was wrong."""
        webhook = await self._webhooks.get(visit.caller, visit.call.id_of("webhook_id"))
        try:
            read = read_webhook_patch(read_body(self._fields(visit), visit.form), self._rules)
            await self._webhooks.change(visit.caller, webhook.webhook_id, read)
        except RequestError as error:
            return self._refused(visit, webhook, error)
        return self._frame.see(visit, f"webhook/{webhook.webhook_id}")

    @act("/webhook/{webhook_id}/pause", scope="control", deed="change_webhook")
    async def pause_webhook(self, visit: Visit) -> Reply:
        return await self._set_status(visit, b'{"status":"paused"}')

    @act("/webhook/{webhook_id}/resume", scope="control", deed="change_webhook")
    async def resume_webhook(self, visit: Visit) -> Reply:
        return await self._set_status(visit, b'{"status":"active"}')

    @act("/webhook/{webhook_id}/rotate", scope="control", deed="rotate_secret")
    async def rotate_secret(self, visit: Visit) -> Reply:
        """Sign with a new secret, and show it this once; the old one signs too for a day."""
        secret, keep_for = read_rotation(b"")
        webhook = await self._webhooks.rotate(visit.caller, visit.call.id_of("webhook_id"), secret, keep_for)
        return await self._show(visit, webhook, secret=webhook.secrets[0].secret)

    @act("/webhook/{webhook_id}/delete", scope="control", deed="delete_webhook")
    async def delete_webhook(self, visit: Visit) -> Reply:
        await self._webhooks.delete(visit.caller, visit.call.id_of("webhook_id"))
        return self._frame.see(visit, "webhooks")

    @act("/webhook/{webhook_id}/deliveries/{delivery_id}/redeliver", scope="control", deed="redeliver")
    async def redeliver(self, visit: Visit) -> Reply:
        webhook_id, delivery_id = visit.call.id_of("webhook_id"), visit.call.id_of("delivery_id")
        await self._webhooks.redeliver(visit.caller, webhook_id, delivery_id)
        return self._frame.see(visit, f"webhook/{webhook_id}")

    async def _set_status(self, visit: Visit, body: bytes) -> Reply:
        webhook_id = visit.call.id_of("webhook_id")
        await self._webhooks.change(visit.caller, webhook_id, read_webhook_patch(body, self._rules))
        return self._frame.see(visit, f"webhook/{webhook_id}")

    async def _show(self, visit: Visit, webhook: Webhook, *, secret: str | None = None) -> Reply:
        """Return the page of a webhook. secret: to show this once. A key without the scope read sees that alone."""
        if not visit.caller.may("read"):
            return self._frame.render(visit, "webhook_secret.html", page="webhooks", secret=secret)
        query = {"limit": 50, **visit.query}
        page = await self._webhooks.deliveries(visit.caller, webhook.webhook_id, status=None, **query)
        return self._frame.render(
            visit,
            "webhook.html",
            page="webhooks",
            w=webhook,
            event_of=public_event,
            secret=secret,
            deliveries=page.items,
            older=None if page.next_cursor is None else "?" + urlencode({"cursor": page.next_cursor}),
        )

    def _fields(self, visit: Visit) -> tuple[Field, ...]:
        return (*_COMMON, _ALL_OWNERS) if visit.caller.may("admin") else _COMMON

    def _refused(self, visit: Visit, webhook: Webhook | None, error: RequestError) -> Reply:
        """Return the form again. Raises errors that are not about what it holds."""
        if error.kind.status not in (409, 422):
            raise error
        return self._form(visit, webhook, visit.form, error)

    def _form(
        self, visit: Visit, webhook: Webhook | None, given: Form | dict[str, Any], error: RequestError | None = None
    ) -> Reply:
        fields = self._fields(visit) if webhook is not None else (*self._fields(visit), _SECRET)
        faults: Sequence[Fault] = () if error is None else error.faults
        return self._frame.render(
            visit,
            "webhook_form.html",
            page="webhooks",
            status=200 if error is None else error.kind.status or 422,
            webhook=webhook,
            controls=controls(fields, given, faults),
            faults=others(fields, faults),
            refusal="" if error is None else error.detail,
        )


def _given(webhook: Webhook) -> dict[str, Any]:
    """Return a webhook as the fields of its form."""
    names = ("url", "type", "queue", "tag", "description", "format", "all_owners")
    return {name: getattr(webhook, name) for name in names} | {
        "events": [public_event(name) for name in webhook.events]
    }
