"""The OpenAPI 3.1 document, made from the table of operations, the structs on the wire and the task types."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import msgspec

from tasker.api.events import JSON_LINES, SSE, STREAMS
from tasker.api.operation import HTML, Answer, Operation
from tasker.api.replies import encode
from tasker.errors import PROBLEMS, ProblemKind
from tasker.model import TaskProblem
from tasker.release import release
from tasker.requests.submissions import SubmissionBody
from tasker.tasktypes.registry import Registry, TaskType
from tasker.wire.problems import Problem
from tasker.wire.shapes import SENT

Node = dict[str, Any]
Links = dict[str, list[str]]

_REF = "#/components/schemas/{name}"
_NAMES = {
    "BulkBody": "NewBulk",
    "BulkFilter": "TaskFilter",  # generators of clients give the name BulkFilter to the `filter` of Bulk
    "QueuePatch": "QueueChange",
    "RateBody": "RateChange",
    "InputBody": "Answer",
    "ReplayBody": "Replay",
    "RetryBody": "RetryOptions",
    "RetryTaskBody": "TaskRetry",
    "RotationBody": "SecretRotation",
    "ScheduleBody": "NewSchedule",
    "SchedulePatch": "ScheduleChange",
    "SubmissionBody": "Submission",
    "WebhookBody": "NewWebhook",
    "WebhookPatch": "WebhookChange",
}
"""Schema names of request bodies. Every other schema has the name of its class."""
_DESCRIPTION = (
    "Post a task, get its id at once, read its status and result by that id. An accepted task is on disk and reaches "
    "exactly one terminal status. Every error is a problem (RFC 9457); its `type` is a page that explains it."
)
_TAGS = {
    "tasks": "Submit, read, wait for and control tasks.",
    "events": "Watch what happens.",
    "webhooks": "Send events to other services.",
    "schedules": "Submit tasks at set times.",
    "types": "What can be submitted.",
    "workers": "Who runs the tasks.",
    "queues": "What waits for workers.",
    "usage": "What tasks used up.",
    "stats": "What happened to tasks, by minute or hour.",
    "keys": "Who may use the service, and for what; for admins.",
    "health": "For probes and Prometheus.",
    "docs": "About this API.",
}
_STRING: Node = {"type": "string"}
_REQUEST_HEADERS: dict[str, tuple[str, Node]] = {
    "Prefer": (
        "`wait=N`: wait up to N seconds, at most 60, for the task to end; `handling=validate`: check a submission "
        "without storing it (RFC 7240).",
        _STRING,
    ),
    "Idempotency-Key": (
        "The client's key for this request: for 24 hours, the same key with the same request gives the same task.",
        {"type": "string", "pattern": "^[!-~]{1,255}$"},
    ),
    "traceparent": (
        "The trace that the task belongs to (W3C Trace Context): stored, shown, and sent to webhooks.",
        _STRING,
    ),
    "Last-Event-ID": ("The id of the last event that the client has received.", _STRING),
    "If-None-Match": (
        "The ETag that the client has: 304 if it still holds; with a wait, the reply comes once anything has changed.",
        _STRING,
    ),
}
_REPLY_HEADERS: dict[str, tuple[str, Node]] = {
    "Location": ("The address of the task, or of what was created.", _STRING),
    "Retry-After": ("Seconds after which to ask again about an open task.", {"type": "integer", "minimum": 1}),
    "Preference-Applied": ("The wait that was granted.", _STRING),
    "Idempotency-Replayed": ("`true` when an earlier request with this key submitted the task.", _STRING),
    "ETag": ("Changes with anything in the task.", _STRING),
    "Link": ('`rel="next"`: the next page.', _STRING),
    "RateLimit-Policy": ("If the key has a rate: how many requests (`q`) in how many seconds (`w`).", _STRING),
    "RateLimit": (
        "If the key has a rate: how many requests are left (`r`), and in how many seconds all will be (`t`).",
        _STRING,
    ),
}
_LIMITS = ("RateLimit-Policy", "RateLimit")
_ANY_PROBLEMS = (
    "bad-request",
    "bad-host",
    "not-acceptable",
    "uri-too-long",
    "misdirected",
    "headers-too-large",
    "internal",
)
"""Problems of every operation: refused by the guards, or a fault of the service."""


def make_document(operations: Sequence[Operation], registry: Registry) -> bytes:
    """Return the document as JSON text: each documented operation, with one path for each task type's params."""
    schemas = _struct_schemas(operations)
    paths: dict[str, Node] = {}
    links = _by_parameter(operations)
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
        "tags": [{"name": name, "description": text} for name, text in _TAGS.items()],
        "security": [{"token": []}, {}],
        "paths": paths,
        "components": {"schemas": schemas, "securitySchemes": {"token": _SECURITY}},
    }
    return encode(_without_comment_ends(document))


def _without_comment_ends(node: Any) -> Any:
    """Return the document with `*/` in its texts as `*\\/`, which Markdown shows alike.

    Generators of clients put them into comments, which it would end; the texts of types are their authors'.
    """
    if isinstance(node, list):
        return [_without_comment_ends(item) for item in node]
    if not isinstance(node, dict):
        return node
    found: Node = {}
    for key, value in node.items():
        is_text = key in ("description", "summary") and isinstance(value, str)
        found[key] = value.replace("*/", r"*\/") if is_text else value
        if key not in _VALUES:
            found[key] = _without_comment_ends(found[key])
    return found


_VALUES = frozenset({"const", "default", "enum", "example", "examples"})
"""Keys of values, in which a `description` is data."""


def _by_parameter(operations: Sequence[Operation]) -> Links:
    """Group the operations whose path has exactly one parameter by its name, to link a reply's id to them."""
    links: Links = {}
    for operation in operations:
        names = re.findall(r"\{(\w+)\}", operation.path)
        if operation.documented and len(names) == 1 and operation.body != "params":
            links.setdefault(names[0], []).append(operation.name)
    return links


_SECURITY = {"type": "http", "scheme": "bearer", "description": "A key of `tasker key create`, or TASKER_TOKEN."}


def _struct_schemas(operations: Sequence[Operation]) -> dict[str, Node]:
    """Return the schemas of all structs that the operations take and answer with."""
    answers = [answer for operation in operations for answer in operation.answers.values()]
    used = [operation.body for operation in operations]
    used += [body for answer in answers for body in (answer.body, answer.receipt, *_items(answer))]
    structs = [SubmissionBody, Problem, TaskProblem, *filter(_is_struct, used)]
    _, found = msgspec.json.schema_components(structs, ref_template=_REF)
    schemas = {_NAMES.get(name, name): _as_sent(_outside(schema)) for name, schema in found.items()}
    assert len(schemas) == len(found), f"two structs have one name: {sorted(found)}"
    return schemas


def _as_sent(schema: Node) -> Node:
    """Return a struct's schema as the service sends it: without the client's defaults of `Always` and `Sometimes`."""
    required = set(schema.get("required", ()))
    properties: dict[str, Node] = {}
    for name, node in schema.get("properties", {}).items():
        never_null = next((one for one in node.get("anyOf", ()) if SENT in one), node)
        properties[name] = {key: value for key, value in never_null.items() if key != SENT}
        if SENT in never_null:
            properties[name].pop("default", None)
        if never_null.get(SENT) == "always":
            required.add(name)
    if not properties:
        return schema
    return {**schema, "properties": properties, "required": [name for name in properties if name in required]}


def _outside(node: Any) -> Any:
    """Return a schema with structs renamed by _NAMES."""
    if isinstance(node, list):
        return [_outside(item) for item in node]
    if not isinstance(node, dict):
        return node
    if isinstance(node.get("$ref"), str):  # made by `shapes.like`: the reference already says that it is an object
        node = {key: value for key, value in node.items() if key != "type"}
    return _with_items(
        {key: _renamed(value) if key in ("$ref", "title") else _outside(value) for key, value in node.items()}
    )


def _with_items(schema: Node) -> Node:
    """Return an array's schema with its `items`: optional in JSON Schema, but some OpenAPI tools need it."""
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
    """Return the body of a batch. JSON Lines stand beside its content: OpenAPI 3.1 cannot describe their items, and
    generators of clients, to whom it is a media type that they do not know, would leave the operation out."""
    example = {"type": "sum", "params": [4, 2]}
    body = _body({"type": "array", "items": item, "minItems": 1}, [example, {"type": "sum", "params": [1, 2]}])
    lines = {
        "schema": {"type": "string", "description": "Each line is a submission, as JSON.", "x-item": item},
        "example": encode(example).decode() + "\n",
    }
    body["description"] = (
        f"An array of submissions. JSON Lines will do, too (`{JSON_LINES}`): a submission on each line."
    )
    return {**body, "x-content": {JSON_LINES: lines}}


def _parameters(operation: Operation) -> list[Node]:
    in_path = [
        {"name": name, "in": "path", "required": True, "description": text, "schema": schema}
        for name, (text, schema) in _PATH_PARTS.items()
        if f"{{{name}}}" in operation.path and operation.body != "params"
    ]
    in_query = [
        {"name": parameter.name, "in": "query", "description": parameter.description, "schema": parameter.schema}
        for parameter in operation.parameters
    ]
    in_header = [
        {"name": name, "in": "header", "description": text, "schema": schema}
        for name, (text, schema) in _REQUEST_HEADERS.items()
        if name in operation.request_headers
    ]
    return [*in_path, *in_query, *in_header]


_PATH_PARTS: dict[str, tuple[str, Node]] = {
    "task_id": ("The id that the submission returned.", {"type": "string", "format": "uuid"}),
    "webhook_id": ("The id of the webhook.", {"type": "string", "format": "uuid"}),
    "delivery_id": ("The id of the delivery.", {"type": "string", "format": "uuid"}),
    "bulk_id": ("The id of the bulk action.", {"type": "string", "format": "uuid"}),
    "schedule_id": ("The id of the schedule.", {"type": "string", "format": "uuid"}),
    "name": ("A name.", _STRING),
    "key_id": ("The id of a key: its middle part.", _STRING),
}


def _responses(operation: Operation, links: Links) -> Node:
    responses = {str(status): _answer(answer, operation, links) for status, answer in operation.answers.items()}
    by_status: dict[int, list[ProblemKind]] = {}
    for name in (*operation.all_problems, *_ANY_PROBLEMS, *_key_problems(operation)):
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
            name: {"description": text, "schema": schema}
            for name, (text, schema) in _REPLY_HEADERS.items()
            if name in names
        }
    content = {}
    if answer.body is not None:
        bodies = [answer.body] if answer.receipt is None else [answer.body, answer.receipt]
        content[operation.media] = {"schema": _schema_of(bodies)}
    if operation.page:
        content[HTML] = {"schema": {"type": "string", "description": "The same as a page."}}
    if answer.item is not None:
        item = _schema_of(_items(answer))
        content |= {media: _stream_of(media, item) for media in operation.medias if media in STREAMS}
    if content:
        described["content"] = content
    id_field = answer.body.__struct_fields__[0] if _is_struct(answer.body) else ""
    if id_field in links:
        taken = {id_field: f"$response.body#/{id_field}"}
        described["links"] = {name: {"operationId": name, "parameters": taken} for name in links[id_field]}
    return described


def _items(answer: Answer) -> tuple[Any, ...]:
    if answer.item is None:
        return ()
    return answer.item if isinstance(answer.item, tuple) else (answer.item,)


def _schema_of(types: Sequence[Any]) -> Node:
    """Return the schema of a value of one of these types."""
    schemas, _ = msgspec.json.schema_components(types, ref_template=_REF)
    return _outside(schemas[0] if len(schemas) == 1 else {"anyOf": list(schemas)})  # type: ignore[no-any-return]


def _is_struct(body: Any) -> bool:
    return isinstance(body, type) and issubclass(body, msgspec.Struct)


def _stream_of(media: str, item: Node) -> Node:
    """Return a stream's content: text, as OpenAPI 3.1 cannot describe streams. `x-item` is the schema of one item."""
    how = "`id`, `event` and in `data` one item" if media == SSE else "each line is one item"
    return {"schema": {"type": "string", "description": f"{how}, as JSON".capitalize(), "x-item": item}}


def _problem_answer(kinds: Sequence[ProblemKind]) -> Node:
    text = "; ".join(f"`{kind.name}`: {kind.title.lower()}" for kind in kinds)
    shapes = [{"$ref": _REF.format(name=name)} for name in _problem_shapes(kinds)]
    schema = shapes[0] if len(shapes) == 1 else {"anyOf": shapes}
    return {"description": text, "content": {"application/problem+json": {"schema": schema}}}


def _problem_shapes(kinds: Sequence[ProblemKind]) -> list[str]:
    """Return the schemas of these problems: one for a refused request, one for a failed task."""
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
    """Return the schema of the params in an array, or None if an array cannot give all required ones."""
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
    """Return a schema with its references rewritten to the places of its definitions in this document."""
    if isinstance(node, list):
        return [_hoisted(item, prefix) for item in node]
    if not isinstance(node, dict):
        return node
    found = {key: _hoisted(value, prefix) for key, value in node.items()}
    reference = found.get("$ref")
    if isinstance(reference, str):
        found["$ref"] = _elsewhere(reference, prefix)
    discriminator = found.get("discriminator")
    if isinstance(discriminator, dict) and isinstance(discriminator.get("mapping"), dict):
        mapping = {value: _elsewhere(place, prefix) for value, place in discriminator["mapping"].items()}
        found["discriminator"] = {**discriminator, "mapping": mapping}
    return _with_items(found)


def _elsewhere(reference: str, prefix: str) -> str:
    return _REF.format(name=prefix + _plain(reference.rpartition("/")[2]))


def _plain(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]", "_", name)
