"""Every field of the API that takes a time or a day, at both ends of the calendar: none of them is a fault of ours."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tasker.api.app import build_app
from tasker.builtin import builtin_registry
from tasker.config.settings import Settings
from tasker.engines.protocol import Engine
from tasker.metrics import Metrics
from tasker.service import Service
from tasker.service.hub import Hub
from tasker.testing import ManualClock

NOT_IN_UTC = ("0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59.999999-23:59")
"""Times of which UTC has no year."""
ENDS = ("0001-01-01T00:00:00Z", "9999-12-31T23:59:59.999999Z", "0001-01-01T00:00:00-23:59", "9999-12-31T23:59:59+23:59")
DAYS = ("0001-01-01", "9999-12-31")
KNOWN = {
    "GET /task ?created_after", "GET /task ?created_before", "GET /usage ?from", "GET /usage ?to",
    "POST /task /run_at", "POST /task /deadline", "POST /bulk /filter/created_after",
    "POST /bulk /filter/created_before", "POST /schedule /starts_at", "POST /schedule /ends_at",
    "PATCH /schedule/{schedule_id} /ends_at", "POST /key /expires_at",
}  # fmt: skip
"""Some of the fields that the walk has to find, or it proves nothing."""


@pytest.fixture
async def client(engine: Engine, clock: ManualClock, tmp_path: Path) -> AsyncIterator[httpx2.AsyncClient]:
    service = Service(engine, builtin_registry(None), Hub(), clock, health=None)
    app = build_app(service, Settings(data_dir=tmp_path), Metrics(slots=0), clock)
    transport = httpx2.ASGITransport(app, raise_app_exceptions=False)
    async with httpx2.AsyncClient(transport=transport, base_url="http://localhost:5000") as client:
        yield client


def fields_of(schema: dict[str, Any], document: dict[str, Any], pointer: str = "") -> Iterator[tuple[str, str]]:
    """Yield the pointer and format of each time and day in a schema of a body."""
    if "$ref" in schema:
        schema = document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    if schema.get("format") in ("date-time", "date"):
        yield pointer, schema["format"]
    for choice in (*schema.get("anyOf", ()), *schema.get("oneOf", ()), *schema.get("allOf", ())):
        yield from fields_of(choice, document, pointer)
    for name, member in schema.get("properties", {}).items():
        yield from fields_of(member, document, f"{pointer}/{name}")


def places(document: dict[str, Any]) -> Iterator[tuple[str, str, str, str, Any]]:
    """Yield the method, path, field, format and example body of each time and day that can be sent."""
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            for parameter in operation.get("parameters", ()):
                if parameter["schema"].get("format") in ("date-time", "date"):
                    yield method, path, f"?{parameter['name']}", parameter["schema"]["format"], None
            content = operation.get("requestBody", {}).get("content", {}).get("application/json")
            if content is not None:
                for pointer, kind in dict(fields_of(content["schema"], document)).items():
                    yield method, path, pointer, kind, _example(content)


def _example(content: dict[str, Any]) -> Any:
    named = content.get("examples", {"": {"value": content.get("example", {})}})
    return next(iter(named.values()))["value"] or {}


def put(body: dict[str, Any], pointer: str, value: str) -> dict[str, Any]:
    """Return a body with one field, at a pointer of one or two names."""
    first, _, second = pointer[1:].partition("/")
    return {**body, first: {**body.get(first, {}), second: value} if second else value}


async def test_no_time_at_the_ends_of_the_calendar_is_a_fault_of_ours(client: httpx2.AsyncClient) -> None:
    document = (await client.get("/openapi.json")).json()
    schedule = {"name": "daily", "cron": "0 0 * * *", "task": {"type": "sum", "params": [1, 2]}}
    made = (await client.post("/schedule", json=schedule)).json()
    task = (await client.post("/task", json={"type": "sum", "params": [1, 2]})).json()
    names = {"{schedule_id}": made["schedule_id"], "{task_id}": task["task_id"], "{name}": "default"}
    seen = set()
    for method, path, field, kind, body in places(document):
        url = path
        for name, value in names.items():
            url = url.replace(name, value)
        seen.add(f"{method.upper()} {path} {field}")
        for value in DAYS if kind == "date" else (*NOT_IN_UTC, *ENDS):
            if field.startswith("?"):
                reply = await client.request(method, url, params={field[1:]: value})
            else:
                reply = await client.request(method, url, json=put(body, field, value))
            said = f"{method} {url} {field} {value}: {reply.status_code} {reply.text}"
            assert reply.status_code < 500, said
            if value in NOT_IN_UTC:
                assert reply.status_code == 422, said
                assert field.strip("?/") in reply.text, said
    assert seen >= KNOWN, KNOWN - seen
