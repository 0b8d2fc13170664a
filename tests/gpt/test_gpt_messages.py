"""`gpt` with messages instead of a prompt: checked at submission, sent in the form of each protocol."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from tests.gpt.conftest import Ask
from tests.gpt.fault_server import chats, fault_server, refuses, says

from tasker.builtin.gpt.messages import Message, TextPart, for_responses, guess_tokens
from tasker.builtin.gpt.task import make_gpt
from tasker.config.settings import GptSettings
from tasker.errors import Invalid
from tasker.tasktypes.registry import Registry, TaskType

TALK: list[dict[str, Any]] = [
    {"role": "developer", "content": "Be brief."},
    {"role": "user", "content": [{"type": "text", "text": "Who are you?"}, {"type": "text", "text": "Say it."}]},
    {"role": "assistant", "content": [{"type": "text", "text": "A model."}]},
    {"role": "user", "content": "Whose?"},
]


def messages() -> list[Message]:
    return msgspec.convert(TALK, list[Message])


@pytest.fixture(scope="module")
def task_type() -> TaskType:
    return Registry().add(make_gpt(GptSettings()))


async def test_the_responses_api_gets_them(ask: Ask) -> None:
    async with fault_server(says("yes")) as server:
        assert await ask(server, None, messages=messages(), system="You are a parrot.") == "yes"
        assert await ask(server, None, messages=messages()[-1:]) == "yes"
    asked, short = (exchange.body for exchange in server.exchanges)
    assert asked["instructions"] == "You are a parrot."
    assert asked["input"] == [
        {"role": "developer", "content": "Be brief."},
        {"role": "user", "content": [
            {"type": "input_text", "text": "Who are you?"}, {"type": "input_text", "text": "Say it."}]},
        {"role": "assistant", "content": [{"type": "output_text", "text": "A model."}]},
        {"role": "user", "content": "Whose?"},
    ]  # fmt: skip
    assert short["input"] == "Whose?"


def test_no_message_is_left_out_if_the_user_began() -> None:
    talk = (Message("user", "Hi"), Message("assistant", "Hello."), Message("user", "Who are you?"))
    assert for_responses(talk) == [{"role": one.role, "content": one.content} for one in talk]
    parts = Message("developer", [TextPart("Be brief.")])
    assert for_responses((parts,)) == [
        {"role": "developer", "content": [{"type": "input_text", "text": "Be brief."}]},
    ]


async def test_chat_completions_get_them(ask: Ask) -> None:
    async with fault_server(refuses(404), chats("yes")) as server:
        assert await ask(server, None, messages=messages(), system="You are a parrot.") == "yes"
    assert server.exchanges[1].body["messages"] == [
        {"role": "system", "content": "You are a parrot."}, {**TALK[0], "role": "system"}, *TALK[1:],
    ]  # fmt: skip


@pytest.mark.parametrize("params", [{"messages": TALK}, [None, None, None, None, None, TALK], ["Once upon a time"]])
def test_valid_messages_are_accepted(task_type: TaskType, params: Any) -> None:
    task_type.check(params)


@pytest.mark.parametrize(
    ("params", "pointer", "words"),
    [
        ({}, "/prompt", "give `prompt` or `messages`"),
        ([], "/0", "give `prompt` or `messages`"),
        ({"prompt": "Hi", "messages": TALK}, "/messages", "not both"),
        (["Hi", None, None, None, None, TALK], "/5", "not both"),
        ({"messages": [*TALK, {"role": "robot", "content": "x"}]}, "/messages/4/role", "expected one of"),
        ({"messages": [{"role": "user", "content": 5}]}, "/messages/0/content", "expected"),
        ({"messages": [{"role": "user", "content": "x", "name": "y"}]}, "/messages/0/name", "unknown"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image", "text": "x"}]}]},
            "/messages/0/content/0/type",
            "",
        ),
    ],
)
def test_wrong_messages_are_named(task_type: TaskType, params: Any, pointer: str, words: str) -> None:
    with pytest.raises(Invalid) as caught:
        task_type.check(params)
    assert pointer in [fault.pointer for fault in caught.value.faults]
    assert words in caught.value.detail


def test_the_estimate_of_their_tokens() -> None:
    assert guess_tokens((Message("user", "x" * 40),), None) == 14
    assert guess_tokens((Message("user", "é"),), "system") == 11
    assert guess_tokens((Message("user", "\ud800"),), None) == 5, "a lone surrogate is counted all the same"
