"""What a file holds, item by item, in bounded memory: lines of JSON, elements of an array, records of CSV."""

from __future__ import annotations

import codecs
import csv
import itertools
import json
import re
from collections.abc import Iterator
from typing import BinaryIO, Literal, NamedTuple

from tasker.cli.params import UsageError

Format = Literal["jsonl", "json", "csv", "tsv"]
FORMATS: dict[str, Format] = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "json",
    ".csv": "csv",
    ".tsv": "tsv",
}
"""Formats by the ends of names."""
_PIECE = 1 << 20
"""Bytes of an array that are read at a time."""
_AFTER_VALUE = " \t\r\n,]"
_LONGEST_VALUE = 64 << 20
"""Characters of an element, bytes of a line: more than a service takes as a submission."""
_LONGEST_CELL = 16 << 20
"""Characters of a cell."""
_DECODER = json.JSONDecoder(parse_int=str)  # it only finds where a value ends, and no number is too long for that


class Item(NamedTuple):
    """Something that a file holds, JSON text or the cells of a record.

    line: the line where it begins, or the number of the element of an array; from 1. content: empty of a line that is
    too long.
    """

    line: int
    content: bytes | list[str]


def find_format(name: str, given: Format | None) -> Format:
    """Return the format that is given, else that of the name's end, else lines of JSON."""
    suffix = re.search(r"\.[a-z]+$", name.lower())
    return given or FORMATS.get(suffix[0] if suffix else "", "jsonl")


def read_items(file: BinaryIO, format: Format) -> Iterator[Item]:
    """Yield what the file holds; the first item of CSV is its header. Raises UsageError where it cannot go on."""
    match format:
        case "jsonl":
            return _read_lines(file)
        case "json":
            return _read_array(file)
        case _:
            return _read_records(file, "\t" if format == "tsv" else ",")


def _read_lines(file: BinaryIO) -> Iterator[Item]:
    for number in itertools.count(1):
        line = file.readline(_LONGEST_VALUE)
        if not line:
            return
        is_cut = len(line) == _LONGEST_VALUE and line[-1:] != b"\n"
        text = line.removeprefix(b"\xef\xbb\xbf").strip() if number == 1 else line.strip()
        if is_cut or text:
            yield Item(number, b"" if is_cut else text)
        while is_cut and (rest := file.readline(_PIECE)):
            is_cut = rest[-1:] != b"\n"


def _read_records(file: BinaryIO, delimiter: str) -> Iterator[Item]:
    csv.field_size_limit(_LONGEST_CELL)
    reader = csv.reader(codecs.iterdecode(file, "utf-8-sig"), delimiter=delimiter, strict=True)
    line = 1
    try:
        for record in reader:
            if record:
                yield Item(line, record)
            line = reader.line_num + 1
    except csv.Error as error:
        raise UsageError(f"line {line}: expected CSV, got: {error}") from None
    except UnicodeDecodeError as error:
        raise UsageError(f"line {line} or after: expected text in UTF-8: {error}") from None


def _read_array(file: BinaryIO) -> Iterator[Item]:
    """Yield the elements of a JSON array, numbered from 1, as the file writes them."""
    text = _Text(file)
    text.take("[", "a JSON array; for a JSON value on each line use --format jsonl")
    number = 0
    while text.next_character() != "]":
        if number:
            text.take(",", f", or ] after element {number}")
        number += 1
        yield Item(number, text.take_value(f"JSON as element {number}").encode())
    text.take("]", "]")
    text.take("", "nothing after the array")


class _Text:
    """The text of a file, of which only the part that is needed is in memory."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._utf8 = codecs.getincrementaldecoder("utf-8-sig")()
        self._text, self._at, self._has_ended = "", 0, False

    def next_character(self) -> str:
        """Return the next character that is no space, "" at the end."""
        while True:
            while self._text[self._at : self._at + 1].isspace():
                self._at += 1
            if self._at < len(self._text) or not self._read(_PIECE):
                return self._text[self._at : self._at + 1]

    def take(self, character: str, what: str) -> None:
        """Go on after this character. what: says what was expected. Raises UsageError."""
        found = self.next_character()
        if found != character:
            raise UsageError(f"expected {what}, got {found!r}" if found else f"expected {what}, but the file has ended")
        self._at += 1

    def take_value(self, what: str) -> str:
        """Go on after the next value, and return its text. Raises UsageError."""
        self.next_character()
        size = _PIECE
        while True:
            try:
                _, end = _DECODER.raw_decode(self._text, self._at)
            except json.JSONDecodeError as error:
                if len(self._text) - self._at > _LONGEST_VALUE or not self._read(size):
                    raise UsageError(f"expected {what}: {error.msg}") from None
            except RecursionError:
                raise UsageError(f"expected {what} with fewer levels") from None
            else:
                is_whole = self._text[end : end + 1] in _AFTER_VALUE and end < len(self._text)  # a number may go on
                if is_whole or not self._read(size):
                    text, self._at = self._text[self._at : end], end
                    return text
            size *= 2  # a long value is decoded a few times, not once for each piece

    def _read(self, size: int) -> bool:
        """Read on; return whether there is more. Raises UsageError."""
        if self._has_ended:
            return False
        piece = self._file.read(size)
        self._has_ended = not piece
        try:
            self._text = self._text[self._at :] + self._utf8.decode(piece, final=self._has_ended)
        except UnicodeDecodeError as error:
            raise UsageError(f"expected text in UTF-8: {error.reason}") from None
        self._at = 0
        return not self._has_ended
