"""The text of a model as it comes: passed on to the task's output, counted into its usage, and judged at its end."""

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
"""Pieces of text after which what they have cost is estimated anew: so much is lost when the service is killed."""
_LENGTH = {"max_output_tokens", "max_tokens", "model_length"}
"""Other providers' names for `length`, the end of a text that reached its longest."""
_MAX_REASON = 50
_BYTES_OF_ONE = 8
"""Bytes of a piece, on average, up to which it is taken for one token: most servers send a piece for each."""


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
        """Note that the server has taken the request."""
        self.has_begun = True
        self._content_type = headers.get("content-type", "")

    def write(self, chunk: str | None) -> None:
        """Take a piece of the text, with what was held back of the one before."""
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
        """Note that the model itself declines to answer."""
        if chunk:
            self._refusals.append(str(chunk))  # the library hands out whatever a server sends

    def count(self, input_tokens: object, output_tokens: object, cached_tokens: object) -> None:
        """Report the tokens at once: a failing attempt is billed too."""
        if isinstance(input_tokens, int) and isinstance(output_tokens, int):
            self._is_counted = True
            cached = cached_tokens if isinstance(cached_tokens, int) else 0
            self._spend(max(input_tokens, 0), max(output_tokens, 0), max(cached, 0), estimated=False)

    def end_by(self, reason: object) -> None:
        """Note why the text has ended, in the words of Chat Completions: stop, length, content_filter..."""
        text = redact(str(reason), self._server.key)[:_MAX_REASON]
        self.end = "length" if text.lower() in _LENGTH else text

    def close(self) -> None:
        """Report what is known at the end, however that came: why the text ended, and about what it has cost."""
        self._put(self._joiner.end())
        self._estimate()
        self._context.usage(finish_reason=self.end)
        if self.end == "length":
            most = self._request.max_tokens
            where = "the model's own limit" if most is None else f"max_tokens ({most:,}): give more for a longer text"
            self._context.log(f"the text was cut at {where}", level="warning", finish_reason="length", max_tokens=most)

    def _estimate(self) -> None:
        """Report about what the text has cost so far, where the server has not said it: it does so only at the end."""
        pieces = self._taken + len(self._refusals)
        if not self._is_counted and pieces:
            is_each_one = self._size <= pieces * _BYTES_OF_ONE
            written = pieces if is_each_one else -(-self._size // BYTES_PER_TOKEN)
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
        """Return the whole text; raises Fail if it is not what was asked for. A text cut at `max_tokens` is."""
        if self._refusals:
            words = redact("".join(self._refusals), self._server.key)
            raise Fail(f"{self._speaker} declined: {words}", problem="gpt-refused")
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
