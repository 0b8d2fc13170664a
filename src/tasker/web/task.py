"""The page of one task: what happened, what is wrong or why it waits, and what one can do now."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from dataclasses import replace
from datetime import datetime
from http import HTTPStatus
from typing import NamedTuple
from urllib.parse import urlencode
from uuid import UUID

import msgspec

from tasker.api.calls import Parameter, one_of, text_parameter, whole
from tasker.api.events import SSE
from tasker.api.receipts import show_task
from tasker.api.replies import JSON_HEADERS, Reply, Stream
from tasker.errors import Conflict, Fault, Invalid, NotFound
from tasker.model import Task
from tasker.model.keys import Caller
from tasker.requests.steps import read_forget
from tasker.service import Service
from tasker.web.asks import Sent, faults_of, read_answer, read_moment, text_of_answer
from tasker.web.frame import PAGE_HEADERS, Frame
from tasker.web.page import Form, Visit, act, show
from tasker.web.said import LEVELS
from tasker.web.same import request_of, same_as
from tasker.web.task_live import TaskStream, digest, load, make_parts
from tasker.web.task_view import Sources, view_of

_MAX_SEQUENCE = 2**31 - 1
_SEQUENCE = {"type": "integer", "minimum": 0}
_LEVEL = Parameter(
    "level", "Only lines of the log of at least this level.", {"type": "string", "enum": list(LEVELS)}, one_of(*LEVELS)
)
_BEFORE = Parameter(
    "before", "Only what was said before the event with this sequence.", _SEQUENCE, whole(1, _MAX_SEQUENCE)
)
_AFTER = Parameter("after", "Begin after the event with this sequence.", _SEQUENCE, whole(0, _MAX_SEQUENCE))
_SEEN = text_parameter("seen", "The digest of the parts that the page has.")
_TEXTS = ("input", "result")


class Sharing(NamedTuple):
    """The failure group of a task. failures: how many it has, this one included."""

    id: str
    failures: int
    since: datetime


class OneTaskPages:
    """Show one task, follow it, act on it."""

    def __init__(self, frame: Frame, service: Service) -> None:
        self._frame = frame
        self._service = service

    @show("/task/{task_id}", parameters=(_LEVEL, _BEFORE))
    async def task(self, visit: Visit) -> Reply:
        """Show a task with the end of its output and log; the page then follows what comes after that."""
        return await self._show(visit)

    async def _show(self, visit: Visit, *, status: int = 200, sent: Sent | None = None, refusal: str = "") -> Reply:
        """Return the page. sent: what was posted to a question; refusal: why nothing came of it."""
        caller, task_id = visit.caller, visit.call.task_id()
        level, before = visit.query.get("level", LEVELS[0]), visit.query.get("before")
        page = await load(self._frame, self._service, caller, task_id, level=level, before=before, sent=sent)
        token = self._frame.sessions.token(visit.call.head)
        parts = make_parts(self._frame, page.view, visit.base, token)
        plain = parts if sent is None else await self._plain_parts(visit, page.sources, token)
        live = {"after": page.said.after, "seen": digest(plain)} | ({} if level == LEVELS[0] else {"level": level})
        host = visit.call.head.headers.get(b"host", b"localhost").decode("latin-1")
        return self._frame.render(
            visit,
            "task.html",
            page="tasks",
            status=status,
            refusal=refusal,
            v=page.view,
            parts_html=parts,
            said=page.said,
            sharing=await self._sharing(page.sources.task),
            older_output=_older(page.older_output, level),
            older_lines=_older(page.older_lines, level),
            level=level,
            levels=LEVELS,
            same=same_as(request_of(page.sources.task, f"http://{host}", has_keys=visit.is_signed_in)),
            live=f"{task_id}/live?{urlencode(live)}" if before is None else None,
        )

    async def _plain_parts(self, visit: Visit, sources: Sources, token: str) -> dict[str, str]:
        """Return the parts as the stream makes them: what was posted to a question stays until the question changes."""
        return make_parts(self._frame, view_of(visit.caller, sources, self._frame.clock.now()), visit.base, token)

    @act("/task/{task_id}", scope="control", deed="answer_task", parameters=(_LEVEL, _BEFORE))
    async def answer(self, visit: Visit) -> Reply:
        """Answer a question of the task; or add a row to its form, or take one away."""
        form, task_id, steps = visit.form, visit.call.task_id(), self._service.steps
        name, asked_at = form.get("name"), read_moment(form.get("asked_at"))
        try:
            step = await steps.question(visit.caller, task_id, name, asked_at)
        except Conflict as error:
            return await self._show(visit, status=HTTPStatus.CONFLICT, refusal=error.detail)
        deed, _, place = form.get("do").partition(":")
        value = read_answer(step, form.pairs, remove=place if deed == "remove" else None)
        sent = Sent(step.number, value, add=place if deed == "add" else None)
        if deed in ("add", "remove"):
            return await self._show(visit, sent=sent)
        faults: Sequence[Fault] = faults_of(value)
        if not faults:
            try:
                await steps.answer(visit.caller, task_id, name, text_of_answer(value), asked_at=asked_at)
            except Conflict as error:
                return await self._show(visit, status=HTTPStatus.CONFLICT, refusal=error.detail)
            except Invalid as error:
                faults = error.faults or [Fault("/value", error.detail)]
            else:
                return self._frame.see(visit, f"task/{task_id}")
        return await self._show(visit, status=HTTPStatus.UNPROCESSABLE_ENTITY, sent=replace(sent, faults=faults))

    @show("/task/{task_id}/live", parameters=(_LEVEL, _AFTER, _SEEN), media=SSE)
    async def follow_task_page(self, visit: Visit) -> Stream:
        """Stream what changes on the page of a task."""
        task_id = visit.call.task_id()
        await self._service.tasks.get(visit.caller, task_id)
        query = visit.query
        stream = TaskStream(
            self._frame,
            self._service,
            visit.caller,
            task_id,
            base="../",
            level=query.get("level", LEVELS[0]),
            seen=query.get("seen", ""),
            token=self._frame.sessions.token(visit.call.head),
        )
        after = _last_event_id(visit)
        return Stream(SSE, stream.messages(query.get("after", 0) if after is None else after))

    @act("/task/{task_id}/cancel", scope="control", deed="cancel_task")
    async def cancel(self, visit: Visit) -> Reply:
        task = await self._service.tasks.cancel(visit.caller, visit.call.task_id())
        return self._frame.see(visit, f"task/{task.task_id}")

    @act("/task/{task_id}/retry", scope="control", deed="retry_task")
    async def retry(self, visit: Visit) -> Reply:
        forget = read_forget(_forget_body(visit.form))
        task = await self._service.tasks.retry(visit.caller, visit.call.task_id(), forget)
        return self._frame.see(visit, f"task/{task.task_id}")

    @act("/task/{task_id}/delete", scope="control", deed="delete_task")
    async def delete(self, visit: Visit) -> Reply:
        await self._service.tasks.delete(visit.caller, visit.call.task_id())
        return self._frame.see(visit, "tasks")

    @show("/task/{task_id}/raw", media="application/json")
    async def raw(self, visit: Visit) -> Reply:
        """Return the task as the API does, with its attempts."""
        caller, task_id = visit.caller, visit.call.task_id()
        task = await self._service.waiting.explain(caller, await self._service.tasks.get(caller, task_id))
        attempts = await self._service.tasks.attempts(caller, task_id)
        return Reply(200, show_task(caller, task, attempts=attempts), JSON_HEADERS)

    @show("/task/{task_id}/output", media="text/plain")
    async def save_output(self, visit: Visit) -> Stream:
        """Return all that a task has written, as a file."""
        return await self._save(visit, "output")

    @show("/task/{task_id}/log", media="text/plain")
    async def save_log(self, visit: Visit) -> Stream:
        """Return the log of a task as a file of JSON lines."""
        return await self._save(visit, "log")

    @show("/task/{task_id}/{text}", media="text/plain")
    async def save_text(self, visit: Visit) -> Reply:
        """Return the input or the result of a task as a file."""
        name = visit.path["text"]
        if name not in _TEXTS:
            raise NotFound("there is nothing at this path")
        task_id = visit.call.task_id()
        task = await self._service.tasks.get(visit.caller, task_id)
        raw = task.params if name == "input" else task.result
        if raw is None:
            raise NotFound(f"task {task_id} has no result")
        return self._frame.attachment(bytes(raw), f"{name}-{task_id}.json")

    async def _sharing(self, task: Task) -> Sharing | None:
        """Return the group of a failed task, if others failed alike."""
        group = await self._service.failures.find_of(task)
        return None if group is None or group.count < 2 else Sharing(group.failure_id, group.count, group.first_at)

    async def _save(self, visit: Visit, kind: str) -> Stream:
        task_id = visit.call.task_id()
        await self._service.tasks.get(visit.caller, task_id)
        name = f"{kind}-{task_id}.txt"
        headers = (*PAGE_HEADERS[2:], (b"content-disposition", f'attachment; filename="{name}"'.encode()))
        return Stream("text/plain; charset=utf-8", self._all(visit.caller, task_id, kind), headers)

    async def _all(self, caller: Caller, task_id: UUID, kind: str) -> AsyncGenerator[bytes, None]:
        """Yield the output of a task, or its log line by line, up to now."""
        after = 0
        while events := await self._service.following.events(caller, task_id, after=after):
            after = events[-1].sequence
            told = [bytes(event.data) for event in events if event.type == kind]
            yield b"".join(_chunk_of(data) if kind == "output" else data + b"\n" for data in told)


def _forget_body(form: Form) -> bytes:
    """Return the body of the API's retry that a form stands for; `how` says which of its fields count."""
    how, since, names = form.get("how"), form.get("from"), form.all("forget")
    if how == "keep":
        return b""
    body: dict[str, object] = {"from": since} if since and how != "forget" else {}
    if how == "forget" or (names and how != "from"):
        body["forget"] = list(names)
    return msgspec.json.encode(body) if body else b""


def _older(before: int | None, level: str) -> str | None:
    """Return the address of the page that shows what came before an event; None if nothing did."""
    if before is None:
        return None
    return "?" + urlencode({"before": before} | ({} if level == LEVELS[0] else {"level": level}))


def _chunk_of(data: bytes) -> bytes:
    return str(msgspec.json.decode(data).get("chunk", "")).encode("utf-8", "backslashreplace")


def _last_event_id(visit: Visit) -> int | None:
    """Return the sequence in Last-Event-ID, where a returning browser left off. Raises Invalid."""
    given = visit.call.head.headers.get(b"last-event-id", b"").decode("latin-1")
    if not given:
        return None
    try:
        return int(whole(0, _MAX_SEQUENCE)(given))
    except ValueError as error:
        raise Invalid(f"Last-Event-ID: {error}") from None
