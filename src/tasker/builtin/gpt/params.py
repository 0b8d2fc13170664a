"""The params of `gpt`: their types and descriptions, and the check of what types cannot say."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any

from msgspec import Meta

from tasker.builtin.gpt.messages import Message
from tasker.errors import Fault
from tasker.validation.schemas import Schema, check_schema

MAX_TOKENS = 256
MAX_TOKENS_OF_JSON = 2048
"""Defaults of the local model: it is slow, and seldom ends a text by itself."""

Prompt = Annotated[str, Meta(min_length=1, description="What to answer or continue; or give `messages`")]
Messages = Annotated[
    list[Message],
    Meta(min_length=1, description="The conversation so far, instead of a `prompt`; the model continues it"),
]
JsonSchema = Annotated[
    Schema, Meta(description="A JSON Schema (2020-12): the result is JSON that fits it, instead of a text")
]
Model = Annotated[
    str, Meta(min_length=1, max_length=200, description="A model of the provider; unset: the server's choice")
]
MaxTokens = Annotated[
    int,
    Meta(
        ge=1,
        le=100_000,
        description="Longest text, in tokens (about four letters each); unset: the model's own limit, for the local "
        f"model {MAX_TOKENS}, with a `schema` {MAX_TOKENS_OF_JSON:,}",
    ),
]
Temperature = Annotated[float, Meta(ge=0, le=2, description="Randomness, from 0 to 2; unset: the model's own")]
TopP = Annotated[
    float,
    Meta(
        ge=0,
        le=1,
        description="Only the most likely tokens that together have this probability; unset: the model's own",
    ),
]
StopText = Annotated[str, Meta(min_length=1, max_length=500)]
Stop = Annotated[
    StopText | Annotated[list[StopText], Meta(min_length=1, max_length=4)],
    Meta(description="The text ends before any of these, up to 4"),
]
Seed = Annotated[
    int,
    Meta(ge=0, le=2**31 - 1, description="The same seed and params give the same text, as far as the provider can"),
]
System = Annotated[str, Meta(min_length=1, description="Who the model is to be, and how it is to answer")]
Result = Annotated[Any, Meta(description="The text; with a `schema`, the JSON value that fits it")]


def check_params(
    prompt: str | None, messages: list[Message] | None, schema: Schema | None, **_: Any
) -> Iterator[Fault]:
    """Yield the faults of params whose types are right."""
    if prompt is None and messages is None:
        yield Fault("/prompt", "is missing: give `prompt` or `messages`")
    if prompt is not None and messages is not None:
        yield Fault("/messages", "give `prompt` or `messages`, not both")
    if schema is not None:
        for fault in check_schema(schema):
            yield Fault("/schema" + fault.pointer, fault.detail)
