"""A server that speaks OpenAI's protocol on loopback, and says what a test wants."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import Any, ParamSpec, Self, TypeVar

from tests.gpt.fault_server import Exchange, FaultServer, completed, delta, fault_server

P = ParamSpec("P")
R = TypeVar("R")


class ModelServer:
    """Answers each request with the next of `texts`. bodies: of the requests so far."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.bodies: list[Any] = []
        self._stack = AsyncExitStack()
        self._server: FaultServer

    @property
    def url(self) -> str:
        return self._server.url

    async def __aenter__(self) -> Self:
        self._server = await self._stack.enter_async_context(fault_server(self._answer))
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def run_beside(self, do: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Run in a thread what calls this server."""
        return await asyncio.to_thread(do, *args, **kwargs)

    async def _answer(self, exchange: Exchange) -> None:
        self.bodies.append(exchange.body)
        await exchange.stream(delta(self.texts[len(self.bodies) - 1]), completed())
