"""A thread with an event loop, on which code that blocks has coroutines run."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from contextlib import AbstractAsyncContextManager, ExitStack
from typing import Any, TypeVar

T = TypeVar("T")


class Portal:
    """A loop in a thread of its own, which ends with `close`: it works in a test with a running loop, too."""

    def __init__(self) -> None:
        self._is_open = threading.Event()
        self._thread = threading.Thread(target=asyncio.run, args=[self._serve()], name="tasker.testing", daemon=True)
        self._thread.start()
        self._is_open.wait()

    async def _serve(self) -> None:
        self._loop, self._closing = asyncio.get_running_loop(), asyncio.Event()
        self._is_open.set()
        await self._closing.wait()

    def call(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine on the loop, and return its result. Raises what it raises."""
        if threading.current_thread() is self._thread:
            coroutine.close()
            raise RuntimeError("this call blocks the loop that has to answer it: use it in a `def` function, or a test")
        if not self._thread.is_alive():
            coroutine.close()
            raise RuntimeError("the kit has ended with its `with` block")
        running = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        try:
            return running.result()
        except BaseException:
            running.cancel()  # a KeyboardInterrupt of this thread, say
            raise

    def enter(self, stack: ExitStack, manager: AbstractAsyncContextManager[T]) -> T:
        """Enter an async context manager on the loop; `stack` leaves it there."""
        entered = self.call(_enter(manager))
        stack.callback(lambda: self.call(_leave(manager)))
        return entered

    def close(self) -> None:
        """End what still runs on the loop, and the thread. Idempotent."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._closing.set)
            self._thread.join()


async def _enter(manager: AbstractAsyncContextManager[T]) -> T:
    return await manager.__aenter__()


async def _leave(manager: AbstractAsyncContextManager[Any]) -> None:
    await manager.__aexit__(None, None, None)
