"""Notifications: whatever a transaction changes, each fits into what PostgreSQL allows."""

from __future__ import annotations

import re
from datetime import timedelta

import pytest

from tasker.engines.postgres.notifications import CHANNEL, channel_of, for_workers, read_notification, statements
from tasker.engines.postgres.partitions import wanted
from tasker.engines.postgres.waiters import POLL_DEAF, POLL_EVERY, seconds_to_look
from tasker.engines.protocol import ClaimRequest
from tasker.model import Change, Status, new_task_id
from tasker.testing import START

SECOND = timedelta(seconds=1)


@pytest.mark.parametrize("count", [0, 1, 6, 7, 40, 500])
@pytest.mark.parametrize("ends", [0, 1, 250, 251, 900])
def test_every_notification_fits_and_together_they_name_all(count: int, ends: int) -> None:
    partitions = {f"{number:03}".ljust(100, "q") + "/" + "t" * 100 for number in range(count)}
    changes = [Change(new_task_id(START), Status.COMPLETED) for _ in range(ends)]
    payloads = [
        re.fullmatch(r"NOTIFY tasker, '(.*)';", statement)
        for statement in statements("abcdefabcdef", partitions, changes)
    ]
    read = [read_notification(payload[1]) for payload in payloads if payload]
    assert len(read) == len(payloads)
    assert all(len(payload[0]) < 8000 for payload in payloads if payload)
    assert [change for _, _, some in read for change in some] == changes
    named = {name for _, names, _ in read for name in names}
    looks_again = any(not names and not some for _, names, some in read)
    assert looks_again == (count >= 40), "more partitions than fit: all look again"
    assert named == (set() if looks_again else partitions)


def test_a_worker_is_told_by_its_own_channel() -> None:
    channels = {channel_of("one", "tasker"): ["q/sum", "it's/sum"], channel_of("two", "tasker"): ["q/sum"]}
    told = re.findall(r"NOTIFY (\w+), '((?:[^']|'')*)';", for_workers("abcdefabcdef", channels))
    assert [name for name, _ in told] == list(channels)
    assert [read_notification(payload.replace("''", "'"))[1] for _, payload in told] == list(channels.values())


def test_channels_differ_by_worker_and_schema_and_are_names_that_postgresql_takes() -> None:
    workers = ["host-1-abc", "host-1-abd", "h" * 500, "x'; DROP TABLE task; --"]
    names = {channel_of(worker, schema) for worker in workers for schema in ("tasker", "other")}
    assert len(names) == 8
    assert all(re.fullmatch(r"[a-z_0-9]{1,63}", name) and name != CHANNEL for name in names)


def test_partitions_of_any_form_are_passed_over() -> None:
    request = ClaimRequest(worker="w", types=("sum",), limit=1, lease_for=SECOND, suspects=1)
    partitions = ["default/sum", "default/sum/alone", "sum", "", "/", "a/b/c/d", "default/other"]
    assert wanted(request, partitions) == (["default/sum"], ["default/sum/alone"])


@pytest.mark.parametrize(
    ("next_in", "is_deaf", "seconds"),
    [
        (None, False, POLL_EVERY), (None, True, POLL_DEAF), (0.25 * SECOND, False, 0.25), (60 * SECOND, False, 1.0),
        (0 * SECOND, False, 0.03), (-5 * SECOND, False, 0.03),
    ],
)  # fmt: skip
def test_a_claim_never_looks_all_the_time(next_in: timedelta | None, is_deaf: bool, seconds: float) -> None:
    assert seconds_to_look(next_in, is_deaf=is_deaf) == seconds
