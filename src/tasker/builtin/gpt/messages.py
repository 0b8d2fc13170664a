"""The messages of a conversation with a model, and their form in each of OpenAI's protocols."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

Role = Literal["system", "developer", "user", "assistant"]
BYTES_PER_TOKEN = 4
"""A rough average of most languages, for servers that do not count tokens."""
_TOKENS_PER_MESSAGE = 4
"""Tokens that a model reads for each message besides its text."""


class TextPart(Struct, frozen=True, tag_field="type", tag="text", forbid_unknown_fields=True):
    """A piece of a message's text."""

    text: Annotated[str, Meta(min_length=1)]


class Message(Struct, frozen=True, forbid_unknown_fields=True):
    """A message from the user, from the model (`assistant`), or with instructions for it (`system`, `developer`)."""

    role: Role
    content: Annotated[str, Meta(min_length=1)] | Annotated[list[TextPart], Meta(min_length=1)]

    @property
    def text(self) -> str:
        """Its whole text."""
        return self.content if isinstance(self.content, str) else "\n".join(part.text for part in self.content)


def for_responses(messages: tuple[Message, ...]) -> Any:
    """Return the messages as `input` of the Responses API."""
    [first, *more] = messages
    if not more and first.role == "user" and isinstance(first.content, str):
        return first.content
    return [{"role": message.role, "content": _response_content(message)} for message in messages]


def _response_content(message: Message) -> Any:
    if isinstance(message.content, str):
        return message.content
    kind = "output_text" if message.role == "assistant" else "input_text"
    return [{"type": kind, "text": part.text} for part in message.content]


def for_chat(messages: tuple[Message, ...], system: str | None) -> list[Any]:
    """Return the messages as those of Chat Completions, with the roles that older servers know."""
    first = [] if system is None else [{"role": "system", "content": system}]
    return first + [
        {"role": "system" if message.role == "developer" else message.role, "content": _chat_content(message)}
        for message in messages
    ]


def _chat_content(message: Message) -> Any:
    if isinstance(message.content, str):
        return message.content
    return [{"type": "text", "text": part.text} for part in message.content]


def guess_tokens(messages: tuple[Message, ...], system: str | None) -> int:
    """Return about how many tokens a model reads for these messages."""
    texts = [message.text for message in messages] + ([] if system is None else [system])
    return sum(_TOKENS_PER_MESSAGE + -(-len(text.encode("utf-8", "replace")) // BYTES_PER_TOKEN) for text in texts)
