"""Which failures belong together: a fingerprint of the owner, the task type, the exception and the message."""

from __future__ import annotations

import re
from hashlib import blake2b

from tasker.model import TaskProblem
from tasker.model.failures import Fingerprint

_READ = 1000
"""Characters of a message that are read."""
_KEPT = 200
"""Characters of a message without its changing parts that are kept, and count."""
_QUOTED = re.compile(
    r"""(?<!\w)'[^'\n]*(?:'(?!\w)|\Z)"""  # an apostrophe inside a word is no quote; a last quote may be cut off
    r"""|"[^"\n]*(?:"|\Z)|`[^`\n]*(?:`|\Z)|\u201c[^\u201d\n]*(?:\u201d|\Z)|\u00ab[^\u00bb\n]*(?:\u00bb|\Z)"""
)
_NUMBER = re.compile(
    r"\b[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}\b"
    r"|0x[0-9a-f]+|\b(?=[a-f]*[0-9])[0-9a-f]{4,}\b|\b[0-9a-f]{8,}\b|\d+(?:[.,:]\d+)*",
    re.IGNORECASE,
)
_BLANKS = re.compile(r"\s+")


def fingerprint(owner: str, type_: str, error: TaskProblem) -> Fingerprint:
    """Return the fingerprint of a failure. Its id is stored: a change of it begins new groups."""
    exception = "" if error.exception is None else error.exception.class_
    said = error.detail if error.exception is None else error.exception.message
    message = common_part(said)
    digest = blake2b("\0".join((owner, type_, error.type, exception, message)).encode(errors="replace"), digest_size=8)
    return Fingerprint(digest.hexdigest(), error.type, exception, message)


def common_part(message: str) -> str:
    """Return a message without numbers, hex and quoted parts, and so without what differs from task to task."""
    text = _NUMBER.sub("#", _QUOTED.sub("\u2026", message[:_READ]))
    return _BLANKS.sub(" ", text).strip()[:_KEPT]
