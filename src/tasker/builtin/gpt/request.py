"""A request to a model, and the server that gets it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from urllib.parse import urlsplit

from tasker.builtin.gpt.messages import Message
from tasker.builtin.gpt.shape import Shape
from tasker.config.prices import ModelPrice

OPENAI_URL = "https://api.openai.com/v1"


@dataclass(frozen=True, kw_only=True)
class Server:
    """A server. `provider`: its name in a task's usage; `speaker`: in messages. `timeout`: its longest silence.

    prices: those of the settings, by model; the price table adds others.
    """

    provider: str
    speaker: str
    url: str
    key: str
    timeout: timedelta
    is_local: bool = False
    prices: Mapping[str, ModelPrice] = field(default_factory=dict)

    def __repr__(self) -> str:
        return f"Server({self.provider!r}, {self.speaker!r})"  # keeps the key out of logs


@dataclass(frozen=True, kw_only=True)
class Request:
    """A request. max_tokens: limit of the text; None for the model's own limit."""

    messages: tuple[Message, ...]
    model: str
    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    stop: str | list[str] | None = None
    seed: int | None = None
    system: str | None = None
    shape: Shape | None = None

    @property
    def needs_chat(self) -> bool:
        """Whether it has parameters that only Chat Completions takes."""
        return self.stop is not None or self.seed is not None


def openai_server(url: str | None, key: str, timeout: timedelta, prices: Mapping[str, ModelPrice]) -> Server:
    """Return OpenAI's server, or the compatible one at `url`."""
    speaker = f"the server at {urlsplit(url).hostname}" if url else "OpenAI"
    return Server(provider="openai", speaker=speaker, url=url or OPENAI_URL, key=key, timeout=timeout, prices=prices)
