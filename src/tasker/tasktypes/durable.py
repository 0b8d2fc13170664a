"""What an attempt remembers, what runs and waits in it, and when it parks. Decides; does nothing by itself.

A function may have many branches: coroutines of a `gather`, threads. Each call of its context is active (a step runs,
something is stored) or waits. As soon as all calls wait, and nothing has happened for as long as one of them has been
patient, the attempt parks: all of them are unwound, and the task waits for whatever is there first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextvars import ContextVar
from threading import Lock

from tasker.errors import StepChanged
from tasker.model.steps import Step, StepKind, Wait, step_key
from tasker.tasktypes.steps import Parking

MAX_NAME = 200
"""Characters of the name or key of a step."""

STEP_UNDER_WAY: ContextVar[str | None] = ContextVar("tasker_step", default=None)
"""The name of the step whose function runs."""

_KINDS: dict[StepKind, str] = {
    "step": "a step",
    "sleep": "a sleep",
    "input": "a question",
    "children": "children",
}


class Durable:
    """The durable side of one attempt, for all threads of its function.

    stored: the steps at its beginning. wake: called once as the attempt begins to park, or is superseded: all calls
    that wait have to look again. wait: what it parks with; None as long as it does not, and if it is superseded.
    """

    def __init__(self, stored: Iterable[Step], wake: Callable[[], None]) -> None:
        self._stored = {step.key: step for step in stored}
        self._wake = wake
        self._uses: dict[str, int] = {}
        self._taken: set[str] = set()
        self._active = 0
        self._waits: dict[object, Wait] = {}
        self._activity = 0
        self._lock = Lock()
        self.is_ending = False
        self.wait: Wait | None = None

    def take_key(self, name: str, key: str | None = None) -> str:
        """Return the key of a call, which counts the uses of its name.

        Raises Parking, ValueError (an unsuitable name or key; one that is used already), RuntimeError (within a step).
        """
        self.check()
        if STEP_UNDER_WAY.get() is not None:
            raise RuntimeError(
                f"{name!r} is called within the step {STEP_UNDER_WAY.get()!r}: a step is one piece; call it outside"
            )
        _check_name("name", name)
        with self._lock:
            use = self._uses[name] = self._uses.get(name, 0) + 1
            taken = step_key(name, use) if key is None else key
            if key is not None:
                _check_name("key", key)
            if taken in self._taken:
                raise ValueError(f"the key {taken!r} is used by another step of this attempt")
            self._taken.add(taken)
        return taken

    def find(self, key: str, kind: StepKind) -> Step | None:
        """Return a stored step. Raises StepChanged if it is of another kind."""
        step = self._stored.get(key)
        if step is not None and step.kind != kind:
            raise StepChanged(key, f"expected {_KINDS[kind]}, but {_KINDS[step.kind]} is stored")
        return step

    def keep(self, step: Step) -> None:
        """Remember a step as it is stored now."""
        self._stored[step.key] = step

    def check(self) -> None:
        """Raise Parking if the attempt ends."""
        if self.is_ending:
            raise Parking(self.wait)

    def begin(self) -> None:
        """A call becomes active; `end` it. Raises Parking."""
        self.check()
        with self._lock:
            self._active += 1
            self._activity += 1

    def end(self) -> None:
        with self._lock:
            self._active -= 1
            self._activity += 1

    def begin_wait(self, wait: Wait) -> object:
        """A call begins to wait; return the token with which it ends that. Raises Parking."""
        self.check()
        token = object()
        with self._lock:
            self._waits[token] = wait
            self._activity += 1
        return token

    def end_wait(self, token: object) -> None:
        with self._lock:
            del self._waits[token]
            self._activity += 1

    @property
    def is_busy(self) -> bool:
        """Whether a call is active."""
        return self._active > 0

    @property
    def activity(self) -> int:
        """Grows whenever a call begins or ends to be active or to wait; see `park`."""
        return self._activity

    def park(self, seen: int) -> None:
        """Begin to park, and raise Parking, if no call is active, and none has been since `activity` was `seen`.

        A branch between two calls is not seen, so it has as long as that to make its next one.
        """
        with self._lock:
            if self._active or self._activity != seen or self.is_ending:
                return
            self.wait = _union(self._waits.values())
            self.is_ending = True
        self._wake()
        self.check()

    def stop(self) -> None:
        """Unwind all calls, for good: the attempt is superseded or cancelled."""
        with self._lock:
            is_first, self.is_ending = not self.is_ending, True
        if is_first:
            self._wake()


def _check_name(what: str, name: object) -> None:
    if not isinstance(name, str) or not 1 <= len(name) <= MAX_NAME or not name.isprintable():
        raise ValueError(
            f"the {what} of a step must be a text of 1 to {MAX_NAME} printable characters, got {name!r:.300}"
        )


def _union(waits: Iterable[Wait]) -> Wait:
    """Return the wait for whatever is there first."""
    found = list(waits)
    moments = [wait.until for wait in found if wait.until is not None]
    return Wait(
        until=min(moments, default=None),
        inputs=tuple(key for wait in found for key in wait.inputs),
        children=tuple(key for wait in found for key in wait.children),
    )
