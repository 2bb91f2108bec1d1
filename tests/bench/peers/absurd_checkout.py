"""The checkout on Absurd behind FastAPI: `python absurd_checkout.py PORT URL`.

Absurd has no call by which somebody outside of a task waits for an event, so its table is read: for all who wait at
once, every few milliseconds. Workers run in the same process, each with a connection of its own.
"""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import psycopg
import uvicorn
from absurd_sdk import AsyncAbsurd
from absurdctl import BUNDLED_SCHEMA_SQL
from fastapi import FastAPI, HTTPException
from pydantic import BaseModel

PORT, URL = int(sys.argv[1]), sys.argv[2]
WORKERS, CONCURRENCY, POLL = 4, 8, 0.005
PUBLISHED = "select event_name, payload from absurd.e_default where event_name = any(%s)"

spawners: list[AsyncAbsurd] = []
waiting: dict[str, asyncio.Future[Any]] = {}


class Order(BaseModel):
    name: str
    input: dict[str, Any]


async def create_payment(order: dict[str, Any]) -> str:
    return f"https://pay.example/{order['sku']}"


async def confirm(payment: str) -> str:
    return "confirmed"


async def purchase(order: dict[str, Any], ctx: Any) -> str:
    payment = await ctx.step("create_payment", lambda: create_payment(order))
    await ctx.emit_event(f"{ctx.task_id}/payment_url", payment)
    return await ctx.step("confirm", lambda: confirm(payment))


async def watch() -> None:
    async with await psycopg.AsyncConnection.connect(URL, autocommit=True) as connection:
        while True:
            if waiting:
                rows = await (await connection.execute(PUBLISHED, [list(waiting)])).fetchall()
                for name, payload in rows:
                    waiting.pop(name).set_result(payload)
            await asyncio.sleep(POLL)


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[None]:
    async with AsyncExitStack() as opened:
        tasks = [asyncio.create_task(watch())]
        for number in range(WORKERS):
            worker, spawner = AsyncAbsurd(URL), AsyncAbsurd(URL)
            worker.register_task("purchase")(purchase)
            spawner.register_task("purchase")(purchase)
            tasks.append(asyncio.create_task(worker.start_worker(f"w{number}", 120, CONCURRENCY, None, POLL)))
            spawners.append(spawner)
            for client in (worker, spawner):
                opened.push_async_callback(client.close)
        yield
        for task in tasks:
            task.cancel()


app = FastAPI(lifespan=lifespan)


@app.post("/workflows", status_code=201)
async def start(order: Order) -> dict[str, Any]:
    spawners.append(spawner := spawners.pop(0))
    spawned = await spawner.spawn("purchase", order.input)
    return {"id": str(spawned["task_id"])}


@app.get("/workflows/{id}/events/{key}")
async def event(id: str, key: str, timeout: float = 25) -> dict[str, Any]:
    name = f"{id}/{key}"
    future = waiting.setdefault(name, asyncio.get_running_loop().create_future())
    try:
        value = await asyncio.wait_for(asyncio.shield(future), timeout)
    except TimeoutError:
        waiting.pop(name, None)
        raise HTTPException(202) from None
    return {"workflow_id": id, "key": key, "value": value}


def prepare() -> None:
    with psycopg.connect(URL, autocommit=True) as connection:
        if connection.execute("select to_regclass('absurd.queues')").fetchone() == (None,):
            connection.execute(BUNDLED_SCHEMA_SQL)
        connection.execute("select absurd.create_queue('default')")


if __name__ == "__main__":
    prepare()
    uvicorn.run(app, port=PORT, log_level="warning", access_log=False)
