"""What the figures are held against: the least that FastAPI can do. `python -m tests.bench.echo PORT`."""

import sys
from typing import Any

import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel

app = FastAPI()


class Order(BaseModel):
    name: str
    input: dict[str, Any]


@app.post("/echo")
async def echo(order: Order) -> Order:
    return order


if __name__ == "__main__":
    uvicorn.run(app, port=int(sys.argv[1]), log_level="warning", access_log=False)
