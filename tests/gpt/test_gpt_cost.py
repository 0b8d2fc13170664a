"""The cost of a text, by the installed price table: reported as far as it is known."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Callable
from io import StringIO
from typing import Any

import pytest
from pydantic import SecretStr
from tests.gpt.conftest import KEY, Ask
from tests.gpt.fault_server import (
    Exchange,
    chat_chunk,
    chat_usage,
    completed,
    delta,
    fault_server,
    refuses,
    says,
    streams,
)
from tests.gpt.recorder import Recorder

from tasker.builtin.gpt import reply as gpt_reply
from tasker.builtin.gpt.cost import price
from tasker.builtin.gpt.request import OPENAI_URL
from tasker.builtin.gpt.task import OPENAI_MODEL, Gpt
from tasker.config.prices import ModelPrice
from tasker.config.settings import GptSettings
from tasker.errors import Fail


@pytest.mark.parametrize(
    ("url", "model", "tokens", "dollars"),
    [
        (OPENAI_URL, "gpt-4o-mini", (1000, 100, 0), 0.00021),
        (OPENAI_URL, "gpt-4o-mini", (1000, 100, 500), 0.0001725),
        (OPENAI_URL, "gpt-4o-mini", (1000, 100, 5000), 0.000135),
        (OPENAI_URL, "gpt-4o-mini-2024-07-18", (1000, 100, 0), 0.00021),
        (OPENAI_URL, "gpt-4o-mini", (0, 0, 0), 0.0),
        (OPENAI_URL, "my-own-model", (1000, 100, 0), None),
        (OPENAI_URL, "", (1000, 100, 0), None),
        ("http://127.0.0.1:1234/v1", "gpt-4o-mini", (1000, 100, 0), None),
        ("https://models.example.com/v1", "gpt-4o-mini", (1000, 100, 0), None),
    ],
)
def test_prices(
    url: str, model: str, tokens: tuple[int, int, int], dollars: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(socket, "socket", None)  # nothing is asked over a network
    read, written, cached = tokens
    assert price(url, model, input_tokens=read, output_tokens=written, cached_tokens=cached) == dollars


OWN = {
    "mine": ModelPrice(0.5, 2.0),
    "cached": ModelPrice(0.5, 2.0, 0.1),
    "gpt-4o-mini": ModelPrice(1.0, 1.0),
    "free": ModelPrice(0.0, 0.0),
}
ANY = {"*": ModelPrice(3.0, 3.0)}


@pytest.mark.parametrize(
    ("own", "url", "model", "tokens", "dollars"),
    [
        (OWN, "http://127.0.0.1:1234/v1", "mine", (1000, 100, 0), 0.0007),
        (OWN, "http://127.0.0.1:1234/v1", "mine", (1000, 100, 500), 0.0007),
        (OWN, "http://127.0.0.1:1234/v1", "cached", (1000, 100, 500), 0.0005),
        (OWN, "http://127.0.0.1:1234/v1", "cached", (1000, 100, 5000), 0.0003),
        (OWN, "http://127.0.0.1:1234/v1", "free", (1000, 100, 0), 0.0),
        (OWN, "http://127.0.0.1:1234/v1", "Mine", (1000, 100, 0), None),
        (OWN, OPENAI_URL, "gpt-4o-mini", (1000, 100, 0), 0.0011),
        (ANY, OPENAI_URL, "gpt-4o-mini", (1000, 100, 0), 0.00021),
        (ANY, OPENAI_URL, "my-own-model", (1000, 100, 0), 0.0033),
        (ANY | OWN, "http://127.0.0.1:1234/v1", "mine", (1000, 100, 0), 0.0007),
    ],
)
def test_prices_of_the_settings(
    own: dict[str, ModelPrice], url: str, model: str, tokens: tuple[int, int, int], dollars: float | None
) -> None:
    read, written, cached = tokens
    found = price(url, model, input_tokens=read, output_tokens=written, cached_tokens=cached, own=own)
    assert found == dollars


def test_the_default_model_has_a_price() -> None:
    assert price(OPENAI_URL, OPENAI_MODEL, input_tokens=1000, output_tokens=100, cached_tokens=0)


@pytest.fixture
def openai_prices(monkeypatch: pytest.MonkeyPatch) -> None:
    """Treat the test's server as OpenAI."""

    def openai_price(_: str, model: str, **named: Any) -> float | None:
        return price(OPENAI_URL, model, **named)

    monkeypatch.setattr(gpt_reply, "price", openai_price)


@pytest.mark.usefixtures("openai_prices")
async def test_usage_has_the_cost(ask: Ask, recorder: Recorder) -> None:
    usage = {"input_tokens": 1000, "output_tokens": 100, "total_tokens": 1100,
             "input_tokens_details": {"cached_tokens": 500}}  # fmt: skip

    async def answer(exchange: Exchange) -> None:
        await exchange.stream(delta("a"), completed(usage=usage))

    async with fault_server(answer) as server:
        await ask(server, model="gpt-4o-mini")
    assert {name: recorder.used[name] for name in ("input_tokens", "output_tokens", "cached_tokens", "cost")} == {
        "input_tokens": 1000, "output_tokens": 100, "cached_tokens": 500, "cost": 0.0001725,
    }  # fmt: skip
    assert recorder.used["estimated"] is False


@pytest.mark.usefixtures("openai_prices")
async def test_chat_completions_report_cached_tokens_too(ask: Ask, recorder: Recorder) -> None:
    usage = {"prompt_tokens": 1000, "completion_tokens": 100, "prompt_tokens_details": {"cached_tokens": 500}}
    told = streams(chat_chunk("a"), chat_chunk(None, "stop"), {**chat_usage(), "usage": usage})
    async with fault_server(refuses(404), told) as server:
        await ask(server, model="gpt-4o-mini")
    assert (recorder.used["cached_tokens"], recorder.used["cost"]) == (500, 0.0001725)


@pytest.mark.usefixtures("openai_prices")
@pytest.mark.parametrize(
    ("usage", "tokens", "estimated"),
    [
        ({"input_tokens": -9, "output_tokens": 100, "input_tokens_details": {"cached_tokens": -5}}, (0, 100, 0), False),
        ({"input_tokens": 1000, "output_tokens": -100}, (1000, 0, 0), False),
        ({"input_tokens": 9, "output_tokens": 1, "input_tokens_details": {"cached_tokens": "5"}}, (9, 1, 0), False),
        ({"input_tokens": 9, "output_tokens": None}, (8, 1, 0), True),
        ({"input_tokens": "9", "output_tokens": 1}, (8, 1, 0), True),
    ],
)  # fmt: skip
async def test_figures_that_are_no_numbers_are_ignored(
    ask: Ask, recorder: Recorder, usage: dict[str, Any], tokens: tuple[int, int, int], estimated: bool
) -> None:
    async with fault_server(streams(delta("a"), completed(usage=usage))) as server:
        await ask(server, model="gpt-4o-mini")
    used = recorder.used
    assert (used["input_tokens"], used["output_tokens"], used["cached_tokens"]) == tokens
    assert used["estimated"] is estimated
    assert used["cost"] > 0


@pytest.mark.usefixtures("openai_prices")
async def test_the_cost_is_reported_while_the_text_is_written(ask: Ask, recorder: Recorder) -> None:
    seen: list[Any] = []

    async def answer(exchange: Exchange) -> None:
        await exchange.begin()
        for count in (1, 50, 50):
            await exchange.send(*(delta("word ") for _ in range(count)))
            expected = len(recorder.chunks) + count
            while len(recorder.chunks) < expected:
                await asyncio.sleep(0)
            seen.append((recorder.used["output_tokens"], recorder.used["cost"] > 0, recorder.used["estimated"]))
        await exchange.send(completed())
        await exchange.end()

    async with fault_server(answer) as server, asyncio.timeout(20):
        await ask(server, model="gpt-4o-mini")
    assert seen == [(1, True, True), (51, True, True), (101, True, True)]
    assert (recorder.used["output_tokens"], recorder.used["estimated"]) == (3, False)


@pytest.mark.parametrize("texts", [[], ["Well. "]])
async def test_a_refusal_that_breaks_off_has_a_cost(ask: Ask, recorder: Recorder, texts: list[str]) -> None:
    refusal = {**delta("No."), "type": "response.refusal.delta"}
    async with fault_server(streams(*map(delta, texts), refusal, refusal)) as server:
        with pytest.raises(Fail):
            await ask(server)
    assert (recorder.used["output_tokens"], recorder.used["estimated"]) == (2 + len(texts), True)


@pytest.mark.usefixtures("openai_prices")
async def test_a_text_that_breaks_off_has_a_cost(ask: Ask, recorder: Recorder) -> None:
    async def answer(exchange: Exchange) -> None:
        await exchange.begin()
        await exchange.send(*(delta("word ") for _ in range(60)))
        exchange.cut()

    async with fault_server(answer) as server:
        with pytest.raises(Fail, match="broke off"):
            await ask(server, "x" * 400, model="gpt-4o-mini")
    assert (recorder.used["input_tokens"], recorder.used["output_tokens"]) == (104, 60)
    assert recorder.used["cost"] == pytest.approx(104 * 0.15e-6 + 60 * 0.6e-6, abs=1e-9)
    assert recorder.used["estimated"] is True


@pytest.mark.parametrize(
    ("texts", "tokens"),
    [(["x" * 4000], 1000), (["x" * 401] * 2, 201), (["word "] * 10, 10), (["漢" * 100], 75), (["\u00e9" * 4] * 3, 3)],
)
async def test_large_pieces_count_as_many_tokens(ask: Ask, recorder: Recorder, texts: list[str], tokens: int) -> None:
    """Some servers send a sentence at a time and no usage: budgets must count that, too."""
    answer = streams(*map(chat_chunk, texts), chat_chunk(None, "stop"))
    async with fault_server(refuses(404), answer) as server:
        await ask(server)
    assert (recorder.used["output_tokens"], recorder.used["estimated"]) == (tokens, True)


@pytest.mark.usefixtures("openai_prices")
async def test_a_cancelled_text_has_a_cost(connect: Callable[..., Gpt], recorder: Recorder) -> None:
    writing = asyncio.Event()

    async def answer(exchange: Exchange) -> None:
        await exchange.begin()
        await exchange.send(*(chat_chunk("word ") for _ in range(7)))
        writing.set()
        await exchange.wait_for_hang_up()

    async with fault_server(refuses(404), answer) as server, asyncio.timeout(20):
        task = asyncio.create_task(connect(server, model="gpt-4o-mini").function(recorder.context, "Hi"))
        await writing.wait()
        while len(recorder.chunks) < 7:
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert recorder.used["output_tokens"] == 7
    assert recorder.used["cost"] > 0


async def test_a_refused_request_costs_nothing(ask: Ask, recorder: Recorder) -> None:
    async with fault_server(refuses(500)) as server:
        with pytest.raises(Fail):
            await ask(server)
    assert "cost" not in recorder.used


WHY = "the server at 127.0.0.1 has no known price for it: budgets count nothing; set TASKER_GPT_PRICES"


async def test_an_unknown_server_has_no_price(ask: Ask, recorder: Recorder, log: StringIO) -> None:
    async with fault_server(says("yes")) as server:
        for model in ("gpt-4o-mini", "gpt-4o-mini", "big-1"):
            await ask(server, model=model)
    assert (recorder.used["cost"], recorder.used["priced"]) == (None, False)
    assert recorder.logged == [
        ("warning", f"{model}: {WHY}", {"model": model}) for model in ("gpt-4o-mini", "gpt-4o-mini", "big-1")
    ]
    lines = [json.loads(line) for line in log.getvalue().splitlines() if "gpt.model_without_price" in line]
    assert [(line["level"], line["model"], line["detail"]) for line in lines] == [
        ("warning", "gpt-4o-mini", WHY), ("warning", "big-1", WHY),
    ]  # fmt: skip


async def test_without_a_budget_there_is_no_warning(recorder: Recorder, log: StringIO) -> None:
    async with fault_server(says("yes")) as server:
        gpt = Gpt(GptSettings(api_key=SecretStr(KEY), base_url=server.url), has_budgets=lambda: False)
        await gpt.function(recorder.context, "Hi")
        await gpt.aclose()
    assert recorder.used["priced"] is False
    assert recorder.logged == []
    assert "gpt.model_without_price" not in log.getvalue()


async def test_settings_can_give_prices_for_an_unknown_server(connect: Callable[..., Gpt], recorder: Recorder) -> None:
    async with fault_server(says("yes")) as server:
        gpt = connect(server, prices={"mine": {"input": 1000, "output": 10_000}})
        await gpt.function(recorder.context, "Hi", model="mine")
    assert (recorder.used["cost"], recorder.used["priced"]) == (0.037, True)
    assert recorder.logged == []


async def test_a_refused_request_does_not_warn_of_a_missing_price(ask: Ask, recorder: Recorder) -> None:
    async with fault_server(refuses(404, {"message": "no such model"})) as server:
        with pytest.raises(Fail):
            await ask(server, model="typo")
    assert recorder.logged == []
