"""What is asked of a model, and of which server."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from urllib.parse import urlsplit

from tasker.builtin.gpt_messages import Message
from tasker.builtin.gpt_schema import Shape

OPENAI_URL = "https://api.openai.com/v1"


@dataclass(frozen=True, kw_only=True)
class Server:
    """Where to ask. `provider` is its name in a task's usage, `speaker` in sentences; `timeout` its longest silence."""

    provider: str
    speaker: str
    url: str
    key: str
    timeout: timedelta
    is_local: bool = False

    def __repr__(self) -> str:
        return f"Server({self.provider!r}, {self.speaker!r})"  # the key stays out of every log


@dataclass(frozen=True, kw_only=True)
class Request:
    """What is asked of the model."""

    messages: tuple[Message, ...]
    model: str
    max_tokens: int
    temperature: float | None = None
    system: str | None = None
    shape: Shape | None = None


def openai_server(url: str | None, key: str, timeout: timedelta) -> Server:
    """Return OpenAI, or the compatible server at `url`."""
    speaker = f"the server at {urlsplit(url).hostname}" if url else "OpenAI"
    return Server(provider="openai", speaker=speaker, url=url or OPENAI_URL, key=key, timeout=timeout)
