"""Signing in with a key, signing out, the way from / to the pages, and their static files."""

from __future__ import annotations

import re

from tasker.api.problems import Refused
from tasker.api.replies import Reply, empty_reply
from tasker.errors import NotFound
from tasker.web.assets import load_assets
from tasker.web.frame import Frame, takes_gzip
from tasker.web.page import ANY_MEDIA, Visit, act, show
from tasker.web.queries import query_parameter

_ADDRESS = re.compile(
    r"[a-z]+(?:/(?!(?:\.|%2[Ee]){1,2}(?:[/?]|\Z))[A-Za-z0-9._~%-]+)*/?"
    r"(?:\?[A-Za-z0-9._~%!$&'()*+,;=:@/?-]*)?"
)
"""An address below the folder of pages: it leads to no other place, so none of its parts is `.` or `..`."""


class SignInPages:
    """What is open to everybody."""

    def __init__(self, frame: Frame) -> None:
        self._frame = frame
        self._assets = load_assets()

    @show("", scope="public", media=ANY_MEDIA)
    async def to_folder(self, _: Visit) -> Reply:
        return empty_reply(307, (b"location", b"ui/"))

    @show("/static/{file}", scope="public", media=ANY_MEDIA)
    async def static_file(self, visit: Visit) -> Reply:
        found = self._assets.find(visit.path["file"])
        if found is None:
            raise NotFound("there is no such file")
        return found.reply(packed=takes_gzip(visit.call.head))

    @show("/signin", scope="public", parameters=(query_parameter("where", "The page to go to."),))
    async def signin(self, visit: Visit) -> Reply:
        return self._show(visit, "", visit.query.get("where", ""), 200)

    @act("/signin", scope="public")
    async def sign_in(self, visit: Visit) -> Reply:
        """Set the cookie for a key, and lead to the page that was asked for."""
        where = visit.form.get("where")
        try:
            cookie = await self._frame.sessions.sign_in(visit.call.head, visit.form.get("key"))
        except Refused as error:
            return self._show(visit, error.detail, where, error.kind.status or 401)
        return self._frame.see(visit, where if _ADDRESS.fullmatch(where) else "", cookie)

    @act("/signout", scope="any", is_audited=False)
    async def sign_out(self, visit: Visit) -> Reply:
        return self._frame.see(visit, "signin", self._frame.sessions.sign_out(visit.call.head))

    def _show(self, visit: Visit, refusal: str, where: str, status: int) -> Reply:
        return self._frame.render(
            visit,
            "signin.html",
            page="signin",
            status=status,
            refusal=refusal,
            where=where if _ADDRESS.fullmatch(where) else "",
        )
