"""Notifications between processes: the changes of one transaction, in as few notifications as possible.

NOTIFY takes a lock of the whole database at commit: one transaction sends one (rarely a few), however many tasks it
touches. A notification is a hint and may be lost; the tables are the truth.

Every process listens to the common channel, and to one of its own for tasks that it alone waits for. By another one a
worker is told of new tasks.
"""

from __future__ import annotations

import base64
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from hashlib import blake2b
from itertools import islice
from typing import NamedTuple
from uuid import UUID

import msgspec

from tasker.model import Change, Status

CHANNEL = "tasker"
"""The common channel."""
LEAD_IS_FREE = "//lead"
"""Stands in the place of a partition; no queue's name is empty."""
_PER_NOTIFICATION = 250
"""Changes in one notification: in JSON, each takes 23 of the 8,000 bytes that PostgreSQL allows."""
_MAX_PARTITIONS = 1500
"""Limit of the bytes of partition names in one notification; beyond it, all processes look again."""
_CODES = {"c": Status.COMPLETED, "f": Status.FAILED, "x": Status.CANCELLED}
_CODE_OF = {status: code for code, status in _CODES.items()}
_CANCEL_REQUESTED, _SPOKE = "r", "w"


class Payload(NamedTuple):
    """The payload of a notification. partitions: those that tasks were added to. changes: see `_pack`."""

    sender: str
    partitions: list[str]
    changes: str


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Payload).decode


def statements(
    sender: str, partitions: Collection[str], changes: Iterable[Change], channel: str = CHANNEL
) -> Iterator[str]:
    """Return the statements that notify other processes, each with its semicolon.

    They report ends, requests to cancel and new records of running attempts; other processes wait for nothing else.
    """
    relevant = iter(
        [change for change in changes if change.status.is_terminal or change.cancel_requested or change.spoke]
    )
    names = sorted(partitions)
    if not do_fit(names):
        yield _statement(sender, [], [], channel)
        names = []
    while (some := list(islice(relevant, _PER_NOTIFICATION))) or names:
        yield _statement(sender, names, some, channel)
        names = []


def lead_is_free(sender: str) -> str:
    """Return the statement that tells every process that nobody leads."""
    return _statement(sender, [LEAD_IS_FREE], [], CHANNEL)


def for_workers(sender: str, partitions: Mapping[str, Sequence[str]]) -> str:
    """Return the statements that tell workers of new tasks, given as partitions by channel; each fits in one."""
    return "".join(_statement(sender, names, [], channel) for channel, names in partitions.items())


def for_processes(sender: str, changes: Mapping[str, Iterable[Change]]) -> Iterator[str]:
    """Return the statements that notify single processes, each of the changes that it alone waits for."""
    for process, own in changes.items():
        yield from statements(sender, (), own, process_channel(process))


def for_channels(sender: str, changes: Mapping[str, Iterable[Change]]) -> Iterator[str]:
    """Return the statements that notify workers of changes, given by channel."""
    for channel, own in changes.items():
        yield from statements(sender, (), own, channel)


def do_fit(partitions: Collection[str]) -> bool:
    """Return whether one notification can name these partitions."""
    return sum(map(len, partitions)) + 3 * len(partitions) <= _MAX_PARTITIONS


def channel_of(worker_id: str, schema: str) -> str:
    """Return the channel of a worker. Others that get the same one look in vain now and then."""
    return f"{CHANNEL}_{blake2b(f'{schema}/{worker_id}'.encode(), digest_size=12).hexdigest()}"


def process_channel(process: str) -> str:
    """Return the channel of a process. process: its name in notifications."""
    return f"{CHANNEL}_{process}"


def read_notification(payload: str) -> tuple[str, list[str], list[Change]]:
    """Return sender, partitions and changes. Raises ValueError or KeyError for a payload that is not ours."""
    sender, partitions, packed = _decode(payload)
    return sender, partitions, [_unpack(packed[at : at + 23]) for at in range(0, len(packed), 23)]


def _statement(sender: str, partitions: Sequence[str], changes: Sequence[Change], channel: str) -> str:
    """Return one notification; without partitions and changes it means that notifications may have been lost."""
    payload = _encode(Payload(sender, list(partitions), "".join(map(_pack, changes)))).decode()
    return f"NOTIFY {channel}, '{payload.replace(chr(39), chr(39) * 2)}';"


def _pack(change: Change) -> str:
    """Return a code and the task's id: 23 characters."""
    running = _SPOKE if change.spoke else _CANCEL_REQUESTED
    return _CODE_OF.get(change.status, running) + base64.urlsafe_b64encode(change.task_id.bytes)[:22].decode()


def _unpack(text: str) -> Change:
    code, task_id = text[0], UUID(bytes=base64.urlsafe_b64decode(text[1:] + "=="))
    status = _CODES.get(code, Status.RUNNING)
    return Change(task_id, status, cancel_requested=code == _CANCEL_REQUESTED, spoke=code == _SPOKE)
