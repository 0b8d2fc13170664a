"""`map`: a task for each row, submitted in batches; one stream tells which have ended."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar
from uuid import UUID, uuid4

from msgspec import UNSET, structs

from tasker.client.core.batches import MOST_ROWS, BatchCalls, encode_line
from tasker.client.core.effects import NOTHING, Call, Close, Emit, Flow, Pull
from tasker.client.core.events import read_any
from tasker.client.core.exchange import PATIENCE, Exchange, refusal
from tasker.client.core.targets import Target, Wanted, settle
from tasker.client.core.tasks import ENDS, TaskCalls
from tasker.client.errors import ClientError, NotFound, ServiceError, Unreachable
from tasker.wire.batches import BatchItem
from tasker.wire.events import Reset
from tasker.wire.tasks import Task

if TYPE_CHECKING:
    from tasker.client.options import SubmitOptions
    from tasker.tasktypes.codecs import Codec

R = TypeVar("R")

_SLOW = 0.1
"""Seconds that rows are gathered for at most, before those that have come are submitted."""


@dataclass(frozen=True)
class Mapped(Generic[R]):
    """What became of the row of this index, from 0 on.

    task_id: None if the row was refused. error: why there is no result, else None.
    """

    index: int
    row: Any
    task_id: UUID | None
    error: ClientError | None
    value: Any = None

    def result(self) -> R:
        """Return the result. Raises the error: TaskFailed, TaskCancelled, InvalidRequest."""
        if self.error is not None:
            raise self.error
        result: R = self.value
        return result


@dataclass(frozen=True)
class MapCalls:
    """What `Tasker.map` does; see there."""

    exchange: Exchange

    def map(
        self, target: Target, source: Any, *, max_in_flight: int, options: SubmitOptions | None
    ) -> Flow[Mapped[Any]]:
        if max_in_flight < 1:
            raise ValueError(f"max_in_flight must be a whole number from 1 on, got {max_in_flight!r}")
        return _Mapping(self.exchange, target, source, max_in_flight, options).run()


class _Mapping:
    """One call of `map`.

    Its tasks have a tag of their own, by which the stream selects their ends. With options that let another task stand
    for one of them, it selects by the type instead, and tasks may have ended before.
    """

    def __init__(
        self, exchange: Exchange, target: Target, source: Any, max_in_flight: int, options: SubmitOptions | None
    ) -> None:
        self._exchange = exchange
        self._tasks = TaskCalls(exchange)
        self._batches = BatchCalls(exchange)
        self._target, self._source, self._options = target, source, options
        self._room = max_in_flight
        self._tag = f"map-{uuid4().hex}"
        self._count = 0
        self._is_exhausted = False
        self._codec: Codec | None = None
        self._open: dict[UUID, list[tuple[int, Any]]] = {}
        self._selection: dict[str, Any] | None = None
        self._last_id = ""
        self._misses = 0
        self._is_new = True

    def run(self) -> Flow[Mapped[Any]]:
        while not (self._is_exhausted and not self._open):
            while self._room > 0 and not self._is_exhausted:
                yield from self._submit()
            if self._open:
                yield from self._receive()
        yield Close()

    def _submit(self) -> Flow[Mapped[Any]]:
        """Submit the next rows, as many as there is room for, or as come at once."""
        rows: list[tuple[Any, Wanted]] = []
        start = self._exchange.now()
        while len(rows) < min(self._room, MOST_ROWS) and self._exchange.now() - start < _SLOW:
            row = yield Pull(self._source)
            if row is NOTHING:
                self._is_exhausted = True
                break
            rows.append((row, self._settle(row)))
        if not rows:
            return
        if self._selection is None:
            yield from self._select(rows[0][1])
        lines = [encode_line(wanted.as_json(), self._count + place) for place, (_, wanted) in enumerate(rows)]
        answers = yield from self._batches.send(lines, {"Idempotency-Key": str(uuid4())})
        if answers.problem is not None:
            raise answers.problem
        for item in answers.items:
            yield from self._begin(self._count + item.index, rows[item.index][0], item)
        self._count += len(rows)

    def _settle(self, row: Any) -> Wanted:
        if isinstance(row, Mapping):
            args, kwargs = (), dict(row)
        else:
            args, kwargs = row if isinstance(row, tuple) else (row,), {}
        wanted = settle(self._target, args, kwargs, self._options)
        self._codec = wanted.codec
        options = wanted.options
        if not _may_be_another(options):
            options = options.with_fields(tags=(*(options.tags or ()), self._tag))
        return structs.replace(wanted, options=options)

    def _select(self, wanted: Wanted) -> Call[None]:
        """Begin to hear of ends, before there are any."""
        by = {"type": wanted.type} if _may_be_another(wanted.options) else {"tag": self._tag}
        self._selection = {"event": ENDS, **by}
        yield from self._connect()

    def _begin(self, index: int, row: Any, item: BatchItem) -> Flow[Mapped[Any]]:
        """Note what the service said to a row."""
        if item.task_id is UNSET:
            error = None if item.problem is UNSET else refusal(item.status, item.problem)
            yield Emit(Mapped(index, row, None, error))
            return
        self._room -= 1
        self._open.setdefault(item.task_id, []).append((index, row))
        if self._selection is not None and "type" in self._selection:
            yield from self._look_at(item.task_id)

    def _receive(self) -> Flow[Mapped[Any]]:
        """Wait for the next ends; at a heartbeat, look whether one was missed."""
        try:
            heard = yield from self._exchange.read_events()
            has_gap = heard.has_heartbeat and not self._is_new
            self._is_new = False
            for text in heard.events:
                event = read_any(text, self._exchange.url)
                self._last_id, self._misses = event.cursor or self._last_id, 0
                if isinstance(event, Reset):
                    has_gap = True
                elif event.task_id in self._open:
                    yield from self._look_at(event.task_id) if event.task is None else self._end(event.task)
            if has_gap:
                yield from self._look_at_all()
        except (Unreachable, ServiceError) as error:
            yield from self._reconnect(error)

    def _reconnect(self, error: Unreachable | ServiceError) -> Flow[Mapped[Any]]:
        yield Close()
        self._misses += 1
        if self._misses > PATIENCE or not (yield from self._exchange.pause(error, self._misses)):
            raise error
        try:
            yield from self._connect()
            yield from self._look_at_all()
        except (Unreachable, ServiceError) as another:
            yield from self._reconnect(another)

    def _connect(self) -> Call[None]:
        yield from self._exchange.open("/events", query=self._selection, last_id=self._last_id)
        self._is_new = True  # a stream begins with a sign that the service is there

    def _look_at_all(self) -> Flow[Mapped[Any]]:
        for task_id in list(self._open):
            yield from self._look_at(task_id)

    def _look_at(self, task_id: UUID) -> Flow[Mapped[Any]]:
        """Read a task that may have ended."""
        try:
            task = yield from self._tasks.get(task_id)
        except NotFound as error:
            yield from self._close(task_id, error)
            return
        if task.status.is_terminal:
            yield from self._end(task)

    def _end(self, task: Task) -> Flow[Mapped[Any]]:
        try:
            value = self._tasks.result_of(task, self._codec)
        except ClientError as error:
            yield from self._close(task.task_id, error)
        else:
            yield from self._close(task.task_id, None, value)

    def _close(self, task_id: UUID, error: ClientError | None, value: Any = None) -> Iterator[Any]:
        for index, row in self._open.pop(task_id, ()):
            self._room += 1
            yield Emit(Mapped(index, row, task_id, error, value))


def _may_be_another(options: SubmitOptions) -> bool:
    """Tell whether another task may stand for a submission: one that is open, or that has ended."""
    return options.cache is not None or options.unique_key is not None or options.idempotency_key is not None
