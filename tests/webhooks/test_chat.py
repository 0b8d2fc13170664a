"""Messages for chats: a line or two, in which no text of a task acts upon the chat."""

from __future__ import annotations

import json
import re
from typing import Any
from uuid import UUID

import pytest
from msgspec import Raw, structs
from tests.webhooks.test_payload import EVENT, TASK, render

from tasker.model import Event, Status, Task, TaskProblem
from tasker.webhooks.chat import MAX_TEXT, make_slack, make_text
from tasker.webhooks.payload import make_message

ID = "0198f7a0-0000-7000-8000-000000000001"


def event(type: str, attempt: int = 1, **data: Any) -> Event:
    return structs.replace(EVENT, type=type, attempt=attempt, data=Raw(json.dumps(data).encode()))


def failed(detail: str) -> Task:
    error = TaskProblem(type="/problems/task-raised", title="t", detail=detail, traceback="Traceback: secret")
    return structs.replace(TASK, status=Status.FAILED, error=error)


def slack(told: Event, task: Task = TASK) -> str:
    body = json.loads(make_slack(told, task))
    assert list(body) == ["text"]
    return str(body["text"])


HOSTILE = [
    "<!channel> <!here|here> <!everyone>",
    "<@U012AB3CD> <#C012|x> <!subteam^S1>",
    "@channel @here @everyone @all @bob",
    "<https://evil.example|click>",
    "https://evil.example/x",
    "www.evil.example",
    "evil.example/path?a=b",
    "a@evil.example",
    "[click](https://evil.example)",
    "&lt;!channel&gt;",
    "` <!channel> `",
    "```\n@here\n```",
    "*b* _i_ ~s~ > quote",
    "slack://open",
    "\u202egnp.exe",
    "a\r\nb\x00c\x1b[31md\x7f\u2028e\u0085f",
    "evil\u3002example evil\uff0eexample",
]


@pytest.mark.parametrize(
    ("told", "task", "what", "said"),
    [
        (event("created", 0), TASK, "was created", None),
        (event("started"), TASK, "has started", None),
        (event("started", 3), TASK, "has started in attempt 3", None),
        (event("progress", fraction=0.404, message="row 4"), TASK, "goes on", "40% row 4"),
        (event("progress", fraction=0.5, message=None), TASK, "goes on", "50%"),
        (event("progress", current=1, message="row 1"), TASK, "goes on", "row 1"),
        (event("output", chunk="Once\nupon"), TASK, "writes", "Once upon"),
        (event("log", level="warning", message="cut", fields={"a": 1}), TASK, "logs", "warning: cut"),
        (event("retrying", error={"detail": "ValueError: no", "type": "x"}), TASK, "is tried again", "ValueError: no"),
        (event("retrying", error=None), TASK, "is tried again", None),
        (event("step_started", name="charge"), TASK, "begins a step", "charge"),
        (event("step_completed", name="charge", took=0.1), TASK, "has done a step", "charge"),
        (event("step_failed", name="charge", error={"detail": "no"}), TASK, "failed in a step", "charge: no"),
        (event("step_failed", name="charge"), TASK, "failed in a step", "charge"),
        (event("input_given", name="approve", by="ann"), TASK, "has got an answer", "approve, from ann"),
        (event("input_given", name="approve", by=""), TASK, "has got an answer", "approve"),
        (event("parked", reason="waiting_for_children"), TASK, "waits", "waiting for children"),
        (event("resumed", 2, steps=3), TASK, "goes on in attempt 2", None),
        (event("completed"), TASK, "completed", None),
        (event("failed", 2), failed("ValueError: no"), "failed in attempt 2", "ValueError: no"),
        (event("failed"), structs.replace(TASK, error=None), "failed", None),
        (event("cancelled"), TASK, "was cancelled", None),
        (structs.replace(EVENT, type="progress", data=Raw(b'{"fraction":"x"}')), TASK, "goes on", None),
        (structs.replace(EVENT, type="log", data=Raw(b"[]")), TASK, "logs", None),
    ],
)
def test_the_text_has_type_status_and_error(told: Event, task: Task, what: str, said: str | None) -> None:
    assert make_text(told, task) == f"sum {what} (task {ID})" + (f"\n{said}" if said else "")
    assert slack(told, task) == f"`sum` {what} (task {ID})" + (f"\n`{said}`" if said else "")


def test_a_question_is_sent_with_the_way_to_answer_it() -> None:
    told = event("input_required", name="approve", message="Ship 17?")
    assert make_text(told, TASK).splitlines() == [
        f"sum asks for an answer (task {ID})",
        "approve: Ship 17?",
        f"Answer on its page, or with: tasker input {ID} approve VALUE",
    ]
    assert slack(told).splitlines()[1:] == [
        "`approve: Ship 17?`",
        f"Answer on its page, or with: `tasker input {ID} approve VALUE`",
    ]


@pytest.mark.parametrize("words", HOSTILE)
def test_a_question_neither_mentions_nor_links(words: str) -> None:
    told = event("input_required", name=words, message=words)
    for text in (make_text(told, TASK), slack(told)):
        assert text.count("\n") == 2
        assert all(sign.isprintable() or sign in "\n\u200b" for sign in text)
        assert not re.search(r"@\w|://|\w[.\u3002\uff0e\uff61]\w", text)
    assert re.fullmatch(r"`sum` [^`]*\n`[^`<>]+`\n[^`]+`[^`<>]+`", slack(told))


def test_the_text_has_no_result_params_or_traceback() -> None:
    task = structs.replace(failed("no"), params=Raw(b'["private"]'), result=Raw(b'"private"'))
    for text in (make_text(event("failed"), task), slack(event("failed"), task)):
        assert "private" not in text
        assert "Traceback" not in text


@pytest.mark.parametrize("words", HOSTILE)
def test_text_of_a_task_neither_mentions_nor_links(words: str) -> None:
    for told, task in (
        (event("failed"), failed(words)),
        (event("log", level="info", message=words), TASK),
        (event("output", chunk=words), TASK),
        (event("progress", message=words), TASK),
        (event("retrying", error={"detail": words}), TASK),
    ):
        plain, chat = make_text(told, task), slack(told, task)
        for text in (plain, chat):
            assert text.count("\n") == 1
            assert all(sign.isprintable() or sign in "\n\u200b" for sign in text)
            assert not re.search(r"@\w|://|\w[.\u3002\uff0e\uff61]\w", text)
        assert "<" not in chat
        assert ">" not in chat
        assert re.findall(r"&(?!amp;|lt;|gt;)", chat) == []
        assert re.fullmatch(r"`sum` [^`]*\n`[^`]+`", chat)
    assert slack(event("failed"), failed("a & <b>")).endswith("\n`a &amp; &lt;b&gt;`")


def test_the_names_of_types_do_not_link_either() -> None:
    task = structs.replace(TASK, type="evil.example")
    assert make_text(EVENT, task).startswith("evil.\u200bexample completed")
    assert slack(EVENT, task).startswith("`evil.\u200bexample` completed")


@pytest.mark.parametrize("words", ["x" * 100_000, "<" * 100_000, "@" * 100_000, "😀" * 1000, " " * 5000 + "x"])
def test_a_text_stays_short(words: str) -> None:
    plain, chat = make_text(event("failed"), failed(words)), slack(event("failed"), failed(words))
    assert len(plain.replace("\u200b", "")) <= MAX_TEXT + 100
    assert len(chat) < 4000, "what Slack takes"
    assert (plain + chat).encode()


def test_each_format_has_its_media_type() -> None:
    sent = {name: make_message(name, EVENT, TASK, render) for name in ("standard", "slack", "plain")}
    assert {name: message.content_type for name, message in sent.items()} == {
        "standard": "application/json",
        "slack": "application/json",
        "plain": "text/plain; charset=utf-8",
    }
    assert json.loads(sent["standard"].body)["data"]["task_id"] == ID
    assert json.loads(sent["slack"].body) == {"text": f"`sum` completed (task {ID})"}
    assert sent["plain"].body.decode() == f"sum completed (task {UUID(ID)})"
