"""The page of the audit log, for admins: who did what."""

from __future__ import annotations

from urllib.parse import urlencode

from tasker.api.pages import list_query, page_parameters
from tasker.api.replies import Reply
from tasker.service import Service
from tasker.service.audit import KEEP_AUDIT_FOR
from tasker.web.frame import Frame
from tasker.web.page import Visit, show


class AuditPages:
    """Show the audit log."""

    def __init__(self, frame: Frame, service: Service) -> None:
        self._frame = frame
        self._audit = service.audit

    @show("/audit", scope="admin", parameters=page_parameters("entries"), nav="Audit", icon="audit")
    async def audit(self, visit: Visit) -> Reply:
        page = await self._audit.find_many(**list_query(visit.call))
        return self._frame.render(
            visit,
            "audit.html",
            page="audit",
            entries=page.items,
            days=KEEP_AUDIT_FOR.days,
            older=None if page.next_cursor is None else "?" + urlencode({"cursor": page.next_cursor}),
        )
