"""`gpt` with a key: what is asked, what comes back, and the way it is asked of servers without the Responses API."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta

import pytest
from tests.gpt.conftest import KEY, Ask
from tests.gpt.fault_server import (
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

from tasker.builtin.gpt import OPENAI_MODEL, Gpt
from tasker.builtin.gpt_messages import Message
from tasker.builtin.gpt_openai import OpenAiWriter
from tasker.builtin.gpt_request import Request, Server
from tasker.errors import Fail
from tasker.testing import ManualClock


async def test_text_is_streamed_in_order_and_returned_whole(ask: Ask, recorder: Recorder) -> None:
    texts = [f"{number} " for number in range(200)]
    async with fault_server(says(*texts)) as server:
        assert await ask(server) == "".join(texts)
    assert recorder.chunks == texts


async def test_what_is_asked(ask: Ask) -> None:
    async with fault_server(says("yes")) as server:
        await ask(server, "Is it?", model="big-1", max_tokens=5, temperature=0.5, system="Be brief.")
        await ask(server, "Is it?")
    full, plain = server.exchanges
    assert full.path == "/v1/responses"
    assert full.headers["authorization"] == f"Bearer {KEY}"
    assert full.body == {
        "model": "big-1", "input": "Is it?", "max_output_tokens": 5, "temperature": 0.5,
        "instructions": "Be brief.", "store": False, "stream": True,
    }  # fmt: skip
    assert plain.body == {
        "model": OPENAI_MODEL, "input": "Is it?", "max_output_tokens": 256, "store": False, "stream": True,
    }  # fmt: skip


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
        "cost": None, "estimated": False, "time_to_first_token": 1.25,
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
async def test_chat_completions_where_there_is_no_responses_api(ask: Ask, recorder: Recorder, status: int) -> None:
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


async def test_openai_itself_is_asked_by_the_responses_api_alone(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    async with fault_server(refuses(404, {"message": "no such model"})) as server:
        monkeypatch.setattr("tasker.builtin.gpt_openai.OPENAI_URL", server.url)
        with pytest.raises(Fail, match="no such model"):
            await ask(server, model="typo")
    assert server.paths == ["/v1/responses"]


async def test_no_proxy_is_told_what_the_local_model_is_asked(
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


async def test_an_unknown_model_does_not_settle_the_way_to_ask(ask: Ask) -> None:
    unknown = refuses(404, {"message": "no such model", "code": "model_not_found"})
    async with fault_server(unknown, unknown, says("yes")) as server:
        with pytest.raises(Fail, match="no such model"):
            await ask(server, model="typo")
        assert await ask(server) == "yes"
    assert server.paths == ["/v1/responses", "/v1/chat/completions", "/v1/responses"]


async def test_connections_serve_again(ask: Ask) -> None:
    async with fault_server(says("yes"), refuses(404), chats("no")) as server:
        for _ in range(4):
            await ask(server)
    assert server.connections == 1


async def test_texts_at_the_same_time(ask: Ask) -> None:
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


async def test_a_text_cut_at_max_tokens_is_a_result(ask: Ask) -> None:
    async with fault_server(streams(delta("Once"), incomplete("max_output_tokens"))) as server:
        assert await ask(server, max_tokens=1) == "Once"
    async with fault_server(refuses(404), chats("Once", finish_reason="length")) as server:
        assert await ask(server, max_tokens=1) == "Once"


async def test_no_word_within_max_tokens_is_a_failure(ask: Ask, recorder: Recorder) -> None:
    async with fault_server(streams(incomplete("max_output_tokens"))) as server:
        with pytest.raises(Fail, match="used up max_tokens before its first word") as caught:
            await ask(server)
    assert (caught.value.problem, caught.value.retry) == ("gpt-truncated", False)
    assert recorder.used["output_tokens"] == 3


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


async def test_an_end_stays_one_whatever_follows(ask: Ask) -> None:
    ending = streams(chat_chunk("Once"), chat_chunk(None, "stop"), chat_chunk(None), chat_usage())
    async with fault_server(refuses(404), ending) as server:
        assert await ask(server) == "Once"


async def test_what_follows_the_text_is_not_waited_for(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasker.builtin.gpt_openai.TAIL_TIMEOUT", timedelta(seconds=0.05))

    async def answer(exchange: Exchange) -> None:
        await exchange.begin()
        await exchange.send(delta("done"), completed())
        await exchange.wait_for_hang_up()

    async with fault_server(answer) as server, asyncio.timeout(10):
        assert await ask(server) == "done"


async def test_cancelling_hangs_up(ask: Ask, recorder: Recorder) -> None:
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
