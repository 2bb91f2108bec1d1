"""The checkout on DBOS behind FastAPI: `python dbos_checkout.py PORT URL default|tuned|queue`.

`default` is as its documentation begins: plain functions, nothing set. `tuned` has what was found to be fastest.
`queue` is the same, with the workflows started by way of a queue.
"""

import sys
from typing import Any

import uvicorn
from dbos import DBOS, DBOSConfig
from fastapi import FastAPI
from pydantic import BaseModel

PORT, URL, MODE = int(sys.argv[1]), sys.argv[2], sys.argv[3]

DEFAULT: DBOSConfig = {"name": "bench", "system_database_url": URL}
TUNED: DBOSConfig = {
    **DEFAULT,
    "log_level": "WARNING",
    "sys_db_pool_size": 40,
    "sys_db_polling_concurrency": 0,
    "max_executor_threads": 96,
    "notification_coalesce_sec": 0.001,
    "notification_listener_polling_interval_sec": 0.01,
}

app = FastAPI()
DBOS(config=DEFAULT if MODE == "default" else TUNED)


class Order(BaseModel):
    name: str
    input: dict[str, Any]


@DBOS.step()
def create_payment(order: dict[str, Any]) -> str:
    return f"https://pay.example/{order['sku']}"


@DBOS.step()
def confirm(payment: str) -> str:
    return "confirmed"


@DBOS.workflow()
def purchase(order: dict[str, Any]) -> str:
    payment = create_payment(order)
    DBOS.set_event("payment_url", payment)
    return confirm(payment)


@app.post("/workflows", status_code=201)
def start(order: Order) -> dict[str, Any]:
    if MODE == "queue":
        handle = DBOS.enqueue_workflow("checkouts", purchase, order.input)
    else:
        handle = DBOS.start_workflow(purchase, order.input)
    return {"id": handle.workflow_id}


@app.get("/workflows/{id}/events/{key}")
def event(id: str, key: str, timeout: float = 25) -> dict[str, Any]:
    return {"workflow_id": id, "key": key, "value": DBOS.get_event(id, key, timeout)}


if __name__ == "__main__":
    DBOS.launch()
    if MODE == "queue":
        DBOS.register_queue("checkouts", polling_interval_sec=0.01)
    if MODE == "default":
        uvicorn.run(app, port=PORT)
    else:
        uvicorn.run(app, port=PORT, log_level="warning", access_log=False)
