"""The least work of a server: Granian answers 202 with a fixed task. It shows the limit of the load generator.

Run as `python -m bench.peers.echo PORT`.
"""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import uvloop
from granian.constants import Interfaces
from granian.server.embed import Server

Message = MutableMapping[str, Any]
BODY = (
    b'{"task_id":"01890000-0000-7000-8000-000000000000","type":"sum","params":[4,2],"status":"pending",'
    b'"reason":"queued","queue":"default","priority":0,"result":null,"error":null,"progress":null,"attempt":0,'
    b'"tries_left":1,"created_at":"2026-01-01T00:00:00.000000Z","run_at":null,"started_at":null,"finished_at":null}'
)
START = {
    "type": "http.response.start",
    "status": 202,
    "headers": [(b"content-type", b"application/json"), (b"content-length", str(len(BODY)).encode())],
}


async def app(
    scope: Message, receive: Callable[[], Awaitable[Message]], send: Callable[[Message], Awaitable[None]]
) -> None:
    await receive()
    await send({**START, "status": 202 if scope["method"] == "POST" else 200})
    await send({"type": "http.response.body", "body": BODY})


async def main(port: int) -> None:
    await Server(app, "127.0.0.1", port, interface=Interfaces.ASGINL, backlog=4096, log_enabled=False).serve()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1])))
