"""One service for all tests over HTTP; each test keeps to workflows of its own."""

import socket
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any
from uuid import uuid4

import httpx
import pytest

from tests.support.conformance import Conformance
from tests.support.databases import Databases
from tests.support.service import Service
from tests.support.waiting import eventually_sync

ACTIVE = ("QUEUED", "RUNNING", "WAITING")


@pytest.fixture(scope="session")
def api(databases: Databases, template: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    settings = {"WORKFLOWS": "tests.support.workflows", "CORS_ORIGINS": "https://shop.example"}
    with (
        databases.clone(template) as url,
        Service(tmp_path_factory.mktemp("api"), {"DATABASE_URL": url, **settings}) as service,
    ):
        yield service
        assert "a request broke" not in service.log, service.log


@pytest.fixture(scope="session")
def conformance(api: Service) -> Conformance:
    return Conformance(httpx.get(f"{api.url}/openapi.json", trust_env=False).json())


@pytest.fixture
def client(api: Service, conformance: Conformance) -> Iterator[httpx.Client]:
    with api.client() as client:
        client.event_hooks["response"] = [conformance]
        yield client


@pytest.fixture
def start(client: httpx.Client) -> Callable[..., str]:
    """Start a scripted workflow; returns its id."""

    def start(*script: list[Any], **envelope: Any) -> str:
        body = {"name": "scripted", "input": list(script), "id": f"w-{uuid4()}", **envelope}
        response = client.post("/workflows", json=body)
        assert response.status_code == 201, response.text
        return str(response.json()["id"])

    return start


@pytest.fixture
def send(client: httpx.Client) -> Callable[..., None]:
    """Send a message to a workflow."""

    def send(id: str, topic: str = "go", payload: Any = None) -> None:
        assert client.post(f"/workflows/{id}/messages", json={"topic": topic, "payload": payload}).status_code == 201

    return send


@pytest.fixture
def ended(client: httpx.Client) -> Callable[[str], dict[str, Any]]:
    """Wait for the end of a workflow; returns it."""

    def ended(id: str) -> dict[str, Any]:
        response = client.get(f"/workflows/{id}/result", params={"timeout": 20})
        assert response.status_code == 200, response.text
        workflow: dict[str, Any] = response.json()
        return workflow

    return ended


@pytest.fixture
def meanwhile() -> Iterator[Callable[..., "Future[Any]"]]:
    """Have a call under way while the test goes on."""
    with ThreadPoolExecutor(8) as threads:
        yield threads.submit


@pytest.fixture
def at_position(client: httpx.Client) -> Callable[[str, int], None]:
    """Wait until a workflow has set so many events."""

    def at_position(id: str, position: int) -> None:
        eventually_sync(lambda: client.get(f"/workflows/{id}/history").json()["position"] >= position)

    return at_position


@pytest.fixture
def raw(api: Service) -> Callable[..., httpx.Response]:
    """Send a request target as it is; clients tidy theirs up."""

    def raw(target: bytes, method: bytes = b"GET", headers: bytes = b"Host: localhost\r\n") -> httpx.Response:
        port = int(api.url.rpartition(":")[2])
        with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
            connection.sendall(method + b" " + target + b" HTTP/1.1\r\n" + headers + b"Connection: close\r\n\r\n")
            answer = b"".join(iter(lambda: connection.recv(65_536), b""))
        head, _, body = answer.partition(b"\r\n\r\n")
        status_line, *lines = head.split(b"\r\n")
        pairs = [(name, value.strip()) for name, _, value in (line.partition(b":") for line in lines)]
        return httpx.Response(int(status_line.split()[1]), headers=pairs, content=body)

    return raw
