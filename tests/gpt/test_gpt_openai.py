"""`gpt` with a key: the request, the reply, and the protocol for servers without the Responses API."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from tests.gpt.conftest import KEY, Ask
from tests.gpt.fault_server import (
    Answer,
    Exchange,
    chat_chunk,
    chat_usage,
    chats,
    completed,
    delta,
    fault_server,
    incomplete,
    refuses,
    says,
    streams,
)
from tests.gpt.recorder import Recorder

from tasker.builtin.gpt.messages import Message
from tasker.builtin.gpt.openai import OpenAiWriter
from tasker.builtin.gpt.request import Request, Server
from tasker.builtin.gpt.task import OPENAI_MODEL, Gpt
from tasker.errors import Fail
from tasker.testing import ManualClock


async def test_text_is_streamed_in_order_and_returned_whole(ask: Ask, recorder: Recorder) -> None:
    texts = [f"{number} " for number in range(200)]
    async with fault_server(says(*texts)) as server:
        assert await ask(server) == "".join(texts)
    assert recorder.chunks == texts


async def test_the_request(ask: Ask) -> None:
    async with fault_server(says("yes")) as server:
        await ask(server, "Is it?", model="big-1", max_tokens=5, temperature=0.5, system="Be brief.", top_p=0.9)
        await ask(server, "Is it?")
    full, plain = server.exchanges
    assert full.path == "/v1/responses"
    assert full.headers["authorization"] == f"Bearer {KEY}"
    assert full.body == {
        "model": "big-1", "input": "Is it?", "max_output_tokens": 5, "temperature": 0.5,
        "top_p": 0.9, "instructions": "Be brief.", "store": False, "stream": True,
    }  # fmt: skip
    assert plain.body == {
        "model": OPENAI_MODEL, "input": "Is it?", "store": False, "stream": True,
    }, "the longest text is the model's own affair"  # fmt: skip


async def test_usage_names_provider_model_and_tokens(ask: Ask, recorder: Recorder, clock: ManualClock) -> None:
    async def answer(exchange: Exchange) -> None:
        await exchange.begin()
        clock.advance(timedelta(seconds=1.25))
        await exchange.send(delta("a"))
        while not recorder.chunks:
            await asyncio.sleep(0)
        clock.advance(timedelta(seconds=1))
        await exchange.send(delta("b"), completed())
        await exchange.end()

    async with fault_server(answer) as server, asyncio.timeout(20):
        await ask(server, model="big-1")
    assert recorder.used == {
        "provider": "openai", "model": "big-1", "input_tokens": 7, "output_tokens": 3, "cached_tokens": 0,
        "cost": None, "priced": False, "estimated": False, "time_to_first_token": 1.25, "max_tokens": None,
        "finish_reason": "stop",
    }  # fmt: skip


async def test_the_setting_names_the_model_when_the_task_does_not(
    connect: Callable[..., Gpt], recorder: Recorder
) -> None:
    async with fault_server(says("yes")) as server:
        gpt = connect(server, model="house-model")
        await gpt.function(recorder.context, "Is it?")
        assert server.exchanges[0].body["model"] == recorder.used["model"] == "house-model"
        await gpt.function(recorder.context, "Is it?", model="big-1")
    assert server.exchanges[1].body["model"] == recorder.used["model"] == "big-1"


@pytest.mark.parametrize("status", [404, 405, 501])
async def test_chat_completions_replace_a_missing_responses_api(ask: Ask, recorder: Recorder, status: int) -> None:
    async with fault_server(refuses(status), chats("Hello", " there")) as server:
        assert await ask(server, "Hi", system="Be brief.", max_tokens=9, temperature=0) == "Hello there"
        assert await ask(server, "Hi") == "Hello there"
    assert server.paths == ["/v1/responses", "/v1/chat/completions", "/v1/chat/completions"]
    assert server.exchanges[1].body == {
        "model": OPENAI_MODEL, "max_tokens": 9, "temperature": 0, "stream": True,
        "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}],
        "stream_options": {"include_usage": True},
    }  # fmt: skip
    assert recorder.chunks == ["Hello", " there"] * 2
    assert recorder.used["input_tokens"] == 7
    assert recorder.used["output_tokens"] == 3


async def test_openai_gets_requests_by_the_responses_api_alone(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    async with fault_server(refuses(404, {"message": "no such model"})) as server:
        monkeypatch.setattr("tasker.builtin.gpt.openai.OPENAI_URL", server.url)
        with pytest.raises(Fail, match="no such model"):
            await ask(server, model="typo")
    assert server.paths == ["/v1/responses"]


async def test_requests_to_the_local_model_use_no_proxy(
    recorder: Recorder, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with fault_server(chats("yes")) as server, fault_server(refuses(500)) as proxy:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, proxy.url.removesuffix("/v1"))
        for name in ("NO_PROXY", "no_proxy"):
            monkeypatch.delenv(name, raising=False)
        local = Server(
            provider="local", speaker="it", url=server.url, key=KEY, timeout=timedelta(seconds=20), is_local=True
        )
        writer = OpenAiWriter(local, clock)
        request = Request(messages=(Message("user", "Hi"),), model="m", max_tokens=9)
        try:
            assert await writer.write(request, recorder.context) == "yes"
        finally:
            await writer.aclose()
    assert (server.paths, proxy.paths) == (["/v1/chat/completions"], [])
    assert recorder.used["cost"] == 0


async def test_an_unknown_model_does_not_decide_on_the_protocol(ask: Ask) -> None:
    unknown = refuses(404, {"message": "no such model", "code": "model_not_found"})
    async with fault_server(unknown, unknown, says("yes")) as server:
        with pytest.raises(Fail, match="no such model"):
            await ask(server, model="typo")
        assert await ask(server) == "yes"
    assert server.paths == ["/v1/responses", "/v1/chat/completions", "/v1/responses"]


async def test_connections_are_reused(ask: Ask) -> None:
    async with fault_server(says("yes"), refuses(404), chats("no")) as server:
        for _ in range(4):
            await ask(server)
    assert server.connections == 1


async def test_simultaneous_texts(ask: Ask) -> None:
    async def echo(exchange: Exchange) -> None:
        await exchange.stream(delta(exchange.body["input"]), completed())

    async with fault_server(echo) as server:
        prompts = [f"prompt {number}" for number in range(20)]
        assert await asyncio.gather(*(ask(server, prompt) for prompt in prompts)) == prompts


async def test_each_event_loop_has_its_own_connections(connect: Callable[..., Gpt], recorder: Recorder) -> None:
    async with fault_server(says("yes")) as server:
        gpt = connect(server)

        async def once() -> str:
            try:
                return await gpt.function(recorder.context, "Is it?")
            finally:
                await gpt.aclose()

        assert await once() == "yes"
        assert await asyncio.to_thread(asyncio.run, once()) == "yes"
        assert await once() == "yes"


@pytest.mark.parametrize(
    ("params", "told"),
    [
        ({"max_tokens": 1000}, "the text was cut at max_tokens (1,000): give more for a longer text"),
        ({}, "the text was cut at the model's own limit"),
    ],
)
@pytest.mark.parametrize(
    "answers",
    [
        [streams(delta("Once"), incomplete("max_output_tokens"))],
        [refuses(404), chats("Once", finish_reason="length")],
        [refuses(404), chats("Once", finish_reason="model_length")],
        [refuses(404), chats("Once", finish_reason="MAX_TOKENS")],
    ],
    ids=["responses", "chat", "mistral", "gemini"],
)
async def test_a_text_cut_at_its_limit_is_a_result_with_a_warning(
    ask: Ask, recorder: Recorder, answers: list[Answer], params: dict[str, Any], told: str
) -> None:
    async with fault_server(*answers) as server:
        assert await ask(server, model="big-1", **params) == "Once"
    assert recorder.used["finish_reason"] == "length"
    most = recorder.used["max_tokens"]
    assert most == params.get("max_tokens")
    assert recorder.logged[0] == ("warning", told, {"finish_reason": "length", "max_tokens": most})


@pytest.mark.parametrize("reason", ["stop", "tool_calls", "eos", "x" * 60, "a\ud83d"])
async def test_the_provider_s_finish_reason_is_reported(ask: Ask, recorder: Recorder, reason: str) -> None:
    async with fault_server(refuses(404), chats("Once", finish_reason=reason)) as server:
        assert await ask(server) == "Once"
    assert recorder.used["finish_reason"] == reason[:50].replace("\ud83d", "\ufffd")
    assert not [message for _, message, _ in recorder.logged if "cut" in message]


async def test_an_empty_text_at_max_tokens_is_a_failure(ask: Ask, recorder: Recorder) -> None:
    cut = streams(incomplete("max_output_tokens"))
    async with fault_server(cut) as server:
        with pytest.raises(Fail, match="used up max_tokens before its first word: ask for more") as caught:
            await ask(server, max_tokens=9)
        with pytest.raises(Fail, match=r"reached the model's own limit before its first word$"):
            await ask(server)
    assert (caught.value.problem, caught.value.retry) == ("gpt-truncated", False)
    assert (recorder.used["output_tokens"], recorder.used["finish_reason"]) == (3, "length")


async def test_params_that_the_responses_api_lacks_use_chat_completions(ask: Ask) -> None:
    async with fault_server(says("yes"), chats("yes"), chats("yes"), says("yes")) as server:
        await ask(server)
        await ask(server, stop="\n", seed=0, top_p=0.5, max_tokens=9)
        await ask(server, stop=["END", "FIN"])
        await ask(server)
    responses, chat = "/v1/responses", "/v1/chat/completions"
    assert server.paths == [responses, chat, chat, responses]
    message = {"model": OPENAI_MODEL, "messages": [{"role": "user", "content": "Once upon a time"}], "stream": True,
               "stream_options": {"include_usage": True}}  # fmt: skip
    assert server.exchanges[1].body == {**message, "stop": "\n", "seed": 0, "top_p": 0.5, "max_tokens": 9}
    assert server.exchanges[2].body == {**message, "stop": ["END", "FIN"]}


async def test_openai_gets_the_new_name_of_max_tokens(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    async with fault_server(chats("yes")) as server:
        monkeypatch.setattr("tasker.builtin.gpt.openai.OPENAI_URL", server.url)
        await ask(server, seed=7, max_tokens=9)
    body = server.exchanges[0].body
    assert (body["seed"], body["max_completion_tokens"], "max_tokens" in body) == (7, 9, False)


def sends(*blocks: str | bytes) -> Answer:
    """Answer with raw blocks of a stream."""

    async def answer(exchange: Exchange) -> None:
        await exchange.begin()
        for block in blocks:
            await exchange.send_bytes(block if isinstance(block, bytes) else block.encode())
        await exchange.end()

    return answer


def said(text: str) -> str:
    return f'data: {{"type":"response.output_text.delta","delta":"{text}"}}\n\n'


END = f"data: {json.dumps(completed())}\n\n"


@pytest.mark.parametrize(
    ("pieces", "text", "chunks"),
    [
        (["\\ud83d", "\\ude00 x"], "😀 x", ["😀 x"]),
        (["a\\ud83d", "\\ude00"], "a😀", ["a", "😀"]),
        (["\\ud83d", "", "\\ude00"], "😀", ["😀"]),
        (["\\ud83d", "x"], "\ufffdx", ["\ufffdx"]),
        (["x\\ud83d"], "x\ufffd", ["x", "\ufffd"]),
        (["\\ud83d"], "\ufffd", ["\ufffd"]),
        (["\\ude00\\ud83d", "\\ud83d\\ude00"], "\ufffd\ufffd😀", ["\ufffd", "\ufffd😀"]),
        (["\\u00e9", "😀"], "é😀", ["é", "😀"]),
    ],
)
@pytest.mark.parametrize("by_chat", [False, True])
async def test_a_character_split_over_two_pieces(
    ask: Ask, recorder: Recorder, pieces: list[str], text: str, chunks: list[str], by_chat: bool
) -> None:
    blocks = [
        f'data: {{"object":"x","choices":[{{"delta":{{"content":"{piece}"}}}}]}}\n\n' if by_chat else said(piece)
        for piece in pieces
    ]
    end = f"data: {json.dumps(chat_chunk(None, 'stop'))}\n\n" if by_chat else END
    answers = [refuses(404)] if by_chat else []
    async with fault_server(*answers, sends(*blocks, end)) as server:
        assert await ask(server) == text
    assert recorder.chunks == chunks


async def test_a_lone_surrogate_is_reported_if_the_text_breaks_off(ask: Ask, recorder: Recorder) -> None:
    async with fault_server(sends(said("a\\ud83d"))) as server:
        with pytest.raises(Fail, match="ended the text before its end"):
            await ask(server)
    assert recorder.chunks == ["a", "\ufffd"]
    assert recorder.used["output_tokens"] == 1


async def test_a_lone_surrogate_in_a_text_without_deltas(ask: Ask, recorder: Recorder) -> None:
    message = {
        "type": "message",
        "id": "i",
        "role": "assistant",
        "content": [{"type": "output_text", "text": "a\ud83d"}],
    }
    async with fault_server(streams(completed(output=[message]))) as server:
        assert await ask(server) == "a\ufffd"
    assert recorder.chunks == ["a", "\ufffd"]


@pytest.mark.parametrize(
    "noise",
    [
        "event: ping\n\n", "retry: 3000\n\n", "id: 7\n\n", ": keep-alive\n\n", "data:\n\n", "data\n\n", "\n\n\n",
        "event: ping\ndata:\n\n", "id: 7\nretry: 1\n: x\n\n", "\r\n: x\r\n\r\n", "other: 5\n\n",
    ],
)  # fmt: skip
@pytest.mark.parametrize("by_chat", [False, True])
async def test_blocks_without_data_are_skipped(ask: Ask, recorder: Recorder, noise: str, by_chat: bool) -> None:
    one, end = (chat_chunk("Once"), chat_chunk(None, "stop")) if by_chat else (delta("Once"), completed())
    blocks = [f"data: {json.dumps(event)}\n\n" for event in (one, one, end)]
    answers = [refuses(404)] if by_chat else []
    done = ["data: [DONE]\n\n"] if by_chat else []
    async with fault_server(
        *answers, sends(noise, *(part for block in blocks for part in (block, noise)), *done)
    ) as server:
        assert await ask(server) == "OnceOnce"
    assert recorder.used["finish_reason"] == "stop"


@pytest.mark.parametrize(
    ("first", "text"),
    [
        (b"\xef\xbb\xbf" + said("a").encode(), "ab"),
        (said("?").encode().replace(b"?", b"\xff\xfe"), "\ufffd\ufffdb"),
    ],
)
async def test_bytes_are_decoded_as_the_standard_says(ask: Ask, first: bytes, text: str) -> None:
    async with fault_server(sends(first, said("b"), END)) as server:
        assert await ask(server) == text


async def test_a_last_chunk_without_a_delta(ask: Ask) -> None:
    last = {**chat_chunk(None), "choices": [{"index": 0, "finish_reason": "stop"}]}
    null = {**chat_chunk(None), "choices": [{"index": 0, "finish_reason": "stop", "delta": None}]}
    async with fault_server(refuses(404), streams(chat_chunk("a"), last), streams(chat_chunk("b"), null)) as server:
        assert [await ask(server), await ask(server)] == ["a", "b"]


async def test_a_text_that_comes_without_deltas(ask: Ask, recorder: Recorder) -> None:
    part = {"type": "output_text", "text": "all at once", "annotations": []}
    message = {"type": "message", "id": "i", "role": "assistant", "status": "completed", "content": [part]}
    async with fault_server(streams(completed(output=[message]))) as server:
        assert await ask(server) == "all at once"
    assert recorder.chunks == ["all at once"]
    recorder.chunks.clear()
    async with fault_server(streams(delta("all "), delta("at once"), completed(output=[message]))) as server:
        assert await ask(server) == "all at once"
    assert recorder.chunks == ["all ", "at once"]


async def test_a_finished_text_stays_finished_whatever_follows(ask: Ask) -> None:
    ending = streams(chat_chunk("Once"), chat_chunk(None, "stop"), chat_chunk(None), chat_usage())
    async with fault_server(refuses(404), ending) as server:
        assert await ask(server) == "Once"


async def test_the_end_of_the_stream_is_not_awaited_for_long(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasker.builtin.gpt.streams.TAIL_TIMEOUT", timedelta(seconds=0.05))

    async def answer(exchange: Exchange) -> None:
        await exchange.begin()
        await exchange.send(delta("done"), completed())
        await exchange.wait_for_hang_up()

    async with fault_server(answer) as server, asyncio.timeout(30):
        assert await ask(server) == "done"


async def test_a_cancellation_closes_the_connection(ask: Ask, recorder: Recorder) -> None:
    writing, hung_up = asyncio.Event(), asyncio.Event()

    async def answer(exchange: Exchange) -> None:
        await exchange.begin()
        await exchange.send(delta("Once"))
        writing.set()
        await exchange.wait_for_hang_up()
        hung_up.set()

    async with fault_server(answer) as server, asyncio.timeout(20):
        task = asyncio.create_task(ask(server))
        await writing.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await hung_up.wait()
    assert recorder.used["model"] == OPENAI_MODEL
