"""The pages of task types: what can be submitted, how it went lately, and the form that submits it."""

from __future__ import annotations

import contextlib
from datetime import timedelta
from http import HTTPStatus
from typing import Any
from urllib.parse import quote
from uuid import UUID

import msgspec

from tasker.api.calls import Parameter, one_of
from tasker.api.catalogue import type_in_path
from tasker.api.receipts import as_told, members
from tasker.api.replies import Reply
from tasker.errors import Fault, Forbidden, Invalid, NotFound, RequestError
from tasker.model import Task, TaskFilter
from tasker.model.stats import WINDOWS, Window
from tasker.service import Service
from tasker.service.stats import Part
from tasker.tasktypes.tasktype import TaskType
from tasker.web import texts, times
from tasker.web.frame import Frame
from tasker.web.page import Visit, act, show
from tasker.web.queries import WINDOW_NAMES
from tasker.web.rows import row_of
from tasker.web.runs import Filled, RunForm, run_form
from tasker.web.same import Request, Same, same_as, shown
from tasker.web.type_figures import figures_of, histogram_of, row_of_figures

_DAY: Window = "24h"
_LAST = 6
"""Runs that the page of a type lists."""


def _task_id(text: str) -> UUID:
    try:
        return msgspec.convert(text.strip(), UUID)
    except msgspec.ValidationError:
        raise ValueError("expected the id of a task") from None


_FILL = Parameter(
    "fill",
    "What the form is filled with.",
    {"type": "string", "enum": ["last", "example", "defaults"]},
    one_of("last", "example", "defaults"),
)
_WINDOW = Parameter(
    "window", "The time that the figures are of.", {"type": "string", "enum": list(WINDOWS)}, one_of(*WINDOWS)
)
_FROM = Parameter("from", "The task that is to run again.", {"type": "string", "format": "uuid"}, _task_id)


class TypePages:
    """Show what can be submitted, and submit it."""

    def __init__(self, frame: Frame, service: Service) -> None:
        self._frame = frame
        self._service = service

    @show("/types", scope="any", parameters=(_WINDOW,), nav="Types", icon="types")
    async def types(self, visit: Visit) -> Reply:
        """List the task types, with the figures of a window."""
        window: Window = visit.query.get("window", _DAY)
        parts: dict[str | None, Part] = {}
        if visit.caller.may("read"):
            stats = await self._service.stats.find(visit.caller, window=window, group="type")
            parts = {part.name: part for part in stats.groups}
        types = sorted(self._service.registry.known(), key=lambda one: one.name)
        return self._frame.render(
            visit,
            "types.html",
            page="types",
            rows=[self._row(one) for one in types],
            figures={name: row_of_figures(part) for name, part in parts.items()},
            window=window,
            windows={one: WINDOW_NAMES[one] for one in WINDOWS},
        )

    @show("/type/{name}", scope="any", parameters=(_FILL, _FROM, _WINDOW))
    async def type(self, visit: Visit) -> Reply:
        """Show a task type and its form, filled with the example that its author gave if nothing else is asked for."""
        task_type = self._type(visit)
        form = run_form(task_type)
        return await self._render(visit, task_type, form, await self._filled(visit, task_type, form))

    @act("/type/{name}", scope="submit", deed="submit_params", tag="tasks", is_audited=False)
    async def run(self, visit: Visit) -> Reply:
        """Do what the pressed button says: submit, check, turn the form into JSON or back, add or remove a row."""
        task_type = self._type(visit)
        form = run_form(task_type)
        deed, _, place = visit.form.get("do", "run").partition(":")
        if deed in ("run", "check"):
            return await self._submit(visit, task_type, form, only_check=deed == "check")
        draft = form.read(visit.form, remove=place if deed == "remove" else None)
        faults: list[Fault] = []
        if deed in ("form", "json"):
            draft, faults = form.turned(draft, to_json=deed == "json")
        add = place if deed == "add" else None
        return await self._render(visit, task_type, form, draft, faults=faults, add=add)

    async def _submit(self, visit: Visit, task_type: TaskType, form: RunForm, *, only_check: bool) -> Reply:
        draft = form.read(visit.form)
        if broken := form.broken(draft):
            return await self._refused(visit, task_type, form, draft, broken)
        body, caller, submissions = form.body(draft), visit.caller, self._service.submissions
        try:
            if only_check and draft.origin is not None:
                await submissions.validate_replay(caller, draft.origin, body)
            elif only_check:
                await submissions.validate(caller, body)
            elif draft.origin is not None:
                submitted = await submissions.replay(caller, draft.origin, body)
            else:
                submitted = await submissions.submit(caller, body)
        except RequestError as error:
            if draft.origin is not None and isinstance(error, Invalid) and error.faults:
                error = as_told(caller, error, members(body))
            return await self._refused(visit, task_type, form, draft, error.faults, error)
        if only_check:
            return await self._render(visit, task_type, form, draft, checked=True)
        return self._frame.see(visit, f"task/{submitted.task.task_id}")

    async def _refused(
        self,
        visit: Visit,
        task_type: TaskType,
        form: RunForm,
        draft: Filled,
        faults: Any,
        error: RequestError | None = None,
    ) -> Reply:
        """Return the form as it was sent, with what is wrong."""
        status = HTTPStatus.UNPROCESSABLE_ENTITY if error is None else error.kind.status or 500
        refusal = "" if error is None or faults else error.detail
        return await self._render(visit, task_type, form, draft, faults=faults, refusal=refusal, status=int(status))

    def _type(self, visit: Visit) -> TaskType:
        """Return the type that the path names. Raises NotFound, Invalid (it could not be loaded)."""
        registry = self._service.registry
        return registry.get(type_in_path(visit.call, registry))

    async def _filled(self, visit: Visit, task_type: TaskType, form: RunForm) -> Filled:
        """Return what the form is filled with. Raises NotFound, Expired, Forbidden."""
        origin: UUID | None = visit.query.get("from")
        if origin is not None:
            if not visit.caller.may("read"):
                raise Forbidden("read", "a form that is filled with a task shows its params")
            task = await self._service.tasks.get(visit.caller, origin)
            if task.type != task_type.name:
                raise NotFound(f"task {origin} is of the type {task.type!r}, not of {task_type.name!r}")
            return form.of_task(task, again=True)
        fill = visit.query.get("fill", "example" if form.has_own_example else "defaults")
        if fill == "last" and (last := await self._last(visit, task_type, 1)):
            return form.of_task(await self._service.tasks.get(visit.caller, last[0].task_id), again=False)
        return form.empty() if fill == "defaults" else form.example()

    async def _last(self, visit: Visit, task_type: TaskType, limit: int) -> list[Task]:
        """Return the newest tasks of the type that the caller may see."""
        if not visit.caller.may("read"):
            return []
        page = await self._service.tasks.find_many(visit.caller, TaskFilter(types=(task_type.name,)), limit=limit)
        return await self._service.waiting.with_reasons(visit.caller, page.items)

    async def _render(
        self,
        visit: Visit,
        task_type: TaskType,
        form: RunForm,
        draft: Filled,
        *,
        faults: Any = (),
        add: str | None = None,
        refusal: str = "",
        checked: bool = False,
        status: int = 200,
    ) -> Reply:
        last = await self._last(visit, task_type, _LAST)
        window: Window = visit.query.get("window", _DAY)
        part = await self._figures(visit, task_type, window)
        return self._frame.render(
            visit,
            "type.html",
            page="types",
            status=status,
            type=task_type,
            about=self._row(task_type),
            run=form.show(draft, faults, add=add),
            takes_steps=draft.keeps_steps or await self._has_steps(visit, draft.origin),
            refusal=refusal,
            checked=checked,
            same=self._same(visit, task_type, form, draft),
            last=[row_of(task, visit.now) for task in last],
            schema=texts.pretty_json(msgspec.json.encode(task_type.input_schema)).text,
            output=texts.pretty_json(msgspec.json.encode(task_type.output_schema)).text,
            defaults=_defaults(task_type),
            window=WINDOW_NAMES[window],
            figures=() if part is None else figures_of(part, WINDOW_NAMES[window], visit.now),
            histogram="" if part is None else histogram_of(part.total),
            runs=0 if part is None else sum(part.total.runs),
        )

    async def _has_steps(self, visit: Visit, origin: UUID | None) -> bool:
        """Tell whether the task that is run again has steps that its copy may keep."""
        if origin is None or not visit.caller.may("read"):
            return False
        with contextlib.suppress(NotFound):
            return bool(await self._service.steps.find(visit.caller, origin, limit=1))
        return False

    async def _figures(self, visit: Visit, task_type: TaskType, window: Window) -> Part | None:
        """Return what happened to the caller's tasks of the type; None if it may not see that."""
        if not visit.caller.may("read"):
            return None
        return (await self._service.stats.find(visit.caller, window=window, type=task_type.name)).whole

    def _same(self, visit: Visit, task_type: TaskType, form: RunForm, draft: Filled) -> list[Same]:
        """Return the form as commands, for a service at the address that the browser knows."""
        params, options = form.public(draft)
        host = visit.call.head.headers.get(b"host", b"localhost").decode("latin-1")
        return same_as(Request(task_type.name, shown(params), options, f"http://{host}", visit.is_signed_in))

    def _row(self, task_type: TaskType) -> dict[str, Any]:
        """Return what the list of types and the page of a type say about it."""
        return {
            "name": task_type.name,
            "href": f"type/{quote(task_type.name, safe='')}",
            "queue": task_type.queue,
            "description": task_type.description,
            "first_line": task_type.description.partition("\n")[0],
            "missing_since": self._service.types.missing_since(task_type.name),
        }


def _defaults(task_type: TaskType) -> list[tuple[str, str]]:
    """Return the defaults of the type's tasks, by name, in words."""
    policy = task_type.policy
    retry = policy.retry
    tries = f"{retry.max_attempts}"
    if retry.max_attempts > 1:
        tries += f", {times.duration(retry.initial)} after the first, then {retry.factor:g} times as long each"
    retention = task_type.retention
    kept = times.span(retention.total_seconds()) if isinstance(retention, timedelta) else "for ever"
    return [
        ("Queue", task_type.queue),
        ("Priority", str(task_type.priority)),
        ("Tries", tries),
        ("Timeout", f"{times.duration(policy.timeout)} an attempt" if policy.timeout else "none"),
        ("On a crash", "tried again" if policy.on_crash == "retry" else "fails"),
        ("Memory", f"{task_type.memory_limit:,} bytes" if task_type.memory_limit else "no limit"),
        ("Kept", kept),
        ("Runs in", "an event loop" if task_type.is_async else "a child process"),
    ]
