"""The page of the questions that wait for people."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple

from tasker.api.events import SSE
from tasker.api.replies import Reply, Stream
from tasker.model.keys import Caller
from tasker.model.steps import OpenQuestion
from tasker.service import Service
from tasker.web import texts
from tasker.web.frame import Frame
from tasker.web.live import Live
from tasker.web.page import Visit, show

MOST = 200
"""Questions that the page shows, the oldest."""


class Row(NamedTuple):
    """A question. id, short: of its task."""

    id: str
    short: str
    type: str
    name: str
    message: str
    owner: str
    asked_at: datetime
    expires_at: datetime | None


def rows_of(questions: Sequence[OpenQuestion]) -> list[Row]:
    """Return the rows of the page."""
    return [
        Row(
            str(one.task_id),
            str(one.task_id)[-12:],
            one.type,
            texts.line(one.asked.name, 80),
            texts.line(one.asked.message, 300),
            texts.line(one.owner, 60),
            one.asked.asked_at,
            one.asked.expires_at,
        )
        for one in questions
    ]


class QuestionPages:
    """Show what people are asked."""

    def __init__(self, frame: Frame, service: Service, live: Live) -> None:
        self._frame = frame
        self._service = service
        self._live = live

    @show("/questions", nav="Questions", icon="questions")
    async def questions(self, visit: Visit) -> Reply:
        """List the questions that wait, the oldest first."""
        return self._frame.render(
            visit, "questions.html", page="questions", d=await self._read(visit.caller), live="live/questions"
        )

    @show("/live/questions", media=SSE)
    async def live_questions(self, visit: Visit) -> Stream:
        """Stream the list whenever it has changed."""
        caller = visit.caller

        async def render() -> dict[str, str]:
            return {"asked": self._frame.part("question_parts.html", "asked", d=await self._read(caller))}

        return self._live.board(visit, ("questions", caller.only, caller.scopes), render)

    async def _read(self, caller: Caller) -> dict[str, Any]:
        found = await self._service.steps.questions(caller, limit=MOST + 1)
        return {
            "now": self._frame.clock.now(),
            "rows": rows_of(found[:MOST]),
            "is_cut": len(found) > MOST,
            "most": MOST,
            "has_owners": caller.may("admin"),
            "may_answer": caller.may("control"),
        }
