"""The resources of both clients, against a real service."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import msgspec
import pytest
from msgspec import Struct

from tasker.client import Conflict, InvalidRequest, NotFound, SubmitOptions, Tasker, TaskFailed
from tasker.wire.bulk import Bulk, BulkReceipt
from tasker.wire.webhooks import Delivery, DeliveryReceipt, Webhook, WebhookReceipt, WebhookWithSecret
from tests.client.shells import SHELLS, Ask, open_client
from tests.server import Server


@pytest.fixture(scope="module", params=SHELLS)
def ask(request: pytest.FixtureRequest, service: Server) -> Iterator[Ask]:
    with open_client(request.param, service.url) as ask:
        yield ask


@pytest.fixture
def tag() -> str:
    return f"t{uuid4().hex}"


def submit(ask: Ask, tag: str, count: int = 1, *, queue: str | None = None) -> list[str]:
    """Submit tasks that are not due yet, or are due in a queue; return their ids."""
    options = SubmitOptions(tags=[tag], delay=None if queue else 3600, queue=queue)
    return [str(ask(lambda client: client.submit("sum", 4, 2, options=options)).task_id) for _ in range(count)]


def test_types(ask: Ask) -> None:
    found = ask(lambda client: client.types.find_many())
    names = [one.name for one in found]
    assert {"sum", "reverse", "echo"} <= set(names)
    assert len(ask(lambda client: client.types.find_many(limit=2))) == 2
    sum_ = ask(lambda client: client.types.get("sum"))
    assert (sum_.positional, sum_.rest, sum_.example) == (["a", "b"], "more", [4, 2])
    assert sum_ in found
    with pytest.raises(NotFound, match="no task type 'a b'"):
        ask(lambda client: client.types.get("a b"))


def test_workers(ask: Ask) -> None:
    [worker] = ask(lambda client: client.workers.find_many())
    assert worker.status == "running"
    assert "sum" in worker.types
    assert ask(lambda client: client.workers.find_many(limit=0)) == []


def test_audit(ask: Ask, tag: str) -> None:
    [task_id] = submit(ask, tag)
    ask(lambda client: client.cancel(task_id))
    entry = ask(lambda client: client.audit.find_many(limit=1))[0]
    assert (entry.action, entry.target, entry.outcome) == ("cancel_task", task_id, 200)
    many = ask(lambda client: client.audit.find_many())
    assert many[0] == entry
    assert [one.sequence for one in many] == sorted((one.sequence for one in many), reverse=True)


def test_questions(ask: Ask, service: Server) -> None:
    with Tasker(service.url) as client:
        handle = client.submit("order", 7)
        next(event for event in handle.events() if event.type == "input_required")
    [found] = [one for one in ask(lambda client: client.questions.find_many()) if one.task_id == handle.task_id]
    assert (found.type, found.name, found.message) == ("order", "approve", "Ship for 7?")
    assert len(ask(lambda client: client.questions.find_many(limit=1))) == 1
    ask(lambda client: client.cancel(found.task_id))
    ask(lambda client: client.wait(found.task_id, 30))  # it may not have been parked yet
    assert found not in ask(lambda client: client.questions.find_many())


def test_groups_of_an_owner(ask: Ask, tag: str) -> None:
    ask(lambda client: client.submit("sum", 4, 2, options=SubmitOptions(group=tag)))
    ask(lambda client: client.groups.wait(tag, 30))
    assert ask(lambda client: client.groups.find_many(owner="nobody")) == []
    for call in ("get", "wait", "cancel"):
        with pytest.raises(NotFound):
            ask(lambda client, call=call: getattr(client.groups, call)(tag, owner="nobody"))


def test_the_firings_of_a_schedule(ask: Ask, tag: str) -> None:
    made = ask(lambda client: client.schedules.create(tag, {"type": "sum", "params": [4, 2]}, interval=3600))
    assert ask(lambda client: client.schedules.get(made.schedule_id, firings=True)).firings == []
    ask(lambda client: client.schedules.delete(made.schedule_id))


def test_failures(ask: Ask) -> None:
    with pytest.raises(TaskFailed) as failed:
        ask(lambda client: client.run("explode", "odd one"))
    found = ask(lambda client: client.failures.find_many(window="1h", type=["explode", "fail"], limit=1))
    [group] = found
    assert (group.type, group.exception) == ("explode", "ValueError")
    assert ask(lambda client: client.failures.find_many(error=group.failure_id))[0].failure_id == group.failure_id
    ids = {task.task_id for task in ask(lambda client: client.find_many(error=group.failure_id))}
    assert failed.value.task_id in ids
    with pytest.raises(InvalidRequest, match=r"\?window"):
        ask(lambda client: client.failures.find_many(window="2h"))


def test_a_bulk_action_is_counted_done_and_read(ask: Ask, tag: str) -> None:
    submit(ask, tag, 3)
    later = datetime.now(UTC) + timedelta(hours=1)
    counted = ask(lambda client: client.bulk.count("cancel", tag=tag, status=["pending"], created_before=later))
    assert (counted.matched, counted.next_cursor) == (3, None)
    [late] = submit(ask, tag)
    with pytest.raises(Conflict):
        ask(lambda client: client.bulk.cancel(tag=tag, at_most=3))
    begun = ask(lambda client: client.bulk.cancel(tag=tag, at_most=3, up_to=counted.up_to))
    done = ask(lambda client: client.bulk.wait(begun.bulk_id, 30))
    assert (done.state, done.action, done.done, done.filter["tag"]) == ("done", "cancel", 3, tag)
    assert ask(lambda client: client.bulk.get(str(begun.bulk_id))) == done
    assert ask(lambda client: client.bulk.find_many(limit=1)) == [done]
    assert len(ask(lambda client: client.find_many(bulk=done.bulk_id))) == 3
    assert ask(lambda client: client.get(late)).status == "pending"
    assert ask(lambda client: client.bulk.stop(done.bulk_id)).state == "done"


def test_retries_are_undone_and_given_tasks_deleted(ask: Ask, tag: str) -> None:
    ask(lambda client: client.queues.pause(tag))
    ids = submit(ask, tag, 2, queue=tag)
    assert ask(lambda client: client.bulk.cancel(task_ids=ids)).done == 2
    retried = ask(lambda client: client.bulk.retry(queue=tag))
    undone = ask(lambda client: client.bulk.undo(retried.bulk_id))
    assert (retried.done, undone.undo_of, undone.done) == (2, retried.bulk_id, 2)
    assert ask(lambda client: client.bulk.delete(tag=tag)).done == 2
    assert ask(lambda client: client.find_many(tag=tag)) == []


def test_what_is_wrong_with_a_bulk_action_is_said(ask: Ask, tag: str) -> None:
    with pytest.raises(InvalidRequest, match="/filter"):
        ask(lambda client: client.bulk.cancel())
    with pytest.raises(InvalidRequest, match="/filter/colour"):
        ask(lambda client: client.bulk.count("cancel", colour="red"))
    assert ask(lambda client: client.bulk.count("delete", all=True, tag=None)).matched is not None
    for call in ("get", "wait", "stop", "undo"):
        with pytest.raises(NotFound):
            ask(lambda client, call=call: getattr(client.bulk, call)(uuid4()))


def test_webhooks(ask: Ask) -> None:
    made = ask(
        lambda client: client.webhooks.create(
            "https://example.com/hook", events=["task.failed"], type="none", description="mine"
        )
    )
    assert (made.events, made.type, made.secret.startswith("whsec_")) == (["task.failed"], "none", True)
    got = ask(lambda client: client.webhooks.get(made.webhook_id))
    assert (got.webhook_id, got.description) == (made.webhook_id, "mine")
    assert ask(lambda client: client.webhooks.find_many(limit=1)) == [got]
    changed = ask(lambda client: client.webhooks.change(made.webhook_id, type=None, format="slack"))
    assert (changed.type, changed.format, changed.description) == (None, "slack", "mine")
    assert ask(lambda client: client.webhooks.pause(made.webhook_id)).status == "paused"
    assert ask(lambda client: client.webhooks.resume(made.webhook_id)).status == "active"
    rotated = ask(lambda client: client.webhooks.rotate(made.webhook_id, keep_old_for=timedelta(hours=1)))
    assert rotated.secret != made.secret
    assert rotated.old_secret_until is not None
    assert ask(lambda client: client.webhooks.deliveries(made.webhook_id, status="failed")) == []
    with pytest.raises(NotFound):
        ask(lambda client: client.webhooks.redeliver(made.webhook_id, uuid4()))
    ask(lambda client: client.webhooks.delete(made.webhook_id))
    with pytest.raises(NotFound):
        ask(lambda client: client.webhooks.get(made.webhook_id))
    with pytest.raises(InvalidRequest, match="/url"):
        ask(lambda client: client.webhooks.create("https://localhost"))


@pytest.mark.parametrize(
    ("receipt", "whole"),
    [
        (
            BulkReceipt(bulk_id=uuid4(), state="done", matched=None, done=1, skipped=0, skips={}, to_go=None, links={}),
            Bulk,
        ),
        (WebhookReceipt(webhook_id=uuid4(), status="active", links={}), Webhook),
        (WebhookReceipt(webhook_id=uuid4(), status="active", secret="s", links={}), WebhookWithSecret),
        (DeliveryReceipt(delivery_id=uuid4(), webhook_id=uuid4(), status="pending", links={}), Delivery),
    ],
)
def test_a_receipt_is_read_as_the_whole(receipt: Struct, whole: type[Struct]) -> None:
    """A key without the scope `read` gets receipts."""
    read = msgspec.json.decode(msgspec.json.encode(receipt), type=whole)
    given = msgspec.structs.asdict(receipt).items()
    assert {name: getattr(read, name) for name, value in given if value is not msgspec.UNSET} == {
        name: value for name, value in given if value is not msgspec.UNSET
    }
