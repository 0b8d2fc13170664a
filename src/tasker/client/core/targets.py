"""What is to be run: a task type by its name or by its function, with params and options."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import msgspec
from msgspec import Struct

from tasker.client.errors import UnexpectedReply
from tasker.client.options import SubmitOptions

if TYPE_CHECKING:
    from tasker.tasktypes.codecs import Codec
    from tasker.tasktypes.functions import Submittable


Target: TypeAlias = "str | Submittable[..., Any]"
"""A task type by its name, or by its function, with or without options."""


class Wanted(Struct, frozen=True):
    """A task to submit. codec: of its result; None for that of a type by its name, which is any JSON."""

    type: str
    params: Sequence[Any] | Mapping[str, Any]
    options: SubmitOptions
    codec: Codec | None = None

    def as_json(self) -> dict[str, Any]:
        """Return the body of a submission."""
        return {"type": self.type, "params": self.params, **self.options.as_json()}


def settle(target: Target, args: Sequence[Any], kwargs: Mapping[str, Any], options: SubmitOptions | None) -> Wanted:
    """Return what is to be submitted.

    Raises TypeError for what is no task, and for the params of a type by its name that are given in both ways.
    """
    chosen = options or SubmitOptions()
    if isinstance(target, str):
        if args and kwargs:
            raise TypeError("give the params by position or by name, not both")
        return Wanted(target, dict(kwargs) or list(args), chosen)
    from tasker.tasktypes.children import merge_params, type_name_of  # a client of named types needs none of it

    function, given = _open(target)
    if given is not None:
        chosen = chosen.over(given)
    return Wanted(type_name_of(function), merge_params(function, args, kwargs), chosen, codec_of_results(target))


def codec_of_results(target: Target | None) -> Codec | None:
    """Return the codec of the results of a function; None for a type by its name."""
    if target is None or isinstance(target, str):
        return None
    from tasker.tasktypes.codecs import codec_of, returned_by  # as above

    return codec_of(returned_by(_open(target)[0]))


def _open(target: Any) -> tuple[Callable[..., Any], SubmitOptions | None]:
    """Return the function, and the options that it came with."""
    from tasker.tasktypes.functions import TaskWithOptions

    return (target.function, target.chosen) if isinstance(target, TaskWithOptions) else (target, None)


def read_result(result: Any, codec: Codec | None, url: str) -> Any:
    """Return a result as the type that the function returns. Raises UnexpectedReply."""
    if codec is None:
        return result
    try:
        return codec.decode(msgspec.json.encode(result))
    except ValueError as error:
        raise UnexpectedReply(url, f"the result does not fit the function here: {error}") from None
