"""The operations on tasks."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection
from functools import partial
from typing import Any, NamedTuple
from uuid import UUID

from msgspec import structs

from tasker.api.accepted import encode_usual, is_usual
from tasker.api.accepts import choose
from tasker.api.calls import (
    VALIDATED,
    Call,
    Parameter,
    Wait,
    idempotency_key,
    one_of,
    preferred_wait,
    prefers_validation,
    trace_of,
    wait_parameter,
)
from tasker.api.catalogue import type_in_path
from tasker.api.events import STREAMS, EventOperations
from tasker.api.filters import FILTER_PARAMETERS, filter_of
from tasker.api.operation import (
    STORE_PROBLEMS,
    SUBMIT_PROBLEMS,
    TYPE_PROBLEMS,
    Answer,
    Operation,
    delete,
    get,
    ok,
    post,
)
from tasker.api.pages import list_query, next_link, page_parameters
from tasker.api.problems import Refused, task_problem_reply
from tasker.api.receipts import as_told, members, show_task
from tasker.api.replies import (
    JSON_HEADERS,
    Header,
    Reply,
    Stream,
    empty_reply,
    encode,
    etag_matches,
    make_etag,
    path_of,
    retry_after,
    retry_in,
    seconds_in,
    sees_tracebacks,
)
from tasker.api.steps import INCLUDE, StepOperations
from tasker.clock import Clock
from tasker.errors import Conflict, Forbidden, Invalid
from tasker.model import Draft, Status, Task
from tasker.model.keys import Caller
from tasker.requests.steps import RetryTaskBody, read_forget
from tasker.requests.submissions import ReplayBody
from tasker.rules.waiting import SOON
from tasker.service import Service, Submitted
from tasker.wire import tasks as wire
from tasker.wire.events import Event

_COUNT = Parameter(
    "count",
    "`true`: also how many tasks match in all, counted for at most 50 ms and up to 10,001.",
    {"type": "string", "enum": ["true", "false"]},
    one_of("true", "false"),
)
LIST_PARAMETERS = (*FILTER_PARAMETERS, *page_parameters("tasks"), _COUNT)
_HEADERS = ("Location", "Retry-After", "Preference-Applied", "Idempotency-Replayed")
_ACCEPTED = Answer(
    "Accepted: it is on disk and will reach exactly one terminal status.",
    wire.Task,
    _HEADERS,
    receipt=wire.TaskReceipt,
)
_WAITED_FOR = Answer(
    "Accepted, and ended within the wait; or, if Accept asks for them, its events as they happen.",
    wire.Task,
    _HEADERS,
    item=Event,
    receipt=wire.TaskReceipt,
)
_CHECKED = Answer("Valid, and not stored, as `Prefer: handling=validate` asks.", headers=("Preference-Applied",))
_RETRIED = Answer("It is pending again, with all its tries.", wire.Task, ("Retry-After",), receipt=wire.TaskReceipt)
_submission = partial(
    Operation,
    answers={202: _ACCEPTED, 200: _WAITED_FOR, 204: _CHECKED},
    scope="submit",
    problems=(*SUBMIT_PROBLEMS, *TYPE_PROBLEMS),
    parameters=(wait_parameter,),
    request_headers=("Prefer", "Idempotency-Key", "traceparent"),
    streams=STREAMS,
)


class _Open(NamedTuple):
    """A submission whose task is waited for, and what its answer needs. status: None for 200 or 202.

    sent, given: as `show_task` takes them; None for a key with the scope `read`. is_awaited: see Submitted.
    """

    task_id: UUID
    wait: Wait
    status: int | None
    headers: tuple[Header, ...]
    sent: Task | None
    given: frozenset[str] | None
    is_awaited: bool


IsNew = Callable[[Task], Awaitable[bool]]

_JSON = "application/json"
SUBMIT_MEDIAS = (_JSON, *STREAMS)
"""Media types of the answer to a submission: the Task, or its events as they happen."""


class TaskOperations:
    """Submit, read, wait for and control tasks.

    events: streams the log of a task that is submitted. steps: shows steps and children with a task.
    """

    tag = "tasks"

    def __init__(self, service: Service, clock: Clock, events: EventOperations, steps: StepOperations) -> None:
        self._tasks = service.tasks
        self._submissions = service.submissions
        self._following = service.following
        self._waiting = service.waiting
        self._clock = clock
        self._events = events
        self._steps = steps
        self._service = service

    @_submission("POST", "/task", "Submit a task", body="submission")
    def submit_task(self, call: Call) -> Awaitable[Reply | Stream]:
        return self._submit(call)

    @get(
        "/task/{task_id}",
        "Read a task",
        {
            200: Answer("The task.", wire.Task, ("ETag", "Retry-After", "Preference-Applied")),
            304: Answer("It is as the client knows it (If-None-Match).", headers=("ETag", "Retry-After")),
        },
        problems=("expired",),
        parameters=(wait_parameter, INCLUDE),
        request_headers=("Prefer", "If-None-Match"),
    )
    async def get_task(self, call: Call) -> Reply:
        task_id, query = call.task_id(), call.query()
        wait = preferred_wait(call, query)
        known = call.head.headers.get(b"if-none-match")
        include = query.get("include", ())
        if include:
            await call.unread.room()
        task = await self._tasks.get(call.caller, task_id)
        body = await self._encode(call.caller, task, include)
        if wait is not None and not task.status.is_terminal and _is_known(known, body, default=True):
            del task, body  # do not hold them during the wait
            task = await self._wait(call, task_id, wait, self._is_new(call.caller, known, include))
            body = await self._encode(call.caller, task, include)
        # `explain` adds what changes all the time; the ETag is of the stored task alone.
        etag = make_etag(body)
        task = await self._waiting.explain(call.caller, task)
        again = () if task.status.is_terminal else retry_in(task, await self._waiting.ask_again(call.caller, task))
        headers = ((b"etag", etag), *again, *(wait.applied if wait else ()))
        if known is not None and etag_matches(known, etag):
            return empty_reply(304, *headers)
        if task.status is Status.PENDING:
            body = await self._encode(call.caller, task, include)
        return Reply(200, body, JSON_HEADERS + headers)

    @get(
        "/task",
        "List tasks, newest first",
        ok("A page of tasks.", wire.TaskPage, ("Link",)),
        parameters=LIST_PARAMETERS,
    )
    async def list_tasks(self, call: Call) -> Reply:
        query = list_query(call)
        limit, cursor = query.pop("limit"), query.pop("cursor", None)
        await call.unread.room()
        is_counted, where = query.pop("count", "false") == "true", filter_of(query)
        page = await self._tasks.find_many(call.caller, where, limit=limit, cursor=cursor)
        tasks = await self._waiting.with_reasons(call.caller, page.items)
        items = b",".join([show_task(call.caller, task) for task in tasks])
        more = b"" if page.searched_back_to is None else b',"searched_back_to":%b' % encode(page.searched_back_to)
        if is_counted:
            count = await self._tasks.count(call.caller, where)
            more += b',"count":' + encode(wire.TaskCount(number=count.number, is_exact=count.is_exact))
        body = b'{"items":[%b],"next_cursor":%b%b}' % (items, encode(page.next_cursor), more)
        return Reply(200, body, JSON_HEADERS + next_link(call, "/task", page.next_cursor))

    @_submission(
        "POST",
        "/type/{name}/task",
        "Submit a task of this type; the body is its params",
        problems=SUBMIT_PROBLEMS,
        body="params",
    )
    async def submit_params(self, call: Call) -> Reply | Stream:
        return await self._submit(call, type_in_path(call, self._service.registry))

    @_submission(
        "PUT",
        "/task/{task_id}",
        "Submit a task under an id of your own",
        answers={
            201: _ACCEPTED,
            200: _WAITED_FOR._replace(description="This request was accepted before: the task as it is now."),
            204: _CHECKED,
        },
        problems=(*STORE_PROBLEMS, *TYPE_PROBLEMS, "conflict"),
        request_headers=("Prefer", "traceparent"),
        body="submission",
    )
    async def put_task(self, call: Call) -> Reply | Stream:
        return await self._when_ended(call, await self._put(call))

    @get(
        "/task/{task_id}/result",
        "Read the bare result of a task",
        ok("The result, as the function returned it.", Any, ("Preference-Applied",)),
        problems=("expired", "conflict", "task-failed"),
        parameters=(wait_parameter,),
        request_headers=("Prefer",),
    )
    async def get_result(self, call: Call) -> Reply:
        task_id = call.task_id()
        wait = preferred_wait(call, call.query())
        task = await self._tasks.get(call.caller, task_id)
        applied: tuple[Header, ...] = ()
        if wait is not None:
            if not task.status.is_terminal:
                del task
                task = await self._wait(call, task_id, wait)
            applied = wait.applied
        if task.result is not None and task.status is Status.COMPLETED:
            return Reply(200, bytes(task.result), JSON_HEADERS + applied)
        if task.error is not None and task.status is Status.FAILED:
            error = task.error if sees_tracebacks(call.caller) else structs.replace(task.error, traceback=None)
            return task_problem_reply(error, call.head.request_id)
        if task.status.is_terminal:
            raise Conflict(f"the task was {task.status.value} and has no result")
        raise Refused(
            "conflict", f"the task is {task.status.value}: it has no result yet", *retry_after(task, self._clock.now())
        )

    @post(
        "/task/{task_id}/cancel",
        "Cancel a task",
        {
            200: Answer("It was pending, and is cancelled.", wire.Task, receipt=wire.TaskReceipt),
            202: _RETRIED._replace(description="It is running: it is asked to stop, and killed after a grace period."),
        },
        scope="control",
        problems=("expired", "conflict"),
    )
    async def cancel_task(self, call: Call) -> Reply:
        call.query()
        task = await self._tasks.cancel(call.caller, call.task_id())
        return self._reply(call, 200 if task.status.is_terminal else 202, task)

    @post(
        "/task/{task_id}/retry",
        "Run a failed or cancelled task again",
        {202: _RETRIED},
        scope="control",
        problems=("expired", "conflict", "limit-reached"),
        body=RetryTaskBody,
        example={"forget": ["charge"]},
        is_optional=True,
    )
    async def retry_task(self, call: Call) -> Reply:
        call.query()
        task_id, forget = call.task_id(), read_forget(await call.body())
        return self._reply(call, 202, await self._tasks.retry(call.caller, task_id, forget))

    @_submission(
        "POST",
        "/task/{task_id}/replay",
        "Submit a task once more, as it was or edited",
        body=ReplayBody,
        is_optional=True,
    )
    async def replay_task(self, call: Call) -> Reply | Stream:
        return await self._when_ended(call, await self._replay(call))

    @delete(
        "/task/{task_id}",
        "Erase a task that has ended",
        {204: Answer("It is erased, with everything that belongs to it.")},
        scope="control",
        problems=("expired", "conflict"),
    )
    async def delete_task(self, call: Call) -> Reply:
        call.query()
        await self._tasks.delete(call.caller, call.task_id())
        return empty_reply(204)

    async def _replay(self, call: Call) -> Reply | Stream | _Open:
        caller, task_id, body = call.caller, call.task_id(), await call.body()
        wait, media, key = preferred_wait(call, call.query()), _media(call), idempotency_key(call)
        given = None if caller.may("read") else members(body)
        try:
            if prefers_validation(call):
                await self._submissions.validate_replay(caller, task_id, body)
                return empty_reply(204, VALIDATED)
            submitted = await self._submissions.replay(
                caller, task_id, body, idempotency_key=key, traceparent=trace_of(call)
            )
        except Invalid as error:
            raise (as_told(caller, error, given or ()) if error.faults else error) from None
        return await self._accepted(call, submitted, wait, media, given=given)

    async def _put(self, call: Call) -> Reply | Stream | _Open:
        task_id, body = call.task_id(), await call.body()
        wait, media = preferred_wait(call, call.query()), _media(call)
        if prefers_validation(call):
            await self._submissions.validate(call.caller, body, task_id=task_id)
            return empty_reply(204, VALIDATED)
        submitted = await self._submissions.put(call.caller, task_id, body, traceparent=trace_of(call))
        return await self._accepted(call, submitted, wait, media, status=200 if submitted.replayed else 201)

    async def _submit(self, call: Call, type_name: str | None = None) -> Reply | Stream:
        body = await call.body()
        wait, media, key = preferred_wait(call, call.query()), _media(call), idempotency_key(call)
        if prefers_validation(call):
            await self._submissions.validate(call.caller, body, type_name=type_name)
            return empty_reply(204, VALIDATED)
        submitted = await self._submissions.submit(
            call.caller,
            body,
            type_name=type_name,
            idempotency_key=key,
            traceparent=trace_of(call),
            is_awaited=wait is not None,
        )
        found = await self._accepted(call, submitted, wait, media)
        if not isinstance(found, _Open):
            return found
        del body, submitted  # do not hold them during the wait
        return await self._when_ended(call, found)

    async def _accepted(
        self,
        call: Call,
        submitted: Submitted,
        wait: Wait | None,
        media: str | None,
        *,
        status: int | None = None,
        given: frozenset[str] | None = None,
    ) -> Reply | Stream | _Open:
        """Answer a submission: with `status`, by default 202, or 200 once the task has ended.

        While the service is stopping it holds no reply back: the id goes out at once, with what the task waits for.
        """
        stopping = self._service.stopping
        is_plain = wait is None and status is None and media == _JSON and not stopping
        if is_plain and submitted.is_new and call.caller.may("read") and is_usual(submitted.draft):
            return self._usual(call.caller, submitted.draft)
        task = submitted.task
        path = path_of(task)
        headers: tuple[Header, ...] = (*JSON_HEADERS, (b"location", path))
        if submitted.replayed:
            headers += ((b"idempotency-replayed", b"true"),)
        if media in STREAMS and not stopping:
            return self._events.stream(call.caller, task.task_id, str(media), headers=headers[len(JSON_HEADERS) :])
        if wait is not None and not stopping:
            headers += wait.applied
            if wait.time and not task.status.is_terminal:
                sent = None if call.caller.may("read") else submitted.sent
                return _Open(task.task_id, wait, status, headers, sent, given, submitted.is_awaited)
        if stopping:
            task = await self._waiting.explain(call.caller, task)
        status = status or (200 if wait and task.status.is_terminal else 202)
        return self._submitted(call, task, path, headers, status, submitted.sent, given)

    def _usual(self, caller: Caller, draft: Draft) -> Reply:
        """Answer a usual submission (accepted.py) with 202."""
        task_id = encode(draft.task_id)[1:-1]
        after = seconds_in(self._waiting.ask_again_in_line(caller, draft.type))
        location = b"location", b"/task/%b" % task_id
        return Reply(202, encode_usual(draft, task_id), (*JSON_HEADERS, location, (b"retry-after", after)))

    async def _when_ended(self, call: Call, found: Reply | Stream | _Open) -> Reply | Stream:
        """Return the answer to a submission when it is due; during the wait nothing of the submission is held."""
        if not isinstance(found, _Open):
            return found
        waiting = self._following.wait(call.caller, found.task_id, found.wait.time, is_followed=found.is_awaited)
        task = await call.unless_gone(waiting)
        if self._service.stopping:
            task = await self._waiting.explain(call.caller, task)
        status = found.status or (200 if task.status.is_terminal else 202)
        return self._submitted(call, task, path_of(task), found.headers, status, found.sent, found.given)

    def _submitted(
        self,
        call: Call,
        task: Task,
        path: bytes,
        headers: tuple[Header, ...],
        status: int,
        sent: Task | None,
        given: frozenset[str] | None,
    ) -> Reply:
        known = task if sent is None or call.caller.may("read") else sent
        body = show_task(call.caller, task, sent=sent, given=given, path=path)
        return Reply(status, body, headers + retry_in(task, self._waiting.ask_again_at_first(call.caller, known)))

    def _is_new(self, caller: Caller, known: bytes | None, include: Collection[str]) -> IsNew | None:
        """Return a test for versions that the client does not know yet; None if it knows none."""
        if known is None:
            return None

        async def is_new(task: Task) -> bool:
            return not _is_known(known, await self._encode(caller, task, include), default=False)

        return is_new

    async def _encode(self, caller: Caller, task: Task, include: Collection[str]) -> bytes:
        attempts = await self._tasks.attempts(caller, task.task_id) if "attempts" in include else None
        if task.attempt and attempts == []:  # it may have been erased since it was read
            await self._tasks.get(caller, task.task_id)
        return show_task(caller, task, attempts=attempts, parts=await self._steps.parts(caller, task, include))

    async def _wait(self, call: Call, task_id: UUID, wait: Wait, is_new: IsNew | None = None) -> Task:
        """Return the task when it has ended, or earlier once `is_new` accepts it."""
        if is_new is None:
            return await call.unless_gone(self._following.wait(call.caller, task_id, wait.time))
        return await call.unless_gone(self._following.wait_for_change(call.caller, task_id, wait.time, is_new))

    def _reply(self, call: Call, status: int, task: Task) -> Reply:
        body = show_task(call.caller, task)
        again = retry_after(task, self._clock.now()) if call.caller.may("read") else retry_in(task, SOON)
        return Reply(status, body, JSON_HEADERS + again)


def _media(call: Call) -> str | None:
    """Return the media type for the answer to a submission. Raises Forbidden for a stream that it may not read."""
    accept = call.head.headers.get(b"accept")
    if call.caller.may("read"):
        return choose(accept, SUBMIT_MEDIAS)
    media = choose(accept, SUBMIT_MEDIAS[:1])
    if media is None:
        raise Forbidden("read", "the events of a task are not shown")
    return media


def _is_known(if_none_match: bytes | None, body: bytes, *, default: bool) -> bool:
    """Tell whether the client has this version already; `default` if it does not say."""
    return default if if_none_match is None else etag_matches(if_none_match, make_etag(body))
