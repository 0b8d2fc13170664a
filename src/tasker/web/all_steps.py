"""The page of the steps of a task, with their values; and the value of one step as a file."""

from __future__ import annotations

from tasker.api.calls import Parameter, whole
from tasker.api.replies import Reply
from tasker.errors import NotFound
from tasker.model.steps import SHOWN_BYTES
from tasker.service import Service
from tasker.service.steps import SHOWN_STEPS
from tasker.web import texts
from tasker.web.frame import Frame
from tasker.web.page import Visit, show
from tasker.web.step_view import rows_of
from tasker.web.task_view import deeds_of

_MOST = 100
"""Steps of a page."""
_LARGEST = 2**31 - 1
_AFTER = Parameter(
    "after", "Only steps after the one with this number.", {"type": "integer", "minimum": 0}, whole(0, _LARGEST)
)


class StepPages:
    """Show the steps of a task, the last SHOWN_STEPS of them."""

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
        values = {step.number: texts.pretty_json(step.value).text for step in shown if step.value is not None}
        return self._frame.render(
            visit,
            "steps.html",
            page="tasks",
            task=task,
            short=str(task_id)[-12:],
            v={"id": str(task_id), "deeds": deeds_of(caller, task)},
            rows=rows_of(task, shown, (), visit.now),
            values=values,
            cut={step.number for step in shown if step.value is not None and len(step.value) > SHOWN_BYTES},
            has_earlier=bool(steps) and len(steps) >= SHOWN_STEPS,
            total=len(steps),
            before=len(steps) - len(later),
            after=shown[-1].number if len(later) > _MOST else None,
        )

    @show("/task/{task_id}/step/{number}", media="text/plain")
    async def save_value(self, visit: Visit) -> Reply:
        """Return the value of a step as a file."""
        task_id, number = visit.call.task_id(), visit.path["number"]
        steps = await self._service.steps.find(visit.caller, task_id)
        key = next((step.key for step in steps if str(step.number) == number), None)
        step = None if key is None else await self._service.steps.get(visit.caller, task_id, key)
        if step is None or step.value is None:
            raise NotFound(f"task {task_id} has no value of a step {number}")
        return self._frame.attachment(step.value, f"step-{number}-{task_id}.json")
