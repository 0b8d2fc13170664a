"""What the engines share: JSON columns to values, and the cursors of lists."""

from __future__ import annotations

import base64
import binascii
import struct
import zlib
from functools import lru_cache

import msgspec

from tasker.errors import Fault, Invalid
from tasker.model import Policy, Progress, TaskProblem

encode = msgspec.json.Encoder().encode
decode_problem = msgspec.json.Decoder(TaskProblem).decode
decode_progress = msgspec.json.Decoder(Progress).decode
decode_policy = lru_cache(maxsize=1000)(msgspec.json.Decoder(Policy).decode)  # tasks of a type share one text


def to_cursor(seq: int) -> str:
    """Return the opaque cursor of the page that starts below `seq`."""
    body = struct.pack(">Q", seq)
    return base64.urlsafe_b64encode(body + zlib.crc32(body).to_bytes(4, "big")).decode()


def from_cursor(cursor: str) -> int:
    """Return the seq of a cursor. Raises Invalid for one that no page gave out."""
    try:
        data = base64.b64decode(cursor, altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        data = b""
    if len(data) != 12 or zlib.crc32(data[:8]).to_bytes(4, "big") != data[8:]:
        fault = Fault("/cursor", "expected the next_cursor of an earlier page")
        raise Invalid("the cursor is not one that this service gave out", faults=[fault])
    return int(struct.unpack(">Q", data[:8])[0])
