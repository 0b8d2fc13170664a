"""What goes over HTTP: the same structs for API, client and OpenAPI, and what each says of its fields."""

from __future__ import annotations

from typing import Any

import msgspec

from tasker.api.openapi import make_document
from tasker.api.operation import Operation, ok
from tasker.builtin import builtin_registry
from tasker.model import Task as StoredTask
from tasker.wire.events import Event
from tasker.wire.keys import Key
from tasker.wire.schedules import Schedule
from tasker.wire.tasks import Task, TaskReceipt
from tasker.wire.usage import UsageRow

ID = "0198f7a0-0000-7000-8000-000000000001"


def schemas(*bodies: Any) -> dict[str, Any]:
    """Return the schemas of a document whose operations answer with these structs."""
    operations = [Operation("GET", f"/{body.__name__}", "Read", ok("It.", body)) for body in bodies]
    document = msgspec.json.decode(make_document(operations, builtin_registry(None)))
    return dict(document["components"]["schemas"])


def test_every_field_of_a_stored_task_is_sent() -> None:
    assert set(Task.__struct_fields__) == {*StoredTask.__struct_fields__, "links", "attempts", "steps", "child_tasks"}


def test_a_field_that_is_always_sent_is_required_and_has_no_default() -> None:
    task = schemas(Task)["Task"]
    optional = set(Task.__struct_fields__) - set(task["required"])
    assert optional == {
        *(field.name for field in msgspec.structs.fields(StoredTask) if not field.required),
        "attempts",
        "steps",
        "child_tasks",
    }
    assert task["properties"]["created_at"] == {"type": "string", "format": "date-time"}
    assert task["properties"]["type"] == {"type": "string"}


def test_a_field_that_is_sometimes_sent_is_optional_and_has_no_default() -> None:
    row = schemas(UsageRow)["UsageRow"]
    assert not {"day", "owner", "type"} & set(row["required"])
    assert row["properties"]["day"] == {"type": "string", "format": "date"}


def test_no_mark_of_ours_is_left_in_the_document() -> None:
    assert "x-sent" not in str(schemas(Task, Event, Schedule, Key, UsageRow))


def test_the_client_reads_receipts() -> None:
    task = msgspec.json.decode(b'{"task_id":"%b","status":"pending","links":{}}' % ID.encode(), type=Task)
    assert (task.is_whole, task.type, task.tags) == (False, "", ())
    schedule = msgspec.json.decode(b'{"schedule_id":"%b","paused":true,"links":{}}' % ID.encode(), type=Schedule)
    assert (schedule.paused, schedule.created_at) == (True, None)
    assert set(TaskReceipt.__struct_fields__) <= set(Task.__struct_fields__)


def test_the_client_reads_what_later_versions_send() -> None:
    later = b'{"task_id":"%b","status":"pending","reason":"new reason","new":1}' % ID.encode()
    assert msgspec.json.decode(later, type=Task).reason == "new reason"
    key = {"key_id": "k", "name": "n", "owner": "o", "scopes": ["new"], "created_at": "2026-01-01T00:00:00Z"}
    assert msgspec.convert(key, Key, strict=False).scopes == ["new"]
