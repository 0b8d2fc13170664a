"""OpenAI's client with a more tolerant reader of server-sent events, for servers other than OpenAI's.

The import takes half a second: it loads the library.
"""

from __future__ import annotations

from collections.abc import Iterator

from openai import AsyncOpenAI
from openai._streaming import ServerSentEvent, SSEDecoder  # the library has no public API for this


class EventClient(AsyncOpenAI):
    """A client whose streams yield only events with data."""

    def _make_sse_decoder(self) -> SSEDecoder:
        return _Decoder()


class _Decoder(SSEDecoder):
    """Skips what the standard does not call an event: blocks with a name, an id or a `retry` alone.

    Decodes as the standard says: without a byte order mark, and with U+FFFD for invalid UTF-8.
    """

    def _decode_lines(self, lines: Iterator[bytes]) -> Iterator[ServerSentEvent]:
        for line in lines:
            event = self.decode(line.decode("utf-8-sig", "replace"))
            if event is not None and event.data.strip():
                yield event
