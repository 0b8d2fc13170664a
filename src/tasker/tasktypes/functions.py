"""What `@task` gives to type checkers: a function that knows its params and its result as a client sees them.

At run time `@task` returns the function itself, with one more attribute, `options`.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable
from dataclasses import dataclass
from datetime import timedelta
from typing import (
    TYPE_CHECKING,
    Any,
    Concatenate,
    Generic,
    Literal,
    Never,
    ParamSpec,
    Protocol,
    TypeVar,
    Unpack,
    overload,
)

from tasker.tasktypes.submit_options import OptionFields, SubmitOptions

if TYPE_CHECKING:
    from tasker.errors import Fault
    from tasker.model import OnCrash, RetryPolicy
    from tasker.tasktypes.context import Context
    from tasker.tasktypes.sync_context import SyncContext

P = ParamSpec("P")
Q = ParamSpec("Q")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)
T_co = TypeVar("T_co", covariant=True)


class Submittable(Generic[P, R_co]):
    """What a client can submit: it takes the params P, and its result is an R."""

    def options(self, **fields: Unpack[OptionFields]) -> TaskWithOptions[P, R_co]:
        """Return the task with options of its submission: `thumbnail.options(delay=60)`. See SubmitOptions."""
        raise NotImplementedError


if TYPE_CHECKING:

    class TaskFunction(Submittable[P, R_co], Generic[Q, T_co, P, R_co]):
        """A function with `@task`. A call of it is a plain call: it takes Q and returns a T."""

        __name__: str
        __qualname__: str

        def __call__(self, *args: Q.args, **kwargs: Q.kwargs) -> T_co: ...

    class Private(Protocol):
        """What no parameter is annotated with: a function that takes it takes anything."""

        def _nobody_has_this(self) -> Never: ...

    class Marking(Protocol):
        """`task`, and `task` with options."""

        @overload
        def __call__(
            self,
            *,
            name: str | None = None,
            queue: str = "default",
            priority: int = 0,
            timeout: timedelta | float | None = None,
            retry: int | RetryPolicy | None = None,
            on_crash: OnCrash = "retry",
            memory_limit: int | str | None = None,
            example: Any = None,
            check: Callable[..., Iterable[Fault]] | None = None,
            retention: timedelta | float | Literal["forever"] | None = None,
            costs: bool = False,
        ) -> Marking: ...

        # A function whose first parameter takes anything takes a context, too: it has to come before those that do.
        @overload
        def __call__(
            self, function: Callable[Concatenate[Private, P], Coroutine[Any, Any, R]], /
        ) -> TaskFunction[Concatenate[object, P], Coroutine[object, object, R], Concatenate[object, P], R]: ...
        @overload
        def __call__(
            self, function: Callable[Concatenate[Private, P], R], /
        ) -> TaskFunction[Concatenate[object, P], R, Concatenate[object, P], R]: ...
        @overload
        def __call__(
            self, function: Callable[Concatenate[Context, P], Coroutine[Any, Any, R]], /
        ) -> TaskFunction[Concatenate[Context, P], Coroutine[object, object, R], P, R]: ...
        @overload
        def __call__(
            self, function: Callable[Concatenate[SyncContext, P], R], /
        ) -> TaskFunction[Concatenate[SyncContext, P], R, P, R]: ...
        @overload
        def __call__(
            self, function: Callable[P, Coroutine[Any, Any, R]], /
        ) -> TaskFunction[P, Coroutine[object, object, R], P, R]: ...
        @overload
        def __call__(self, function: Callable[P, R], /) -> TaskFunction[P, R, P, R]: ...


@dataclass(frozen=True)
class TaskWithOptions(Submittable[P, R_co]):
    """A function with `@task`, and how its tasks are to be submitted."""

    function: Callable[..., Any]
    chosen: SubmitOptions

    def options(self, **fields: Unpack[OptionFields]) -> TaskWithOptions[P, R_co]:
        """Return the same with these options instead, the others as they are."""
        return TaskWithOptions(self.function, self.chosen.with_fields(**fields))


def add_options(function: Callable[..., Any]) -> None:
    """Give a function its attribute `options`."""

    def options(**fields: Unpack[OptionFields]) -> TaskWithOptions[..., Any]:
        return TaskWithOptions(function, SubmitOptions(**fields))

    function.options = options  # type: ignore[attr-defined]
