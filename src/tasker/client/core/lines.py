"""The lines of a stream, which comes in pieces."""

from __future__ import annotations


class Lines:
    """Puts pieces together. A line ends with a line feed only: JSON may hold all that Unicode calls a line break."""

    def __init__(self) -> None:
        self._begun: list[bytes] = []

    def add(self, piece: bytes) -> list[bytes]:
        """Return the lines that this piece completes, without their ends."""
        *whole, rest = piece.split(b"\n")
        if whole:
            whole[0] = b"".join((*self._begun, whole[0]))
            self._begun = []
        if rest:
            self._begun.append(rest)
        return [line.removesuffix(b"\r") for line in whole]
