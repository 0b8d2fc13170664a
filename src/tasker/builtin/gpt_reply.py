"""The text of a model as it comes: passed on to the task's output, counted into its usage, and judged at its end."""

from __future__ import annotations

from collections.abc import Mapping

from tasker.builtin.gpt_cost import price
from tasker.builtin.gpt_errors import redact, truncated
from tasker.builtin.gpt_messages import guess_tokens
from tasker.builtin.gpt_request import Request, Server
from tasker.clock import Clock
from tasker.context import Context
from tasker.errors import Fail

_COUNT_EVERY = 50
"""Pieces of text after which what they have cost is estimated anew: so much is lost when the service is killed."""


class Reply:
    """The text as it comes: passed on to the task's output, counted into its usage."""

    def __init__(self, context: Context, server: Server, request: Request, clock: Clock) -> None:
        self._context = context
        self._server = server
        self._request = request
        self._speaker = server.speaker
        self._clock = clock
        self._asked_at = clock.monotonic()
        self._pieces: list[str] = []
        self._refusals: list[str] = []
        self._content_type = ""
        self._is_counted = False
        self.has_begun = False
        self.end: str | None = None
        context.usage(provider=server.provider, model=request.model)

    def begin(self, headers: Mapping[str, str]) -> None:
        """Note that the server has taken the request."""
        self.has_begun = True
        self._content_type = headers.get("content-type", "")

    def write(self, chunk: str | None) -> None:
        if not chunk:
            return
        if not self._pieces:
            self._context.usage(time_to_first_token=round(self._clock.monotonic() - self._asked_at, 4))
        self._pieces.append(chunk)
        self._context.output(chunk)
        if len(self._pieces) % _COUNT_EVERY == 1:
            self.estimate()

    def refuse(self, chunk: str | None) -> None:
        """Note that the model itself declines to answer."""
        if chunk:
            self._refusals.append(str(chunk))  # the library hands out whatever a server sends

    def count(self, input_tokens: object, output_tokens: object, cached_tokens: object) -> None:
        """Report the tokens at once: a failing attempt is billed too."""
        if isinstance(input_tokens, int) and isinstance(output_tokens, int):
            self._is_counted = True
            cached = cached_tokens if isinstance(cached_tokens, int) else 0
            self._spend(max(input_tokens, 0), max(output_tokens, 0), max(cached, 0), estimated=False)

    def estimate(self) -> None:
        """Report about what the text has cost so far, where the server has not said it: it does so only at the end.

        Most servers send a piece for each token.
        """
        if not self._is_counted and (self._pieces or self._refusals):
            read = guess_tokens(self._request.messages, self._request.system)
            self._spend(read, len(self._pieces) + len(self._refusals), 0, estimated=True)

    def _spend(self, input_tokens: int, output_tokens: int, cached_tokens: int, *, estimated: bool) -> None:
        tokens = {"input_tokens": input_tokens, "output_tokens": output_tokens, "cached_tokens": cached_tokens}
        cost = 0.0 if self._server.is_local else price(self._server.url, self._request.model, **tokens)
        self._context.usage(**tokens, cost=cost, estimated=estimated)

    @property
    def has_text(self) -> bool:
        return bool(self._pieces)

    def finish(self) -> str:
        """Return the whole text; raises Fail if it is not what was asked for. A text cut at `max_tokens` is."""
        if self._refusals:
            words = redact("".join(self._refusals), self._server.key)
            raise Fail(f"{self._speaker} declined: {words}", problem="gpt-refused")
        if self.end is None:
            raise self._broken_off()
        if self.end == "content_filter":
            raise Fail(f"the content filter of {self._speaker} stopped the text", problem="gpt-content-filter")
        if self.end == "length" and not self._pieces:
            raise truncated(self._speaker, "used up max_tokens before its first word: ask for more")
        if self.end == "length" and self._request.shape is not None:
            raise truncated(self._speaker, "used up max_tokens before its JSON was whole: ask for more")
        return "".join(self._pieces)

    def _broken_off(self) -> Fail:
        if self._pieces or self._content_type.startswith("text/event-stream"):
            return truncated(self._speaker, "ended the text before its end")
        kind = self._content_type or "nothing"
        detail = f"{self._speaker} answered with {kind} instead of a stream of events: is OPENAI_BASE_URL right?"
        return Fail(detail, problem="gpt-refused")
