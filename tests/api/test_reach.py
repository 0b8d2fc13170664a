"""Everything that the API does is a method of both clients and a command: each operation is asked for by these."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tasker.api.app import make_operations
from tasker.api.operation import Operation
from tasker.cli import main
from tasker.client import ClientError, Tasker
from tasker.metrics import Metrics
from tests.api.conftest import Rig
from tests.api.recorder import Recorder, recorder
from tests.client.shells import SHELLS, open_client

ID = "0198e000-0000-7000-8000-000000000000"
METHODS: dict[str, Callable[[Any], Any]] = {
    "submit_task": lambda client: client.submit("sum", 4, 2),
    "list_tasks": lambda client: client.find_many(),
    "get_task": lambda client: client.get(ID),
    "put_task": lambda client: client.put(ID, {"type": "sum", "params": [4, 2]}),
    "delete_task": lambda client: client.delete(ID),
    "cancel_task": lambda client: client.cancel(ID),
    "retry_task": lambda client: client.retry(ID),
    "replay_task": lambda client: client.replay(ID),
    "answer_task": lambda client: client.input(ID, "approve", True),
    "submit_batch": lambda client: client.batch([{"type": "sum", "params": [4, 2]}]),
    "act_on_tasks": lambda client: client.bulk.cancel(all=True),
    "list_bulk": lambda client: client.bulk.find_many(),
    "get_bulk": lambda client: client.bulk.get(ID),
    "stop_bulk": lambda client: client.bulk.stop(ID),
    "undo_bulk": lambda client: client.bulk.undo(ID),
    "list_groups": lambda client: client.groups.find_many(),
    "get_group": lambda client: client.groups.get("g"),
    "cancel_group": lambda client: client.groups.cancel("g"),
    "follow_task": lambda client: client.events(ID),
    "read_log": lambda client: client.logs(ID),
    "follow_all": lambda client: client.follow(),
    "list_failures": lambda client: client.failures.find_many(),
    "list_questions": lambda client: client.questions.find_many(),
    "create_schedule": lambda client: client.schedules.create("s", {"type": "sum"}, interval=60),
    "list_schedules": lambda client: client.schedules.find_many(),
    "get_schedule": lambda client: client.schedules.get(ID),
    "change_schedule": lambda client: client.schedules.change(ID, paused=True),
    "delete_schedule": lambda client: client.schedules.delete(ID),
    "trigger_schedule": lambda client: client.schedules.trigger(ID, idempotency_key="k"),
    "list_ticks": lambda client: client.schedules.next_ticks(ID),
    "list_types": lambda client: client.types.find_many(),
    "get_type": lambda client: client.types.get("sum"),
    "list_workers": lambda client: client.workers.find_many(),
    "create_webhook": lambda client: client.webhooks.create("https://example.com"),
    "list_webhooks": lambda client: client.webhooks.find_many(),
    "get_webhook": lambda client: client.webhooks.get(ID),
    "change_webhook": lambda client: client.webhooks.change(ID, tag="t"),
    "delete_webhook": lambda client: client.webhooks.delete(ID),
    "rotate_secret": lambda client: client.webhooks.rotate(ID),
    "list_deliveries": lambda client: client.webhooks.deliveries(ID),
    "redeliver": lambda client: client.webhooks.redeliver(ID, ID),
    "get_usage": lambda client: client.usage(),
    "get_stats": lambda client: client.stats(),
    "list_keys": lambda client: client.keys.find_all(),
    "create_key": lambda client: client.keys.create(["read"]),
    "get_key": lambda client: client.keys.get("k"),
    "revoke_key": lambda client: client.keys.revoke("k"),
    "list_audit": lambda client: client.audit.find_many(),
    "list_queues": lambda client: client.queues.find_many(),
    "get_queue": lambda client: client.queues.get("default"),
    "change_queue": lambda client: client.queues.pause("default"),
}
"""A call of a client that asks for each operation."""
NO_METHOD = {
    "submit_params": "submit_task does the same for any type",
    "get_result": "`wait` and `result` read the whole task, which says also why there is no result",
    "is_alive": "for probes",
    "is_ready": "for probes; `tasker healthcheck`",
    "get_metrics": "for Prometheus",
    "get_openapi": "for tools",
    "explain_problem": "a page for people; errors carry its texts",
    "index": "a page for people",
    "docs": "a page for people",
    "docs_file": "a page for people",
}
"""Operations without a method, and why."""


COMMANDS: dict[str, str] = {
    "submit_task": "run -d sum 4 2",
    "list_tasks": "ls",
    "get_task": f"get {ID}",
    "put_task": "batch rows.jsonl --out results.jsonl",
    "delete_task": f"rm {ID} --yes",
    "cancel_task": f"cancel {ID}",
    "retry_task": f"retry {ID}",
    "replay_task": f"replay -d {ID}",
    "answer_task": f"input {ID} approve true",
    "submit_batch": "batch rows.jsonl",
    "act_on_tasks": "bulk cancel --all --yes",
    "list_bulk": "bulk ls",
    "get_bulk": f"bulk show {ID}",
    "stop_bulk": f"bulk stop {ID}",
    "undo_bulk": f"bulk undo {ID}",
    "list_groups": "group ls",
    "get_group": "group show g",
    "cancel_group": "group cancel g",
    "follow_task": f"events {ID} --follow",
    "read_log": f"logs {ID}",
    "follow_all": "events --all",
    "list_failures": "failure ls",
    "list_questions": "question ls",
    "create_schedule": "schedule add s sum 4 2 --every 60s",
    "list_schedules": "schedule ls",
    "get_schedule": f"schedule show {ID}",
    "change_schedule": f"schedule pause {ID}",
    "delete_schedule": f"schedule rm {ID}",
    "trigger_schedule": f"schedule trigger {ID}",
    "list_ticks": f"schedule show {ID}",
    "list_types": "types",
    "get_type": "type show sum",
    "list_workers": "worker ls",
    "create_webhook": "webhook create https://example.com",
    "list_webhooks": "webhook ls",
    "get_webhook": f"webhook show {ID}",
    "change_webhook": f"webhook change {ID} --tag t",
    "delete_webhook": f"webhook rm {ID}",
    "rotate_secret": f"webhook rotate {ID}",
    "list_deliveries": f"webhook deliveries {ID}",
    "redeliver": f"webhook redeliver {ID} {ID}",
    "get_usage": "usage",
    "get_stats": "stats",
    "list_keys": "key ls --url URL",
    "create_key": "key create --scope read --url URL",
    "revoke_key": f"key revoke {ID} --url URL",
    "list_audit": "audit ls",
    "list_queues": "queue ls",
    "change_queue": "queue pause default",
}
"""A command that asks for each operation; URL stands for the address of the service."""
NO_COMMAND = {
    **NO_METHOD,
    "get_queue": "`tasker queue ls` shows all of it",
    "get_key": "`tasker key ls` shows all of it",
}
"""Operations without a command, and why."""
_TIME = "2026-01-02T03:04:05Z"
SCHEDULE = {
    "schedule_id": ID,
    "name": "s",
    "task": {"type": "sum"},
    "interval": 60,
    "created_at": _TIME,
    "updated_at": _TIME,
}
QUESTION = {"name": "approve", "message": "?", "schema": {"type": "boolean"}, "asked_at": _TIME}
TASK = {"task_id": ID, "type": "sum", "params": [4, 2], "status": "running", "input": QUESTION}
FIRST = {
    f"GET /task/{ID}": TASK,
    "GET /schedule": {"items": [], "next_cursor": None},
    f"GET /schedule/{ID}": SCHEDULE,
}
"""What commands ask for before their operation, and get."""


@pytest.fixture(scope="module")
def service() -> Iterator[Recorder]:
    with recorder() as found:
        yield found


def operations(rig: Rig) -> dict[str, Operation]:
    return {one.name: one for one in make_operations(rig.service, Metrics(), rig.clock, rig.settings)}


def test_each_operation_has_a_method(rig: Rig) -> None:
    assert set(METHODS) | set(NO_METHOD) == set(operations(rig))
    assert not set(METHODS) & set(NO_METHOD)


@pytest.mark.parametrize("shell", SHELLS)
def test_each_method_asks_for_its_operation(rig: Rig, service: Recorder, shell: str) -> None:
    known = operations(rig)
    with open_client(shell, service.url, retries=0) as ask:
        for name, call in METHODS.items():
            service.asked.clear()
            with suppress(ClientError):
                ask(call)
            assert service.asked
            assert re.fullmatch(pattern_of(known[name]), service.asked[0]), (name, service.asked)


def test_each_operation_has_a_command(rig: Rig) -> None:
    assert set(COMMANDS) | set(NO_COMMAND) == set(operations(rig))
    assert not set(COMMANDS) & set(NO_COMMAND)


def test_each_command_asks_for_its_operation(
    rig: Rig, service: Recorder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = operations(rig)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TASKER_URL", service.url)
    monkeypatch.setattr("tasker.cli.service.Tasker", partial(Tasker, retries=0))
    Path("rows.jsonl").write_text('{"type": "sum", "params": [4, 2]}\n')
    monkeypatch.setattr(service, "replies", FIRST)
    missing = {}
    for name, words in COMMANDS.items():
        service.asked.clear()
        main(words.replace("URL", service.url).split())
        if not any(re.fullmatch(pattern_of(known[name]), asked) for asked in service.asked):
            missing[name] = (words, list(service.asked))
    assert missing == {}


def pattern_of(operation: Operation) -> str:
    """Return a pattern of the method and path of an operation."""
    return f"{operation.method} " + re.sub(r"\\\{\w+\\\}", "[^/]+", re.escape(operation.path))
