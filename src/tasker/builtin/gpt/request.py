"""What is asked of a model, and of which server."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from urllib.parse import urlsplit

from tasker.builtin.gpt.messages import Message
from tasker.builtin.gpt.schema import Shape
from tasker.config.prices import ModelPrice

OPENAI_URL = "https://api.openai.com/v1"


@dataclass(frozen=True, kw_only=True)
class Server:
    """Where to ask. `provider` is its name in a task's usage, `speaker` in sentences; `timeout` its longest silence.

    prices: what its models cost by the settings; the price table knows some others.
    """

    provider: str
    speaker: str
    url: str
    key: str
    timeout: timedelta
    is_local: bool = False
    prices: Mapping[str, ModelPrice] = field(default_factory=dict)

    def __repr__(self) -> str:
        return f"Server({self.provider!r}, {self.speaker!r})"  # the key stays out of every log


@dataclass(frozen=True, kw_only=True)
class Request:
    """What is asked of the model. max_tokens: of the text; None for the longest that the model writes."""

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
        """Tell whether it asks for what only Chat Completions take."""
        return self.stop is not None or self.seed is not None


def openai_server(url: str | None, key: str, timeout: timedelta, prices: Mapping[str, ModelPrice]) -> Server:
    """Return OpenAI, or the compatible server at `url`."""
    speaker = f"the server at {urlsplit(url).hostname}" if url else "OpenAI"
    return Server(provider="openai", speaker=speaker, url=url or OPENAI_URL, key=key, timeout=timeout, prices=prices)
