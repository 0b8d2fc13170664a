"""The pages of keys, for admins: list, create, revoke. A new key is shown once."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import structs

from tasker.api.replies import Reply
from tasker.errors import Fault, RequestError
from tasker.model.keys import SCOPES
from tasker.requests.body import read_body as read_json
from tasker.requests.keys import KeyBody
from tasker.service import Service
from tasker.service.keys import NewKey
from tasker.web.fields import Field, controls, others, read_body
from tasker.web.frame import Frame
from tasker.web.page import Form, Visit, act, show

MOST_SHOWN = 500
FIELDS = (
    Field("name", "text", "A label. Empty: its id."),
    Field("scopes", "choices", "What it may do.", SCOPES, required=True),
    Field("owner", "text", "Whose tasks it submits and sees. Empty: its name."),
    Field("expires_at", "moment", "In UTC. Empty: it never expires."),
    Field("rate", "number", "Requests a second at most."),
    Field("burst", "number", "Requests that may come at once. Empty: those of two seconds."),
    Field("daily_budget", "number", "US dollars that its tasks may cost in a day."),
)


class KeyPages:
    """Show, create and revoke keys."""

    def __init__(self, frame: Frame, service: Service) -> None:
        self._frame = frame
        self._keys = service.keys

    @show("/keys", scope="admin", nav="Keys", icon="keys")
    async def keys(self, visit: Visit) -> Reply:
        return await self._show(visit, Form())

    @act("/keys", scope="admin", deed="create_key")
    async def create_key(self, visit: Visit) -> Reply:
        """Create a key and show it, this once. A refused form is shown again with what was wrong."""
        try:
            body = read_json(read_body(FIELDS, visit.form), KeyBody)
            key, shown = await self._keys.create(NewKey(**(structs.asdict(body) | {"scopes": tuple(body.scopes)})))
        except RequestError as error:
            if error.kind.status not in (409, 422):
                raise
            return await self._show(visit, visit.form, error)
        visit.call.head.audit_target = key.key_id
        return await self._show(visit, Form(), shown=shown)

    @act("/key/{key_id}/revoke", scope="admin", deed="revoke_key")
    async def revoke_key(self, visit: Visit) -> Reply:
        await self._keys.revoke(visit.path["key_id"])
        return self._frame.see(visit, "keys")

    async def _show(
        self, visit: Visit, form: Form, error: RequestError | None = None, *, shown: str | None = None
    ) -> Reply:
        faults: Sequence[Fault] = () if error is None else error.faults
        found = (await self._keys.find_all())[::-1]
        return self._frame.render(
            visit,
            "keys.html",
            page="keys",
            status=200 if error is None else error.kind.status or 422,
            keys=found[:MOST_SHOWN],
            left_out=max(0, len(found) - MOST_SHOWN),
            shown=shown,
            controls=controls(FIELDS, form, faults),
            faults=others(FIELDS, faults),
            refusal="" if error is None else error.detail,
        )
