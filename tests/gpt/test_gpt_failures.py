"""How `gpt` fails: which errors are retried and when, which are final, and that none shows the key."""

from __future__ import annotations

import asyncio
import json
import traceback
from collections.abc import Callable
from datetime import timedelta
from email.utils import format_datetime
from io import StringIO
from typing import Any

import pytest
from tests.gpt.conftest import KEY, Ask
from tests.gpt.fault_server import (
    USAGE,
    Answer,
    Event,
    Exchange,
    chat_chunk,
    chat_usage,
    completed,
    delta,
    failed,
    fault_server,
    incomplete,
    refuses,
    streams,
)
from tests.gpt.recorder import Recorder

from tasker.builtin.gpt.task import Gpt
from tasker.errors import PROBLEMS, Fail
from tasker.testing import ManualClock


async def fail(ask: Ask, *answers: Answer) -> Fail:
    """Return the failure of a task whose requests get these answers."""
    async with fault_server(*answers) as server:
        with pytest.raises(Fail) as caught:
            await ask(server)
    assert caught.value.problem in PROBLEMS
    return caught.value


@pytest.mark.parametrize("status", [408, 409, 429, 500, 502, 503, 504, 529])
async def test_transient_errors_are_retried(ask: Ask, status: int) -> None:
    failure = await fail(ask, refuses(status, {"message": "slow down"}))
    assert (failure.problem, failure.retry, failure.after) == ("gpt-unavailable", True, None)
    assert f"answered {status}: slow down" in failure.detail


@pytest.mark.parametrize("status", [400, 401, 402, 403, 404, 413, 422])
async def test_permanent_errors_are_final(ask: Ask, status: int) -> None:
    failure = await fail(ask, refuses(status, {"message": "not like this"}))
    assert (failure.problem, failure.retry) == ("gpt-refused", False)
    assert f"answered {status}: not like this" in failure.detail


@pytest.mark.parametrize(
    "error",
    [
        {"message": "no credit", "type": "insufficient_quota", "code": "insufficient_quota"},
        {"message": "no credit", "code": "insufficient_quota"},
        {"message": "no credit", "type": "insufficient_quota"},
    ],
)
async def test_no_quota_is_final(ask: Ask, error: Any) -> None:
    failure = await fail(ask, refuses(429, error, **{"Retry-After": "1"}))
    assert (failure.problem, failure.retry) == ("gpt-quota", False)


async def test_content_filter_is_final(ask: Ask) -> None:
    failure = await fail(ask, refuses(400, {"message": "filtered", "code": "content_filter"}))
    assert (failure.problem, failure.retry) == ("gpt-content-filter", False)


@pytest.mark.parametrize(
    ("answers", "chunks"),
    [
        ([streams(delta("Once"), incomplete("content_filter"))], ["Once"]),
        ([refuses(404), streams(chat_chunk("Once"), chat_chunk(None, "content_filter"), chat_usage())], ["Once"]),
        ([streams(failed("content_policy_violation"))], []),
    ],
    ids=["responses", "chat", "failed"],
)
async def test_content_filter_in_the_middle_is_final_and_billed(
    ask: Ask, recorder: Recorder, answers: list[Answer], chunks: list[str]
) -> None:
    failure = await fail(ask, *answers)
    assert (failure.problem, failure.retry) == ("gpt-content-filter", False)
    assert recorder.chunks == chunks
    assert recorder.used["input_tokens"] == USAGE["input_tokens"]
    assert recorder.used["output_tokens"] == USAGE["output_tokens"]


@pytest.mark.parametrize(
    ("event", "problem", "retry"),
    [
        (failed("server_error"), "gpt-unavailable", True),
        (failed("rate_limit_exceeded"), "gpt-unavailable", True),
        (failed("insufficient_quota"), "gpt-quota", False),
        (failed("invalid_prompt"), "gpt-refused", False),
        ({"type": "error", "code": "server_error", "message": "no", "sequence_number": 1}, "gpt-unavailable", True),
        ({"type": "error", "code": None, "message": "no", "sequence_number": 1}, "gpt-refused", False),
        ({"error": {"code": 503, "message": "no"}}, "gpt-unavailable", True),
        ({"error": {"code": 429, "message": "no"}}, "gpt-unavailable", True),
        ({"error": {"code": 400, "message": "no"}}, "gpt-refused", False),
        ({"error": {"code": "9" * 5000, "message": "no"}}, "gpt-refused", False),
        ({"error": {"code": 600, "message": "no"}}, "gpt-refused", False),
        ({"error": {"code": "bio_policy", "message": "no"}}, "gpt-content-filter", False),
    ],
)
async def test_errors_inside_a_stream(ask: Ask, event: Event, problem: str, retry: bool) -> None:
    failure = await fail(ask, streams(delta("Once"), event))
    assert (failure.problem, failure.retry) == (problem, retry)


async def test_the_models_own_refusal_is_final(ask: Ask) -> None:
    refusal = {**delta("I will not."), "type": "response.refusal.delta"}
    failure = await fail(ask, streams(refusal, completed()))
    assert (failure.problem, failure.retry) == ("gpt-refused", False)
    assert "I will not." in failure.detail
    chunk = chat_chunk("Well. ")
    chunk["choices"][0]["delta"]["refusal"] = "I will not."
    failure = await fail(ask, refuses(404), streams(chunk, chat_chunk(None, "stop"), chat_usage()))
    assert (failure.problem, failure.detail) == ("gpt-refused", "the server at 127.0.0.1 declined: I will not.")


async def test_a_failure_without_a_reason_says_so(ask: Ask) -> None:
    nothing = completed(status="failed", error=None)
    failure = await fail(ask, streams(delta("Once"), nothing))
    assert (failure.problem, failure.retry) == ("gpt-refused", False)
    assert failure.detail == "the server at 127.0.0.1 answered: no reason was given"


async def test_retry_after_is_kept(ask: Ask, clock: ManualClock) -> None:
    failure = await fail(ask, refuses(429, **{"Retry-After": "17"}))
    assert failure.after == timedelta(seconds=17)
    later = format_datetime(clock.now() + timedelta(seconds=90), usegmt=True)
    failure = await fail(ask, refuses(503, **{"Retry-After": later}))
    assert failure.after is not None
    assert timedelta(seconds=89) <= failure.after <= timedelta(seconds=90)  # dates have whole seconds


async def test_a_refused_connection_is_retried(connect: Callable[..., Gpt], recorder: Recorder) -> None:
    async with fault_server(refuses(500)) as server:
        pass
    with pytest.raises(Fail, match=r"the server at 127\.0\.0\.1 could not be reached") as caught:
        await connect(server).function(recorder.context, "Hi")
    assert (caught.value.problem, caught.value.retry) == ("gpt-unavailable", True)


async def test_a_connection_closed_before_the_answer_is_retried(ask: Ask) -> None:
    async def hang_up(exchange: Exchange) -> None:
        exchange.cut()

    failure = await fail(ask, hang_up)
    assert (failure.problem, failure.retry) == ("gpt-unavailable", True)


async def test_silence_before_the_answer_is_retried(connect: Callable[..., Gpt], recorder: Recorder) -> None:
    async with fault_server(Exchange.wait_for_hang_up) as server:
        gpt = connect(server, timeout=timedelta(seconds=0.3))
        with pytest.raises(Fail, match=r"was silent for 0\.3 s") as caught:
            await gpt.function(recorder.context, "Hi")
    assert (caught.value.problem, caught.value.retry) == ("gpt-unavailable", True)
    assert "cost" not in recorder.used


@pytest.mark.parametrize(
    ("refused", "events"),
    [
        ([], [delta("Once")]),
        ([refuses(404)], [chat_chunk("Once")]),
        ([], [{"type": "response.refusal.delta", "delta": "No"}]),
        ([], []),
    ],
    ids=["responses", "chat", "a refusal", "before its first word"],
)
async def test_silence_within_the_text_is_final_because_it_is_billed(
    connect: Callable[..., Gpt], recorder: Recorder, refused: list[Answer], events: list[Event]
) -> None:
    async def stall(exchange: Exchange) -> None:
        await exchange.begin()
        await exchange.send(*events)
        await exchange.wait_for_hang_up()

    async with fault_server(*refused, stall) as server:
        gpt = connect(server, timeout=timedelta(seconds=1))
        with pytest.raises(Fail, match=r"was silent for 1 s in the middle of the text .TASKER_GPT_TIMEOUT") as caught:
            await gpt.function(recorder.context, "Hi")
    assert (caught.value.problem, caught.value.retry) == ("gpt-truncated", False)
    assert recorder.used["finish_reason"] is None
    assert recorder.used.get("output_tokens") == (1 if events else None)


async def cut(exchange: Exchange) -> None:
    await exchange.begin()
    await exchange.send(delta("Once"))
    exchange.cut()


async def cut_chat(exchange: Exchange) -> None:
    await exchange.begin()
    await exchange.send(chat_chunk("Once"))
    exchange.cut()


async def cut_at_once(exchange: Exchange) -> None:
    await exchange.begin()
    exchange.cut()


@pytest.mark.parametrize(
    "answers",
    [
        [cut],
        [refuses(404), cut_chat],
        [streams(delta("Once"))],
        [refuses(404), streams(chat_chunk("Once"))],
        [streams()],
        [cut_at_once],
    ],
    ids=["cut", "chat cut", "ended", "chat ended", "ended before it began", "cut before it began"],
)
async def test_a_text_that_breaks_off_is_final(ask: Ask, recorder: Recorder, answers: list[Answer]) -> None:
    failure = await fail(ask, *answers)
    assert (failure.problem, failure.retry) == ("gpt-truncated", False)
    assert recorder.used["provider"] == "openai"


async def test_a_chat_that_ended_is_complete_without_its_usage(ask: Ask, recorder: Recorder) -> None:
    async def answer(exchange: Exchange) -> None:
        await exchange.begin()
        await exchange.send(chat_chunk("Once"), chat_chunk(None, "stop"))
        exchange.cut()

    async with fault_server(refuses(404), answer) as server:
        assert await ask(server) == "Once"
    assert recorder.used["output_tokens"] == 1
    assert recorder.used["estimated"] is True


async def test_an_answer_that_is_no_event_stream(ask: Ask) -> None:
    failure = await fail(ask, refuses(200, "<html>Welcome!</html>"))
    assert (failure.problem, failure.retry) == ("gpt-refused", False)
    assert "answered with text/html instead of a stream of events: is OPENAI_BASE_URL right?" in failure.detail

    async def garbage(exchange: Exchange) -> None:
        await exchange.begin()
        await exchange.send_text("data: {not JSON\n\n")
        await exchange.end()

    failure = await fail(ask, garbage)
    assert (failure.problem, failure.retry) == ("gpt-truncated", False)


@pytest.mark.parametrize(
    "event",
    [
        "5", '"x"', "[1]", '{"choices":[{"delta":null}]}', '{"choices":[{"delta":{"content":5}}]}', '{"choices":5}',
        '{"usage":5}', '{"type":"response.completed"}', '{"type":"response.output_text.delta","delta":5}',
        '{"type":"response.completed","response":{"output":[5]}}', "[" * 100_000,
    ],
)  # fmt: skip
async def test_events_of_another_shape_are_a_final_failure(ask: Ask, event: str) -> None:
    async def answer(exchange: Exchange) -> None:
        await exchange.begin()
        await exchange.send_text(f"data: {event}\n\n")
        await exchange.end()

    answers = [answer] if "response." in event else [refuses(404), answer]
    failure = await fail(ask, *answers)
    assert (failure.problem, failure.retry) == ("gpt-truncated", False)
    assert "answered with something that is not OpenAI's protocol" in failure.detail


async def test_an_error_in_the_form_of_vllm(ask: Ask) -> None:
    error = {"object": "error", "message": "overloaded", "type": "ServerError", "code": 503}
    failure = await fail(ask, refuses(404), streams(chat_chunk("Once"), error))
    assert (failure.problem, failure.retry) == ("gpt-unavailable", True)
    assert failure.detail == "the server at 127.0.0.1 answered 503: overloaded"


async def test_a_refusal_of_another_shape(ask: Ask) -> None:
    failure = await fail(ask, streams({**delta(""), "delta": 5, "type": "response.refusal.delta"}, completed()))
    assert (failure.problem, failure.detail) == ("gpt-refused", "the server at 127.0.0.1 declined: 5")


@pytest.mark.parametrize(
    ("said", "told"),
    [(["\\ud83d", "\\ude00"], "😀"), (["a\\ud83d", "b"], "a\ufffdb"), (["\\ude00"], "\ufffd")],
)
async def test_lone_surrogates_in_a_provider_s_message_are_mended(ask: Ask, said: list[str], told: str) -> None:
    async def decline(exchange: Exchange) -> None:
        await exchange.begin()
        for piece in said:
            await exchange.send_text(f'data: {{"type":"response.refusal.delta","delta":"{piece}"}}\n\n')
        await exchange.send(completed())
        await exchange.end()

    failure = await fail(ask, decline)
    assert failure.detail == f"the server at 127.0.0.1 declined: {told}"
    error = json.loads(f'"{"".join(said)}"')
    for answer in (refuses(500, {"message": error}), streams(failed("server_error", error))):
        assert (await fail(ask, answer)).detail.endswith(f": {told}")


async def test_an_error_page_is_shortened(ask: Ask) -> None:
    failure = await fail(ask, refuses(502, "<html>\n" + "<p>Bad gateway</p>\n" * 1000))
    assert failure.retry
    assert "\n" not in failure.detail
    assert len(failure.detail) < 1000


ECHOES: list[Answer] = [
    refuses(401, {"message": f"Incorrect API key provided: {KEY}. See the docs.", "code": "invalid_api_key"}),
    refuses(401, f"<p>who is Bearer {KEY}?</p>"),
    refuses(500, {"message": f"config={{'key':'{KEY}'}} {KEY[:12]}****{KEY[-4:]} {KEY[4:20]}"}, **{"X-Key": KEY}),
    refuses(401, {"message": "see the header"}, **{"WWW-Authenticate": f"Bearer {KEY}"}),
    streams(failed("server_error", f"cannot use {KEY}")),
    streams({"error": {"message": f"cannot use {KEY}", "code": KEY, "type": KEY}}),
    streams({**delta(KEY), "type": "response.refusal.delta"}, completed()),
]


@pytest.mark.parametrize("answer", ECHOES)
async def test_an_echoed_key_is_never_shown(ask: Ask, answer: Answer, log: StringIO) -> None:
    failure = await fail(ask, answer)
    told = "".join([failure.detail, repr(failure), *traceback.format_exception(failure), log.getvalue()])
    context: BaseException | None = failure
    while context is not None:
        told += repr(context) + repr(vars(context))
        context = context.__cause__ or context.__context__
    assert KEY not in told
    assert KEY[4:16] not in told


async def test_an_echoed_key_is_masked_in_the_finish_reason(ask: Ask, recorder: Recorder) -> None:
    async with fault_server(refuses(404), streams(chat_chunk("Once"), chat_chunk(None, KEY))) as server:
        assert await ask(server) == "Once"
    assert recorder.used["finish_reason"] == "[key]"


async def test_the_key_is_in_no_repr(connect: Callable[..., Gpt]) -> None:
    async with fault_server(refuses(401)) as server:
        gpt = connect(server)
        with pytest.raises(Fail):
            await gpt.function(Recorder().context, "Hi")
        assert KEY not in repr(vars(gpt)) + repr(vars(gpt._openai))


async def test_a_failure_does_not_affect_the_next_task(ask: Ask) -> None:
    async with fault_server(cut, refuses(500), streams(delta("fine"), completed())) as server:
        for _ in range(2):
            with pytest.raises(Fail):
                await ask(server)
        assert await ask(server) == "fine"


async def test_only_the_task_retries(ask: Ask) -> None:
    async with fault_server(refuses(500)) as server:
        with pytest.raises(Fail):
            await ask(server)
        await asyncio.sleep(0)
        assert len(server.exchanges) == 1
