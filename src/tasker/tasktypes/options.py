"""Read and check the options of `@task`; errors name every wrong one."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields
from datetime import timedelta
from difflib import get_close_matches
from typing import Any, Literal, TypeVar, get_args

import msgspec
from msgspec import structs

from tasker.errors import Fault
from tasker.model import MAX_RETENTION, OnCrash, Policy, Retention, RetryPolicy, queue_name_pattern, type_name_pattern
from tasker.tasktypes.signature import Function, reject
from tasker.validation.faults import refusal_fault

MARK = "__tasker__"
"""The attribute with the options of a function that is a task."""
MAX_TRIES = 100
MIN_MEMORY = 16 * 1000 * 1000
"""Bytes; a child process that has just started takes more already."""

_UNITS = {"B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}
_MEMORY = re.compile(r"(\d+(?:\.\d+)?) *([KMG]i?B|B)", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The options of a function's tasks; see `tasker.task`."""

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
    """Options of which some have unknown names; `unknown` has these."""

    unknown: tuple[str, ...]


class _Wrong(ValueError):
    """An option is wrong; the message says how."""


T = TypeVar("T")


def read_options(function: Function, options: Options, *, is_async: bool) -> dict[str, Any]:
    """Return the fields of a TaskType that the options set. Raises RegistrationError with every fault."""
    faults = [_unknown_option(name) for name in options.unknown] if isinstance(options, Misspelt) else []

    def read(reader: Callable[[], T]) -> T | None:
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
    retry = read(lambda: read_retry(options.retry))
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


def read_retry(retry: Any) -> RetryPolicy:
    """Return the policy of a number of tries, or of none. Raises ValueError."""
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
    """Return a timedelta or seconds as a timedelta; zero for anything else."""
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
