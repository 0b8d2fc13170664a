"""The OpenAPI document: valid, complete, and true to what the service answers."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal

import httpx2
import pydantic
import pytest
from jsonschema import Draft202012Validator
from msgspec import Struct
from openapi_spec_validator import OpenAPIV31SpecValidator
from referencing import Registry as Schemas
from referencing.jsonschema import DRAFT202012

from tasker.api.app import make_operations
from tasker.errors import PROBLEMS
from tasker.metrics import Metrics
from tasker.rules.lifecycle import Failed, problem
from tests.api.conftest import MakeRig, Rig
from tests.api.webhooks import tell_in_vain
from tests.asking import done, park, question, sleep, start_children, store

Document = dict[str, Any]


@pytest.fixture
async def document(rig: Rig) -> Document:
    reply = await rig.client.get("/openapi.json")
    assert reply.status_code == 200
    return dict(reply.json())


def schema_at(document: Document, *steps: str) -> Draft202012Validator:
    """Return a validator of a schema within the document."""
    resource = DRAFT202012.create_resource(document)
    pointer = "".join("/" + step.replace("~", "~0").replace("/", "~1") for step in steps)
    return Draft202012Validator({"$ref": f"urn:doc#{pointer}"}, registry=Schemas().with_resource("urn:doc", resource))


def documented(document: Document, method: str, path: str) -> tuple[str, Document]:
    """Return the documented path and operation of a request."""
    plain = path.partition("?")[0]
    for template, operations in sorted(document["paths"].items(), key=lambda item: "{" in item[0]):
        if re.fullmatch(re.sub(r"\\{\w+\\}|\{\w+\}", "[^/]+", template), plain):
            return template, operations[method.lower()]
    raise AssertionError(f"{path} is not documented")


def check_reply(document: Document, method: str, path: str, reply: httpx2.Response) -> None:
    """Raise AssertionError unless status, media type and body are as the document says."""
    template, operation = documented(document, method, path)
    answer = operation["responses"][str(reply.status_code)]
    if not reply.content:
        assert "content" not in answer
        return
    media = reply.headers["content-type"]
    assert media in answer["content"], (media, list(answer["content"]))
    if media.endswith("json"):
        steps = ("paths", template, method.lower(), "responses", str(reply.status_code), "content", media, "schema")
        schema_at(document, *steps).validate(reply.json())
    for name in ("location", "link", "etag", "retry-after", "preference-applied", "idempotency-replayed"):
        told = {header.lower() for header in answer.get("headers", {})}
        # On a problem, Retry-After depends on its kind.
        assert name not in reply.headers or name in told or reply.status_code >= 400, (name, path)


@pytest.mark.long
async def test_it_is_valid(document: Document) -> None:
    OpenAPIV31SpecValidator(document).validate()
    assert document["openapi"] == "3.1.0"


async def test_every_operation_is_in_it_and_no_other(rig: Rig, document: Document) -> None:
    operations = make_operations(rig.service, Metrics(), rig.clock, rig.settings)
    hidden = {operation.path for operation in operations if not operation.documented}
    assert hidden == {"/", "/docs", "/docs/{file}"}
    expected = {(o.method.lower(), o.path) for o in operations if o.documented and o.body != "params"}
    expected |= {("post", f"/type/{name}/task") for name in rig.service.registry.names()}
    assert {(method, path) for path, own in document["paths"].items() for method in own} == expected


async def test_every_tag_is_described(document: Document) -> None:
    used = {tag for own in document["paths"].values() for operation in own.values() for tag in operation["tags"]}
    assert used == {tag["name"] for tag in document["tags"]}


async def test_names_of_operations_are_unique(document: Document) -> None:
    names = [operation["operationId"] for own in document["paths"].values() for operation in own.values()]
    assert len(names) == len(set(names))


async def test_every_reference_leads_somewhere(document: Document) -> None:
    seen = 0

    def walk(node: Any) -> None:
        nonlocal seen
        if isinstance(node, dict):
            if isinstance(node.get("$ref"), str):
                seen += 1
                assert node["$ref"].removeprefix("#/components/schemas/") in document["components"]["schemas"]
            for value in node.values():
                walk(value)
        elif isinstance(node, list):
            for value in node:
                walk(value)

    walk(document)
    assert seen > 20


OWN = "0198f7a0-0000-7000-8000-000000000001"
SCHEDULE = {"name": "s", "interval": 60, "overlap": "skip", "task": {"type": "sum", "params": [1, 2]}}
VALIDATE = "handling=validate"


async def test_replies_are_as_it_says(rig: Rig, document: Document) -> None:
    task_id = await rig.submit(retry={"max_attempts": 2, "jitter": False}, tags=["t"], metadata={"a": 1})
    failed = await rig.submit(params=[1, 2])
    await rig.finish(Failed(problem("task-raised", "no", retryable=True)))
    await rig.finish(Failed(problem("task-raised", "no")))
    rig.clock.advance(timedelta(seconds=9))
    await rig.finish()
    etag = (await rig.client.get(f"/task/{task_id}")).headers["etag"]
    none = {"action": "retry", "filter": {"type": "none"}}
    bulk = (await rig.client.post("/bulk", json=none)).json()["links"]["self"]
    calls: list[tuple[int, str, str, dict[str, Any]]] = [
        (202, "POST", "/task", {"json": {"type": "sum", "params": [1, 2], "delay": 60}}),
        (202, "POST", "/type/named/task", {"json": {"prompt": "a"}}),
        (422, "POST", "/task", {"json": {"type": "sum", "params": ["1"], "x": 1}}),
        (422, "POST", "/type/named/task", {"json": []}),
        (201, "PUT", f"/task/{OWN}", {"json": {"type": "sum", "params": [1, 2], "delay": 60}}),
        (200, "PUT", f"/task/{OWN}", {"json": {"type": "sum", "params": [1, 2], "delay": 60}}),
        (409, "PUT", f"/task/{OWN}", {"json": {"type": "sum", "params": [1, 3], "delay": 60}}),
        (204, "PUT", f"/task/{OWN}", {"json": {"type": "sum", "params": [1, 2]}, "headers": {"prefer": VALIDATE}}),
        (204, "POST", "/task", {"json": {"type": "sum", "params": [1, 2]}, "headers": {"prefer": VALIDATE}}),
        (400, "POST", "/task", {"content": b"{", "headers": {"content-type": "application/json"}}),
        (415, "POST", "/task", {"content": b"{}"}),
        (413, "POST", "/task", {"content": b" " * 2_000_000}),
        (403, "POST", "/task", {"json": {}, "headers": {"origin": "null"}}),
        (200, "GET", f"/task/{task_id}?include=attempts", {}),
        (200, "GET", f"/task/{failed}?include=attempts&wait=1", {}),
        (304, "GET", f"/task/{task_id}", {"headers": {"if-none-match": etag}}),
        (404, "GET", "/task/x", {}),
        (406, "GET", f"/task/{task_id}", {"headers": {"accept": "text/html"}}),
        (421, "GET", f"/task/{task_id}", {"headers": {"host": "evil"}}),
        (200, "GET", "/task?limit=1", {}),
        (422, "GET", "/task?limit=0", {}),
        (200, "GET", f"/task/{task_id}/result?wait=1", {}),
        (422, "GET", f"/task/{failed}/result", {}),
        (409, "POST", f"/task/{task_id}/cancel", {}),
        (409, "POST", f"/task/{task_id}/retry", {}),
        (202, "POST", f"/task/{failed}/retry", {}),
        (409, "GET", f"/task/{failed}/result", {}),
        (200, "POST", f"/task/{failed}/cancel", {}),
        (204, "DELETE", f"/task/{failed}", {}),
        (404, "DELETE", f"/task/{failed}", {}),
        (200, "POST", "/batch", {"json": [{"type": "sum", "params": [1, 2]}, {}]}),
        (200, "POST", "/batch", {"content": b"{}", "headers": {"content-type": "application/jsonl"}}),
        (400, "POST", "/batch", {"json": []}),
        (202, "POST", f"/task/{task_id}/replay", {}),
        (202, "POST", f"/task/{task_id}/replay", {"json": {"params": [1, 2], "priority": 5}}),
        (422, "POST", f"/task/{task_id}/replay", {"json": {"type": "sum"}}),
        (404, "POST", f"/task/{failed}/replay", {}),
        (200, "POST", "/bulk", {"json": {"action": "delete", "filter": {"type": "none"}}}),
        (200, "POST", "/bulk", {"json": {"action": "retry", "all": True, "dry_run": True}}),
        (409, "POST", "/bulk", {"json": {"action": "delete", "all": True, "at_most": 0}}),
        (422, "POST", "/bulk", {"json": {"action": "delete"}}),
        (200, "POST", "/bulk", {"json": {"action": "retry", "task_ids": [OWN]}}),
        (200, "GET", "/bulk?limit=1", {}),
        (200, "GET", bulk, {}),
        (200, "POST", f"{bulk}/stop", {}),
        (200, "POST", f"{bulk}/undo", {}),
        (404, "GET", f"/bulk/{OWN}", {}),
        (200, "GET", "/type", {}),
        (200, "GET", "/type/sum", {}),
        (404, "GET", "/type/nope", {}),
        (200, "GET", "/livez", {}),
        (200, "GET", "/readyz", {}),
        (200, "GET", "/metrics", {}),
        (200, "GET", "/openapi.json", {}),
        (200, "GET", "/problems/task-failed", {}),
        (404, "GET", "/problems/nope", {}),
        (200, "GET", "/key", {}),
        (404, "DELETE", "/key/nope", {}),
        (422, "POST", "/key", {"json": {"scopes": []}}),
        (201, "POST", "/key", {"json": {"scopes": ["submit"]}}),  # the last call that needs no key
        (401, "GET", "/task", {}),
    ]
    for status, method, path, options in calls:
        reply = await rig.client.request(method, path, **options)
        assert reply.status_code == status, (method, path, reply.text)
        check_reply(document, method, path, reply)
    rig.health.words = {"worker": "not running"}
    submitter = await rig.key("submit")
    check_reply(document, "GET", "/task", await rig.client.get("/task", headers=submitter))
    for method, path, body in (
        ("POST", "/task", {"type": "sum", "params": [4, 2], "tags": ["a"], "delay": 5}),
        ("POST", "/type/sum/task", [4, 2]),
        ("POST", "/schedule", SCHEDULE),
    ):  # fmt: skip
        receipt = await rig.client.request(method, path, json=body, headers=submitter)
        assert receipt.status_code in (201, 202)
        check_reply(document, method, path, receipt)
        if path == "/schedule":
            changed = await rig.client.patch(receipt.json()["links"]["self"], json={"paused": True}, headers=submitter)
            assert changed.json().keys() == {"schedule_id", "paused", "links"}
            check_reply(document, "PATCH", receipt.json()["links"]["self"], changed)
    check_reply(document, "GET", "/readyz", await rig.client.get("/readyz"))


async def test_replies_about_steps_are_as_it_says(rig: Rig, document: Document) -> None:
    task_id = await rig.submit("echo", [])
    claim, now = await rig.driver.claim_one(types=["echo"]), rig.clock.now()
    await start_children(rig.engine, claim, now, 2)
    later = now + timedelta(hours=1)
    await store(rig.engine, claim, done(now, "charge", {"paid": 7}), done(now, "page", "x" * 5000))
    await park(rig.driver, claim, sleep(now, "nap", later), question(now, until=later), question(now, "other"))
    path, yes = f"/task/{task_id}", {"name": "approve", "value": "yes"}
    calls: list[tuple[int, str, str, dict[str, Any]]] = [
        (200, "GET", f"{path}?include=steps,children,attempts", {}),
        (200, "GET", "/question?limit=1", {}),
        (200, "GET", f"/task?parent={task_id}", {}),
        (422, "GET", f"{path}?include=nothing", {}),
        (422, "POST", f"{path}/input", {"json": {"name": "approve", "value": "maybe"}}),
        (422, "POST", f"{path}/input", {"json": {}}),
        (400, "POST", f"{path}/input", {"content": b"{", "headers": {"content-type": "application/json"}}),
        (409, "POST", f"{path}/input", {"json": {"name": "none", "value": 1}}),
        (404, "POST", f"/task/{OWN}/input", {"json": yes}),
        (200, "POST", f"{path}/input", {"json": yes}),
        (200, "POST", f"{path}/cancel", {}),
        (200, "GET", f"{path}?include=steps", {}),
        (422, "POST", f"{path}/retry", {"json": {"forget": ["none"]}}),
        (202, "POST", f"{path}/retry", {"json": {"from": "charge"}}),
        (202, "POST", f"{path}/replay", {"json": {"keep_steps": True}}),
        (422, "POST", f"{path}/replay", {"json": {"keep_steps": 1}}),
    ]
    for status, method, url, options in calls:
        reply = await rig.client.request(method, url, **options)
        assert reply.status_code == status, (method, url, reply.text)
        check_reply(document, method, url, reply)


async def test_replies_of_schedules_are_as_it_says(rig: Rig, document: Document) -> None:
    path = (await rig.client.post("/schedule", json={**SCHEDULE, "name": "other"})).json()["links"]["self"]
    for _ in range(2):
        rig.clock.advance(timedelta(minutes=1))
        await rig.service.schedules.run_once()
    assert (await rig.client.get(path)).json()["last_skip"] is not None
    calls: list[tuple[int, str, str, dict[str, Any]]] = [
        (201, "POST", "/schedule", {"json": SCHEDULE}),
        (409, "POST", "/schedule", {"json": SCHEDULE}),
        (422, "POST", "/schedule", {"json": {**SCHEDULE, "cron": "* * * * * *"}}),
        (200, "GET", "/schedule?limit=1", {}),
        (422, "GET", "/schedule?limit=0", {}),
        (200, "GET", path, {}),
        (200, "PATCH", path, {"json": {"interval": "PT5M", "task": {"type": "sum", "params": [1, 2], "delay": 1}}}),
        (409, "PATCH", path, {"json": {"name": "s"}}),
        (422, "PATCH", path, {"json": {"x": 1}}),
        (200, "GET", f"{path}/next?count=2", {}),
        (202, "POST", f"{path}/trigger", {"headers": {"idempotency-key": "k"}}),
        (202, "POST", f"{path}/trigger", {"headers": {"idempotency-key": "k"}}),
        (204, "DELETE", path, {}),
        (404, "DELETE", path, {}),
        (404, "PATCH", path, {"json": {}}),
        (404, "POST", f"{path}/trigger", {}),
        (404, "GET", "/schedule/x/next", {}),
    ]
    for status, method, url, options in calls:
        reply = await rig.client.request(method, url, **options)
        assert reply.status_code == status, (method, url, reply.text)
        check_reply(document, method, url, reply)


SAMPLES: dict[str, list[Any]] = {
    "sum": [[1, 2], [1, 2.5, 3], {"a": 1, "b": 2}, {"a": 1, "b": 2, "more": [3]}, [1], [], ["1", 2], [True, 1],
            {"a": 1}, {"a": 1, "b": 2, "c": 3}, 5, None, "x", [[1], 2], {"a": 1, "b": 2, "more": 3}],
    "reverse": [["a"], {"text": "a"}, [], [1], ["a", "b"], {}, {"text": 1}, {"text": "a", "x": 1}],
    "named": [["a"], {"prompt": "a"}, {"prompt": "a", "times": 2}, ["a", 2], [], {"times": 2},
              {"prompt": "a", "times": "2"}],
    "echo": [[], [1], [None], {}, {"value": {"a": [1]}}, [1, 2], {"x": 1}, 5],
}  # fmt: skip


async def test_the_schemas_of_params_accept_what_the_service_accepts(rig: Rig, document: Document) -> None:
    taken = 0
    for name, samples in SAMPLES.items():
        body = ("paths", f"/type/{name}/task", "post", "requestBody", "content", "application/json", "schema")
        validator = schema_at(document, *body)
        for params in samples:
            reply = await rig.client.post(f"/type/{name}/task", json=params)
            assert (reply.status_code == 202) == validator.is_valid(params), (name, params, reply.text)
            taken += reply.status_code == 202
    assert 10 < taken < 30


async def test_the_schema_of_submissions_accepts_what_the_service_accepts(rig: Rig, document: Document) -> None:
    validator = schema_at(document, "components", "schemas", "Submission")
    sum_ = {"type": "sum", "params": [1, 2]}
    for options, is_valid in (
        ({}, True), ({"priority": 100}, True), ({"priority": 101}, False), ({"priority": "5"}, False),
        ({"delay": 5}, True), ({"delay": "PT5S"}, True), ({"delay": True}, False), ({"delay": -1}, False),
        ({"tags": ["a"]}, True), ({"tags": [""]}, False), ({"tags": ["a"] * 21}, False), ({"metadata": {}}, True),
        ({"metadata": []}, False), ({"retry": {"max_attempts": 2}}, True), ({"retry": {"max_attempts": 0}}, False),
        ({"retry": 3}, True), ({"retry": 0}, False), ({"retry": 101}, False), ({"retry": "3"}, False),
        ({"retry": {"x": 0}}, False), ({"queue": "a b"}, False), ({"queue": None, "retry": None}, True),
        ({"status": "completed"}, False), ({"params": {"a": 1, "b": 2}}, True), ({"params": 5}, False),
        ({"type": 5}, False), ({"run_at": 5}, False), ({"timeout": 1.5}, True), ({"timeout": {}}, False),
    ):  # fmt: skip
        body = {**sum_, **options}
        reply = await rig.client.post("/task", json=body)
        assert (reply.status_code == 202) is is_valid, (options, reply.text)
        assert validator.is_valid(body) is is_valid, options


async def test_examples_are_accepted(make_rig: MakeRig, document: Document) -> None:
    rig, number = await make_rig(auth="off"), 0  # one of them makes a key
    made = (await rig.client.post("/schedule", json=SCHEDULE)).json()
    webhook = (await rig.client.post("/webhook", json={"url": "https://example.com"})).json()
    ids = {
        "task_id": OWN, "name": "default", "webhook_id": webhook["webhook_id"], "schedule_id": made["schedule_id"]
    }  # fmt: skip
    for path, own in document["paths"].items():
        for method, operation in own.items():
            content = operation.get("requestBody", {}).get("content", {})
            if "example" in content.get("application/json", {}):
                number += 1
                example = content["application/json"]["example"]
                reply = await rig.client.request(method, path.format(**ids), json=example)
                is_read = path.endswith(("/input", "/retry")) and reply.status_code == 409  # the task asks nothing
                assert is_read or reply.status_code in (200, 201, 202), (path, reply.text)
    assert number >= 6 + len(rig.service.registry)


async def test_every_problem_of_a_request_is_documented_somewhere(document: Document) -> None:
    told = set(re.findall(r"`([a-z-]+)`: ", str(document)))
    of_requests = {kind.name for kind in PROBLEMS.values() if kind.status is not None}
    assert of_requests - told == {"method-not-allowed"}


async def test_query_parameters_are_those_that_are_read(rig: Rig, document: Document) -> None:
    for operation in make_operations(rig.service, Metrics(), rig.clock, rig.settings):
        if operation.documented and operation.body != "params":
            told = document["paths"][operation.path][operation.method.lower()]["parameters"]
            assert [p["name"] for p in told if p["in"] == "query"] == [p.name for p in operation.parameters]


async def test_replies_about_webhooks_are_as_it_says(rig: Rig, document: Document) -> None:
    made = await rig.client.post("/webhook", json={"url": "https://example.com", "type": "sum"})
    path = made.json()["links"]["self"]
    delivery = await tell_in_vain(rig)
    calls: list[tuple[int, str, str, dict[str, Any]]] = [
        (201, "POST", "/webhook", {"json": {"url": "https://example.com"}}),
        (422, "POST", "/webhook", {"json": {"url": "https://localhost"}}),
        (422, "POST", "/webhook", {"json": {}}),
        (200, "GET", "/webhook?limit=1", {}),
        (422, "GET", "/webhook?limit=0", {}),
        (200, "GET", path, {}),
        (404, "GET", "/webhook/nope", {}),
        (200, "PATCH", path, {"json": {"status": "paused", "tag": None}}),
        (422, "PATCH", path, {"json": {"x": 1}}),
        (200, "POST", f"{path}/rotate", {}),
        (422, "POST", f"{path}/rotate", {"json": {"secret": "x"}}),
        (200, "GET", f"{path}/deliveries?status=failed", {}),
        (422, "GET", f"{path}/deliveries?status=x", {}),
        (202, "POST", f"{path}/deliveries/{delivery.delivery_id}/redeliver", {}),
        (404, "POST", f"{path}/deliveries/{OWN}/redeliver", {}),
        (204, "DELETE", path, {}),
    ]
    for status, method, address, options in calls:
        reply = await rig.client.request(method, address, **options)
        assert reply.status_code == status, (method, address, reply.text)
        check_reply(document, method, address, reply)


async def test_answers_link_to_what_can_be_done_with_them(document: Document) -> None:
    links = document["paths"]["/task"]["post"]["responses"]["202"]["links"]
    assert {"get_task", "cancel_task", "delete_task"} <= set(links)
    assert links["get_task"] == {"operationId": "get_task", "parameters": {"task_id": "$response.body#/task_id"}}
    names = {operation["operationId"] for own in document["paths"].values() for operation in own.values()}
    assert set(links) <= names


def strings(node: Any) -> Iterator[str]:
    if isinstance(node, str):
        yield node
    elif isinstance(node, dict | list):
        for part in node.values() if isinstance(node, dict) else node:
            yield from strings(part)


class Cat(Struct, tag="cat"):
    lives: int


class Dog(Struct, tag="dog"):
    name: str


class Meow(pydantic.BaseModel):
    type: Literal["cat"]
    tree: list[Meow] = []


class Woof(pydantic.BaseModel):
    type: Literal["dog"]
    born: datetime


def keep(
    one: Cat | Dog, two: Annotated[Meow | Woof, pydantic.Field(discriminator="type")], path: Path, price: Decimal
) -> None: ...


def weigh(when: Annotated[str, pydantic.Field(description="Like `*/5 * * * *`")] = "now */") -> None:
    """Ends a comment: */ here."""


async def test_generators_of_clients_can_read_it(rig: Rig) -> None:
    """The gate runs two of them, see openapi_clients.sh; these are the things that they cannot take."""
    rig.service.registry.add(weigh)
    document = dict((await rig.client.get("/openapi.json")).json())
    weighed = document["paths"]["/type/weigh/task"]["post"]
    assert weighed["description"] == r"Ends a comment: *\/ here."
    assert {text for text in strings(document) if "*/" in text} == {"now */"}, "more than the default"
    for own in document["paths"].values():
        for operation in own.values():
            assert set(operation.get("requestBody", {}).get("content", {})) <= {"application/json"}
    batch = document["paths"]["/batch"]["post"]["requestBody"]
    assert set(batch["x-content"]) == {"application/jsonl"}
    for name, schema in document["components"]["schemas"].items():
        assert [key for key, node in schema.get("properties", {}).items() if node.get("type") == "null"] == [], name


async def test_the_definitions_of_a_type_are_found_where_they_are_put(rig: Rig) -> None:
    rig.service.registry.add(keep)
    document = dict((await rig.client.get("/openapi.json")).json())
    OpenAPIV31SpecValidator(document).validate()
    found = document["paths"]["/type/keep/task"]["post"]["requestBody"]
    assert [text for text in strings(document) if text.startswith("#/$defs")] == []
    places = {text for text in strings(found) if text.startswith("#/components/schemas/keep.")}
    assert {place.rpartition(".")[2] for place in places} == {"Cat", "Dog", "Meow", "Woof"}
    for place in places:
        assert place.rpartition("/")[2] in document["components"]["schemas"]
