"""What the figures are held against: the least that web frameworks can do. `python -m tests.bench.echo PORT [NAME]`."""

import json
import sys
from typing import Any

import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

app = FastAPI()


class Order(BaseModel):
    name: str
    input: dict[str, Any]


@app.post("/echo")
async def echo(order: Order) -> Order:
    return order


async def echo_json(request: Request) -> JSONResponse:
    return JSONResponse(await request.json())


async def echo_bytes(scope: Any, receive: Any, send: Any) -> None:
    """Reads the JSON and writes it, as the others do, with nothing between."""
    assert scope["type"] == "http"
    text, more = b"", True
    while more:
        message = await receive()
        text, more = text + message["body"], message.get("more_body", False)
    body = json.dumps(json.loads(text or b"null"), separators=(",", ":")).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


APPS: dict[str, Any] = {
    "fastapi": app,
    "starlette": Starlette(routes=[Route("/echo", echo_json, methods=["POST"])]),
    "asgi": echo_bytes,
}

if __name__ == "__main__":
    _, port, *names = sys.argv
    uvicorn.run(APPS[names[0] if names else "fastapi"], port=int(port), log_level="warning", access_log=False)
