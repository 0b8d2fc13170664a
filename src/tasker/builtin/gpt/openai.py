"""One server that speaks OpenAI's protocol: OpenAI's own, a compatible one, or the local model's sidecar.

It streams text by the Responses API. Servers without that API, and requests with `stop` or `seed`, which it lacks, use
Chat Completions. Nothing is retried here: a failed attempt says how it failed, and the task's retry policy decides.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, cast

import structlog

from tasker.builtin.gpt import cost as gpt_cost
from tasker.builtin.gpt.errors import Refusal, explain, read_refusal, read_retry_after, redact, truncated, unreachable
from tasker.builtin.gpt.per_loop import PerLoop
from tasker.builtin.gpt.reply import Reply
from tasker.builtin.gpt.request import OPENAI_URL, Request, Server
from tasker.builtin.gpt.streams import stream_chat, stream_response
from tasker.clock import Clock
from tasker.errors import Fail
from tasker.tasktypes.context import Context

if TYPE_CHECKING:  # the import takes half a second: it happens at the first use, in a thread
    from openai import APIError, AsyncOpenAI

CONNECT_TIMEOUT = timedelta(seconds=10)
CHECK_TIMEOUT = timedelta(seconds=5)

_MAX_UNPRICED = 1000
"""Models without a price that are logged; clients choose the names."""
_NO_RESPONSES = {HTTPStatus.NOT_FOUND, HTTPStatus.METHOD_NOT_ALLOWED, HTTPStatus.NOT_IMPLEMENTED}
_log = structlog.get_logger(__name__)


class OpenAiWriter:
    """Asks one server for texts, over one connection pool for each event loop.

    has_budgets: whether any budget depends on the cost of texts.
    """

    def __init__(self, server: Server, clock: Clock, has_budgets: Callable[[], bool] = lambda: True) -> None:
        self.server = server
        self._clock = clock
        self._has_budgets = has_budgets
        self._unpriced: set[str] = set()
        self._client: PerLoop[AsyncOpenAI] = PerLoop()
        self._opening: PerLoop[asyncio.Lock] = PerLoop()
        # The local server's Responses API ignores the schema.
        self._has_responses = not server.is_local

    async def write(self, request: Request, context: Context) -> str:
        """Stream a text to `context.output` and return all of it. Raises Fail, never the library's errors."""
        client = await self._open()
        from openai import OpenAIError

        failure: Fail | None = None
        reply = Reply(context, self.server, request, self._clock)
        try:
            await self._stream(client, request, reply)
        # ValueError: the stream is not OpenAI's, or the URL is invalid. RecursionError: JSON nested too deeply.
        except (OpenAIError, ValueError, RecursionError) as error:
            failure = self._explain(error, reply)
        finally:
            reply.close()
            if reply.has_unknown_price and self._has_budgets():
                self._warn_of_price(request.model, context)
        if failure is None or reply.end is not None:  # the text is whole
            return reply.finish()
        # Raised outside the `except`: the library's error may quote the key, and must not become the context.
        raise failure

    def _warn_of_price(self, model: str, context: Context) -> None:
        """Warn that budgets do not count this cost: in the task's log, and once for each model in the service's."""
        why = f"{self.server.speaker} has no known price for it: budgets count nothing; set TASKER_GPT_PRICES"
        context.log(f"{model}: {why}", level="warning", model=model)
        if model not in self._unpriced and len(self._unpriced) < _MAX_UNPRICED:
            self._unpriced.add(model)
            _log.warning("gpt.model_without_price", model=model, detail=why)

    async def is_alive(self) -> bool:
        """Return whether the server answers within CHECK_TIMEOUT."""
        client = await self._open()
        from openai import OpenAIError

        try:
            await client.with_options(timeout=CHECK_TIMEOUT.total_seconds()).models.list()
        except OpenAIError:
            return False
        return True

    async def aclose(self) -> None:
        """Close the running loop's connections."""
        client = self._client.find()
        if client is not None:
            await client.close()

    async def _open(self) -> AsyncOpenAI:
        client = self._client.find()
        if client is not None:
            return client
        async with self._opening.get(asyncio.Lock):
            return self._client.find() or self._client.put(await asyncio.to_thread(self._make_client))

    def _make_client(self) -> AsyncOpenAI:
        import httpx2
        from openai import DefaultAsyncHttpxClient

        from tasker.builtin.gpt.events import EventClient

        seconds = connect = self.server.timeout.total_seconds()
        http_client = None
        if self.server.is_local:
            # No proxy of the environment, and no connection that the sidecar may be about to close: a new one is cheap.
            limits = httpx2.Limits(max_keepalive_connections=0)
            http_client = DefaultAsyncHttpxClient(trust_env=False, limits=limits)
        else:
            connect = min(seconds, CONNECT_TIMEOUT.total_seconds())
            gpt_cost.warm_up()
        client = EventClient(
            api_key=self.server.key,
            base_url=self.server.url,
            max_retries=0,
            timeout=httpx2.Timeout(seconds, connect=connect),
            http_client=http_client,
        )
        _ = client.chat.completions, client.models  # imports more: here in the thread, not on the loop
        warm_up()
        return client

    async def _stream(self, client: AsyncOpenAI, request: Request, reply: Reply) -> None:
        from openai import APIStatusError

        is_openai = self.server.url == OPENAI_URL
        if request.needs_chat or not self._has_responses:
            return await stream_chat(client, request, reply, is_openai=is_openai)
        try:
            return await stream_response(client, request, reply)
        except APIStatusError as error:
            if is_openai or error.status_code not in _NO_RESPONSES:
                raise
        await stream_chat(client, request, reply, is_openai=is_openai)
        self._has_responses = False  # only now that Chat Completions worked: a 404 may also mean the model
        return None

    def _explain(self, error: Exception, reply: Reply) -> Fail:
        from openai import APIConnectionError, APIError, APIStatusError, APITimeoutError

        speaker = self.server.speaker
        silence = f"was silent for {self.server.timeout.total_seconds():g} s"
        match error:
            case APITimeoutError() if reply.has_begun:
                return truncated(speaker, f"{silence} in the middle of the text (TASKER_GPT_TIMEOUT allows more)")
            case APITimeoutError():
                return unreachable(speaker, silence)
            case APIConnectionError() if reply.has_begun:
                return truncated(speaker, "broke off in the middle of the text")
            case APIConnectionError():
                return unreachable(speaker, "could not be reached")
            case APIStatusError():
                after = read_retry_after(error.response.headers, self._clock.now())
                return self._refused(error, error.status_code, after)
            case APIError():
                return self._refused(error, None, None)
        return truncated(speaker, "answered with something that is not OpenAI's protocol")

    def _refused(self, error: APIError, status: int | None, after: timedelta | None) -> Fail:
        message, codes = read_refusal(error.body or error.message)
        text = redact(message, self.server.key)
        return explain(Refusal(self.server.speaker, text, status or _status_among(codes), codes, after))


_SAMPLE = b"".join(
    b"data: %b\n\n" % event
    for event in (
        b'{"type":"response.output_text.delta","item_id":"i","output_index":0,"content_index":0,"delta":"a"}',
        b'{"type":"response.completed","response":{"id":"r","status":"completed","output":[{"type":"message","id":"i",'
        b'"role":"assistant","content":[{"type":"output_text","text":"a","annotations":[]}]}],'
        b'"usage":{"input_tokens":1,"output_tokens":1,"total_tokens":2}}}',
    )
)


def warm_up() -> None:
    """Import the library and read a sample stream: each takes half a second the first time.

    At its first stream the library builds its decoders. Blocks: call it in a thread.
    """
    import httpx2
    from openai import OpenAI, Stream
    from openai.types.responses import ResponseStreamEvent

    reply = httpx2.Response(200, content=_SAMPLE, request=httpx2.Request("POST", OPENAI_URL))
    with OpenAI(api_key="none", base_url=OPENAI_URL) as reader:
        for _ in Stream[ResponseStreamEvent](cast_to=cast(Any, ResponseStreamEvent), response=reply, client=reader):
            pass


def _status_among(codes: frozenset[str]) -> int | None:
    """Return the HTTP status among an error's codes, or None: an error inside a stream has no other status."""
    return next((int(code) for code in codes if len(code) == 3 and code.isdecimal() and 400 <= int(code) < 600), None)
