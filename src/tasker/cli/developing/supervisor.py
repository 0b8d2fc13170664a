"""The supervisor of `tasker dev`: it watches the code, has it loaded by a fresh process, and lets that one serve.

It runs no code of the user's. While one process ends and the next begins, requests wait at the socket that it holds.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
from collections.abc import AsyncIterator, Coroutine, Iterable
from time import monotonic
from typing import Any

from msgspec import structs
from watchfiles import awatch

from tasker.cli.developing.files import Sources, name_files, shorten
from tasker.cli.developing.messages import Loaded, Order, Refused
from tasker.cli.developing.process import Process, Terminal
from tasker.cli.exits import Exit
from tasker.cli.terminal import note

_SETTLE = 0.05
"""Seconds without a change until the files are taken: editors write several times, and some empty a file first."""
_LOOK_EVERY = 1.0
"""Seconds between looks at the files, whatever the watch reports: it misses a folder that was deleted and came back."""
_YOUNG = 5.0
"""Seconds: a service that ends by itself earlier is started again at the next change only."""
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Supervisor:
    """Serves on `bound` until a signal comes. order: what the processes are told; the first one prints the banner."""

    def __init__(self, bound: socket.socket, order: Order, targets: Iterable[str]) -> None:
        self._bound = bound
        self._order = order
        self._sources = Sources(targets)
        self._terminal = Terminal()
        self._stirred = asyncio.Event()
        self._stopping = asyncio.Event()
        self._current: Process | None = None
        self._spare: Process | None = None
        self._loaded = Loaded({}, {}, (), 0.0)

    async def run(self) -> int:
        """Return the exit code. Only the first signal lets running tasks end; the second ends all at once."""
        loop = asyncio.get_running_loop()
        for number in _SIGNALS:
            loop.add_signal_handler(number, self._on_signal)
        async with self._watching():
            code = await self._begin()
            if code is not None:
                return code
            while not self._stopping.is_set():
                await self._step()
            if self._spare is not None:
                await self._spare.kill()
            return 0 if self._current is None else await self._current.stop()

    def _on_signal(self) -> None:
        if self._stopping.is_set() and self._current is not None:
            self._current.terminate()  # its second signal
        self._stopping.set()
        self._stirred.set()

    async def _begin(self) -> int | None:
        """Start the first service, even with code that cannot be loaded; return an exit code if it cannot start."""
        before = self._sources.look()
        process = await self._start()
        found = await self._unless_stopping(process.load(self._order))
        if isinstance(found, Loaded):
            self._loaded = found
            self._sources.take(before, found.files, failed=bool(found.faults))
            if await self._unless_stopping(process.serve()):
                self._current = process
                self._order = structs.replace(self._order, is_first=False)
                return None
        elif isinstance(found, Refused):
            note(f"tasker: {found.detail}")
            return await process.ended
        code = await process.stop()
        return Exit.OK if self._stopping.is_set() else code or Exit.USAGE

    async def _step(self) -> None:
        """Wait for something to do, and do it."""
        current = self._current
        waiting: list[asyncio.Task[Any]] = [asyncio.create_task(self._stirred.wait())]
        if current is not None:
            waiting.append(current.ended)
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        waiting[0].cancel()
        if self._stopping.is_set():
            return
        if current is not None and current.ended.done():
            await self._replace_ended(current)
            return
        self._stirred.clear()
        now = await self._settled()
        if changed := self._sources.changed(now):
            await self._reload(now, changed)
        if self._spare is None and not self._stopping.is_set():
            self._spare = await self._start()

    async def _start(self) -> Process:
        return await Process.start(self._bound, self._terminal, has_input=self._order.in_process)

    async def _take_spare(self) -> Process:
        """Return a process that has loaded Tasker already, if there is one that lives."""
        spare, self._spare = self._spare, None
        return await self._start() if spare is None or spare.ended.done() else spare

    async def _replace_ended(self, current: Process) -> None:
        self._current = None
        is_young = monotonic() - current.serving_since < _YOUNG
        note(f"the service has ended by itself ({current.describe_end()}); it starts again {_when(is_young)}")
        if not is_young:
            await self._reload(self._sources.look(), [])

    async def _settled(self) -> dict[str, str]:
        """Return the digests of the files once they have not changed for a moment."""
        now = self._sources.look()
        while True:
            await asyncio.sleep(_SETTLE)
            before, now = now, self._sources.look()
            if now == before:
                return now

    async def _reload(self, now: dict[str, str], changed: list[str]) -> None:
        """Load the code in a fresh process, and let it serve; keep the old one if the code cannot be loaded."""
        begun = monotonic()
        process = await self._take_spare()
        found = await self._load(process, now)
        if found is None:
            await process.kill()  # something has changed again, or we stop
            return
        faults = self._faults_of(found)
        files = found.files if isinstance(found, Loaded) else {}
        self._sources.take(now, files, failed=bool(faults))
        if not isinstance(found, Loaded) or faults:
            await process.kill()
            self._complain(faults)
            return
        if self._current is not None:
            await self._current.stop()
        self._current = None
        if not await process.serve():
            note(f"the service did not start ({process.describe_end()}); it is tried again {_when(True)}")
            return
        self._current = process
        took = monotonic() - begun
        note(f"reloaded {name_files(changed) or 'all'} in {took:.1f} s{_describe(self._loaded.types, found.types)}")
        self._loaded = found

    async def _load(self, process: Process, now: dict[str, str]) -> Loaded | Refused | None:
        """Return what the process has loaded; None if a file changes meanwhile, or we stop."""
        loading = asyncio.create_task(process.load(self._order))
        while not loading.done():
            stirred = asyncio.create_task(self._stirred.wait())
            await asyncio.wait([loading, stirred], return_when=asyncio.FIRST_COMPLETED)
            stirred.cancel()
            if self._stopping.is_set():
                break
            if self._stirred.is_set():
                self._stirred.clear()
                if self._sources.look() != now:
                    self._stirred.set()
                    break
        if not loading.done():
            loading.cancel()
            return None
        return loading.result()

    def _faults_of(self, found: Loaded | Refused) -> list[str]:
        """Return what is wrong with the code; not what was already wrong with the code that runs."""
        if isinstance(found, Refused):
            return [found.detail]
        known = {fault.target for fault in self._loaded.faults}
        return [fault.detail for fault in found.faults if fault.target not in known]

    def _complain(self, faults: Iterable[str]) -> None:
        goes_on = "the code from before goes on" if self._current is not None else "nothing runs until it is corrected"
        for fault in faults:
            note(f"not reloaded, {goes_on}: {shorten(fault)}")

    async def _unless_stopping(self, doing: Coroutine[Any, Any, object]) -> object:
        """Return what a coroutine returns; None if a signal comes first."""
        task, stopping = asyncio.create_task(doing), asyncio.create_task(self._stopping.wait())
        await asyncio.wait([task, stopping], return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        if task.done():
            return task.result()
        task.cancel()
        return None

    @contextlib.asynccontextmanager
    async def _watching(self) -> AsyncIterator[None]:
        watching = asyncio.create_task(self._keep_watching())
        try:
            yield
        finally:
            watching.cancel()
            await asyncio.wait([watching])

    async def _keep_watching(self) -> None:
        """Have the files looked at when something happens in their folders, and now and then."""
        while True:
            folders, stop = self._sources.folders(), asyncio.Event()
            watch = asyncio.create_task(self._watch(folders, stop))
            try:
                while self._sources.folders() == folders and not watch.done():
                    await asyncio.sleep(_LOOK_EVERY)
                    self._stirred.set()
            finally:
                stop.set()
                await asyncio.wait([watch])

    async def _watch(self, folders: list[str], stop: asyncio.Event) -> None:
        with contextlib.suppress(OSError, RuntimeError):  # a folder has gone: the next look notices
            async for _ in awatch(*folders, stop_event=stop, recursive=False, step=20, watch_filter=None):
                self._stirred.set()


def _when(at_change: bool) -> str:
    return "with the next change" if at_change else "now"


def _describe(before: dict[str, str], after: dict[str, str]) -> str:
    """Return which types are new (+), other (~) and gone (-): `: +resize, ~sum2`."""
    signs = [f"+{name}" for name in after if name not in before]
    signs += [f"~{name}" for name in after if name in before and before[name] != after[name]]
    signs += [f"-{name}" for name in before if name not in after]
    return f": {', '.join(signs)}" if signs else ""
