"""The dispatcher of a process: makes deliveries from the journal's events, and sends them to the receivers.

The process that does the store's chores makes deliveries; any process may send them. Tasks never wait for this: the
dispatcher reads what is stored, at its own pace, and its requests are limited per receiver and in total.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from random import Random

import msgspec
import structlog

from tasker.clock import Clock
from tasker.engines.protocol import Engine
from tasker.errors import Unavailable
from tasker.model import Change
from tasker.model.groups import GroupEnd
from tasker.model.webhooks import Delivery, DeliveryOutcome, DueDelivery
from tasker.rules.signing import sign
from tasker.webhooks.matching import find_deliveries
from tasker.webhooks.payload import Message, Render, make_group_message, make_message
from tasker.webhooks.rules import PAUSE_AFTER, Answer, decide
from tasker.webhooks.slots import PER_RECEIVER, RequestSlots

PAGE = 500
"""Events that are read at a time."""
STORED_AT_ONCE = 200
"""Approximate number of deliveries per commit: the embedded engine's statements run on the event loop."""
_LOOK = 1.0
"""Seconds between looks at the store without a notification."""
_LOOK_AT_OTHERS = 0.25
"""The same for events of a shared store: other processes notify only of those that somebody waits for."""
_LOOK_TO_HELP = 5.0
"""Seconds between looks for due deliveries while another process dispatches: that one sends them, too."""
_LONGEST_HELP_PAUSE = 40.0
"""Limit of these seconds, which double with each look that finds none."""
_COLLECT = 0.02
"""Seconds between looks while events arrive, so that several are handled together."""
_SKIP_EVERY = 5.0
"""Seconds between moves of the dispatch position to the journal's end while there is no webhook."""
_SAVE_EVERY = 1.0
"""Seconds between saves of the dispatch position, while there are no deliveries to store."""
_FINISH_WITHIN = 5.0
"""Seconds that requests get to end when the service stops; unfinished ones are tried again."""

Post = Callable[[str, dict[str, str], bytes], Awaitable[Answer]]
_decode_end = msgspec.json.Decoder(GroupEnd).decode
_log = structlog.get_logger(__name__)


class Dispatcher:
    """Makes and sends deliveries. post: Sender.post. render: encodes a task. name: distinguishes this process.

    count: called after each attempt with `delivered`, or the name of its failure. has_owners: see RequestSlots.
    """

    def __init__(
        self,
        engine: Engine,
        clock: Clock,
        random: Random,
        *,
        post: Post,
        render: Render,
        name: str,
        count: Callable[[str], None] = lambda _: None,
        has_owners: Callable[[], bool] = lambda: False,
    ) -> None:
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
        self._is_idle: bool | None = None
        """Whether there is no webhook; None while this process does not dispatch, and does not know."""
        self._help_pause = _LOOK_TO_HELP
        self._slots = RequestSlots(has_owners)
        self._sending: set[asyncio.Task[None]] = set()
        self._delivering: asyncio.Task[None] | None = None
        self._changed = asyncio.Event()
        self._stored = asyncio.Event()

    def start(self) -> None:
        """Deliver in the background until `close`."""
        self._delivering = asyncio.create_task(self._repeat(self.deliver, 1, self._stored))

    async def keep_dispatching(self) -> None:
        """Make deliveries as events come, until cancelled."""
        try:
            await self._repeat(self.dispatch, PAGE, self._changed)
        finally:
            self._is_idle = None

    async def close(self) -> None:
        """Begin no more requests, and give those in flight a moment to end."""
        if self._delivering is not None:
            self._delivering.cancel()
            await asyncio.wait([self._delivering])
        if self._sending:
            await asyncio.wait(self._sending, timeout=_FINISH_WITHIN)
        await self.settle(cancel=True)

    def on_changes(self, _: Sequence[Change]) -> None:
        """Look at the journal soon. This is a listener of the engine."""
        self._changed.set()

    async def dispatch(self) -> int:
        """Make the deliveries of the journal's next page; return how many events it had, or 1 if more may follow."""
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
            _log.warning("webhooks.events_missed", reason="the journal no longer reaches back to the dispatch position")
        # Read after the page, so that every webhook created before one of these events is found.
        task_ids = {entry.event.task_id for entry in page.entries}
        subscriptions = await self._store.find_subscriptions(task_ids) if task_ids else []
        for found, cursor in find_deliveries(subscriptions, page, self._clock.now(), at_once=STORED_AT_ONCE):
            if not await self._move(found, cursor):
                break
            await asyncio.sleep(0)  # let other coroutines run even if nothing was stored
        return max(len(page.entries), page.cursor != before)

    async def deliver(self) -> int:
        """Begin to send due deliveries for which slots are free; return how many."""
        free = self._slots.free
        if self._is_idle or free <= 0:
            return 0
        full = self._slots.full()
        found = await self._store.find_due(full=full.receivers, full_owners=full.owners, each=PER_RECEIVER, limit=free)
        due = self._slots.choose(found)
        taken = await self._store.take(due) if due else []
        self._help_pause = _LOOK_TO_HELP if taken else min(2 * self._help_pause, _LONGEST_HELP_PAUSE)
        self._slots.take(taken)
        for one in taken:
            sending = asyncio.create_task(self._send(one))
            self._sending.add(sending)
            sending.add_done_callback(self._sending.discard)
        return len(taken)

    async def settle(self, *, cancel: bool = False) -> None:
        """Return when no request is in flight."""
        sending = tuple(self._sending)
        for task in sending if cancel else ():
            task.cancel()
        if sending:
            await asyncio.wait(sending)

    async def _skip(self) -> None:
        """Move to the end of the journal if there is no webhook: earlier events concern nobody."""
        tail = await self._engine.journal.tail()
        position = await self._store.find_position(
            self._name
        )  # checked after `tail`: a webhook created later gets no events from before its creation
        if position is not None and position.is_idle:
            self._skipped_at = self._clock.monotonic()
            if position.position != tail:
                await self._store.dispatch([], after=position.position, to=tail)

    async def _move(self, found: Sequence[Delivery], cursor: str) -> bool:
        """Store deliveries and the dispatch position; without deliveries, store the position only now and then.

        Return False if another process has moved the position.
        """
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
            self._stored.set()
        return True

    async def _send(self, due: DueDelivery) -> None:
        try:
            await self._deliver_one(due)
        except Unavailable as error:
            _log.warning("webhook.delivery_not_stored", reason=error.detail)
        except Exception:  # a bug of ours: the delivery is tried again after its lease, and delays no other
            _log.exception("webhook.delivery_failed", delivery_id=str(due.delivery.delivery_id))
        finally:
            self._slots.release(due)
            self._stored.set()

    async def _deliver_one(self, due: DueDelivery) -> None:
        delivery = due.delivery
        found = await self._message(due)
        if found is None:
            await self._store.drop(delivery)
            return
        message, headers = found
        now = self._clock.now()
        headers |= sign(due.webhook.signing(now), delivery.message_id, now, message.body)
        answer = await self._post(due.webhook.url, headers, message.body)
        outcome = decide(answer, delivery.tries, self._clock.now(), self._random)
        self._record(due, outcome)
        too_long = f"nothing could be delivered for {PAUSE_AFTER.days} days"
        await self._store.settle(delivery, outcome, failing_before=outcome.at - PAUSE_AFTER, too_long=too_long)

    async def _message(self, due: DueDelivery) -> tuple[Message, dict[str, str]] | None:
        """Return the message and its headers, traceparent included if the task has one; None if the task is erased."""
        delivery = due.delivery
        if delivery.group_end is not None:
            message = make_group_message(due.webhook.format, _decode_end(delivery.group_end))
            return message, {"content-type": message.content_type}
        events = await self._engine.find_events(delivery.task_id, after=delivery.sequence - 1, limit=1)
        task = await self._engine.find(delivery.task_id)
        if task is None or not events or events[0].sequence != delivery.sequence:
            return None
        message = make_message(due.webhook.format, events[0], task, self._render)
        trace = {} if task.traceparent is None else {"traceparent": task.traceparent}
        return message, {"content-type": message.content_type} | trace

    def _record(self, due: DueDelivery, outcome: DeliveryOutcome) -> None:
        self._count("delivered" if outcome.error is None else outcome.error.name)
        self._slots.remember(due, outcome)
        if outcome.error is None:
            return
        delivery = due.delivery
        _log.info(
            "webhook.attempt_failed",
            webhook_id=str(delivery.webhook_id),
            delivery_id=str(delivery.delivery_id),
            attempt=delivery.attempts,
            why=outcome.error.name,
            is_last=outcome.status == "failed",
        )

    async def _repeat(self, once: Callable[[], Awaitable[int]], full: int, event: asyncio.Event) -> None:
        """Call `once` again and again: at once after a full batch, else on the event, and now and then."""
        while True:
            done = 0
            try:
                done = await once()
            except Unavailable as error:
                _log.warning("webhooks.waiting", reason=error.detail)
            except Exception:  # a bug or hand-edited data in the store: the next call may succeed
                _log.exception("webhooks.failed")
            if not done:
                await self._rest(event)
            elif done < full:
                await asyncio.sleep(_COLLECT)

    async def _rest(self, event: asyncio.Event) -> None:
        if event is self._changed and self._is_idle:  # without webhooks no event matters
            await asyncio.sleep(_LOOK)
            return
        try:
            async with asyncio.timeout(self._pause(event)):
                await event.wait()
        except TimeoutError:
            return
        event.clear()

    def _pause(self, event: asyncio.Event) -> float:
        """Return how long to wait for the event, in seconds."""
        if event is self._changed:
            return _LOOK_AT_OTHERS if self._engine.is_shared else _LOOK
        return self._help_pause if self._is_idle is None else _LOOK
