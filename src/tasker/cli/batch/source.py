"""The file that a batch is read from, as often as needed."""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO, cast

from tasker.cli.batch.items import Format, find_format, read_items
from tasker.cli.batch.rows import Row, Shape, read_rows
from tasker.cli.params import UsageError

_STANDARD = {"-", "@-"}  # cli/__init__.py turns a lone dash into the latter


class Source:
    """A file of rows."""

    def __init__(self, file: BinaryIO, format: Format, name: str) -> None:
        self._file = file
        self._name = name
        self.format = format
        self._seen = self._look()

    def rows(self, shape: Shape) -> Iterator[Row]:
        """Yield the rows from the first one on. Raises UsageError."""
        self._file.seek(0)
        try:
            yield from read_rows(self._file, self.format, shape)
        except UsageError as error:
            raise UsageError(f"{self._name}: {error}") from None
        if self._look() != self._seen:
            raise UsageError(f"{self._name}: it has changed while it was read")

    def count(self) -> int:
        """Return the number of rows. Raises UsageError if the file is not well-formed."""
        self._file.seek(0)
        try:
            items = sum(1 for _ in read_items(self._file, self.format))
        except UsageError as error:
            raise UsageError(f"{self._name}: {error}") from None
        return max(items - 1, 0) if self.format in {"csv", "tsv"} else items

    def digest(self) -> str:
        """Return the SHA-256 of the file."""
        self._file.seek(0)
        return hashlib.file_digest(cast(io.BufferedReader, self._file), "sha256").hexdigest()

    def _look(self) -> tuple[int, int]:
        found = os.fstat(self._file.fileno())
        return found.st_size, found.st_mtime_ns


@contextmanager
def opened(name: str, format: Format | None) -> Iterator[Source]:
    """Open a file of rows, or standard input, which is copied to a file without a name. Raises UsageError."""
    is_standard = name in _STANDARD
    told = "standard input" if is_standard else name
    try:
        file = cast(BinaryIO, sys.stdin.buffer if is_standard else open(name, "rb"))  # noqa: SIM115  closed below
    except OSError as error:
        raise UsageError(f"{told}: {error.strerror}") from None
    try:
        with _as_often_as_needed(file) as again:
            yield Source(again, find_format(name, format), told)
    except OSError as error:
        raise UsageError(f"{told}: {error.strerror}") from None
    finally:
        if not is_standard:
            file.close()


@contextmanager
def _as_often_as_needed(file: BinaryIO) -> Iterator[BinaryIO]:
    """Yield the file, or a copy of a pipe."""
    if file.seekable() and file.fileno() != 0:
        yield file
        return
    with tempfile.TemporaryFile() as copy:
        shutil.copyfileobj(file, copy)
        copy.flush()
        yield cast(BinaryIO, copy)
