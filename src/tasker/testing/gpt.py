"""The task type `gpt` with texts that a test sets: no model, no network. All else of it is the real one."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import msgspec

from tasker.builtin.gpt.messages import guess_tokens
from tasker.builtin.gpt.reply import Reply
from tasker.builtin.gpt.request import Request, Server
from tasker.builtin.gpt.task import Gpt
from tasker.clock import Clock
from tasker.config.settings import GptSettings
from tasker.errors import Fail
from tasker.tasktypes.context import Context

_SERVER = Server(
    provider="fake", speaker="the fake model", url="http://fake.invalid", key="", timeout=timedelta(0), is_local=True
)
_PIECES = re.compile(r"\s*\S+|\s+$")
"""A text comes word by word: each counts as one token."""

Text = str | Callable[[str], Any] | dict[str, Any] | list[Any]
"""A text, JSON for tasks with a schema, or a function of the prompt that returns one of them."""


class FakeGpt(Gpt):
    """Answers `gpt` tasks with the texts of `reply`. requests: what tasks have asked, the oldest first."""

    def __init__(self, clock: Clock) -> None:
        super().__init__(GptSettings(), clock, has_budgets=lambda: False)
        self._now = clock
        self._texts: deque[Text] = deque()
        self._always: Text | None = None
        self.requests: list[Request] = []

    def reply(self, *texts: Text, always: Text | None = None) -> None:
        """Set what the next requests get, one text each, in this order; `always`: what all others after them get.

        Texts of earlier calls come first. A dict or a list is JSON, for tasks with a `schema`; a function gets the
        prompt (the last message) and returns a text.
        """
        self._texts.extend(texts)
        self._always = self._always if always is None else always

    @property
    def prompts(self) -> list[str]:
        """The last message of each request so far."""
        return [request.messages[-1].text for request in self.requests]

    async def write(self, request: Request, context: Context) -> str:
        self.requests.append(request)
        pieces = _PIECES.findall(self._text_for(request.messages[-1].text))
        reply = Reply(context, _SERVER, request, self._now)
        reply.begin({"content-type": "text/event-stream"})
        for piece in pieces:
            reply.write(piece)
        reply.count(guess_tokens(request.messages, request.system), len(pieces), 0)
        reply.end_by("stop")
        reply.close()
        return reply.finish()

    def _text_for(self, prompt: str) -> str:
        """Return the text that a prompt gets. Raises Fail if none is set."""
        text = self._texts.popleft() if self._texts else self._always
        if text is None:
            detail = (
                f"the test has set no text for the prompt {prompt[:200]!r}: call gpt.reply('...') of the kit before"
            )
            raise Fail(detail, retry=False, problem="gpt-not-configured")
        if callable(text):
            text = text(prompt)
        return text if isinstance(text, str) else msgspec.json.encode(text).decode()
