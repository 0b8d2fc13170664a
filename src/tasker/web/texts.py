"""Texts of tasks, made safe to look at: what they say stays, what would act or mislead is shown by its name.

Escaping is the templates' work; these functions return plain text.
"""

from __future__ import annotations

import contextlib
import re
import unicodedata
from typing import NamedTuple

import msgspec

SHOWN = 64 * 1024
"""Characters of a text that a page shows; the rest is an attachment."""

_ESCAPES = re.compile(
    r"\x1b\[[0-?]*[ -/]*[@-~]"  # CSI: colours, movements of the cursor
    r"|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)"  # OSC: titles, links
    r"|\x1b[PX^_][^\x1b]*\x1b\\"  # DCS, SOS, PM, APC
    r"|\x1b[ -/]*[0-~]"  # any other
)
_C0 = (
    *("NUL", "SOH", "STX", "ETX", "EOT", "ENQ", "ACK", "BEL", "BS", "HT", "LF", "VT", "FF", "CR", "SO", "SI"),
    *("DLE", "DC1", "DC2", "DC3", "DC4", "NAK", "SYN", "ETB", "CAN", "EM", "SUB", "ESC", "FS", "GS", "RS", "US"),
)
_NAMED = {
    0x7F: "DEL",
    0x061C: "ALM",
    0x200B: "ZWSP",
    0x200E: "LRM",
    0x200F: "RLM",
    0x202A: "LRE",
    0x202B: "RLE",
    0x202C: "PDF",
    0x202D: "LRO",
    0x202E: "RLO",
    0x2066: "LRI",
    0x2067: "RLI",
    0x2068: "FSI",
    0x2069: "PDI",
    0xFEFF: "BOM",
}
_KEPT = frozenset("\n\t\u200c\u200d")
"""Line breaks, tabs, and the joiners that scripts and emoji are written with."""
_ODD = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    "\U000e0000-\U000e007f\ud800-\udfff]"
)
_BLANKS = re.compile(r"\s+")


class Shown(NamedTuple):
    """The beginning of a text, and how many characters are left out."""

    text: str
    left_out: int


def plain(text: str) -> str:
    """Return a text of several lines: ANSI escapes dropped, control and bidi characters shown as their names."""
    if "\x1b" in text:
        text = _ESCAPES.sub("", text)
    if "\r" in text:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    return _ODD.sub(_name, text)


def line(text: str, most: int = 300) -> str:
    """Return a text as one line of at most `most` characters; line breaks and runs of blanks become one blank."""
    is_cut = len(text) > 4 * most
    text = _ESCAPES.sub("", _BLANKS.sub(" ", text[: 4 * most]).strip())
    text = _ODD.sub(_name, text[: most + 1])  # a name is no shorter than what it stands for
    return text[:most] + "…" if is_cut or len(text) > most else text


def json_line(raw: bytes | bytearray | memoryview | None, most: int = 300) -> str:
    """Return JSON text as one line of at most `most` characters; None gives ""."""
    if raw is None:
        return ""
    return line(bytes(memoryview(raw)[: 8 * most]).decode("utf-8", "replace"), most)


def shown(text: str, most: int = SHOWN) -> Shown:
    """Return the beginning of a text of several lines."""
    return Shown(plain(text[:most]), max(0, len(text) - most))


def pretty_json(raw: bytes | bytearray | memoryview | None, most: int = SHOWN) -> Shown:
    """Return JSON text indented, with every number as it was written; text that is no JSON as it is."""
    if raw is None:
        return Shown("", 0)
    text = bytes(raw)
    if len(text) <= 4 * most:
        with contextlib.suppress(msgspec.DecodeError):
            text = msgspec.json.format(text, indent=2)
    return shown(text.decode("utf-8", "replace"), most)


def _name(found: re.Match[str]) -> str:
    character = found[0]
    if character in _KEPT:
        return character
    code = ord(character)
    name = _C0[code] if code < len(_C0) else _NAMED.get(code) or _long_name(character)
    return f"⟨{name}⟩"


def _long_name(character: str) -> str:
    """Return the Unicode name of a character, or its number."""
    return unicodedata.name(character, f"U+{ord(character):04X}")
