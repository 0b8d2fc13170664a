"""A registered function: what it takes and returns, and the defaults of its tasks."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from datetime import timedelta
from difflib import get_close_matches
from typing import Any, Literal, Protocol, TypeVar, get_args

import msgspec
from msgspec import structs

from tasker.errors import CheckStopped, Fault, Invalid
from tasker.model import MAX_RETENTION, OnCrash, Policy, Retention, RetryPolicy, queue_name_pattern, type_name_pattern
from tasker.rules.secrets import MASK, MAX_TEXTS, Places, find_masks, has_too_many, is_secret, secret
from tasker.tasktypes.params import Params
from tasker.tasktypes.pydantic_models import Model, is_model, runs_own_code
from tasker.tasktypes.results import Results
from tasker.tasktypes.schema import NoExampleError, Schema, input_schema, make_example, output_schema, unsupported
from tasker.tasktypes.signature import (
    ABSENT,
    Description,
    Function,
    How,
    Parameter,
    Signature,
    place_of,
    read_description,
    read_signature,
    reject,
)
from tasker.validation.encoding import as_json, from_json
from tasker.validation.faults import refusal_fault
from tasker.validation.jsontext import escape

MAX_TRIES = 100
MIN_MEMORY = 16 * 1000 * 1000
"""Bytes; a child process that has only just started holds more."""

_UNITS = {"B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}
_MEMORY = re.compile(r"(\d+(?:\.\d+)?) *([KMG]i?B|B)", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What the author of a function says about its tasks; see `tasker.task`."""

    name: str | None = None
    queue: str = "default"
    priority: int = 0
    timeout: timedelta | float | None = None
    retry: int | RetryPolicy | None = None
    on_crash: OnCrash = "retry"
    memory_limit: int | str | None = None
    example: Any = None
    check: Callable[..., Iterable[Fault]] | None = None
    retention: timedelta | float | Literal["forever"] | None = None
    costs: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Misspelt(Options):
    """Options of which some have names that there are none of: these are `unknown`."""

    unknown: tuple[str, ...]


class Checks(Protocol):
    """What knows the params of a type; see Params."""

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
    memory_limit: bytes of resident memory, None for no limit. costs: whether daily budgets hold for its tasks.
    example: params that `check` takes, None if none could be made. input_schema: of the named params; an array gives
    the same ones in the order of `positional`, then `rest`. source: "file:line". Schemas are JSON Schema 2020-12.
    secrets: where its secret params are, None without any. has_own_code: whether `check` may run code of the type's
    author, which takes any time.
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

        text: their JSON text, without blanks before it: it has the digits of numbers that no float holds. Raises
        Invalid with every fault, the JSON Pointers being relative to the params; its name is "unknown-field" if there
        is no other kind of fault, else "invalid-params". Code of the type's author that fails on params (`check`, a
        validator) refuses them, whatever it raises.
        """
        try:
            self._check_all(params, text)
        except (Invalid, CheckStopped):
            raise
        except BaseException as error:  # authors' code runs here, in the service itself: sys.exit() must not end it
            import structlog  # slow to import, and a child process has no need of it

            log = structlog.get_logger(__name__)
            detail = "the params are refused: correct the check"  # what it raised may quote a secret
            log.error("type.check_failed", type=self.name, detail=detail, exc_info=self.secrets is None)
            raise self._invalid([Fault("", f"cannot be checked: the check raised {type(error).__name__}")]) from None

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
        """Refuse the mask: whoever sends it has copied params from where they are shown. Refuse too many texts."""
        masked = find_masks(params, places)
        if masked:
            detail = f"{MASK} stands for a secret that is not shown; give the secret itself"
            raise self._invalid([Fault(f"/{escape(str(place))}", detail) for place in masked])
        if has_too_many(params, places):
            detail = (
                f"expected at most {MAX_TEXTS:,} texts, numbers and lines in secret params: tell where to read more"
            )
            raise self._invalid([Fault(f"/{escape(str(place))}", detail) for place in places.of(params)])

    def bind(self, params: bytes) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return the arguments of the function from the JSON text of params, as its types, the Context left out.

        The Context goes in by the name `context_parameter`. Raises Invalid as `check` does.
        """
        try:
            return self._params.bind(params)
        except msgspec.ValidationError as error:
            raise self._invalid(self._params.faults(msgspec.json.decode(params), str(error))) from None

    def _invalid(self, faults: Sequence[Fault]) -> Invalid:
        unknown = all(fault.detail.startswith("unknown field") for fault in faults)
        more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
        return Invalid(
            f"the params do not fit {self.name}: {_sentence(faults[0])}{more}",
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


def _sentence(fault: Fault) -> str:
    return f"{fault.detail} at {fault.pointer}" if fault.pointer else fault.detail


def make_task_type(function: Function, options: Options) -> TaskType:
    """Return the task type of a plain typed function.

    Raises RegistrationError, naming the place and the function, for what cannot be one, and for options out of range.
    """
    signature = read_signature(function)
    is_async = inspect.iscoroutinefunction(function)
    words = read_description(function)
    models = {
        parameter.name: _read_model(function, parameter)
        for parameter in signature.parameters
        if is_model(parameter.type)
    }
    returned = _read_returned(function, signature.returns)
    takes = _input_schema(function, signature, words, models)
    settled = _read_options(function, options, is_async=is_async)
    policy: Policy = settled["policy"]
    task_type = TaskType(
        description=words.text,
        function=function,
        is_async=is_async,
        policy_json=msgspec.json.encode(policy),
        example=options.example,
        input_schema=takes,
        output_schema=_output_schema(function, signature.returns, returned),
        context_parameter=signature.context_parameter,
        source=place_of(function),
        secrets=_find_secrets(function, signature, takes),
        has_own_code=options.check is not None or _has_own_code(signature, models),
        _params=Params(signature.parameters, takes, models),
        _results=Results(signature.returns, returned),
        **settled,
    )
    return _with_example(task_type)


def _read_model(function: Function, parameter: Parameter) -> Model:
    try:
        return Model(parameter.type, secret=secret)
    except TypeError as error:
        reject(function, f"parameter {parameter.name!r}: {error}")


def _has_own_code(signature: Signature, models: Mapping[str, Model]) -> bool:
    """Tell whether code of the types' authors may run when params are read."""
    plain = (parameter.type for parameter in signature.parameters if parameter.name not in models)
    return any(model.has_own_code for model in models.values()) or any(map(runs_own_code, plain))


def _read_returned(function: Function, returns: Any) -> Model | None:
    try:
        return Model(returns) if is_model(returns) else None
    except TypeError as error:
        reject(function, f"its return type: {error}")


def _input_schema(function: Function, signature: Signature, words: Description, models: Mapping[str, Model]) -> Schema:
    for parameter in signature.parameters:
        model = models.get(parameter.name)
        reason = unsupported(parameter.type) if model is None else None
        if reason:
            reject(function, f"parameter {parameter.name!r}: {reason}")
        if parameter.default is not ABSENT and parameter.how is not How.REST:
            _check_default(function, parameter, model)
    return input_schema(signature.parameters, words.parameters, models)


def _find_secrets(function: Function, signature: Signature, takes: Schema) -> Places | None:
    """Return where the secret params are. Raises RegistrationError for a mark that nothing would heed."""
    properties = takes["properties"]
    names = {parameter.name for parameter in signature.parameters if is_secret(parameter.type)}
    names |= {name for name, schema in properties.items() if schema.get("writeOnly")}  # pydantic's SecretStr
    others = [schema for name, schema in properties.items() if name not in names]
    if b'"writeOnly":true' in msgspec.json.encode([others, takes.get("$defs")]):
        reject(
            function, "a secret within a param would be shown; `secret` marks a parameter as a whole: write"
            " `name: Annotated[..., secret]` in the function",
        )  # fmt: skip
    if not names:
        return None
    positional = tuple(p.name for p in signature.parameters if p.in_array and p.how is not How.REST)
    rest = next((p.name for p in signature.parameters if p.how is How.REST), None)
    return Places(frozenset(names), positional, rest)


def _check_default(function: Function, parameter: Parameter, model: Model | None) -> None:
    """Refuse a default that is not of the annotated type: the schema and forms show it."""
    try:
        if model is not None:
            model.check(parameter.default)
            return
        plain = msgspec.to_builtins(parameter.default, enc_hook=as_json)
        msgspec.convert(plain, parameter.type, dec_hook=from_json)
    except (TypeError, ValueError) as error:
        detail = refusal_fault(str(error), "").detail if model is None else model.refusal(error)
        reject(function, f"the default of {parameter.name!r} does not fit its annotation: {detail}")


def _output_schema(function: Function, returns: Any, model: Model | None) -> Schema:
    reason = unsupported(returns) if model is None else None
    if reason:
        reject(function, f"its return type: {reason}")
    return output_schema(returns, model)


def _with_example(task_type: TaskType) -> TaskType:
    if task_type.example is not None:
        try:
            task_type.check(task_type.example)
        except Invalid as error:
            reject(task_type.function, f"example: {error.detail}")
        return task_type
    try:
        example = make_example(task_type.input_schema)
        task_type.check(example)
    except (NoExampleError, Invalid):
        return task_type
    return replace(task_type, example=example)


class _Wrong(ValueError):
    """An option is wrong; the message says how."""


_T = TypeVar("_T")


def _read_options(function: Function, options: Options, *, is_async: bool) -> dict[str, Any]:
    """Return what the options settle of a task type. Raises RegistrationError with everything that is wrong."""
    faults = [_unknown_option(name) for name in options.unknown] if isinstance(options, Misspelt) else []

    def read(reader: Callable[[], _T]) -> _T | None:
        try:
            return reader()
        except _Wrong as error:
            faults.append(str(error))
            return None

    settled = {
        "name": read(lambda: _read_name(function, options.name)),
        "queue": read(lambda: _read_queue(options.queue)),
        "priority": read(lambda: _read_priority(options.priority)),
        "memory_limit": read(lambda: _read_memory(options.memory_limit, is_async=is_async)),
        "costs": read(lambda: _read_costs(options.costs)),
        "retention": read(lambda: _read_retention(options.retention)),
        "_check": read(lambda: _read_check(options.check)),
    }
    retry = read(lambda: _read_retry(options.retry))
    timeout = read(lambda: _read_timeout(options.timeout))
    on_crash = read(lambda: _read_on_crash(options.on_crash))
    if faults or retry is None or on_crash is None:
        reject(function, "; ".join(faults))
    return settled | {"policy": Policy(retry=retry, timeout=timeout, on_crash=on_crash)}


def _unknown_option(name: str) -> str:
    known = [field.name for field in fields(Options)]
    close = get_close_matches(name, known, n=1)
    return f"{name!r} is no option of @task; " + (
        f"did you mean {close[0]!r}?" if close else f"these are: {', '.join(known)}"
    )


def _read_name(function: Function, given: Any) -> str:
    name = function.__name__ if given is None else given
    if not isinstance(name, str) or not re.fullmatch(type_name_pattern, name):
        raise _Wrong(f"name must match {type_name_pattern}, got {name!r:.200}")
    return name


def _read_queue(queue: Any) -> str:
    if not isinstance(queue, str) or not re.fullmatch(queue_name_pattern, queue):
        raise _Wrong(f"queue must match {queue_name_pattern}, got {queue!r:.200}")
    return queue


def _read_priority(priority: Any) -> int:
    if type(priority) is not int or not -100 <= priority <= 100:
        raise _Wrong(f"priority must be a whole number from -100 to 100, got {priority!r:.200}")
    return priority


def _read_on_crash(on_crash: Any) -> OnCrash:
    if on_crash not in get_args(OnCrash):
        raise _Wrong(f'on_crash must be "retry" or "fail", got {on_crash!r:.200}')
    return on_crash  # type: ignore[no-any-return]


def _read_costs(costs: Any) -> bool:
    if not isinstance(costs, bool):
        raise _Wrong(f"costs must be True or False, got {costs!r:.200}")
    return costs


def _read_retry(retry: Any) -> RetryPolicy:
    policy = RetryPolicy() if retry is None else RetryPolicy(max_attempts=retry) if type(retry) is int else retry
    if not isinstance(policy, RetryPolicy):
        raise _Wrong(f"retry must be the number of attempts or a RetryPolicy, got {retry!r:.200}")
    try:
        msgspec.convert(structs.asdict(policy), RetryPolicy)
    except msgspec.ValidationError as error:
        fault = refusal_fault(str(error), "")
        raise _Wrong(f"retry{fault.pointer.replace('/', '.')}: {fault.detail}") from None
    if not 1 <= policy.max_attempts <= MAX_TRIES:
        raise _Wrong(f"retry must allow 1 to {MAX_TRIES} attempts in all, got {policy.max_attempts!r}")
    if policy.initial < timedelta(0) or policy.max < policy.initial or not 1 <= policy.factor <= 100:
        raise _Wrong(f"retry must have 0 <= initial <= max and a factor from 1 to 100, got {policy!r}")
    return policy


def _read_timeout(timeout: Any) -> timedelta | None:
    if timeout is None:
        return None
    limit = _read_duration(timeout)
    if limit <= timedelta(0):
        raise _Wrong(f"timeout must be a timedelta or seconds, more than 0, got {timeout!r:.200}")
    return limit


def _read_check(check: Any) -> Callable[..., Iterable[Fault]] | None:
    if check is not None and not callable(check):
        raise _Wrong(f"check must be a function that takes the params and yields faults, got {check!r:.200}")
    return check  # type: ignore[no-any-return]


def _read_retention(retention: Any) -> Retention | None:
    if retention is None or retention == "forever":
        return retention  # type: ignore[no-any-return]
    length = _read_duration(retention)
    if not timedelta(0) < length <= MAX_RETENTION:
        raise _Wrong(
            'retention must be a timedelta or seconds, more than 0 and at most ten years, or "forever", got'
            f" {retention!r:.200}"
        )
    return length


def _read_duration(value: Any) -> timedelta:
    """Return a timedelta or seconds as a timedelta; nothing for what is neither."""
    try:
        length = value if isinstance(value, timedelta) else timedelta(seconds=value)
    except (TypeError, ValueError, OverflowError):
        return timedelta(0)
    return timedelta(0) if isinstance(value, bool) else length


def _read_memory(limit: Any, *, is_async: bool) -> int | None:
    if limit is None:
        return None
    if is_async:
        raise _Wrong("memory_limit needs a `def` function: an `async def` one runs inside the service")
    if isinstance(limit, str):
        match = _MEMORY.fullmatch(limit.strip())
        size = int(float(match[1]) * _UNITS[match[2].upper()]) if match else 0
    else:
        size = limit if type(limit) is int else 0
    if size < MIN_MEMORY:
        raise _Wrong(f'memory_limit must be bytes or text such as "512MB", at least 16MB, got {limit!r:.200}')
    return size
