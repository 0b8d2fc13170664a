"""OpenAI's client, with a reader of server-sent events that takes what servers other than OpenAI's send.

Importing it takes half a second: the library comes along.
"""

from __future__ import annotations

from collections.abc import Iterator

from openai import AsyncOpenAI
from openai._streaming import ServerSentEvent, SSEDecoder  # the library has no public way


class EventClient(AsyncOpenAI):
    """The client whose streams have only events with data."""

    def _make_sse_decoder(self) -> SSEDecoder:
        return _Decoder()


class _Decoder(SSEDecoder):
    """Passes over what is no event by the standard: blocks with a name, an id or a `retry` alone.

    Its text is decoded as the standard says: without a byte order mark, and with U+FFFD for what is no UTF-8.
    """

    def _decode_lines(self, lines: Iterator[bytes]) -> Iterator[ServerSentEvent]:
        for line in lines:
            event = self.decode(line.decode("utf-8-sig", "replace"))
            if event is not None and event.data.strip():
                yield event
