"""A task type: a registered function, what it takes and returns, and the defaults of its tasks."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, Protocol

import msgspec
from msgspec import structs

from tasker.errors import CheckStopped, Fault, Invalid
from tasker.model import Policy, Retention
from tasker.rules.secrets import MASK, MAX_TEXTS, Places, find_masks, has_too_many
from tasker.tasktypes.results import Results
from tasker.tasktypes.schema import Schema
from tasker.tasktypes.signature import Function
from tasker.validation.faults import sentence_of
from tasker.validation.jsontext import escape


class Checks(Protocol):
    """Reads and checks the params of a type; see Params."""

    @property
    def positional(self) -> tuple[str, ...]: ...
    @property
    def rest(self) -> str | None: ...
    def read(self, text: bytes) -> Any: ...
    def bind(self, text: bytes) -> tuple[tuple[Any, ...], dict[str, Any]]: ...
    def by_name(self, values: Any) -> dict[str, Any]: ...
    def place(self, params: Any, pointer: str) -> str: ...
    def faults(self, params: Any, refusal: str) -> list[Fault]: ...


@dataclass(frozen=True, kw_only=True, eq=False)
class TaskType:
    """A registered function. `policy.timeout` and `retention` are None until a Registry fills in its defaults.

    policy_json: the text of `policy`. retention: how long a task of the type is kept after its end.
    memory_limit: bytes of resident memory, None for no limit. costs: whether daily budgets apply to its tasks.
    example: params that pass `check`, None if none could be made. input_schema: of the named params; an array gives
    the same params in the order of `positional`, then `rest`. source: "file:line". Schemas are JSON Schema 2020-12.
    secrets: where its secret params are, None without any. has_own_code: whether `check` may run code of the type's
    author, which may take any time. is_plain: whether params have JSON's own types, no secrets and no such check.
    """

    name: str
    description: str
    function: Function
    is_async: bool
    queue: str
    priority: int
    policy: Policy
    policy_json: bytes
    memory_limit: int | None
    example: Any
    input_schema: Schema
    output_schema: Schema
    context_parameter: str | None
    costs: bool
    source: str
    retention: Retention | None
    secrets: Places | None
    _params: Checks
    _check: Callable[..., Iterable[Fault]] | None
    _results: Results
    has_own_code: bool = False
    is_plain: bool = False

    @property
    def is_awaited(self) -> bool:
        """Whether the function gives an awaitable: it is async, or wraps an async one, as far as can be told."""
        return self.is_async or inspect.iscoroutinefunction(inspect.unwrap(self.function))

    @property
    def positional(self) -> tuple[str, ...]:
        """The names of the params that an array reaches, in order, without *args."""
        return self._params.positional

    @property
    def rest(self) -> str | None:
        """The name of the param that takes all further elements of an array (*args), or None."""
        return self._params.rest

    def check(self, params: Any, text: bytes | None = None) -> None:
        """Check params as decoded from JSON: an array (by position) or an object (by name).

        text: their JSON text without leading blanks, which has the digits of numbers that no float represents.

        Raises Invalid with every fault; JSON Pointers are relative to the params. Its name is "unknown-field" if all
        faults are unknown fields, else "invalid-params". Params are also refused if code of the type's author (`check`,
        a validator) raises anything else.
        """
        try:
            self._check_all(params, text)
        except (Invalid, CheckStopped):
            raise
        except BaseException as error:  # authors' code runs in the service itself: its sys.exit() must not end it
            import structlog  # slow to import, and child processes do not need it

            log = structlog.get_logger(__name__)
            detail = "the params are refused: correct the check"  # what it raised may quote a secret
            log.error("type.check_failed", type=self.name, detail=detail, exc_info=self.secrets is None)
            raise self._invalid([Fault("", f"cannot be checked: the check raised {type(error).__name__}")]) from None

    def takes(self, text: bytes) -> bool:
        """Tell whether `check` accepts params, from their JSON text alone; only for a type that `is_plain`."""
        try:
            self._params.read(text)
        except msgspec.DecodeError:
            return False
        return True

    def _check_all(self, params: Any, text: bytes | None) -> None:
        try:
            values = self._params.read(msgspec.json.encode(params) if text is None else text)
        except msgspec.ValidationError as error:
            raise self._invalid(self._params.faults(params, str(error))) from None
        if self.secrets is not None:
            self._check_secrets(params, self.secrets)
        if self._check is not None:
            found = self._check(**self._params.by_name(values))
            faults = [Fault(self._params.place(params, fault.pointer), fault.detail) for fault in found]
            if faults:
                raise self._invalid(faults)

    def _check_secrets(self, params: Any, places: Places) -> None:
        """Refuse the mask, which a client has copied from a shown task, and too many secret texts."""
        masked = find_masks(params, places)
        if masked:
            detail = f"{MASK} stands for a secret that is not shown; send the secret itself"
            raise self._invalid([Fault(f"/{escape(str(place))}", detail) for place in masked])
        if has_too_many(params, places):
            detail = (
                f"expected at most {MAX_TEXTS:,} texts, numbers and lines in secret params: send a reference instead"
            )
            raise self._invalid([Fault(f"/{escape(str(place))}", detail) for place in places.of(params)])

    def bind(self, params: bytes) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return the arguments of the function from the JSON text of params, as its types, without the Context.

        The Context is passed by the name `context_parameter`. Raises Invalid as `check` does.
        """
        try:
            return self._params.bind(params)
        except msgspec.ValidationError as error:
            raise self._invalid(self._params.faults(msgspec.json.decode(params), str(error))) from None

    def _invalid(self, faults: Sequence[Fault]) -> Invalid:
        unknown = all(fault.detail.startswith("unknown field") for fault in faults)
        more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
        return Invalid(
            f"the params do not fit {self.name}: {sentence_of(faults[0])}{more}",
            name="unknown-field" if unknown else "invalid-params",
            faults=faults,
        )

    def encode_result(self, value: Any) -> bytes:
        """Return the JSON text of what the function returned.

        Raises ResultError ("result-not-serializable") for what is not of the declared type, or what JSON cannot hold.
        """
        return self._results.encode(value)

    def with_retention(self, default: Retention) -> TaskType:
        """Return the same type with `default` as its retention if it has none of its own."""
        return self if self.retention is not None else replace(self, retention=default)

    def with_timeout(self, default: timedelta) -> TaskType:
        """Return the same type with `default` as the timeout of an attempt if it has none of its own."""
        if self.policy.timeout is not None:
            return self
        policy = structs.replace(self.policy, timeout=default)
        return replace(self, policy=policy, policy_json=msgspec.json.encode(policy))
