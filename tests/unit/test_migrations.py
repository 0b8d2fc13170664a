"""Migrations: each has its own number, because a database stores only the last one applied."""

from __future__ import annotations

from tasker.engines.postgres import sql as postgres
from tasker.engines.sqlite import sql as sqlite


def test_no_two_have_one_number() -> None:
    for numbers in ([number for number, _ in sqlite.migrations()], [one.version for one in postgres.migrations("t")]):
        assert numbers == sorted(set(numbers))
        assert numbers[0] == 1
