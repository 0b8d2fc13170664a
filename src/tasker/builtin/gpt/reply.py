"""A model's text while it streams: written to the task's output, counted into its usage, judged at its end."""

from __future__ import annotations

from collections.abc import Mapping

from tasker.builtin.gpt.cost import price
from tasker.builtin.gpt.errors import redact, truncated
from tasker.builtin.gpt.messages import BYTES_PER_TOKEN, guess_tokens
from tasker.builtin.gpt.request import Request, Server
from tasker.builtin.gpt.text import Joiner
from tasker.clock import Clock
from tasker.errors import Fail
from tasker.tasktypes.context import Context

_COUNT_EVERY = 50
"""Pieces of text between two estimates of the cost. A killed service loses the cost of at most that many."""
_LENGTH = {"max_output_tokens", "max_tokens", "model_length"}
"""Other providers' names for `length`, the end of a text that reached its limit."""
_MAX_REASON = 50
_BYTES_OF_TOKEN = 8
"""Average bytes of a piece up to which a piece counts as one token: most servers send one for each."""


class Reply:
    """Collects a streamed text, and reports its output and usage to the task."""

    def __init__(self, context: Context, server: Server, request: Request, clock: Clock) -> None:
        self._context = context
        self._server = server
        self._request = request
        self._speaker = server.speaker
        self._clock = clock
        self._asked_at = clock.monotonic()
        self._pieces: list[str] = []
        self._joiner = Joiner()
        self._taken = self._size = 0
        self._refusals: list[str] = []
        self._content_type = ""
        self._is_counted = False
        self.has_begun = False
        self.has_unknown_price = False
        self.end: str | None = None
        context.usage(provider=server.provider, model=request.model, max_tokens=request.max_tokens, finish_reason=None)

    def begin(self, headers: Mapping[str, str]) -> None:
        """Note that the server accepted the request."""
        self.has_begun = True
        self._content_type = headers.get("content-type", "")

    def write(self, chunk: str | None) -> None:
        """Take a piece of the text."""
        if not chunk:
            return
        if not self._taken:
            self._context.usage(time_to_first_token=round(self._clock.monotonic() - self._asked_at, 4))
        self._put(self._joiner.add(chunk))
        self._taken += 1
        self._size += len(chunk.encode("utf-8", "replace"))
        if self._taken % _COUNT_EVERY == 1:
            self._estimate()

    def _put(self, text: str) -> None:
        if text:
            self._pieces.append(text)
            self._context.output(text)

    def refuse(self, chunk: str | None) -> None:
        """Note that the model declines to answer."""
        if chunk:
            self._refusals.append(str(chunk))  # the library passes on whatever a server sends

    def count(self, input_tokens: object, output_tokens: object, cached_tokens: object) -> None:
        """Report the tokens at once: a failed attempt is billed too."""
        if isinstance(input_tokens, int) and isinstance(output_tokens, int):
            self._is_counted = True
            cached = cached_tokens if isinstance(cached_tokens, int) else 0
            self._spend(max(input_tokens, 0), max(output_tokens, 0), max(cached, 0), estimated=False)

    def end_by(self, reason: object) -> None:
        """Note why the text ended, by the names of Chat Completions: stop, length, content_filter..."""
        text = redact(str(reason), self._server.key)[:_MAX_REASON]
        self.end = "length" if text.lower() in _LENGTH else text

    def close(self) -> None:
        """Report the reason of the end and the estimated cost, whether the text is whole or not."""
        self._put(self._joiner.end())
        self._estimate()
        self._context.usage(finish_reason=self.end)
        if self.end == "length":
            most = self._request.max_tokens
            where = "the model's own limit" if most is None else f"max_tokens ({most:,}): give more for a longer text"
            self._context.log(f"the text was cut at {where}", level="warning", finish_reason="length", max_tokens=most)

    def _estimate(self) -> None:
        """Report the estimated cost so far, unless the server counted: it does so only at the end."""
        pieces = self._taken + len(self._refusals)
        if not self._is_counted and pieces:
            are_tokens = self._size <= pieces * _BYTES_OF_TOKEN
            written = pieces if are_tokens else -(-self._size // BYTES_PER_TOKEN)
            read = guess_tokens(self._request.messages, self._request.system)
            self._spend(read, written, 0, estimated=True)

    def _spend(self, input_tokens: int, output_tokens: int, cached_tokens: int, *, estimated: bool) -> None:
        tokens = {"input_tokens": input_tokens, "output_tokens": output_tokens, "cached_tokens": cached_tokens}
        server = self._server
        cost = 0.0 if server.is_local else price(server.url, self._request.model, **tokens, own=server.prices)
        self.has_unknown_price = cost is None
        self._context.usage(**tokens, cost=cost, priced=cost is not None, estimated=estimated)

    @property
    def has_text(self) -> bool:
        return self._taken > 0

    def finish(self) -> str:
        """Return the whole text. Raises Fail if it is incomplete; a plain text cut at `max_tokens` is not."""
        if self._refusals:
            reason = redact("".join(self._refusals), self._server.key)
            raise Fail(f"{self._speaker} declined: {reason}", problem="gpt-refused")
        if self.end is None:
            raise self._broken_off()
        if self.end == "content_filter":
            raise Fail(f"the content filter of {self._speaker} stopped the text", problem="gpt-content-filter")
        if self.end == "length" and (not self._pieces or self._request.shape is not None):
            raise truncated(self._speaker, self._cut_short())
        return "".join(self._pieces)

    def _cut_short(self) -> str:
        what = "its JSON was whole" if self._pieces else "its first word"
        if self._request.max_tokens is None:
            return f"reached the model's own limit before {what}"
        return f"used up max_tokens before {what}: ask for more"

    def _broken_off(self) -> Fail:
        if self._pieces or self._content_type.startswith("text/event-stream"):
            return truncated(self._speaker, "ended the text before its end")
        kind = self._content_type or "nothing"
        detail = f"{self._speaker} answered with {kind} instead of a stream of events: is OPENAI_BASE_URL right?"
        return Fail(detail, problem="gpt-refused")
