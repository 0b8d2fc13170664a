"""News between processes: what one transaction changed, in as few notifications as it fits.

NOTIFY takes a lock of the whole database at commit: one transaction sends one (rarely a few), however many tasks it
touches. A notification is a hint and may be lost; the tables are the truth.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator
from itertools import islice
from typing import NamedTuple
from uuid import UUID

import msgspec

from tasker.engines.shared.journal import Note, pack
from tasker.model import Change, Status

CHANNEL = "tasker"
SETTLED_AT_ONCE = 500
"""Dependants that one transaction settles: what else ends, and signs of life, wait behind it."""
_PER_NOTIFICATION = 250
"""Changes in one notification: each takes 23 bytes of the 8,000 that PostgreSQL allows, in JSON."""
_MOST_LINES = 1500
"""Bytes of lines that are named beside them; instead of more, all are told to look again."""
_CODES = {"c": Status.COMPLETED, "f": Status.FAILED, "x": Status.CANCELLED}
_CODE_OF = {status: code for code, status in _CODES.items()}
_CANCEL_REQUESTED, _SPOKE = "r", "w"


class Notice(NamedTuple):
    """The payload of a notification. lines: those that a task has joined. changes: see `_pack`."""

    sender: str
    lines: list[str]
    changes: str


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Notice).decode


Freed = tuple[str, str, str | None]
"""Queue, owner and concurrency key of an attempt that has ended."""


class News:
    """What a transaction has to tell: `changes` to the listeners, `lines` that a task has joined to the workers.

    notes: what it adds to the journal, the table of that name. freed: queue, owner and key of attempts that it has
    ended; who may start there is seen to at its end.
    """

    def __init__(self, journal: str = "") -> None:
        self.journal = journal
        self.notes: list[Note] = []
        self.changes: list[Change] = []
        self.lines: set[str] = set()
        self.freed: list[Freed] = []
        self.unsettled: set[UUID] = set()
        """Tasks that have ended, and others still wait for them."""
        self.room_to_settle = SETTLED_AT_ONCE
        self.sender = ""
        self.is_sent = False
        """Whether the transaction's COMMIT was sent."""
        self.is_unsure = False
        """Whether an earlier try of the transaction may have been stored, with news that nobody here has heard."""

    def statements(self) -> Iterator[str]:
        """Return the statements that tell other processes, each with its semicolon.

        Told are ends, requests to cancel and words: nobody in another process waits for anything else.
        """
        told = [change for change in self.changes if change.status.is_terminal or _is_told(change)]
        rest = iter(told)
        lines = sorted(self.lines)
        if sum(map(len, lines)) + 3 * len(lines) > _MOST_LINES:
            yield self._statement([], [])
            lines = []
        while (some := list(islice(rest, _PER_NOTIFICATION))) or lines:
            yield self._statement(lines, some)
            lines = []

    def note(self) -> str:
        """Return the statement that writes the notes: the last one before COMMIT, for that orders the journal."""
        rows = ", ".join(f"(now(), decode('{row.hex()}', 'hex'))" for row in pack(self.notes))
        return f"INSERT INTO {self.journal} (noted_at, notes) VALUES {rows};" if rows else ""  # noqa: S608

    def _statement(self, lines: list[str], changes: list[Change]) -> str:
        """Return one notification; without lines and changes it says that news may be lost."""
        payload = _encode(Notice(self.sender, lines, "".join(map(_pack, changes)))).decode()
        return f"NOTIFY {CHANNEL}, '{payload.replace(chr(39), chr(39) * 2)}';"


def read_notice(payload: str) -> tuple[str, list[str], list[Change]]:
    """Return sender, lines and changes of a notification. Raises ValueError for one that is not ours."""
    notice = _decode(payload)
    changes = [_unpack(notice.changes[at : at + 23]) for at in range(0, len(notice.changes), 23)]
    return notice.sender, notice.lines, changes


def _is_told(change: Change) -> bool:
    return change.cancel_requested or change.spoke


def _pack(change: Change) -> str:
    running = _SPOKE if change.spoke else _CANCEL_REQUESTED
    return _CODE_OF.get(change.status, running) + base64.urlsafe_b64encode(change.task_id.bytes)[:22].decode()


def _unpack(text: str) -> Change:
    code, task_id = text[0], UUID(bytes=base64.urlsafe_b64decode(text[1:] + "=="))
    status = _CODES.get(code, Status.RUNNING)
    return Change(task_id, status, cancel_requested=code == _CANCEL_REQUESTED, spoke=code == _SPOKE)
