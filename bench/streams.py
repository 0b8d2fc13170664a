"""Streams of events: the delay of output while many tasks write, and many followers of everything."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Callable

from bench import load
from bench.measures import LATER, Plan, percentile
from bench.report import Row
from bench.servers import TASKER, Peer, Server, running

TALKERS, CHUNKS_A_SECOND, TALK_FOR = 200, 50, 8
TALKING = Peer("tasker", lambda port, folder: [[*TASKER.commands(port, folder)[0], "--slots", "400"]])
FOLLOWERS, FOLLOWED = 10_000, 50


def streaming(plan: Plan) -> list[Row]:
    """Tasks that each write 50 chunks a second to a reader; submissions with and without them."""
    with running(TALKING, plan.disk) as server:
        idle = load.submit_for(server.port, LATER, seconds=plan.seconds).rate
        beside: list[float] = []

        def submit() -> None:
            time.sleep(2)
            beside.append(load.submit_for(server.port, LATER, seconds=plan.seconds).rate)

        submitting = threading.Thread(target=submit)
        submitting.start()
        took = sorted(asyncio.run(_read_talks(server)))
        submitting.join()
    expected = TALKERS * CHUNKS_A_SECOND * TALK_FOR
    return [
        Row(f"chunks of {TALKERS} talking tasks that came", len(took) / expected, bar=1),
        Row("  p99 from the task to its reader", percentile(took, 99) * 1000, "ms", 250, "at most",
            f"p50 {percentile(took, 50) * 1000:.0f} ms"),
        Row("  submits beside it / alone", beside[0] / idle, bar=0.7, detail=f"{beside[0]:,.0f} and {idle:,.0f}/s"),
    ]  # fmt: skip


async def _read_talks(server: Server) -> list[float]:
    """Submit all talks, follow each, and return the delay of each chunk in seconds."""
    found = await asyncio.gather(*(_read_talk(server.port) for _ in range(TALKERS)))
    return [seconds for one in found for seconds in one]


async def _read_talk(port: int) -> list[float]:
    reader, writer = await asyncio.open_connection(load.HOST, port)
    body = {"type": "talk", "params": [CHUNKS_A_SECOND * TALK_FOR, CHUNKS_A_SECOND]}
    writer.write(load.post("/task", json.dumps(body).encode(), "Accept: text/event-stream"))
    took: list[float] = []
    while line := await reader.readline():
        if line.startswith(b"data: ") and b'"type":"output"' in line:
            now = time.time()
            took += [now - float(said) for said in json.loads(line[6:])["chunk"].split(";")[:-1]]
        if line.startswith(b"event: completed"):
            break
    writer.close()
    return took


def followers(plan: Plan) -> list[Row]:
    """Very many followers of everything, while tasks are submitted one after the other."""
    with running(TASKER, plan.disk) as server:
        before = server.rss()
        start, faults = time.perf_counter(), asyncio.run(_follow(server))
        took, grown = time.perf_counter() - start, server.rss() - before
    return [
        Row(f"faults of {FOLLOWERS:,} who follow {3 * FOLLOWED} events", float(len(faults)), "", 0, "at most",
            ", ".join(faults[:3])),
        Row("  connected and told all after", took, "s"),
        Row("  memory for each", grown / FOLLOWERS / 1024, "KB"),
    ]  # fmt: skip


async def _follow(server: Server) -> list[str]:
    faults: list[str] = []
    connected = asyncio.Semaphore(0)
    following = []
    for first in range(0, FOLLOWERS, 200):
        following += [
            asyncio.create_task(_follower(server.port, number, connected, faults))
            for number in range(first, first + 200)
        ]
        for _ in range(200):
            await connected.acquire()
    await asyncio.sleep(1)
    noop = load.post("/task", b'{"type":"noop","params":[]}')
    await asyncio.to_thread(load.submit_for, server.port, noop, seconds=60, connections=1, limit=FOLLOWED)
    _, late = await asyncio.wait(following, timeout=180)
    for task in late:
        task.cancel()
    return faults + ["not told everything"] * len(late)


async def _follower(port: int, number: int, connected: asyncio.Semaphore, faults: list[str]) -> None:
    """Read until all events have come. It uses several addresses, because one has too few ports."""
    try:
        reader, writer = await asyncio.open_connection(load.HOST, port, local_addr=(f"127.0.0.{2 + number % 5}", 0))
        writer.write(load.get("/events"))
        head = await reader.readuntil(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 200"):
            faults.append(head[:30].decode())
    except OSError as error:
        faults.append(repr(error))
        return
    finally:
        connected.release()
    told, rest = 0, b""
    while told < 3 * FOLLOWED:
        data = await reader.read(65536)
        if not data:
            faults.append("the stream ended")
            return
        *whole, rest = (rest + data).split(b"\nevent: ")
        told += len(whole)
    writer.close()


MEASURES: dict[str, Callable[[Plan], list[Row]]] = {"streaming": streaming, "followers": followers}
