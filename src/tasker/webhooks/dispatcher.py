"""The dispatcher of a process: it makes deliveries of what the journal tells, and tells the receivers.

Events become deliveries in one process at a time, and each of them is delivered by whichever process takes it. Nothing
here keeps a task waiting: it reads what is stored, in its own time, and its requests are bounded for each lane and in
all.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from random import Random

import structlog

from tasker.clock import Clock
from tasker.engines.protocol import Engine
from tasker.errors import Unavailable
from tasker.model import Change
from tasker.model.webhooks import Delivery, DeliveryOutcome, DueDelivery
from tasker.rules.signing import sign
from tasker.webhooks.matching import find_deliveries
from tasker.webhooks.payload import Message, Render, make_message
from tasker.webhooks.places import PER_LANE, Places
from tasker.webhooks.rules import PAUSE_AFTER, Answer, decide

PAGE = 500
"""Events that are read at a time."""
STORED_AT_ONCE = 200
"""Deliveries that are stored in one commit, or a few more: the embedded engine's statements run on the event loop."""
KEEP_DELIVERIES = timedelta(days=7)
"""How long a delivery is kept after its end, or waits for a webhook that is paused."""
_LOOK = 1.0
"""Seconds between looks at the store without news."""
_COLLECT = 0.02
"""Seconds between looks while there are events: so many of them come together."""
_SKIP_EVERY = 5.0
"""Seconds between moves to the journal's end while there is no webhook."""
_SAVE_EVERY = 1.0
"""Seconds between saves of how far it was read, while nobody has to be told anything."""
_FINISH_WITHIN = 5.0
"""Seconds that requests have to end when the service stops; what has not is tried again."""

Post = Callable[[str, dict[str, str], bytes], Awaitable[Answer]]
_log = structlog.get_logger(__name__)


class Dispatcher:
    """post: sends one message (Sender.post). render: shows a task. name: tells this process from the others.

    count: hears of each attempt: `delivered`, or the name of its failure. has_owners: see Places.
    """

    def __init__(
        self, engine: Engine, clock: Clock, random: Random, *, post: Post, render: Render, name: str,
        count: Callable[[str], None] = lambda _: None, has_owners: Callable[[], bool] = lambda: False,
    ) -> None:  # fmt: skip
        self._engine = engine
        self._store = engine.webhooks
        self._clock = clock
        self._random = random
        self._post = post
        self._render = render
        self._name = name
        self._count = count
        self._saved: str | None = None
        self._read: str | None = None
        self._saved_at = self._skipped_at = float("-inf")
        self._is_idle = True
        self._places = Places(has_owners)
        self._sending: set[asyncio.Task[None]] = set()
        self._loops: list[asyncio.Task[None]] = []
        self._news = asyncio.Event()
        self._work = asyncio.Event()

    def start(self) -> None:
        """Go on by itself until `close`."""
        self._loops = [
            asyncio.create_task(self._repeat(self.dispatch, PAGE, self._news)),
            asyncio.create_task(self._repeat(self.deliver, 1, self._work)),
        ]

    async def close(self) -> None:
        """Begin nothing more, and give what is under way a moment to end."""
        for loop in self._loops:
            loop.cancel()
        if self._loops:
            await asyncio.wait(self._loops)
        if self._sending:
            await asyncio.wait(self._sending, timeout=_FINISH_WITHIN)
        await self.settle(cancel=True)

    def heard(self, _: Sequence[Change]) -> None:
        """Something has happened: a listener of the engine."""
        self._news.set()

    async def dispatch(self) -> int:
        """Make deliveries of the journal's next page; return how many events it had, 1 at least if more may come."""
        if self._is_idle and self._clock.monotonic() - self._skipped_at >= _SKIP_EVERY:
            await self._skip()
        position = await self._store.find_position(self._name)
        self._is_idle = position is not None and position.is_idle
        if position is None or position.is_idle:
            return 0
        if position.position != self._saved or self._read is None:
            self._saved = self._read = position.position
        before = self._read
        page = await self._engine.journal.read(before, limit=PAGE)
        if page.was_reset:
            _log.warning("webhooks.events_missed", reason="the journal does not reach back to where it was read")
        # Only now: whoever was there before one of these events happened is found.
        task_ids = {entry.event.task_id for entry in page.entries}
        subscriptions = await self._store.find_subscriptions(task_ids) if task_ids else []
        for found, cursor in find_deliveries(subscriptions, page, self._clock.now(), at_once=STORED_AT_ONCE):
            if not await self._move(found, cursor):
                break
            await asyncio.sleep(0)  # nothing may have been stored: others come in between all the same
        return max(len(page.entries), page.cursor != before)

    async def deliver(self) -> int:
        """Begin to deliver what is due, as far as there is room; return how many."""
        room = self._places.free
        if self._is_idle or room <= 0:
            return 0
        full = self._places.full()
        found = await self._store.find_due(full=full.lanes, full_owners=full.owners, each=PER_LANE, limit=room)
        due = self._places.choose(found)
        taken = await self._store.take(due) if due else []
        self._places.take(taken)
        for one in taken:
            sending = asyncio.create_task(self._send(one))
            self._sending.add(sending)
            sending.add_done_callback(self._sending.discard)
        return len(taken)

    async def settle(self, *, cancel: bool = False) -> None:
        """Return when no request is under way."""
        sending = tuple(self._sending)
        for task in sending if cancel else ():
            task.cancel()
        if sending:
            await asyncio.wait(sending)

    async def _skip(self) -> None:
        """Move to the end of the journal if there is no webhook: nobody has to be told of what came before it."""
        tail = await self._engine.journal.tail()
        position = await self._store.find_position(self._name)  # only now: later webhooks get nothing before it
        if position is not None and position.is_idle:
            self._skipped_at = self._clock.monotonic()
            if position.position != tail:
                await self._store.dispatch([], after=position.position, to=tail)

    async def _move(self, found: Sequence[Delivery], cursor: str) -> bool:
        """Store deliveries and how far the journal was read, the latter alone not each time; False if others have."""
        now = self._clock.monotonic()
        if not found and (cursor == self._saved or now - self._saved_at < _SAVE_EVERY):
            self._read = cursor
            return True
        if not await self._store.dispatch(found, after=self._saved, to=cursor):
            self._read = None
            return False
        self._saved = self._read = cursor
        self._saved_at = now
        if found:
            self._work.set()
        return True

    async def _send(self, due: DueDelivery) -> None:
        try:
            await self._deliver_one(due)
        except Unavailable as error:
            _log.warning("webhook.delivery_not_stored", reason=error.detail)
        except Exception:  # a fault of ours: it is tried again when its lease is over, and keeps no other waiting
            _log.exception("webhook.delivery_failed", delivery_id=str(due.delivery.delivery_id))
        finally:
            self._places.leave(due)
            self._work.set()

    async def _deliver_one(self, due: DueDelivery) -> None:
        delivery = due.delivery
        told = await self._message(due)
        if told is None:
            await self._store.drop(delivery)
            return
        message, headers = told
        now = self._clock.now()
        headers |= sign(due.webhook.signing(now), delivery.message_id, now, message.body)
        answer = await self._post(due.webhook.url, headers, message.body)
        outcome = decide(answer, delivery.tries, self._clock.now(), self._random)
        self._note(due, outcome)
        await self._store.settle(
            delivery, outcome, failing_before=outcome.at - PAUSE_AFTER,
            too_long=f"nothing could be delivered for {PAUSE_AFTER.days} days",
        )  # fmt: skip

    async def _message(self, due: DueDelivery) -> tuple[Message, dict[str, str]] | None:
        """Return what to say, and its headers, with one of the task's trace if it has one; None if it is erased."""
        delivery = due.delivery
        events = await self._engine.find_events(delivery.task_id, after=delivery.sequence - 1, limit=1)
        task = await self._engine.find(delivery.task_id)
        if task is None or not events or events[0].sequence != delivery.sequence:
            return None
        message = make_message(due.webhook.format, events[0], task, self._render)
        trace = {} if task.traceparent is None else {"traceparent": task.traceparent}
        return message, {"content-type": message.content_type} | trace

    def _note(self, due: DueDelivery, outcome: DeliveryOutcome) -> None:
        self._count("delivered" if outcome.error is None else outcome.error.name)
        self._places.note(due, outcome)
        if outcome.error is None:
            return
        delivery = due.delivery
        _log.info(
            "webhook.attempt_failed", webhook_id=str(delivery.webhook_id), delivery_id=str(delivery.delivery_id),
            attempt=delivery.attempts, why=outcome.error.name, is_last=outcome.status == "failed",
        )  # fmt: skip

    async def _repeat(self, once: Callable[[], Awaitable[int]], full: int, news: asyncio.Event) -> None:
        """Do something again and again: at once while there is a full measure, else on news and now and then."""
        while True:
            done = 0
            try:
                done = await once()
            except Unavailable as error:
                _log.warning("webhooks.waiting", reason=error.detail)
            except Exception:  # a fault of ours, or of somebody's hand in the store: the next time may go well
                _log.exception("webhooks.failed")
            if not done:
                await self._rest(news)
            elif done < full:
                await asyncio.sleep(_COLLECT)

    async def _rest(self, news: asyncio.Event) -> None:
        if self._is_idle and news is self._news:  # whatever happens is nobody's business
            await asyncio.sleep(_LOOK)
            return
        try:
            async with asyncio.timeout(_LOOK):
                await news.wait()
        except TimeoutError:
            return
        news.clear()
