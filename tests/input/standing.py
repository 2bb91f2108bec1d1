"""The workflows that there are while bad requests come in."""

import httpx

from tests.support.service import Service
from tests.support.waiting import eventually_sync

STANDING = {
    "waiting": ("scripted", [["set", "here", "value"], ["set", "count", 1], ["receive", "go"]]),
    "ended": ("scripted", [["set", "here", 1], ["set", "here", 2], ["step", 3], ["step", 4]]),
    "failed": ("scripted", [["fail", "it was to fail"]]),
    "taken": ("echo", {"sku": "A1"}),
}
"""Name and input by id."""


def stand(service: Service) -> None:
    with service.client() as client:
        for id in STANDING:
            begin(client, id, wait=id != "waiting")

        def parked() -> bool:
            return bool(client.get("/workflows/waiting").json()["status"] == "WAITING")

        eventually_sync(parked)


def begin(client: httpx.Client, id: str, *, wait: bool = True) -> None:
    name, input = STANDING[id]
    query = "?wait_for_result=true&timeout=20" if wait else ""
    response = client.post(f"/workflows{query}", json={"name": name, "input": input, "id": id})
    assert response.status_code in (200, 201), response.text
