"""Regular expressions of clients, matched in time proportional to the text."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

_MEMORY = 256 << 10
"""Bytes of a compiled pattern. They bound its steps for each byte of a text."""
_ESCAPES = re.compile(r"\\(?:u([0-9a-fA-F]{4})|c([A-Za-z])|.)", re.DOTALL)


@lru_cache(maxsize=256)
def compile_pattern(pattern: str) -> Any:
    r"""Return a compiled regular expression whose matching time is linear in the text.

    The dialect is RE2's, plus the escapes of ECMA-262 that JSON Schemas use: `\u00e9`, `\cJ`. It has no look-around and
    no back-references; the local model's grammar knows neither. Raises ValueError.
    """
    import re2

    options = re2.Options()
    options.max_mem = _MEMORY
    options.log_errors = False
    try:
        return re2.compile(_ESCAPES.sub(_as_re2, pattern), options)
    except re2.error as error:
        [detail] = error.args
        raise ValueError(detail.decode(errors="replace") if isinstance(detail, bytes) else str(detail)) from None
    except UnicodeEncodeError:
        raise ValueError("it contains a lone surrogate") from None


def _as_re2(found: re.Match[str]) -> str:
    if found[1] is not None:
        return rf"\x{{{found[1]}}}"
    return rf"\x{ord(found[2].upper()) - 64:02x}" if found[2] is not None else found[0]
