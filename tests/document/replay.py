"""Sends the requests of the document's examples to a running service, in their order.

`python -m tests.document.replay > app/api/examples.json.new` records the answers anew, from a service at 127.0.0.1:8000
whose database is empty.
"""

import json
import re
import sys
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import httpx

from app.api import examples
from app.api.openapi import Described, operations

DIFFERS = re.compile(
    r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z"  # a time
    r"|http://127\.0\.0\.1:\d+"
    r"|\b[0-9a-f]{32}\b|\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b"  # the id of a payment, a message
    r"|\bMP-[0-9A-F]{12}\b"
    r"|(?<=next_cursor\": \")[\w-]+"
    r"|\b(?:RUNNING|WAITING)\b"  # which of the two is a matter of a moment, and so
    r"|(?<=wake_at\": )(?:null|\"[^\"]*\")"
)


def answers(client: httpx.Client, document: Described) -> Iterator[tuple[dict[str, Any], httpx.Response]]:
    found = {operation["operationId"]: (method, path) for method, path, operation in operations(document)}
    for exchange in examples.recorded():
        method, path = found[exchange["operation"]]
        for name, value in exchange["path"].items():
            path = path.replace(f"{{{name}}}", quote(value, safe=""))
        body = {"json": exchange["body"]} if "body" in exchange else {}
        yield exchange, client.request(method, path, params=exchange["query"], **body)


def body(response: httpx.Response) -> Any:
    if not response.content:
        return None
    return response.json() if "json" in response.headers["Content-Type"] else response.text


def constant(answer: Any) -> str:
    """What is the same each time."""
    return DIFFERS.sub("…", json.dumps(answer, indent=1, sort_keys=True))


def record() -> None:
    with httpx.Client(base_url="http://127.0.0.1:8000", timeout=40, trust_env=False) as client:
        recorded = [
            {**exchange, "status": response.status_code, "answer": body(response)}
            for exchange, response in answers(client, client.get("/openapi.json").json())
        ]
    json.dump(recorded, sys.stdout, indent=2, ensure_ascii=False)
    sys.stdout.write("\n")


if __name__ == "__main__":
    record()
