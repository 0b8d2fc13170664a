"""The page of all steps of a task, with their values; and the value of one step as a file."""

from __future__ import annotations

from tasker.api.calls import Parameter, whole
from tasker.api.replies import Reply
from tasker.errors import NotFound
from tasker.service import Service
from tasker.web import texts
from tasker.web.frame import Frame
from tasker.web.page import Visit, show
from tasker.web.step_view import rows_of
from tasker.web.task_view import deeds_of

_MOST = 100
"""Steps of a page."""
_SHOWN = 4000
"""Characters of a value that the page shows; the rest is a file."""
_LARGEST = 2**31 - 1
_AFTER = Parameter(
    "after", "Only steps after the one with this number.", {"type": "integer", "minimum": 0}, whole(0, _LARGEST)
)


class StepPages:
    """Show every step of a task."""

    def __init__(self, frame: Frame, service: Service) -> None:
        self._frame = frame
        self._service = service

    @show("/task/{task_id}/steps", parameters=(_AFTER,))
    async def steps(self, visit: Visit) -> Reply:
        """Show the steps of a task in the order in which they were stored."""
        caller, task_id = visit.caller, visit.call.task_id()
        task = await self._service.tasks.get(caller, task_id)
        steps = await self._service.steps.find(caller, task_id)
        after = visit.query.get("after", 0)
        later = [step for step in steps if step.number > after]
        shown = later[:_MOST]
        values = {step.number: texts.pretty_json(step.value, _SHOWN) for step in shown if step.value is not None}
        return self._frame.render(
            visit,
            "steps.html",
            page="tasks",
            task=task,
            short=str(task_id)[-12:],
            v={"id": str(task_id), "deeds": deeds_of(caller, task)},
            rows=rows_of(task, shown, (), visit.now),
            values=values,
            total=len(steps),
            before=len(steps) - len(later),
            after=shown[-1].number if len(later) > _MOST else None,
        )

    @show("/task/{task_id}/step/{number}", media="text/plain")
    async def save_value(self, visit: Visit) -> Reply:
        """Return the value of a step as a file."""
        task_id, number = visit.call.task_id(), visit.path["number"]
        steps = await self._service.steps.find(visit.caller, task_id)
        found = next((step for step in steps if str(step.number) == number), None)
        if found is None or found.value is None:
            raise NotFound(f"task {task_id} has no value of a step {number}")
        return self._frame.attachment(found.value, f"step-{number}-{task_id}.json")
