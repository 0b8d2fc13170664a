"""One server that speaks OpenAI's protocol: OpenAI's own, a compatible one, or the local model's sidecar.

Text is streamed by the Responses API. Servers that lack it, and requests with `stop` or `seed`, which it does not take,
use Chat Completions. Nothing is retried here: an attempt that fails says how, and the task's own retries are the only
ones.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

import structlog

from tasker.builtin.gpt import cost as gpt_cost
from tasker.builtin.gpt.errors import Refusal, explain, read_refusal, read_retry_after, redact, truncated, unreachable
from tasker.builtin.gpt.messages import for_chat, for_responses
from tasker.builtin.gpt.reply import Reply
from tasker.builtin.gpt.request import OPENAI_URL, Request, Server
from tasker.builtin.gpt.schema import Shape
from tasker.clock import Clock
from tasker.errors import Fail
from tasker.tasktypes.context import Context

if TYPE_CHECKING:  # importing it takes half a second: done at the first use, in a thread
    from openai import APIError, AsyncOpenAI, AsyncStream, Omit
    from openai.types.chat import ChatCompletionChunk
    from openai.types.responses import Response, ResponseStreamEvent, ResponseTextConfigParam
    from openai.types.shared_params import ResponseFormatJSONSchema

CONNECT_TIMEOUT = timedelta(seconds=10)
CHECK_TIMEOUT = timedelta(seconds=5)
TAIL_TIMEOUT = timedelta(seconds=2)
"""How long what follows a finished text is waited for."""

_MAX_UNPRICED = 1000
"""Models without a price that are logged: their names come from clients."""
_NO_RESPONSES = {HTTPStatus.NOT_FOUND, HTTPStatus.METHOD_NOT_ALLOWED, HTTPStatus.NOT_IMPLEMENTED}
T = TypeVar("T")
_log = structlog.get_logger(__name__)
_NAME = "result"
"""What a schema is called."""
Complaint = dict[str, object]
"""An error that came inside a stream, as its JSON object."""


class PerLoop(Generic[T]):
    """A value for the running event loop: asyncio's locks and pools of connections work in one loop only."""

    def __init__(self) -> None:
        self._held: tuple[asyncio.AbstractEventLoop, T] | None = None

    def find(self) -> T | None:
        """Return the running loop's value if there is one."""
        loop = asyncio.get_running_loop()
        return self._held[1] if self._held and self._held[0] is loop else None

    def get(self, make: Callable[[], T]) -> T:
        """Return the running loop's value, made now if there is none."""
        found = self.find()
        return self.put(make()) if found is None else found

    def put(self, value: T) -> T:
        """Make `value` the running loop's, and return it."""
        self._held = (asyncio.get_running_loop(), value)
        return value


class OpenAiWriter:
    """Asks one server for texts, over one pool of connections for each event loop.

    has_budgets: whether anybody counts on knowing what a text costs.
    """

    def __init__(self, server: Server, clock: Clock, has_budgets: Callable[[], bool] = lambda: True) -> None:
        self.server = server
        self._clock = clock
        self._has_budgets = has_budgets
        self._unpriced: set[str] = set()
        self._client: PerLoop[AsyncOpenAI] = PerLoop()
        self._opening: PerLoop[asyncio.Lock] = PerLoop()
        # The local server has a Responses API, which passes over the schema that a text is to fit.
        self._has_responses = not server.is_local

    async def write(self, request: Request, context: Context) -> str:
        """Return the text, having streamed it to `context.output`; raises Fail, never the library's errors."""
        client = await self._open()
        from openai import OpenAIError

        failure: Fail | None = None
        reply = Reply(context, self.server, request, self._clock)
        try:
            await self._stream(client, request, reply)
        # ValueError: a stream that is not OpenAI's, a URL that is none. RecursionError: JSON too deep to be read.
        except (OpenAIError, ValueError, RecursionError) as error:
            failure = self._explain(error, reply)
        finally:
            reply.close()
            if reply.has_unknown_price and self._has_budgets():
                self._warn_of_price(request.model, context)
        if failure is None or reply.end is not None:  # at most what follows the text was lost
            return reply.finish()
        # Raised here, outside the `except`: the library's error may quote the key and must not become the context.
        raise failure

    def _warn_of_price(self, model: str, context: Context) -> None:
        """Say in the task's log, and once for a model in the service's, that a budget does not count its cost."""
        why = f"{self.server.speaker} has no known price for it: budgets count nothing; set TASKER_GPT_PRICES"
        context.log(f"{model}: {why}", level="warning", model=model)
        if model not in self._unpriced and len(self._unpriced) < _MAX_UNPRICED:
            self._unpriced.add(model)
            _log.warning("gpt.model_without_price", model=model, detail=why)

    async def is_alive(self) -> bool:
        """Tell whether the server answers anything soon."""
        client = await self._open()
        from openai import OpenAIError

        try:
            await client.with_options(timeout=CHECK_TIMEOUT.total_seconds()).models.list()
        except OpenAIError:
            return False
        return True

    async def aclose(self) -> None:
        """Close the connections of the running loop."""
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

        seconds = self.server.timeout.total_seconds()
        local = self.server.is_local
        client = EventClient(
            api_key=self.server.key,
            base_url=self.server.url,
            max_retries=0,
            timeout=httpx2.Timeout(
                seconds, connect=seconds if local else min(seconds, CONNECT_TIMEOUT.total_seconds())
            ),
            # The way to the sidecar must not lead through a proxy of the environment, nor over a connection that the
            # sidecar may be about to close: a new one costs nothing here.
            http_client=DefaultAsyncHttpxClient(trust_env=False, limits=httpx2.Limits(max_keepalive_connections=0))
            if local
            else None,
        )
        _ = client.chat.completions, client.models  # more imports: here, and not on the loop
        warm_up()
        if not local:
            gpt_cost.warm_up()
        return client

    async def _stream(self, client: AsyncOpenAI, request: Request, reply: Reply) -> None:
        from openai import APIStatusError

        is_openai = self.server.url == OPENAI_URL
        if request.needs_chat or not self._has_responses:
            return await _stream_chat(client, request, reply, is_openai=is_openai)
        try:
            return await _stream_response(client, request, reply)
        except APIStatusError as error:
            if is_openai or error.status_code not in _NO_RESPONSES:
                raise
        await _stream_chat(client, request, reply, is_openai=is_openai)
        self._has_responses = False  # remembered once the other way has worked: a 404 may also mean the model
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
    """Import the library and read a stream that never left this process; both take half a second, the first time.

    At its first stream the library works out its readers. Done in a thread, so that neither blocks the loop.
    """
    import httpx2
    from openai import OpenAI, Stream
    from openai.types.responses import ResponseStreamEvent

    reply = httpx2.Response(200, content=_SAMPLE, request=httpx2.Request("POST", OPENAI_URL))
    with OpenAI(api_key="none", base_url=OPENAI_URL) as reader:
        for _ in Stream[ResponseStreamEvent](cast_to=cast(Any, ResponseStreamEvent), response=reply, client=reader):
            pass


def _status_among(codes: frozenset[str]) -> int | None:
    """Return the HTTP status among the codes of an error that came inside a stream."""
    return next((int(code) for code in codes if len(code) == 3 and code.isdecimal() and 400 <= int(code) < 600), None)


def _given(value: T | None) -> T | Omit:
    """Return a parameter of a request: one that the task does not give is left out."""
    from openai import omit

    return omit if value is None else value


async def _stream_response(client: AsyncOpenAI, request: Request, reply: Reply) -> None:
    """Stream by the Responses API."""
    from openai import omit

    stream = await client.responses.create(
        model=request.model,
        input=for_responses(request.messages),
        instructions=_given(request.system),
        temperature=_given(request.temperature),
        top_p=_given(request.top_p),
        max_output_tokens=_given(request.max_tokens),
        text=omit if request.shape is None else _response_format(request.shape),
        store=False,
        stream=True,
    )
    await _read(stream, _take_event, reply)


def _take_event(event: ResponseStreamEvent, reply: Reply) -> Complaint | None:
    match event.type:
        case "response.output_text.delta":
            reply.write(event.delta)
        case "response.refusal.delta":
            reply.refuse(event.delta)
        case "response.completed" | "response.incomplete" | "response.failed":
            return _take_response(event.response, reply)
        case "error":
            return {"code": event.code, "message": event.message}
    return None


def _take_response(response: Response, reply: Reply) -> Complaint | None:
    """Take the end of a response: its usage, and why it ended."""
    if response.usage:
        details = response.usage.input_tokens_details  # some servers leave it out
        reply.count(response.usage.input_tokens, response.usage.output_tokens, details and details.cached_tokens)
    if response.status == "failed":
        return response.error.to_dict() if response.error else {}
    if not reply.has_text and response.output:  # some servers send no deltas
        reply.write(response.output_text)
    reason = response.incomplete_details.reason if response.incomplete_details else None
    reply.end_by(reason or "stop")
    return None


def _response_format(shape: Shape) -> ResponseTextConfigParam:
    return {"format": {"type": "json_schema", "name": _NAME, "schema": shape.asked, "strict": shape.strict}}


async def _stream_chat(client: AsyncOpenAI, request: Request, reply: Reply, *, is_openai: bool) -> None:
    """Stream by Chat Completions, with the names of fields that older servers know, and OpenAI's own with its new."""
    from openai import omit

    longest = _given(request.max_tokens)
    stream = await client.chat.completions.create(
        model=request.model,
        messages=for_chat(request.messages, request.system),
        temperature=_given(request.temperature),
        top_p=_given(request.top_p),
        stop=_given(request.stop),
        seed=_given(request.seed),
        max_completion_tokens=longest if is_openai else omit,
        max_tokens=omit if is_openai else longest,
        response_format=omit if request.shape is None else _chat_format(request.shape),
        stream=True,
        stream_options={"include_usage": True},
    )
    await _read(stream, _take_chunk, reply)


def _chat_format(shape: Shape) -> ResponseFormatJSONSchema:
    return {
        "type": "json_schema",
        "json_schema": {"name": _NAME, "schema": shape.asked, "strict": shape.strict},
    }


def _take_chunk(chunk: ChatCompletionChunk, reply: Reply) -> Complaint | None:
    if str(chunk.object) == "error":  # so says vLLM
        return dict(chunk.to_dict())
    if chunk.usage:
        details = chunk.usage.prompt_tokens_details
        reply.count(chunk.usage.prompt_tokens, chunk.usage.completion_tokens, details and details.cached_tokens)
    for choice in chunk.choices or ():
        if choice.delta is not None or not choice.finish_reason:  # some servers leave it out of the last one
            reply.write(choice.delta.content)
            reply.refuse(choice.delta.refusal)
        if choice.finish_reason:
            reply.end_by(choice.finish_reason)
    return None


async def _read(stream: AsyncStream[T], take: Callable[[T, Reply], Complaint | None], reply: Reply) -> None:
    """Hand each event of the stream to `take`; raises APIError for the complaint that it returns.

    What follows the text is read too, for the usage and so that the connection can serve again, but not for long.
    """
    from openai import APIError

    async with stream:
        reply.begin(stream.response.headers)
        with suppress(TimeoutError):
            async with asyncio.timeout(None) as limit:
                while (event := await anext(stream, None)) is not None:
                    complaint = _understood(take, event, reply)
                    if complaint is not None:
                        message = str(complaint.get("message") or "")
                        raise APIError(message, stream.response.request, body=complaint)
                    if reply.end is not None and limit.when() is None:
                        limit.reschedule(asyncio.get_running_loop().time() + TAIL_TIMEOUT.total_seconds())


def _understood(take: Callable[[T, Reply], Complaint | None], event: T, reply: Reply) -> Complaint | None:
    """Return what `take` makes of an event; raises ValueError for one that is not OpenAI's: the library checks none."""
    try:
        return take(event, reply)
    except (AttributeError, TypeError) as error:
        raise ValueError("an event of another kind than OpenAI's") from error
