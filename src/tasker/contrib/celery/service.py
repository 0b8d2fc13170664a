"""The service that tasks are submitted to."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from tasker.client import SubmitOptions, Tasker
from tasker.contrib.celery import results
from tasker.contrib.clients import client_of


class Service:
    """One service; url and token are those of Tasker."""

    def __init__(self, url: str | None = None, token: str | None = None) -> None:
        self._url = url
        self._token = token

    @property
    def client(self) -> Tasker:
        """The client of the service, which all threads of the process share."""
        return client_of(self._url, self._token)

    def AsyncResult(self, task_id: str | UUID) -> results.AsyncResult:  # noqa: N802  Celery's name
        """Return the result of a task by its id."""
        return results.AsyncResult(task_id, client=self.client)

    def submit(
        self, name: str, params: Any, options: SubmitOptions, task_id: str, *, retries: int | None = None
    ) -> results.AsyncResult:
        """Submit a task under an id, once however often that is repeated; retries: None for the client's own number.

        Raises ValueError for an id that is no UUID, and errors of tasker.client.
        """
        try:
            id = UUID(task_id)
        except ValueError:
            raise ValueError(f"task_id: expected a UUID, got {task_id!r}") from None
        client = self.client if retries is None else self.client.with_options(retries=retries)
        client.put(id, {"type": name, "params": params, **options.as_json()})
        return self.AsyncResult(task_id)
