"""Calls as values, and groups of them. Chains and chords are tasks that run others: see docs/steps.md."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NoReturn, Self
from uuid import uuid4

from tasker.contrib.celery.options import unsupported
from tasker.contrib.celery.results import AsyncResult, GroupResult

_IN_STEPS = "write one task that calls them in turn: context.call and context.map wait for other tasks (docs/steps.md)"


@dataclass(frozen=True)
class Signature:
    """A task with arguments and options, to be submitted later."""

    task: str
    submit: Callable[..., AsyncResult] = field(repr=False)
    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)

    def clone(self, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None, **options: Any) -> Self:
        """Return it with more arguments before its own, and with other options."""
        return replace(
            self,
            args=(*args, *self.args),
            kwargs={**self.kwargs, **(kwargs or {})},
            options={**self.options, **options},
        )

    def set(self, **options: Any) -> Self:
        """Set options (those of apply_async), and return it."""
        self.options.update(options)
        return self

    def delay(self, *args: Any, **kwargs: Any) -> AsyncResult:
        """Submit it, with these arguments before its own."""
        return self.apply_async(args, kwargs)

    def apply_async(
        self, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None, **options: Any
    ) -> AsyncResult:
        """Submit it, with these arguments before its own, and with these options."""
        whole = self.clone(args, kwargs, **options)
        return self.submit(whole.args, whole.kwargs, **whole.options)

    def __or__(self, other: object) -> NoReturn:
        chain()


class group:  # noqa: N801  Celery's name
    """Calls that are submitted together: `group(add.s(i, i) for i in range(10)).delay().get()`."""

    def __init__(self, *calls: Signature | Iterable[Signature]) -> None:
        self.tasks = [one for call in calls for one in ([call] if isinstance(call, Signature) else call)]

    def apply_async(self, **options: Any) -> GroupResult:
        """Submit all, in order, as a group of the service of the same id, and return their results."""
        group_id = str(uuid4())
        return GroupResult(group_id, [call.apply_async(group_id=group_id, **options) for call in self.tasks])

    delay = __call__ = apply_async

    def __or__(self, other: object) -> NoReturn:
        chord()


def chain(*_: Any, **__: Any) -> NoReturn:
    """Raise NotImplementedError: a chain is a task that calls others."""
    unsupported("chain", _IN_STEPS)


def chord(*_: Any, **__: Any) -> NoReturn:
    """Raise NotImplementedError: a chord is a task that waits for others."""
    unsupported("chord", _IN_STEPS)
