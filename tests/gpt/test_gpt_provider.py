"""The provider: chosen by the settings and the key, shown in the banner, never changed silently."""

from __future__ import annotations

from datetime import timedelta

import pytest
from pydantic import SecretStr
from tests.gpt.recorder import Recorder

from tasker.builtin.gpt import task as gpt_module
from tasker.builtin.gpt.task import OPENAI_MODEL, Gpt, describe, make_gpt
from tasker.config.settings import GptSettings
from tasker.errors import Fail, Invalid
from tasker.tasktypes.registry import Registry, TaskType

LOCAL = "gpt: local SmolLM2-135M (demo quality)"
OPENAI = f"gpt: OpenAI, {OPENAI_MODEL}, billed to your key"
NOTHING = "gpt: not set up: set OPENAI_API_KEY or run tasker model install"
KEY = SecretStr("sk-test")


@pytest.fixture
def no_local_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpt_module, "is_installed", lambda: False)


@pytest.fixture
def task_type() -> TaskType:
    return Registry().add(make_gpt(GptSettings()))


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (GptSettings(), LOCAL),
        (GptSettings(api_key=SecretStr("")), LOCAL),
        (GptSettings(api_key=SecretStr(" \n")), LOCAL),
        (GptSettings(api_key=KEY), OPENAI),
        (GptSettings(api_key=KEY, model="big-1"), "gpt: OpenAI, big-1, billed to your key"),
        (GptSettings(api_key=KEY, base_url="http://me:pw@box.lan:1/v1"), f"{OPENAI} (at box.lan)"),
        (GptSettings(api_key=KEY, provider="openai"), OPENAI),
        (GptSettings(api_key=KEY, provider="local"), LOCAL),
        (GptSettings(provider="local"), LOCAL),
        (GptSettings(provider="openai"), NOTHING),
    ],
)
def test_the_banner_says_who_writes(settings: GptSettings, expected: str) -> None:
    assert describe(settings) == Gpt(settings).describe() == expected


@pytest.mark.usefixtures("no_local_model")
@pytest.mark.parametrize("provider", ["auto", "local"])
def test_the_banner_without_a_local_model(provider: str) -> None:
    assert describe(GptSettings.model_validate({"provider": provider})) == NOTHING


@pytest.mark.usefixtures("no_local_model")
@pytest.mark.parametrize("provider", ["auto", "openai", "local"])
async def test_without_any_provider_the_failure_names_both_ways(provider: str, recorder: Recorder) -> None:
    gpt = Gpt(GptSettings.model_validate({"provider": provider}))
    with pytest.raises(Fail) as caught:
        await gpt.function(recorder.context, "Hi")
    assert (caught.value.problem, caught.value.retry) == ("gpt-not-configured", False)
    assert "set OPENAI_API_KEY, or run `tasker model install`" in caught.value.detail


async def test_openai_without_a_key_is_not_replaced_by_the_local_model(recorder: Recorder) -> None:
    with pytest.raises(Fail, match="TASKER_GPT_PROVIDER is openai, and there is no key") as caught:
        await Gpt(GptSettings(provider="openai")).function(recorder.context, "Hi")
    assert caught.value.problem == "gpt-not-configured"
    assert recorder.used == {}


@pytest.mark.parametrize("key", ["sk-te st", "sk-tëst", "sk-test\nX-Other: 1", "sk-\x7ftest"])
async def test_an_invalid_key(key: str, recorder: Recorder) -> None:
    gpt = Gpt(GptSettings(api_key=SecretStr(key)))
    with pytest.raises(Fail, match="OPENAI_API_KEY") as caught:
        await gpt.function(recorder.context, "Hi")
    assert (caught.value.problem, caught.value.retry) == ("gpt-not-configured", False)
    assert key not in caught.value.detail


def test_the_task_type(task_type: TaskType) -> None:
    assert (task_type.name, task_type.queue, task_type.is_async) == ("gpt", "llm", True)
    assert task_type.costs, "its cost counts for budgets"
    assert task_type.policy.retry.max_attempts == 4
    assert task_type.policy.timeout == timedelta(minutes=30)
    assert list(task_type.input_schema["properties"]) == [
        "prompt", "model", "max_tokens", "temperature", "system", "messages", "schema", "stop", "seed",
        "top_p",
    ]  # fmt: skip
    assert task_type.input_schema["required"] == []
    assert task_type.output_schema["description"].startswith("The text; with a `schema`")
    assert task_type.example == ["Once upon a time"]


@pytest.mark.parametrize("name", ["base_url", "api_key"])
def test_server_and_key_are_no_params(task_type: TaskType, name: str) -> None:
    with pytest.raises(Invalid) as caught:
        task_type.check({"prompt": "Hi", name: "x"})
    assert caught.value.kind.name == "unknown-field"
    assert [fault.pointer for fault in caught.value.faults] == [f"/{name}"]


@pytest.mark.parametrize(
    "params",
    [
        [], [""], [1], {"prompt": "Hi", "max_tokens": 0}, {"prompt": "Hi", "max_tokens": 1.5},
        {"prompt": "Hi", "max_tokens": 100_001}, {"prompt": "Hi", "model": "m" * 201},
        {"prompt": "Hi", "temperature": 2.01}, {"prompt": "Hi", "temperature": -1}, {"prompt": "Hi", "model": ""},
        {"prompt": "Hi", "system": ""}, {}, {"messages": []}, {"messages": [{"role": "user"}]},
        {"messages": [{"role": "tool", "content": "Hi"}]}, {"messages": [{"role": "user", "content": ""}]},
        {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, {"prompt": "Hi", "schema": []},
        {"prompt": "Hi", "stop": ""}, {"prompt": "Hi", "stop": []}, {"prompt": "Hi", "stop": ["a"] * 5},
        {"prompt": "Hi", "stop": ["a", ""]}, {"prompt": "Hi", "stop": [1]}, {"prompt": "Hi", "stop": "x" * 501},
        {"prompt": "Hi", "seed": -1}, {"prompt": "Hi", "seed": 2**31}, {"prompt": "Hi", "seed": 1.5},
        {"prompt": "Hi", "seed": "1"}, {"prompt": "Hi", "top_p": 1.01}, {"prompt": "Hi", "top_p": -0.1},
        {"prompt": "Hi", "top_p": "1"},
    ],
)  # fmt: skip
def test_wrong_params(task_type: TaskType, params: object) -> None:
    with pytest.raises(Invalid):
        task_type.check(params)


def test_params_at_their_bounds(task_type: TaskType) -> None:
    for params in (
        {"max_tokens": 1, "temperature": 0},
        {"max_tokens": 100_000, "temperature": 2, "model": "m" * 200},
        {"stop": "\n", "seed": 0, "top_p": 0},
        {"stop": ["a"] * 4, "seed": 2**31 - 1, "top_p": 1},
    ):
        task_type.check({"prompt": "Hi", **params})
