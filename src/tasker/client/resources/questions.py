"""The questions that tasks ask people."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

from tasker.client.core.lists import ListCalls
from tasker.client.driving import AsyncDriver, Driver
from tasker.wire.steps import OpenQuestion


class Questions:
    """The open questions of one service. Every method may raise Unreachable, NotAllowed and ServiceError."""

    def __init__(self, driver: Driver) -> None:
        self._driver = driver
        self._calls = ListCalls(driver.exchange)

    def find_many(self, *, limit: int | None = None) -> Iterator[OpenQuestion]:
        """Yield the questions that have waited longest, at most `limit`, and at most 100.

        `client.get(question.task_id).input` has the schema of the answer, `client.input` answers.
        """
        return self._driver.iterate(self._calls.questions(limit))


class AsyncQuestions:
    """The open questions of one service. Every method may raise Unreachable, NotAllowed and ServiceError."""

    def __init__(self, driver: AsyncDriver) -> None:
        self._driver = driver
        self._calls = ListCalls(driver.exchange)

    def find_many(self, *, limit: int | None = None) -> AsyncIterator[OpenQuestion]:
        """Yield the questions that have waited longest, at most `limit`, and at most 100.

        `client.get(question.task_id).input` has the schema of the answer, `client.input` answers.
        """
        return self._driver.iterate(self._calls.questions(limit))
