"""The OpenAPI 3.1 document, made from the table of operations, the structs on the wire and the task types."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import msgspec

from tasker.api.batches import BatchItem, BatchReply, BatchSummary
from tasker.api.bulk import BulkReply
from tasker.api.catalogue import TypePage, TypeView
from tasker.api.events import JSON_LINES, SSE, STREAMS, EventView
from tasker.api.feed import ResetView
from tasker.api.fleet import WorkerPage, WorkerView
from tasker.api.health import LiveView, ReadyView
from tasker.api.operation import HTML, Answer, Operation
from tasker.api.problems import Problem
from tasker.api.queues import QueuePage, QueueView
from tasker.api.replies import encode
from tasker.api.schedules import SchedulePage, ScheduleView, TickPage
from tasker.api.tasks import TaskPage, TaskView
from tasker.api.usage import BudgetView, FiguresView, UsageRowView, UsageView
from tasker.api.webhooks import DeliveryPageView, DeliveryView, NewWebhookView, WebhookPageView, WebhookView
from tasker.errors import PROBLEMS, ProblemKind
from tasker.model import TaskProblem
from tasker.release import release
from tasker.requests.bulk import BulkBody
from tasker.requests.submissions import ReplayBody, SubmissionBody
from tasker.tasktypes.registry import Registry, TaskType

Node = dict[str, Any]
Links = dict[str, list[str]]

_REF = "#/components/schemas/{name}"
_STRUCTS = (
    TaskView, TaskPage, TypeView, TypePage, SubmissionBody, Problem, TaskProblem, ProblemKind, LiveView, ReadyView,
    WorkerPage, WorkerView, QueuePage, QueueView, EventView, ResetView, BatchReply, BatchItem, BatchSummary,
    UsageView, UsageRowView, FiguresView, BudgetView,
    WebhookView, NewWebhookView, WebhookPageView, DeliveryView, DeliveryPageView,
    ScheduleView, SchedulePage, TickPage,
    BulkBody, BulkReply, ReplayBody,
)  # fmt: skip
_NAMES = {
    "TaskView": "Task", "TypeView": "TaskType", "TypePage": "TaskTypePage", "RetryView": "Retry",
    "SubmissionBody": "Submission", "RetryBody": "RetryOptions", "ReplayBody": "Replay", "BulkBody": "Bulk",
    "LiveView": "Live", "WorkerView": "Worker",
    "QueueView": "Queue", "QueuePatch": "QueueChange", "RateBody": "RateChange", "RateView": "Rate",
    "RunningView": "Running", "ReadyView": "Ready",
    "EventView": "Event", "ResetView": "Reset",
    "UsageView": "Usage", "UsageRowView": "UsageRow", "FiguresView": "Figures",
    "BudgetView": "Budget",
    "KeyView": "Key", "NewKeyView": "NewKey", "AuditView": "AuditEntry", "AuditViewPage": "AuditPage",
    "WebhookView": "Webhook", "NewWebhookView": "WebhookWithSecret", "WebhookPageView": "WebhookPage",
    "DeliveryView": "Delivery", "DeliveryPageView": "DeliveryPage", "FailureView": "DeliveryFailure",
    "WebhookBody": "NewWebhook", "WebhookPatch": "WebhookChange", "RotationBody": "SecretRotation",
    "ScheduleView": "Schedule", "SkipView": "SkippedTick", "ScheduleBody": "NewSchedule",
    "SchedulePatch": "ScheduleChange",
}  # fmt: skip
"""What the structs on the wire are called outside."""
_DESCRIPTION = (
    "Post a task, get its id at once, read its status and result by that id. An accepted task is on disk and reaches "
    "exactly one terminal status. Every error is a problem (RFC 9457); its `type` is a page that explains it."
)
_TAGS = {
    "tasks": "Submit, read, wait for and control tasks.",
    "events": "Watch what happens.",
    "webhooks": "Have others told of what happens.",
    "schedules": "Submit tasks by the clock.",
    "types": "What can be submitted.",
    "workers": "Who runs the tasks.",
    "queues": "What waits for them.",
    "usage": "What tasks used up.",
    "keys": "Who may ask, and for what; for admins.",
    "health": "For probes and Prometheus.",
    "docs": "About this API.",
}
_STRING: Node = {"type": "string"}
_REQUEST_HEADERS: dict[str, tuple[str, Node]] = {
    "Prefer": (
        "`wait=N`: wait up to N seconds, at most 60, for the task to end; `handling=validate`: check a submission, and "
        "store nothing (RFC 7240).",
        _STRING,
    ),
    "Idempotency-Key": (
        "The client's key of this request: the same key and request again give the same task, for 24 hours.",
        {"type": "string", "pattern": "^[!-~]{1,255}$"},
    ),
    "traceparent": (
        "The trace that the task belongs to (W3C Trace Context): kept, shown, and told to webhooks.",
        _STRING,
    ),
    "Last-Event-ID": ("The id of the last event that the client has.", _STRING),
    "If-None-Match": (
        "The ETag that is known: 304 if it still holds; with a wait, once anything has changed.",
        _STRING,
    ),
}
_REPLY_HEADERS: dict[str, tuple[str, Node]] = {
    "Location": ("Where it is: the task, or what was made.", _STRING),
    "Retry-After": ("Seconds after which it is worth asking again; for open tasks.", {"type": "integer", "minimum": 1}),
    "Preference-Applied": ("The wait that was granted.", _STRING),
    "Idempotency-Replayed": ("`true` when an earlier request with this key submitted the task.", _STRING),
    "ETag": ("Changes with anything in the task.", _STRING),
    "Link": ('`rel="next"`: the next page.', _STRING),
    "RateLimit-Policy": ("Where the key has a rate: how many requests in how many seconds (`q`, `w`).", _STRING),
    "RateLimit": ("Where the key has a rate: how many are left (`r`), in how many seconds all are (`t`).", _STRING),
}
_LIMITS = ("RateLimit-Policy", "RateLimit")
# What the guards may refuse, whatever the operation is.
_ANY_PROBLEMS = (
    "bad-request", "bad-host", "not-acceptable", "uri-too-long", "misdirected", "headers-too-large",
    "internal",
)  # fmt: skip


def make_document(operations: Sequence[Operation], registry: Registry) -> bytes:
    """Return the document as JSON text: each documented operation, with one path for each task type's params."""
    schemas = _struct_schemas(operations)
    paths: dict[str, Node] = {}
    links = _by_part(operations)
    for operation in operations:
        if operation.documented and operation.body == "params":
            for task_type in registry.known():
                path = operation.path.replace("{name}", task_type.name)
                paths[path] = {"post": _typed_operation(operation, task_type, schemas, links)}
        elif operation.documented:
            paths.setdefault(operation.path, {})[operation.method.lower()] = _operation(operation, links)
    document = {
        "openapi": "3.1.0",
        "info": {
            "title": "Tasker",
            "version": release(),
            "description": _DESCRIPTION,
            "contact": {"name": "The operator of this service"},
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "servers": [{"url": "/"}],
        "tags": [{"name": name, "description": words} for name, words in _TAGS.items()],
        "security": [{"token": []}, {}],
        "paths": paths,
        "components": {"schemas": schemas, "securitySchemes": {"token": _SECURITY}},
    }
    return encode(document)


def _by_part(operations: Sequence[Operation]) -> Links:
    """Return the operations whose path has one open part, by its name: what can be done with such an id."""
    links: Links = {}
    for operation in operations:
        parts = re.findall(r"\{(\w+)\}", operation.path)
        if operation.documented and len(parts) == 1 and operation.body != "params":
            links.setdefault(parts[0], []).append(operation.name)
    return links


_SECURITY = {"type": "http", "scheme": "bearer", "description": "A key of `tasker key create`, or TASKER_TOKEN."}


def _struct_schemas(operations: Sequence[Operation]) -> dict[str, Node]:
    bodies = [operation.body for operation in operations if isinstance(operation.body, type)]
    all_answers = [answer for operation in operations for answer in operation.answers.values()]
    answers = [body for answer in all_answers for body in (answer.body, answer.receipt)]
    shown = [body for body in answers if isinstance(body, type) and issubclass(body, msgspec.Struct)]
    _, found = msgspec.json.schema_components([*_STRUCTS, *bodies, *shown], ref_template=_REF)
    return {_NAMES.get(name, name): _outside(schema) for name, schema in found.items()}


def _outside(node: Any) -> Any:
    """Return a schema with the names that structs have outside."""
    if isinstance(node, list):
        return [_outside(item) for item in node]
    if not isinstance(node, dict):
        return node
    return _with_items(
        {key: _renamed(value) if key in ("$ref", "title") else _outside(value) for key, value in node.items()}
    )


def _with_items(schema: Node) -> Node:
    """Return an array's schema with its `items`, which JSON Schema lets out but some readers of OpenAPI need."""
    return {**schema, "items": {}} if schema.get("type") == "array" and "items" not in schema else schema


def _renamed(value: Any) -> Any:
    if not isinstance(value, str):  # a property that happens to be called `title`
        return _outside(value)
    start, slash, name = value.rpartition("/")
    return start + slash + _NAMES.get(name, name)


def _operation(operation: Operation, links: Links) -> Node:
    described: Node = {
        "operationId": operation.name,
        "tags": [operation.tag],
        "summary": operation.summary,
        "description": operation.summary + ".",
        "parameters": _parameters(operation),
        "responses": _responses(operation, links),
    }
    if operation.body == "submission":
        schema = {"$ref": _REF.format(name="Submission")}
        described["requestBody"] = _body(schema, {"type": "sum", "params": [4, 2]})
    elif operation.body == "batch":
        described["requestBody"] = _batch_body({"$ref": _REF.format(name="Submission")})
    elif isinstance(operation.body, type):
        name = _NAMES.get(operation.body.__name__, operation.body.__name__)
        described["requestBody"] = _body({"$ref": _REF.format(name=name)}, operation.example)
        described["requestBody"]["required"] = not operation.is_optional
    if operation.public:
        described["security"] = []
    else:
        described["description"] += _NEEDS[operation.scope]
    return described


_NEEDS = {
    "any": " Any key will do.",
    "submit": " The key needs the scope `submit`.",
    "read": " The key needs the scope `read`.",
    "control": " The key needs the scope `control`.",
    "admin": " The key needs the scope `admin`.",
}


def _body(schema: Node, example: Any) -> Node:
    content: Node = {"schema": schema}
    if example is not None:
        content["example"] = example
    return {"required": True, "content": {"application/json": content}}


def _batch_body(item: Node) -> Node:
    example = {"type": "sum", "params": [4, 2]}
    body = _body({"type": "array", "items": item, "minItems": 1}, [example, {"type": "sum", "params": [1, 2]}])
    body["content"][JSON_LINES] = {
        "schema": {"type": "string", "description": "Each line is a submission, as JSON.", "x-item": item},
        "example": encode(example).decode() + "\n",
    }
    return body


def _parameters(operation: Operation) -> list[Node]:
    in_path = [
        {"name": name, "in": "path", "required": True, "description": words, "schema": schema}
        for name, (words, schema) in _PATH_PARTS.items()
        if f"{{{name}}}" in operation.path and operation.body != "params"
    ]
    in_query = [
        {"name": parameter.name, "in": "query", "description": parameter.description, "schema": parameter.schema}
        for parameter in operation.parameters
    ]
    in_header = [
        {"name": name, "in": "header", "description": words, "schema": schema}
        for name, (words, schema) in _REQUEST_HEADERS.items()
        if name in operation.request_headers
    ]
    return [*in_path, *in_query, *in_header]


_PATH_PARTS: dict[str, tuple[str, Node]] = {
    "task_id": ("The id that the submission gave out.", {"type": "string", "format": "uuid"}),
    "webhook_id": ("The id of the webhook.", {"type": "string", "format": "uuid"}),
    "delivery_id": ("The id of the delivery.", {"type": "string", "format": "uuid"}),
    "schedule_id": ("The id of the schedule.", {"type": "string", "format": "uuid"}),
    "name": ("A name.", _STRING),
    "key_id": ("The id of a key: its middle part.", _STRING),
}


def _responses(operation: Operation, links: Links) -> Node:
    responses = {str(status): _answer(answer, operation, links) for status, answer in operation.answers.items()}
    by_status: dict[int, list[ProblemKind]] = {}
    for name in (*operation.problems, *_ANY_PROBLEMS, *_key_problems(operation)):
        kind = PROBLEMS[name]
        by_status.setdefault(kind.status or 422, []).append(kind)
    for status, kinds in sorted(by_status.items()):
        responses.setdefault(str(status), _problem_answer(list(dict.fromkeys(kinds))))
    return responses


def _key_problems(operation: Operation) -> tuple[str, ...]:
    match operation.scope:
        case "public":
            return ()
        case "any":
            return ("unauthorized", "rate-limited")
    return ("unauthorized", "forbidden", "rate-limited")


def _answer(answer: Answer, operation: Operation, links: Links) -> Node:
    described: Node = {"description": answer.description}
    names = (*answer.headers, *(() if operation.public else _LIMITS))
    if names:
        described["headers"] = {
            name: {"description": words, "schema": schema}
            for name, (words, schema) in _REPLY_HEADERS.items()
            if name in names
        }
    content = {}
    if answer.body is not None:
        bodies = [answer.body] if answer.receipt is None else [answer.body, answer.receipt]
        schemas, _ = msgspec.json.schema_components(bodies, ref_template=_REF)
        schema = schemas[0] if len(schemas) == 1 else {"anyOf": list(schemas)}
        content[operation.media] = {"schema": _outside(schema)}
    if operation.page:
        content[HTML] = {"schema": {"type": "string", "description": "The same as a page."}}
    if answer.item is not None:
        items = answer.item if isinstance(answer.item, tuple) else (answer.item,)
        schemas, _ = msgspec.json.schema_components(items, ref_template=_REF)
        item = {"anyOf": list(schemas)} if len(schemas) > 1 else schemas[0]
        content |= {media: _stream_of(media, _outside(item)) for media in operation.medias if media in STREAMS}
    if content:
        described["content"] = content
    names_one = answer.body.__struct_fields__[0] if _is_struct(answer.body) else ""
    if names_one in links:
        taken = {names_one: f"$response.body#/{names_one}"}
        described["links"] = {name: {"operationId": name, "parameters": taken} for name in links[names_one]}
    return described


def _is_struct(body: Any) -> bool:
    return isinstance(body, type) and issubclass(body, msgspec.Struct)


def _stream_of(media: str, item: Node) -> Node:
    """Return a stream's content: text, for OpenAPI 3.1 has no word for it. `x-item` is what each part holds."""
    how = "`id`, `event` and in `data` one item" if media == SSE else "each line is one item"
    return {"schema": {"type": "string", "description": f"{how}, as JSON".capitalize(), "x-item": item}}


def _problem_answer(kinds: Sequence[ProblemKind]) -> Node:
    words = "; ".join(f"`{kind.name}`: {kind.title.lower()}" for kind in kinds)
    shapes = [{"$ref": _REF.format(name=name)} for name in _problem_shapes(kinds)]
    schema = shapes[0] if len(shapes) == 1 else {"anyOf": shapes}
    return {"description": words, "content": {"application/problem+json": {"schema": schema}}}


def _problem_shapes(kinds: Sequence[ProblemKind]) -> list[str]:
    """Return which schemas describe these problems: those of a request, and that of a failed task."""
    of_request = ["Problem"] if any(kind.status is not None for kind in kinds) else []
    return of_request + (["TaskProblem"] if any(kind.status is None for kind in kinds) else [])


def _typed_operation(operation: Operation, task_type: TaskType, schemas: dict[str, Node], links: Links) -> Node:
    described = _operation(operation, links)
    described["operationId"] = f"submit_{task_type.name}"
    described["summary"] = f"Submit {task_type.name}; the body is its params"
    described["description"] = task_type.description or described["summary"] + "."
    described["requestBody"] = _body(_params_schema(task_type, schemas), task_type.example)
    return described


def _params_schema(task_type: TaskType, schemas: dict[str, Node]) -> Node:
    """Return the schema of a type's params, named or in an array; its own definitions go to `schemas`."""
    prefix = f"{task_type.name}."
    named = _hoisted(task_type.input_schema, prefix)
    for name, schema in named.pop("$defs", {}).items():
        schemas[prefix + _plain(name)] = schema
    named.pop("$schema", None)
    by_position = _array_schema(task_type, named)
    return named if by_position is None else {"anyOf": [by_position, named]}


def _array_schema(task_type: TaskType, named: Node) -> Node | None:
    """Return the schema of the params in an array, or None if an array cannot reach all that is required."""
    properties, required = named["properties"], set(named.get("required", ()))
    if not required <= {*task_type.positional, task_type.rest}:
        return None
    prefix = [properties[name] for name in task_type.positional]
    least = max((place + 1 for place, name in enumerate(task_type.positional) if name in required), default=0)
    rest = properties[task_type.rest] if task_type.rest is not None else {}
    if rest.get("minItems"):
        least = len(prefix) + rest["minItems"]
    schema: Node = {"type": "array", "items": rest.get("items", {})}
    if task_type.rest is None:
        schema["maxItems"] = len(prefix)
    if prefix:
        schema["prefixItems"] = prefix
    if least:
        schema["minItems"] = least
    return schema


def _hoisted(node: Any, prefix: str) -> Any:
    """Return a schema whose references point to where its definitions are put in this document."""
    if isinstance(node, list):
        return [_hoisted(item, prefix) for item in node]
    if not isinstance(node, dict):
        return node
    found = {key: _hoisted(value, prefix) for key, value in node.items()}
    reference = found.get("$ref")
    if isinstance(reference, str):
        found["$ref"] = _elsewhere(reference, prefix)
    told = found.get("discriminator")
    if isinstance(told, dict) and isinstance(told.get("mapping"), dict):
        mapping = {value: _elsewhere(place, prefix) for value, place in told["mapping"].items()}
        found["discriminator"] = {**told, "mapping": mapping}
    return _with_items(found)


def _elsewhere(reference: str, prefix: str) -> str:
    return _REF.format(name=prefix + _plain(reference.rpartition("/")[2]))


def _plain(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]", "_", name)
