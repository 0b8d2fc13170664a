"""`tasker bulk` and `tasker webhook`: many tasks at once, and receivers of events."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from tasker.client import SubmitOptions, Tasker
from tests.cli.command import Done, on_terminal
from tests.server import Server

Here = Callable[..., Done]


@pytest.fixture
def client(service: Server) -> Iterator[Tasker]:
    with Tasker(service.url) as client:
        yield client


@pytest.fixture
def tag(client: Tasker) -> str:
    """A tag of three tasks that start in an hour."""
    tag = f"bulk-{uuid4()}"
    for number in range(3):
        client.submit("sum", number, 1, options=SubmitOptions(tags=[tag], delay=3600))
    return tag


def statuses(client: Tasker, tag: str) -> list[str]:
    return [str(task.status) for task in client.find_many(tag=tag)]


def test_the_tasks_of_a_filter_are_cancelled_retried_and_erased(here: Here, client: Tasker, tag: str) -> None:
    assert here("bulk", "cancel", "--tag", tag, "--dry-run").out == "3\n"
    refused = here("bulk", "cancel", "--tag", tag)
    assert (refused.code, "--yes (and --at-most 3)" in refused.err) == (2, True)
    assert here("bulk", "cancel", "--tag", tag, "--yes", "--at-most", "2").code == 6
    assert statuses(client, tag) == ["pending"] * 3
    done = here("bulk", "cancel", "--tag", tag, "--status", "pending,running", "--yes")
    assert (done.code, "done:      3 cancelled" in done.out) == (0, True)
    assert statuses(client, tag) == ["cancelled"] * 3
    bulk_id = here("bulk", "retry", "--tag", tag, "--yes", "--detach").out.strip()
    shown = json.loads(here("bulk", "show", bulk_id, "--wait", "--json").out)
    assert (shown["state"], shown["done"]) == ("done", 3)
    assert bulk_id in here("bulk", "ls").out
    assert here("bulk", "stop", bulk_id).code == 0
    assert here("bulk", "undo", bulk_id).code == 0
    for task in client.find_many(tag=tag):
        client.wait(task.task_id)
    assert here("bulk", "delete", "--tag", tag, "--yes").code == 0
    assert statuses(client, tag) == []


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["cancel", "--yes"], 2, "give a filter"),
        (["cancel", "--yes", "--all", "--type", "sum"], 2, "and not both"),
        (["show", "no-uuid"], 2, "BULK_ID: expected a UUID"),
        (["show", str(uuid4())], 3, "`tasker bulk ls` lists them"),
    ],
)
def test_what_cannot_be_is_said(words: list[str], code: int, said: str, here: Here) -> None:
    done = here("bulk", *words)
    assert (done.code, said in done.err) == (code, True)


def test_a_terminal_is_asked(service: Server, client: Tasker, tag: str) -> None:
    def answer(keys: str, code: int) -> None:
        with on_terminal("bulk", "cancel", "--tag", tag, env={"TASKER_URL": service.url}) as terminal:
            terminal.wait_for("Cancel 3 tasks? [y/N]")
            if code == 0:
                client.submit("sum", 3, 1, options=SubmitOptions(tags=[tag], delay=3600))
            terminal.press(keys)
            assert terminal.end() == code

    answer("\n", 2)
    assert statuses(client, tag) == ["pending"] * 3
    answer("y\n", 0)
    assert statuses(client, tag) == ["pending", *["cancelled"] * 3], "what came after the question was not asked about"


def test_a_webhook_is_made_changed_and_erased(here: Here, tmp_path: Path) -> None:
    made = here("webhook", "create", "https://example.com/hook", "--tag", "never-used", "--event", "task.failed")
    assert made.code == 0, made.err
    assert made.out.startswith("whsec_")
    webhook_id = made.err.split()[1]
    assert here("webhook", "pause", webhook_id).code == 0
    line = next(line for line in here("webhook", "ls").out.splitlines() if line.startswith(webhook_id)).split("\t")
    assert line[1:5] == ["paused", "https://example.com/hook", "task.failed", "tag=never-used"]
    assert "status:    active" in here("webhook", "resume", webhook_id).out
    changed = here("webhook", "change", webhook_id, "--type", "sum", "--tag", "none", "--description", "mine")
    assert "filter:    type=sum\n" in changed.out
    assert "note:      mine\n" in here("webhook", "show", webhook_id).out
    rotated = here("webhook", "rotate", webhook_id, "--keep-old-for", "2h").out
    assert rotated.startswith("whsec_")
    assert rotated != made.out
    assert here("webhook", "deliveries", webhook_id).err == "No deliveries.\n"
    assert here("webhook", "redeliver", webhook_id, str(uuid4())).code == 3
    assert here("webhook", "rm", webhook_id).code == 0
    assert here("webhook", "show", webhook_id).code == 3


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["create", "https://example.com", "--secret", "whsec_open"], "--secret: expected @file or -"),
        (["create", "http://10.0.0.1/"], "/url"),
        (["change", str(uuid4())], "expected --receiver"),
        (["show", "no-uuid"], "WEBHOOK_ID: expected a UUID"),
    ],
)
def test_a_wrong_webhook_is_refused(words: list[str], said: str, here: Here) -> None:
    done = here("webhook", *words)
    assert (done.code, said in done.err) == (2, True), done.err


def test_questions_are_listed(here: Here, client: Tasker) -> None:
    handle = client.submit("order", 5)
    for event in handle.events():
        if event.type.endswith("input_required"):
            break
    line = next(line for line in here("question", "ls").out.splitlines() if line.startswith(str(handle.task_id)))
    assert line.split("\t")[1:3] == ["order", "approve"]
    handle.cancel()
