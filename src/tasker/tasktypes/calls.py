"""What a context can do durably: each call makes an operation, and takes its key at once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from random import Random
from time import monotonic
from typing import Any
from uuid import UUID

from msgspec import to_builtins

from tasker.errors import Fail, ResultError, Retry, Snooze, StepChanged
from tasker.model import RetryPolicy
from tasker.model.steps import Wait
from tasker.rules.lifecycle import MAX_DELAY, backoff, problem
from tasker.tasktypes.children import Brood, Target, codec_of_target, encode_params, first_id, results, type_name_of
from tasker.tasktypes.codecs import Codec, codec_of, returned_by
from tasker.tasktypes.durable import Durable
from tasker.tasktypes.operations import Invoke, Operation, Pause, store, stored_or, wait_for
from tasker.tasktypes.options import read_retry
from tasker.tasktypes.questions import ask, make_asking
from tasker.tasktypes.reporting import Reporter, describe
from tasker.tasktypes.signature import ABSENT
from tasker.tasktypes.steps import BYTES_AT_ONCE, ChildOptions, Sleep, StoreStep
from tasker.tasktypes.stored import read_stored, value_of

_ONCE = RetryPolicy()
_random = Random()  # noqa: S311  it spreads tries over time


class Calls:
    """The calls of one attempt. max_value: bytes of a step's result as JSON."""

    def __init__(self, durable: Durable, reporter: Reporter, attempt: int, max_value: int) -> None:
        self.durable = durable
        self._reporter = reporter
        self._attempt = attempt
        self._max_value = max_value
        self._max_params = max(max_value, BYTES_AT_ONCE)

    def step(
        self,
        name: str,
        function: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        *,
        key: str | None,
        retry: int | RetryPolicy | None,
        returns: Any,
    ) -> Operation[Any]:
        """Run a function once, and return its result."""
        if not callable(function):
            raise TypeError(f"step {name!r}: expected a function, got {function!r:.200}; write `lambda: ...`")
        policy = _ONCE if retry is None else read_retry(retry)
        codec = codec_of(returned_by(_called(function, args)) if returns is ABSENT else returns)
        return self._step(self.durable.take_key(name, key), Invoke(name, function, args, kwargs), codec, policy)

    def sleep(
        self, name: str, units: Mapping[str, float | None], *, key: str | None, until: datetime | None
    ) -> Operation[None]:
        """Sleep for a time, or until one. units: seconds, minutes, hours, days; None for those not given."""
        if not isinstance(name, str):
            raise TypeError(f'a sleep begins with its name: write sleep("cool off", seconds=...), got {name!r:.200}')
        delay, until = _read_sleep(until, units)
        return self._sleep(Sleep(self.durable.take_key(name, key), name, delay, until))

    def ask(
        self,
        name: str,
        type_: Any,
        *,
        key: str | None,
        message: str,
        choices: Sequence[Any] | None,
        timeout: timedelta | float | str | None,
        default: Any,
    ) -> Operation[Any]:
        """Ask a person, and return the answer."""
        asking = make_asking(name, type_, message=message, choices=choices, timeout=timeout, default=default)
        return ask(self.durable, self.durable.take_key(name, key), asking)

    def call(
        self,
        target: Target,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        *,
        name: str | None,
        key: str | None,
        options: ChildOptions | None,
    ) -> Operation[Any]:
        """Start a child, and return its result."""
        params = encode_params(target, args, kwargs, self._max_params)
        return _only(results(self.durable, self._brood(target, [params], name, key, options=options)))

    def map(
        self,
        target: Target,
        items: Iterable[Any],
        more: Sequence[Iterable[Any]],
        *,
        name: str | None,
        key: str | None,
        options: ChildOptions | None,
        max_in_flight: int | None,
        return_errors: bool,
    ) -> Operation[list[Any]]:
        """Start a child for each item, and return their results in order."""
        if max_in_flight is not None and (type(max_in_flight) is not int or max_in_flight < 1):
            raise ValueError(f"max_in_flight must be a whole number from 1 on, got {max_in_flight!r:.200}")
        params = [encode_params(target, args, {}, self._max_params) for args in zip(items, *more, strict=True)]
        brood = self._brood(
            target, params, name, key, options=options, max_in_flight=max_in_flight, may_fail=return_errors
        )
        return results(self.durable, brood)

    def spawn(
        self,
        target: Target,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        *,
        name: str | None,
        key: str | None,
        options: ChildOptions | None,
        detached: bool,
    ) -> tuple[Brood, Operation[UUID]]:
        """Start a child, and return its id; also what `result` needs."""
        params = encode_params(target, args, kwargs, self._max_params)
        brood = self._brood(target, [params], name, key, options=options, is_detached=detached)
        return brood, first_id(self.durable, brood)

    def result(self, brood: Brood) -> Operation[Any]:
        """Wait for a child that was started, and return its result."""
        return _only(results(self.durable, brood))

    def _brood(
        self,
        target: Target,
        params: Sequence[bytes],
        name: str | None,
        key: str | None,
        **others: Any,
    ) -> Brood:
        type_name = type_name_of(target)
        name = type_name if name is None else name
        codec = codec_of_target(target)
        taken = self.durable.take_key(name, key)
        return Brood(key=taken, name=name, type_name=type_name, params=params, codec=codec, **others)

    def _step(self, key: str, invoke: Invoke, codec: Codec, retry: RetryPolicy) -> Operation[Any]:
        step = self.durable.find(key, "step")
        if step is not None:
            return read_stored(key, codec, value_of(step))
        self.durable.begin()
        try:
            value, took = yield from self._tries(key, invoke, retry)
            text, result = self._encoded(codec, value)
            step = yield from store(self.durable, StoreStep(key, invoke.name, text, took), key)
        finally:
            self.durable.end()
        return result if value_of(step) == text else read_stored(key, codec, value_of(step))

    def _tries(self, key: str, invoke: Invoke, retry: RetryPolicy) -> Operation[tuple[Any, float]]:
        self._reporter.step("step_started", {"name": invoke.name, "key": key, "kind": "step"})
        tries = 0
        while True:
            tries += 1
            begun = monotonic()
            try:
                value = yield invoke
            except Exception as error:
                pause = _pause_after(error, tries, retry)
                self._report_failure(key, invoke.name, tries, error, will_retry=pause is not None)
                if pause is None:
                    raise
            else:
                return value, monotonic() - begun
            yield Pause(pause)
            self.durable.check()

    def _report_failure(self, key: str, name: str, tries: int, error: Exception, *, will_retry: bool) -> None:
        shown = problem("task-raised", describe(error), attempt=self._attempt, retryable=will_retry)
        self._reporter.step("step_failed", {"name": name, "key": key, "try": tries, "error": to_builtins(shown)})

    def _encoded(self, codec: Codec, value: Any) -> tuple[bytes, Any]:
        """Return the JSON text of a step's result, and what a rerun will read from it. Raises ResultError."""
        text = codec.encode(value)
        if len(text) > self._max_value:
            detail = f"a step's result takes {len(text):,} bytes as JSON; TASKER_MAX_RESULT allows {self._max_value:,}"
            raise ResultError("result-too-large", detail)
        try:
            return text, codec.decode(text)
        except ValueError as error:
            raise ResultError(
                "result-not-serializable", f"the result of the step cannot be read back: {error}"
            ) from None

    def _sleep(self, request: Sleep) -> Operation[None]:
        step = yield from stored_or(self.durable, request, request.key, "sleep")
        if step.finished_at is None:
            yield from wait_for(self.durable, step.key, Wait(until=step.until))


def _called(function: Callable[..., Any], args: Sequence[Any]) -> Callable[..., Any]:
    """Return the function that a step runs: with `asyncio.to_thread` the one that runs in the thread."""
    if getattr(function, "__module__", None) == "asyncio.threads" and args:
        return args[0]  # type: ignore[no-any-return]
    return function


def _only(operation: Operation[list[Any]]) -> Operation[Any]:
    """Return the one result of an operation."""
    (result,) = yield from operation
    return result


def _read_sleep(until: datetime | None, units: Mapping[str, float | None]) -> tuple[timedelta | None, datetime | None]:
    """Return the length of a sleep, or its end. Raises ValueError."""
    given = {unit: number for unit, number in units.items() if number is not None}
    if bool(given) == (until is not None):
        raise ValueError("sleep takes a duration (seconds=, minutes=, hours=, days=), or until=")
    if until is not None:
        if until.tzinfo is None:
            raise ValueError("until= needs a time zone: for example datetime.now(UTC) + timedelta(hours=1)")
        return None, until
    try:
        delay = timedelta(**given)
    except OverflowError:
        delay = timedelta.max
    if not timedelta(0) <= delay <= MAX_DELAY:
        raise ValueError(f"a sleep lasts 0 to {MAX_DELAY.days:,} days, got {given}")
    return delay, None


def _pause_after(error: Exception, tries: int, retry: RetryPolicy) -> float | None:
    """Return the seconds before the next try of a step; None if there is none."""
    is_final = isinstance(error, Snooze | ResultError | StepChanged) or (isinstance(error, Fail) and not error.retry)
    if is_final or tries >= retry.max_attempts:
        return None
    after = error.after if isinstance(error, Fail | Retry) else None
    return max(backoff(retry, tries, _random), after or timedelta(0)).total_seconds()
