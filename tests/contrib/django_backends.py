"""Our backend in the places of the two of Django, for Django's own tests of them."""

from __future__ import annotations

from typing import Any

from tasker.contrib.django import TaskerBackend, framework


class Immediate(TaskerBackend):
    """Waits for each task, and sends the signals of the worker's process once more in this one, where tests look."""

    def enqueue(self, task: Any, args: Any, kwargs: Any) -> Any:
        self.client.queues.resume(task.queue_name)
        result = super().enqueue(task, args, kwargs)
        self.client.wait(result.id, 60)
        result.refresh()
        ended_as = result.status
        object.__setattr__(result, "status", framework.TaskResultStatus.RUNNING)
        framework.task_started.send(type(self), task_result=result)
        object.__setattr__(result, "status", ended_as)
        try:
            for error in result.errors:
                raise RuntimeError(error.traceback)
        except RuntimeError:
            framework.task_finished.send(type(self), task_result=result)
        else:
            framework.task_finished.send(type(self), task_result=result)
        return result


class Dummy(TaskerBackend):
    """Submits to a queue that is paused, so that the tasks stay as they are, and lists them."""

    def __init__(self, alias: str, params: dict[str, Any]) -> None:
        super().__init__(alias, params)
        self.clear()

    def enqueue(self, task: Any, args: Any, kwargs: Any) -> Any:
        self.client.queues.pause(task.queue_name)
        result = super().enqueue(task, args, kwargs)
        self._ids.append(result.id)
        return result

    @property
    def results(self) -> list[Any]:
        return [self.get_result(one) for one in self._ids]

    def clear(self) -> None:
        self._ids: list[str] = []
