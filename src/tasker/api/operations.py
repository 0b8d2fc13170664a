"""The one table of operations: from it come the routes, the OpenAPI document and the docs."""

from __future__ import annotations

from typing import Any

from tasker.api.calls import wait_parameter
from tasker.api.catalogue import TypeOperations, TypePage, TypeView
from tasker.api.docs import DocsOperations
from tasker.api.events import EVENT_PARAMETERS, JSON_LINES, SSE, STREAMS, EventOperations, EventView
from tasker.api.fleet import FleetOperations, WorkerPage
from tasker.api.health import HealthOperations, LiveView, ReadyView
from tasker.api.operation import BODY_PROBLEMS, INPUT_PROBLEMS, SUBMIT_PROBLEMS, Answer, Operation
from tasker.api.receipts import TaskReceipt
from tasker.api.tasks import GET_PARAMETERS, LIST_PARAMETERS, TaskOperations, TaskPage, TaskView
from tasker.errors import ProblemKind
from tasker.requests.submissions import ReplayBody

_ACCEPTED = ("Location", "Retry-After", "Preference-Applied", "Idempotency-Replayed")
_SUBMIT_ANSWERS = {
    202: Answer(
        "Accepted: it is on disk and will reach exactly one terminal status.", TaskView, _ACCEPTED, receipt=TaskReceipt
    ),
    200: Answer(
        "Accepted, waited for as asked, and ended; or, where Accept asks for it, its events as they happen.",
        TaskView,
        _ACCEPTED,
        EventView,
        TaskReceipt,
    ),
    204: Answer("Checked, as `Prefer: handling=validate` asks, and good; not stored.", None, ("Preference-Applied",)),
}


def task_operations(tasks: TaskOperations) -> list[Operation]:
    """Return what can be done with tasks."""
    return [
        Operation(
            "POST", "/task", "submit_task", "tasks", "Submit a task", tasks.submit,
            scope="submit", answers=_SUBMIT_ANSWERS, problems=(*SUBMIT_PROBLEMS, "unknown-type", "type-not-loaded"),
            parameters=(wait_parameter,), request_headers=("Prefer", "Idempotency-Key", "traceparent"),
            body="submission", streams=STREAMS,
        ),
        Operation(
            "GET", "/task/{task_id}", "get_task", "tasks", "Read a task", tasks.get,
            scope="read", answers={
                200: Answer("The task.", TaskView, ("ETag", "Retry-After", "Preference-Applied")),
                304: Answer("It is as the client knows it (If-None-Match).", None, ("ETag", "Retry-After")),
            },
            problems=("not-found", "expired", "invalid-request", "unknown-field", "unavailable"),
            parameters=GET_PARAMETERS, request_headers=("Prefer", "If-None-Match"),
        ),
        Operation(
            "GET", "/task", "list_tasks", "tasks", "List tasks, newest first", tasks.find_many,
            scope="read", answers={200: Answer("A page of tasks.", TaskPage, ("Link",))},
            problems=("invalid-request", "unknown-field", "unavailable"), parameters=LIST_PARAMETERS,
        ),
        Operation(
            "POST", "/type/{name}/task", "submit_params", "tasks", "Submit a task of this type; the body is its params",
            tasks.submit_params, scope="submit", answers=_SUBMIT_ANSWERS, problems=(*SUBMIT_PROBLEMS, "not-found"),
            parameters=(wait_parameter,), request_headers=("Prefer", "Idempotency-Key", "traceparent"), body="params",
            streams=STREAMS,
        ),
        Operation(
            "PUT", "/task/{task_id}", "put_task", "tasks", "Submit a task under an id of your own", tasks.put,
            scope="submit", answers={
                201: Answer("Accepted: it is on disk and will reach exactly one terminal status.", TaskView, _ACCEPTED,
                            receipt=TaskReceipt),
                200: Answer("This request was accepted before: the task as it is now.", TaskView, _ACCEPTED, EventView,
                            TaskReceipt),
                204: _SUBMIT_ANSWERS[204],
            },
            problems=(*BODY_PROBLEMS, *INPUT_PROBLEMS, "cross-origin", "unknown-type", "type-not-loaded",
                      "conflict", "not-unique", "limit-reached", "queue-full",
                      "budget-exhausted", "expired", "not-found", "unavailable"),
            parameters=(wait_parameter,), request_headers=("Prefer", "traceparent"), body="submission", streams=STREAMS,
        ),
        *_control_operations(tasks),
    ]  # fmt: skip


def _control_operations(tasks: TaskOperations) -> list[Operation]:
    on_one = ("not-found", "expired", "conflict", "cross-origin", "unknown-field", "unavailable")
    return [
        Operation(
            "GET", "/task/{task_id}/result", "get_result", "tasks", "Read the bare result of a task", tasks.result,
            scope="read",
            answers={200: Answer("The result, as the function returned it.", Any, ("Preference-Applied",))},
            problems=("not-found", "expired", "conflict", "task-failed", "invalid-request", "unknown-field",
                      "unavailable"),
            parameters=(wait_parameter,), request_headers=("Prefer",),
        ),
        Operation(
            "POST", "/task/{task_id}/cancel", "cancel_task", "tasks", "Cancel a task", tasks.cancel,
            scope="control", answers={
                200: Answer("It was pending, and is cancelled.", TaskView, receipt=TaskReceipt),
                202: Answer("It runs: asked to stop, and killed after a grace.", TaskView, ("Retry-After",),
                            receipt=TaskReceipt),
            },
            problems=on_one,
        ),
        Operation(
            "POST", "/task/{task_id}/retry", "retry_task", "tasks", "Run a failed or cancelled task again", tasks.retry,
            scope="control",
            answers={
                202: Answer("It is pending again, with all its tries.", TaskView, ("Retry-After",), receipt=TaskReceipt)
            },
            problems=(*on_one, "limit-reached"),
        ),
        Operation(
            "POST", "/task/{task_id}/replay", "replay_task", "tasks", "Submit a task once more, as it was or edited",
            tasks.replay, scope="submit", answers=_SUBMIT_ANSWERS,
            problems=(*SUBMIT_PROBLEMS, "unknown-type", "type-not-loaded", "not-found"), parameters=(wait_parameter,),
            request_headers=("Prefer", "Idempotency-Key", "traceparent"), body=ReplayBody, is_optional=True,
            streams=STREAMS,
        ),
        Operation(
            "DELETE", "/task/{task_id}", "delete_task", "tasks", "Erase a task that has ended", tasks.delete,
            scope="control", answers={204: Answer("It is erased, and all that belongs to it.")}, problems=on_one,
        ),
    ]  # fmt: skip


def event_operations(events: EventOperations) -> list[Operation]:
    """Return how to watch what happens."""
    return [
        Operation(
            "GET", "/task/{task_id}/events", "follow_task", "events", "Follow what happens to a task", events.of_task,
            scope="read", answers={
                200: Answer("Its events as they happen, the last one with the Task.", item=EventView),
                204: Answer("It has ended, and there is nothing behind the event that the client knows."),
            },
            problems=("not-found", "expired", "invalid-request", "unknown-field", "unavailable"),
            parameters=EVENT_PARAMETERS, request_headers=("Last-Event-ID",), media=SSE, streams=(JSON_LINES,),
        ),
    ]  # fmt: skip


def type_operations(types: TypeOperations) -> list[Operation]:
    """Return what can be asked about task types."""
    return [
        Operation(
            "GET", "/type", "list_types", "types", "List the task types", types.find_many,
            scope="any", answers={200: Answer("Every task type.", TypePage)}, problems=("unknown-field",),
        ),
        Operation(
            "GET", "/type/{name}", "get_type", "types", "Read a task type", types.get,
            scope="any", answers={200: Answer("The task type.", TypeView)}, problems=("not-found", "unknown-field"),
        ),
    ]  # fmt: skip


def fleet_operations(fleet: FleetOperations) -> list[Operation]:
    """Return what can be asked about workers."""
    return [
        Operation(
            "GET", "/worker", "list_workers", "workers", "List the workers and what each runs", fleet.workers,
            scope="read", answers={200: Answer("Every worker.", WorkerPage)}, problems=("unknown-field", "unavailable"),
        ),
    ]  # fmt: skip


def health_operations(health: HealthOperations, metrics_media: str, *, public_load: bool) -> list[Operation]:
    """Return what probes and Prometheus ask for. The figures are of everybody's tasks: as a rule an admin's."""
    return [
        Operation(
            "GET", "/livez", "is_alive", "health", "Whether the process answers", health.live,
            scope="public", answers={200: Answer("It does.", LiveView)},
        ),
        Operation(
            "GET", "/readyz", "is_ready", "health", "Whether the service can do its work", health.ready,
            scope="public", answers={200: Answer("It can.", ReadyView), 503: Answer("It cannot now.", ReadyView)},
        ),
        Operation(
            "GET", "/metrics", "get_metrics", "health", "Figures for Prometheus", health.metrics,
            scope="read" if public_load else "admin", answers={200: Answer("Prometheus text.", str)},
            media=metrics_media,
        ),
    ]  # fmt: skip


def docs_operations(docs: DocsOperations) -> list[Operation]:
    """Return the pages for people, and the document that describes the rest."""
    return [
        Operation(
            "GET", "/openapi.json", "get_openapi", "docs", "This document", docs.openapi,
            scope="any", answers={200: Answer("OpenAPI 3.1.", dict[str, Any])},
        ),
        Operation(
            "GET", "/problems/{name}", "explain_problem", "docs", "What a kind of problem means", docs.problem,
            scope="public", answers={200: Answer("What it means and what to do.", ProblemKind)},
            problems=("not-found",), page=True,
        ),
        Operation(
            "GET", "/", "index", "docs", "To the docs", docs.index, scope="public", answers={}, media="*/*",
            documented=False,
        ),
        Operation(
            "GET", "/docs", "docs", "docs", "Docs", docs.page, scope="public", answers={}, media="text/html",
            documented=False,
        ),
        Operation(
            "GET", "/docs/{file}", "docs_file", "docs", "Parts of the docs", docs.file, scope="public", answers={},
            media="*/*", documented=False,
        ),
    ]  # fmt: skip
