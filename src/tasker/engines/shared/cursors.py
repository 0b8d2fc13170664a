"""Opaque cursors with a checksum against mistakes: cursors of lists, and the functions that seal any cursor."""

from __future__ import annotations

import base64
import binascii
import zlib

from tasker.errors import Fault, Invalid

NEWEST = (1 << 63) - 1
"""Above every seq: where the first page starts."""
_SEQ_BYTES, _CHECK_BYTES = 8, 4


def to_cursor(seq: int) -> str:
    """Return the cursor of the page that starts below `seq`."""
    return seal(seq.to_bytes(_SEQ_BYTES, "big"), _CHECK_BYTES)


def from_cursor(cursor: str) -> int:
    """Return the seq of a cursor. Raises Invalid for one that no page gave out."""
    fault = Fault("/cursor", "expected the next_cursor of an earlier page")
    seq = int.from_bytes(unseal(cursor, _SEQ_BYTES, _CHECK_BYTES, fault), "big")
    if seq > NEWEST:
        raise _unknown(fault)
    return seq


def seal(body: bytes, check_bytes: int) -> str:
    """Return `body` with a checksum as text for a URL."""
    return base64.urlsafe_b64encode(body + _check(body, check_bytes)).rstrip(b"=").decode()


def unseal(cursor: str, size: int, check_bytes: int, fault: Fault) -> bytes:
    """Return the body, of `size` bytes, of a cursor that `seal` made. Raises Invalid with `fault` for other text."""
    try:
        data = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        data = b""
    body = data[:size]
    if len(data) != size + check_bytes or data[size:] != _check(body, check_bytes):
        raise _unknown(fault)
    return body


def _check(body: bytes, check_bytes: int) -> bytes:
    return zlib.crc32(body).to_bytes(4, "big")[:check_bytes]


def _unknown(fault: Fault) -> Invalid:
    return Invalid("the cursor is not one that this service gave out", faults=[fault])
