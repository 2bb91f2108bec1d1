"""Begin here: what Milepost does, one idea at a time, in the order of the files' names.

Every test talks over HTTP to the service as `make run` starts it, with a database of its own. The
workflows are in `workflows.py`.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from tests.support import ways
from tests.support.databases import Databases
from tests.support.service import Service

SEATS = 40
"""So many requests may wait at once here; see the test that fills them all."""


@pytest.fixture(scope="session")
def database(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, object]]:
    """The setting that gives the service its database: its own, if no pooler is to stand before it."""
    if not ways.POOLED:
        yield {"DATA_DIR": tmp_path_factory.mktemp("data")}
        return
    databases: Databases = request.getfixturevalue("databases")
    with databases.clone(request.getfixturevalue("template")) as url:
        # Nobody sees at once that a killed service is gone.
        yield {"DATABASE_URL": url, "TIME_TO_LIVE": 1, "BEAT": 0.2}


@pytest.fixture(scope="session")
def milepost(database: dict[str, object], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """The service. A test may kill it, and start it again."""
    folder = tmp_path_factory.mktemp("fundamentals")
    settings = {
        **database,
        "WORKFLOWS": "tests.fundamentals.workflows",
        "EXAMPLES": False,
        "WAITING_LIMIT": SEATS,
        "LINGER": 0.2,
    }
    with Service(folder, settings) as service:
        yield service
        assert service.terminate() == 0, service.log
        assert "Traceback" not in service.log, service.log


@pytest.fixture
def client(milepost: Service) -> Iterator[httpx.Client]:
    with milepost.client() as client:
        yield client


@pytest.fixture
def start(client: httpx.Client) -> Callable[..., str]:
    """Start a workflow, and return its id."""

    def start(name: str, input: Any = None, **envelope: Any) -> str:
        response = client.post("/workflows", json={"name": name, "input": input, **envelope})
        assert response.status_code == 201, response.text
        return str(response.json()["id"])

    return start


@pytest.fixture
def send(client: httpx.Client) -> Callable[..., httpx.Response]:
    """Send a message to a workflow."""

    def send(id: str, topic: str, payload: Any, key: str | None = None, **query: Any) -> httpx.Response:
        headers = {"Idempotency-Key": key} if key else {}
        body = {"topic": topic, "payload": payload}
        return client.post(f"/workflows/{id}/messages", json=body, params=query, headers=headers)

    return send


@pytest.fixture
def write(send: Callable[..., httpx.Response]) -> Callable[[str, str, Any], None]:
    """Have a diary publish something; returns when that is committed."""

    def write(id: str, key: str, value: Any) -> None:
        response = send(id, "entry", {"key": key, "value": value}, wait_for=key)
        assert response.json()["events"][key]["state"] == "set", response.text

    return write


@pytest.fixture
def result(client: httpx.Client) -> Callable[[str], dict[str, Any]]:
    """Wait for a workflow's end, and return the workflow."""

    def result(id: str) -> dict[str, Any]:
        response = client.get(f"/workflows/{id}/result", params={"timeout": 25})
        assert response.status_code == 200, response.text
        return dict(response.json())

    return result


@pytest.fixture
def meanwhile() -> Iterator[Callable[..., Future[Any]]]:
    """Have a call under way while the test goes on."""
    with ThreadPoolExecutor(SEATS + 10) as threads:
        yield threads.submit
