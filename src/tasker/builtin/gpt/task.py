"""The built-in task type `gpt`: text from a language model, OpenAI's with a key, the local one without.

The settings and the key alone decide which; neither silently replaces the other.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import replace
from datetime import timedelta
from typing import Any, Literal
from urllib.parse import urlsplit

from tasker.builtin.gpt.errors import unreachable
from tasker.builtin.gpt.local_model import MODEL_NAME, Endpoint, LocalModel, is_installed
from tasker.builtin.gpt.messages import Message
from tasker.builtin.gpt.openai import OpenAiWriter, warm_up
from tasker.builtin.gpt.params import (
    MAX_TOKENS,
    MAX_TOKENS_OF_JSON,
    JsonSchema,
    MaxTokens,
    Messages,
    Model,
    Prompt,
    Result,
    Seed,
    Stop,
    System,
    Temperature,
    TopP,
    check_params,
)
from tasker.builtin.gpt.request import Request, Server, openai_server
from tasker.builtin.gpt.shape import make_shape
from tasker.clock import Clock, SystemClock
from tasker.config.settings import GptSettings
from tasker.errors import Fail
from tasker.model import RetryPolicy
from tasker.tasktypes.context import Context
from tasker.tasktypes.registry import task
from tasker.validation.schemas import Schema

OPENAI_MODEL = "gpt-5.4-mini"
"""The default, unless the task or TASKER_GPT_MODEL names a model: small, and writes without reasoning first."""
LOCAL_ANSWERS = "You write stories and answer questions clearly and briefly."
LOCAL_STORIES = (
    "You are a writer of short stories. When the user begins a story, tell how it goes on: who lived there, and what "
    "happened. Answer questions in a few sentences."
)
LOCAL_JSON = "You answer with JSON: short, and with what was asked for."
"""Instructions of the local model for tasks without `system`: it is too small to tell a story from a question."""
TIMEOUT = timedelta(minutes=30)
"""Timeout of an attempt. It fits the longest text of a model, because a text that is cut off is paid for again. A
silent provider is given up far sooner: TASKER_GPT_TIMEOUT."""
RETRY = RetryPolicy(max_attempts=4, initial=timedelta(seconds=1), factor=4)

Provider = Literal["openai", "local"]
GptFunction = Callable[..., Coroutine[Any, Any, Any]]


def find_provider(settings: GptSettings) -> Provider | None:
    """Return the provider that `settings` select; None if it is not set up."""
    if settings.provider != "local" and read_key(settings):
        return "openai"
    return "local" if settings.provider != "openai" and is_installed() else None


def read_key(settings: GptSettings) -> str:
    """Return the provider's key without surrounding white space, or an empty text."""
    return settings.api_key.get_secret_value().strip() if settings.api_key else ""


def describe(settings: GptSettings) -> str:
    """Return the start banner's line on `gpt`."""
    match find_provider(settings):
        case "openai":
            place = f" (at {urlsplit(settings.base_url).hostname})" if settings.base_url else ""
            return f"gpt: OpenAI, {settings.model or OPENAI_MODEL}, billed to your key{place}"
        case "local":
            return f"gpt: local {MODEL_NAME} (demo quality)"
    return "gpt: not set up: set OPENAI_API_KEY or run tasker model install"


class Gpt:
    """The task type `gpt` with what it keeps between tasks: connections and the local model.

    has_budgets: whether any budget depends on costs; then models without a known price are warned of.
    """

    def __init__(
        self, settings: GptSettings, clock: Clock | None = None, *, has_budgets: Callable[[], bool] = lambda: True
    ) -> None:
        self._settings = settings
        self._has_budgets = has_budgets
        self._clock = clock or SystemClock()
        self._openai: OpenAiWriter | None = None
        self._local: tuple[Endpoint, OpenAiWriter] | None = None
        self.local_model = LocalModel(settings.threads)
        self.function: GptFunction = self._make_function()

    def describe(self) -> str:
        """Return the start banner's line."""
        return describe(self._settings)

    async def aclose(self) -> None:
        """End the local model and close the running loop's connections."""
        await self.local_model.aclose()
        for writer in (self._openai, self._local and self._local[1]):
            if writer is not None:
                await writer.aclose()

    def _make_function(self) -> GptFunction:
        @task(
            name="gpt",
            queue="llm",
            retry=RETRY,
            timeout=TIMEOUT,
            example=["Once upon a time"],
            check=check_params,
            costs=True,
        )
        async def gpt(
            context: Context,
            prompt: Prompt | None = None,
            model: Model | None = None,
            max_tokens: MaxTokens | None = None,
            temperature: Temperature | None = None,
            system: System | None = None,
            messages: Messages | None = None,
            schema: JsonSchema | None = None,
            stop: Stop | None = None,
            seed: Seed | None = None,
            top_p: TopP | None = None,
        ) -> Result:
            """Write text, or JSON that fits a schema, with a language model: give a prompt or messages.

            With a key (OPENAI_API_KEY) OpenAI writes, else the small model of this machine. Output events stream the
            text. The task's usage has its tokens, cost, provider, model and why the text ended.
            """
            request = Request(
                messages=tuple(messages or ()) if prompt is None else (Message("user", prompt),),
                model=model or "",
                max_tokens=max_tokens,
                temperature=temperature,
                top_p=top_p,
                stop=stop,
                seed=seed,
                system=system,
            )
            return await self._answer(request, schema, context)

        return gpt

    async def _answer(self, request: Request, schema: Schema | None, context: Context) -> Any:
        if schema is None:
            return await self.write(request, context)
        shape = make_shape(schema, objects_only=find_provider(self._settings) == "openai")
        text = await self.write(replace(request, shape=shape), context)
        return await asyncio.to_thread(shape.read, text)

    async def write(self, request: Request, context: Context) -> str:
        """Return the text for a request, and report it while it comes. Raises Fail; tests have their own."""
        match find_provider(self._settings):
            case "openai":
                return await self._write_by_openai(request, context)
            case "local":
                return await self._write_locally(request, context)
        raise Fail(_explain_missing(self._settings), problem="gpt-not-configured")

    async def _write_by_openai(self, request: Request, context: Context) -> str:
        if self._openai is None:
            settings = self._settings
            key = read_key(settings)
            if not key.isascii() or not key.isprintable() or " " in key:  # would break the header
                raise Fail("OPENAI_API_KEY holds characters that no key has", problem="gpt-not-configured")
            server = openai_server(settings.base_url, key, settings.timeout, settings.prices or {})
            self._openai = OpenAiWriter(server, self._clock, self._has_budgets)
        model = request.model or self._settings.model or OPENAI_MODEL
        return await self._openai.write(replace(request, model=model), context)

    async def _write_locally(self, request: Request, context: Context) -> str:
        if request.model not in {"", MODEL_NAME}:
            raise Fail(
                f"the model {request.model!r} is not here: without OPENAI_API_KEY there is only {MODEL_NAME}",
                problem="gpt-refused",
            )
        longest = request.max_tokens or (MAX_TOKENS if request.shape is None else MAX_TOKENS_OF_JSON)
        system = request.system or _choose_system(request)
        request = replace(request, model=MODEL_NAME, max_tokens=longest, system=system)
        async with self.local_model.turn():
            if self._local is None:  # the first text: start the sidecar and import the client at the same time
                await asyncio.gather(self.local_model.start(), asyncio.to_thread(warm_up))
            writer = self._connect(await self.local_model.start())
            try:
                return await writer.write(request, context)
            except Fail as failure:
                if await self._has_ended(writer, failure):
                    raise unreachable("the local model", "ended while it wrote, and will be started again") from None
                raise

    def _connect(self, endpoint: Endpoint) -> OpenAiWriter:
        """Return the writer for this sidecar; a new sidecar has another port and key."""
        if self._local is None or self._local[0] != endpoint:
            server = Server(
                provider="local",
                speaker="the local model",
                url=endpoint.url,
                key=endpoint.key,
                timeout=self._settings.timeout,
                is_local=True,
            )
            self._local = endpoint, OpenAiWriter(server, self._clock)
        return self._local[1]

    async def _has_ended(self, writer: OpenAiWriter, failure: Fail) -> bool:
        """Return whether the sidecar died or hangs; a hanging one is killed. A new one may do better."""
        if failure.problem not in {"gpt-unavailable", "gpt-truncated"}:
            return False
        if self.local_model.pid is not None and await writer.is_alive():
            return False
        self.local_model.kill()
        return True


def make_gpt(settings: GptSettings) -> GptFunction:
    """Return the task type's function. What it keeps ends with the process or the garbage collector."""
    return Gpt(settings).function


def _choose_system(request: Request) -> str | None:
    """Return the local model's instructions: a prompt that does not end a sentence is a story to continue."""
    if any(message.role in ("system", "developer") for message in request.messages):
        return None
    if request.shape is not None:
        return LOCAL_JSON
    is_sentence = request.messages[-1].text.rstrip().endswith((".", "?", "!", ":"))
    return LOCAL_ANSWERS if is_sentence or len(request.messages) > 1 else LOCAL_STORIES


def _explain_missing(settings: GptSettings) -> str:
    advice = "set OPENAI_API_KEY, or run `tasker model install`"
    match settings.provider:
        case "openai":
            return f"TASKER_GPT_PROVIDER is openai, and there is no key: {advice} and unset TASKER_GPT_PROVIDER"
        case "local":
            return f"TASKER_GPT_PROVIDER is local, and the local model is not installed: {advice}"
    return f"there is no key and no local model: {advice}"
