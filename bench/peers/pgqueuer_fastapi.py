"""FastAPI with PgQueuer used plainly: its QueueManager, and a row of our own for each task's result.

The database comes in DATABASE_URL. Set-up: `python -m bench.peers.pgqueuer_fastapi install`; web:
`uvicorn bench.peers.pgqueuer_fastapi:app`; worker: `python -m bench.peers.pgqueuer_fastapi work`.
A task's id is its job's number as a UUID, which saves the peer an index.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

import asyncpg
import uvloop
from fastapi import FastAPI
from pgqueuer import AsyncpgDriver, AsyncpgPoolDriver, Job, Queries, QueueManager
from pydantic import BaseModel

URL = os.environ["DATABASE_URL"]
BATCH = 100  # ten times its default, which is slower
POOL_SIZE = 8  # as Tasker's


class Submission(BaseModel):
    type: str
    params: list[Any]


@asynccontextmanager
async def _connect(app: FastAPI) -> AsyncIterator[None]:
    async with asyncpg.create_pool(URL, min_size=POOL_SIZE, max_size=POOL_SIZE) as pool:
        app.state.pool = pool
        app.state.queries = Queries(AsyncpgPoolDriver(pool))
        yield


app = FastAPI(lifespan=_connect)


@app.post("/task", status_code=202)
async def submit(task: Submission) -> dict[str, Any]:
    [job_id] = await app.state.queries.enqueue(task.type, json.dumps(task.params).encode())
    return {"task_id": str(UUID(int=job_id)), "type": task.type, "params": task.params, "status": "pending"}


@app.get("/task/{task_id}")
async def get(task_id: UUID) -> dict[str, Any]:
    row = await app.state.pool.fetchrow("SELECT result FROM result WHERE job_id = $1", task_id.int)
    if row is None:
        return {"task_id": str(task_id), "status": "pending", "result": None}
    return {"task_id": str(task_id), "status": "completed", "result": json.loads(row["result"])}


@app.get("/readyz")
async def ready() -> str:
    return "ok"


async def install() -> None:
    connection = await asyncpg.connect(URL)
    await Queries(AsyncpgDriver(connection)).install()
    await connection.execute("CREATE TABLE result (job_id bigint PRIMARY KEY, result json NOT NULL)")
    await connection.close()


async def work() -> None:
    connection = await asyncpg.connect(URL)
    manager = QueueManager(Queries(AsyncpgDriver(connection)))
    async with asyncpg.create_pool(URL, min_size=POOL_SIZE, max_size=POOL_SIZE) as pool:

        async def keep(job: Job, result: object) -> None:
            await pool.execute("INSERT INTO result VALUES ($1, $2)", int(job.id), json.dumps(result))

        @manager.entrypoint("sum")
        async def sum_numbers(job: Job) -> None:
            await keep(job, sum(json.loads(job.payload or b"[]")))

        @manager.entrypoint("noop")
        async def noop(job: Job) -> None:
            await keep(job, None)

        await manager.run(batch_size=BATCH)


if __name__ == "__main__":
    uvloop.run({"install": install, "work": work}[sys.argv[1]]())
