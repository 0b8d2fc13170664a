"""A registered function: what it takes and returns, and the defaults of its tasks."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from math import isfinite
from typing import Any, Literal, get_args

import msgspec
from msgspec import structs

from tasker.errors import Fault, Invalid, ResultError
from tasker.faults import refusal_fault
from tasker.hiding import MASK, Places, find_masks, is_secret
from tasker.jsontext import escape
from tasker.model import MAX_RETENTION, OnCrash, Policy, Retention, RetryPolicy, queue_name_pattern, type_name_pattern
from tasker.params import Params, make_box
from tasker.schema import NoExampleError, Schema, input_schema, make_example, output_schema, unsupported
from tasker.signature import (
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

MAX_TRIES = 100
MIN_MEMORY = 16 * 1000 * 1000
"""Bytes; a child process that has only just started holds more."""

# Left as they are when a result is made plain, so that they are not taken for the text they are written as.
_NOT_TEXT = (bytes, bytearray, memoryview)
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


@dataclass(frozen=True, kw_only=True, eq=False)
class TaskType:
    """A registered function. `policy.timeout` and `retention` are None until a Registry fills in its defaults.

    policy_json: the text of `policy`. retention: how long a task of the type is kept after its end.
    memory_limit: bytes of resident memory, None for no limit. costs: whether daily budgets hold for its tasks.
    example: params that `check` takes, None if none could be made. input_schema: of the named params; an array gives
    the same ones in the order of `positional`, then `rest`. source: "file:line". Schemas are JSON Schema 2020-12.
    secrets: where its secret params are, None without any.
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
    _params: Params
    _check: Callable[..., Iterable[Fault]] | None
    _output: type[msgspec.Struct] | None

    @property
    def positional(self) -> tuple[str, ...]:
        """The names of the params that an array reaches, in order, without *args."""
        return self._params.positional

    @property
    def rest(self) -> str | None:
        """The name of the param that takes all further elements of an array (*args), or None."""
        return self._params.rest

    def check(self, params: Any) -> None:
        """Check params as decoded from JSON: an array (by position) or an object (by name).

        Raises Invalid with every fault, the JSON Pointers being relative to the params; its name is "unknown-field" if
        there is no other kind of fault, else "invalid-params".
        """
        try:
            converted = self._params.convert(params)
        except msgspec.ValidationError as error:
            raise self._invalid(self._params.faults(params, str(error))) from None
        if self.secrets is not None:
            self._check_secrets(params, self.secrets)
        if self._check is not None:
            found = self._check(**self._params.by_name(converted))
            faults = [Fault(self._params.place(params, fault.pointer), fault.detail) for fault in found]
            if faults:
                raise self._invalid(faults)

    def _check_secrets(self, params: Any, places: Places) -> None:
        """Refuse the mask: whoever sends it has copied params from where they are shown."""
        masked = find_masks(params, places)
        if masked:
            detail = f"{MASK} stands for a secret that is not shown; give the secret itself"
            raise self._invalid([Fault(f"/{escape(str(place))}", detail) for place in masked])

    def bind(self, params: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return the arguments of the function, converted to its types, the Context left out.

        The Context goes in by the name `context_parameter`. Raises Invalid as `check` does.
        """
        try:
            return self._params.bind(params)
        except msgspec.ValidationError as error:
            raise self._invalid(self._params.faults(params, str(error))) from None

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

        Raises ResultError ("result-not-serializable") if it has no JSON text, holds NaN or an infinity, or is not of
        the declared type. Without a declared type bytes are written in base64.
        """
        try:
            text = msgspec.json.encode(value)
            if self._output is None and b"null" not in text:
                return text
            plain = msgspec.to_builtins(value, builtin_types=_NOT_TEXT)
            if self._output is not None:
                msgspec.convert({"v": plain}, self._output)
        except msgspec.ValidationError as error:
            raise _not_serializable(_sentence(refusal_fault(str(error), "", skip=".v"))) from None
        except (TypeError, ValueError, OverflowError, RecursionError) as error:
            raise _not_serializable(f"it cannot be written as JSON ({error})") from None
        # msgspec writes NaN and the infinities as null; a text without null holds none.
        if b"null" in text and not _is_finite(plain):
            raise _not_serializable("it holds NaN or an infinity, which JSON has no word for")
        return text

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


def _not_serializable(what: str) -> ResultError:
    return ResultError("result-not-serializable", f"the result does not fit: {what}"[:500])


def _is_finite(plain: Any) -> bool:
    stack = [plain]
    while stack:
        node = stack.pop()
        if isinstance(node, float):
            if not isfinite(node):
                return False
        elif isinstance(node, dict):
            stack.extend(node.keys())
            stack.extend(node.values())
        elif isinstance(node, list | tuple | set | frozenset):
            stack.extend(node)
    return True


def make_task_type(function: Function, options: Options) -> TaskType:
    """Return the task type of a plain typed function.

    Raises RegistrationError, naming the place and the function, for what cannot be one, and for options out of range.
    """
    signature = read_signature(function)
    is_async = inspect.iscoroutinefunction(function)
    words = read_description(function)
    takes = _input_schema(function, signature, words)
    policy = _read_policy(function, options)
    task_type = TaskType(
        name=_read_name(function, options),
        description=words.text,
        function=function,
        is_async=is_async,
        queue=_read_queue(function, options.queue),
        priority=_read_priority(function, options.priority),
        policy=policy,
        policy_json=msgspec.json.encode(policy),
        memory_limit=_read_memory(function, options.memory_limit, is_async=is_async),
        example=options.example,
        input_schema=takes,
        output_schema=_output_schema(function, signature.returns),
        context_parameter=signature.context_parameter,
        costs=bool(options.costs),
        source=place_of(function),
        retention=_read_retention(function, options.retention),
        secrets=_find_secrets(function, signature, takes),
        _params=Params(signature.parameters, takes),
        _check=_read_check(function, options.check),
        _output=None if signature.returns is Any else make_box(signature.returns),
    )
    return _with_example(task_type)


def _input_schema(function: Function, signature: Signature, words: Description) -> Schema:
    for parameter in signature.parameters:
        reason = unsupported(parameter.type)
        if reason:
            reject(function, f"parameter {parameter.name!r}: {reason}")
        if parameter.default is not ABSENT and parameter.how is not How.REST:
            _check_default(function, parameter)
    return input_schema(signature.parameters, words.parameters)


def _find_secrets(function: Function, signature: Signature, takes: Schema) -> Places | None:
    """Return where the secret params are. Raises RegistrationError for a mark that nothing would heed."""
    if b'"writeOnly":true' in msgspec.json.encode(takes.get("$defs", {})):
        reject(function, "`secret` marks a parameter as a whole: write `name: Annotated[..., secret]` in the function")
    names = frozenset(parameter.name for parameter in signature.parameters if is_secret(parameter.type))
    if not names:
        return None
    params = Params(signature.parameters, takes)
    return Places(names, params.positional, params.rest)


def _check_default(function: Function, parameter: Parameter) -> None:
    """Refuse a default that is not of the annotated type: the schema and forms show it."""
    try:
        msgspec.convert(msgspec.to_builtins(parameter.default), parameter.type)
    except (TypeError, ValueError) as error:
        detail = refusal_fault(str(error), "").detail
        reject(function, f"the default of {parameter.name!r} does not fit its annotation: {detail}")


def _output_schema(function: Function, returns: Any) -> Schema:
    reason = unsupported(returns)
    if reason:
        reject(function, f"its return type: {reason}")
    return output_schema(returns)


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


def _read_name(function: Function, options: Options) -> str:
    name = function.__name__ if options.name is None else options.name
    if not isinstance(name, str) or not re.fullmatch(type_name_pattern, name):
        reject(function, f"name must match {type_name_pattern}, got {name!r}")
    return name


def _read_queue(function: Function, queue: Any) -> str:
    if not isinstance(queue, str) or not re.fullmatch(queue_name_pattern, queue):
        reject(function, f"queue must match {queue_name_pattern}, got {queue!r}")
    return queue


def _read_priority(function: Function, priority: Any) -> int:
    if type(priority) is not int or not -100 <= priority <= 100:
        reject(function, f"priority must be a whole number from -100 to 100, got {priority!r}")
    return priority


def _read_policy(function: Function, options: Options) -> Policy:
    if options.on_crash not in get_args(OnCrash):
        reject(function, f'on_crash must be "retry" or "fail", got {options.on_crash!r}')
    return Policy(
        retry=_read_retry(function, options.retry),
        timeout=_read_timeout(function, options.timeout),
        on_crash=options.on_crash,
    )


def _read_retry(function: Function, retry: Any) -> RetryPolicy:
    policy = RetryPolicy() if retry is None else RetryPolicy(max_attempts=retry) if type(retry) is int else retry
    if not isinstance(policy, RetryPolicy):
        reject(function, f"retry must be the number of attempts or a RetryPolicy, got {retry!r}")
    if type(policy.max_attempts) is not int or not 1 <= policy.max_attempts <= MAX_TRIES:
        reject(function, f"retry must allow 1 to {MAX_TRIES} attempts in all, got {policy.max_attempts!r}")
    if policy.initial < timedelta(0) or policy.max < policy.initial or not 1 <= policy.factor <= 100:
        reject(function, f"retry must have 0 <= initial <= max and a factor from 1 to 100, got {policy!r}")
    return policy


def _read_timeout(function: Function, timeout: Any) -> timedelta | None:
    if timeout is None:
        return None
    limit = _read_duration(timeout)
    if limit <= timedelta(0):
        reject(function, f"timeout must be a timedelta or seconds, more than 0, got {timeout!r}")
    return limit


def _read_check(function: Function, check: Any) -> Callable[..., Iterable[Fault]] | None:
    if check is not None and not callable(check):
        reject(function, f"check must be a function that takes the params and yields faults, got {check!r}")
    return check  # type: ignore[no-any-return]


def _read_retention(function: Function, retention: Any) -> Retention | None:
    if retention is None or retention == "forever":
        return retention  # type: ignore[no-any-return]
    length = _read_duration(retention)
    if not timedelta(0) < length <= MAX_RETENTION:
        reject(
            function, 'retention must be a timedelta or seconds, more than 0 and at most ten years, or "forever", got'
            f" {retention!r}",
        )  # fmt: skip
    return length


def _read_duration(value: Any) -> timedelta:
    """Return a timedelta or seconds as a timedelta; nothing for what is neither."""
    try:
        length = value if isinstance(value, timedelta) else timedelta(seconds=value)
    except (TypeError, ValueError, OverflowError):
        return timedelta(0)
    return timedelta(0) if isinstance(value, bool) else length


def _read_memory(function: Function, limit: Any, *, is_async: bool) -> int | None:
    if limit is None:
        return None
    if is_async:
        reject(function, "memory_limit needs a `def` function: an `async def` one runs inside the service")
    if isinstance(limit, str):
        match = _MEMORY.fullmatch(limit.strip())
        size = int(float(match[1]) * _UNITS[match[2].upper()]) if match else 0
    else:
        size = limit if type(limit) is int else 0
    if size < MIN_MEMORY:
        reject(function, f'memory_limit must be bytes or text such as "512MB", at least 16MB, got {limit!r}')
    return size
