"""The two protocols that stream a text: Responses and Chat Completions. Each event goes into a Reply."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from typing import TYPE_CHECKING, TypeVar

from tasker.builtin.gpt.messages import for_chat, for_responses
from tasker.builtin.gpt.reply import Reply
from tasker.builtin.gpt.request import Request
from tasker.builtin.gpt.shape import Shape

if TYPE_CHECKING:  # the import takes half a second: see openai.py
    from openai import AsyncOpenAI, AsyncStream, Omit
    from openai.types.chat import ChatCompletionChunk
    from openai.types.responses import Response, ResponseStreamEvent, ResponseTextConfigParam
    from openai.types.shared_params import ResponseFormatJSONSchema

TAIL_TIMEOUT = timedelta(seconds=2)
"""Time limit for the events that follow a finished text."""

_SCHEMA_NAME = "result"
T = TypeVar("T")
Complaint = dict[str, object]
"""An error that came inside a stream, as its JSON object."""


def _given(value: T | None) -> T | Omit:
    """Return a parameter of a request; one that is None is left out."""
    from openai import omit

    return omit if value is None else value


async def stream_response(client: AsyncOpenAI, request: Request, reply: Reply) -> None:
    """Stream a text by the Responses API into `reply`. Raises what the library raises, and ValueError."""
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
    """Take the end of a response: its usage and why it ended. Return its error, if it has one."""
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
    return {"format": {"type": "json_schema", "name": _SCHEMA_NAME, "schema": shape.asked, "strict": shape.strict}}


async def stream_chat(client: AsyncOpenAI, request: Request, reply: Reply, *, is_openai: bool) -> None:
    """Stream a text by Chat Completions into `reply`. Raises what the library raises, and ValueError.

    is_openai: use OpenAI's new field names; other servers know the old ones.
    """
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
        "json_schema": {"name": _SCHEMA_NAME, "schema": shape.asked, "strict": shape.strict},
    }


def _take_chunk(chunk: ChatCompletionChunk, reply: Reply) -> Complaint | None:
    if str(chunk.object) == "error":  # vLLM reports errors this way
        return dict(chunk.to_dict())
    if chunk.usage:
        details = chunk.usage.prompt_tokens_details
        reply.count(chunk.usage.prompt_tokens, chunk.usage.completion_tokens, details and details.cached_tokens)
    for choice in chunk.choices or ():
        if choice.delta is not None or not choice.finish_reason:  # some servers leave `delta` out of the last one
            reply.write(choice.delta.content)
            reply.refuse(choice.delta.refusal)
        if choice.finish_reason:
            reply.end_by(choice.finish_reason)
    return None


async def _read(stream: AsyncStream[T], take: Callable[[T, Reply], Complaint | None], reply: Reply) -> None:
    """Pass each event of the stream to `take`. Raises APIError for a complaint that it returns.

    Reads on after the end of the text, for TAIL_TIMEOUT: for the usage, and so that the connection can be reused.
    """
    from openai import APIError

    async with stream:
        reply.begin(stream.response.headers)
        with suppress(TimeoutError):
            async with asyncio.timeout(None) as limit:
                while (event := await anext(stream, None)) is not None:
                    complaint = _taken(take, event, reply)
                    if complaint is not None:
                        message = str(complaint.get("message") or "")
                        raise APIError(message, stream.response.request, body=complaint)
                    if reply.end is not None and limit.when() is None:
                        limit.reschedule(asyncio.get_running_loop().time() + TAIL_TIMEOUT.total_seconds())


def _taken(take: Callable[[T, Reply], Complaint | None], event: T, reply: Reply) -> Complaint | None:
    """Return what `take` returns. Raises ValueError for an event of another shape: the library checks none."""
    try:
        return take(event, reply)
    except (AttributeError, TypeError) as error:
        raise ValueError("the event is not one of OpenAI's") from error
