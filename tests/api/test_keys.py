"""Who is let in where there are API keys, and what each key may do."""

import re
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from app.api import router
from app.api.access import doors
from app.api.route import Route
from tests.support.conformance import Conformance
from tests.support.databases import Databases
from tests.support.keys import issue
from tests.support.service import Service

SCOPES = ("read", "write", "admin")
OPEN = {
    ("GET", "/healthz"),
    ("GET", "/readyz"),
    ("GET", "/problems/{code}"),
    ("GET", "/docs"),
    ("GET", "/openapi.json"),
    ("POST", "/callbacks/{token}"),
}
"""What needs no key, and nothing else does without one."""
OPERATIONS = sorted((method, r.path) for r in router.routes() if isinstance(r, Route) for method in r.methods or ())


def needed(method: str, path: str) -> str | None:
    """The contract's rule, told once more."""
    if (method, path) in OPEN:
        return None
    if method in ("GET", "HEAD"):
        return "read"
    bulk = re.fullmatch(r"/workflows/(cancel|resume|fork|delete)", path)
    return "write" if path.startswith("/workflows") and not bulk else "admin"


@pytest.fixture(scope="module")
def issued(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("keys")
    return {"file": folder / "keys", **issue(folder / "keys", **{scope: scope for scope in SCOPES})}


@pytest.fixture(scope="module")
def keyed(
    databases: Databases, template: str, tmp_path_factory: pytest.TempPathFactory, issued: dict[str, Any]
) -> Iterator[Service]:
    settings = {
        "WORKFLOWS": "tests.support.workflows",
        "API_KEYS_FILE": issued["file"],
        "LOG_LEVEL": "debug",
        "CORS_ORIGINS": "https://shop.example",
    }
    with (
        databases.clone(template) as url,
        Service(tmp_path_factory.mktemp("keyed"), {"DATABASE_URL": url, **settings}) as service,
    ):
        yield service
        assert "a request broke" not in service.log, service.log
        assert not re.search(r"mp_[A-Za-z0-9_-]{8}", service.log), "the log has a secret"


@pytest.fixture(scope="module")
def described(keyed: Service) -> dict[str, Any]:
    document: dict[str, Any] = httpx.get(f"{keyed.url}/openapi.json", trust_env=False).json()
    return document


@pytest.fixture
def stranger(keyed: Service, described: dict[str, Any]) -> Iterator[httpx.Client]:
    """A client without a key."""
    with keyed.client() as client:
        client.event_hooks["response"] = [Conformance(described)]
        yield client


def bearer(secret: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {secret}"}


def filled(path: str) -> str:
    return path.replace("{code}", "unauthenticated").replace("{", "").replace("}", "")


def refused(response: httpx.Response) -> bool:
    """Whether it is the one 401, whatever was asked for."""
    if response.status_code != 401:
        return False
    assert response.headers["WWW-Authenticate"] == 'Bearer realm="Milepost"'
    body = response.json()
    assert body.pop("instance") == response.request.url.raw_path.decode().partition("?")[0]
    assert body == {
        "type": "/problems/unauthenticated",
        "title": "Unauthenticated",
        "status": 401,
        "detail": "This needs an API key that is in force, in the header Authorization: Bearer.",
        "code": "unauthenticated",
    }
    return True


@pytest.mark.parametrize(("method", "path"), OPERATIONS)
def test_every_operation_asks_for_the_scope_that_it_needs(
    stranger: httpx.Client, issued: dict[str, Any], method: str, path: str
):
    need = needed(method, path)
    assert refused(stranger.request(method, filled(path))) == (need is not None)
    for scope in SCOPES:
        response = stranger.request(method, filled(path), headers=bearer(issued[scope]), params={"limit": "x"})
        may = need is None or SCOPES.index(scope) >= SCOPES.index(need)
        assert (response.status_code == 403) != may, response.text
        if not may:
            assert response.json()["code"] == "insufficient-scope"
            challenge = f'Bearer realm="Milepost", error="insufficient_scope", scope="{need}"'
            assert response.headers["WWW-Authenticate"] == challenge


@pytest.mark.parametrize(("method", "path"), OPERATIONS)
def test_the_document_tells_the_scope_and_both_refusals(described: dict[str, Any], method: str, path: str):
    need = needed(method, path)
    operation = described["paths"][path][method.lower()]
    assert operation["security"] == ([{"apiKey": [need]}] if need else [])
    assert ("401" in operation["responses"]) == (need is not None)
    assert need is None or "403" in operation["responses"]


def test_the_document_says_what_a_key_is(described: dict[str, Any]):
    scheme = described["components"]["securitySchemes"]["apiKey"]
    assert (scheme["type"], scheme["scheme"]) == ("http", "bearer")


def test_a_route_that_does_not_say_what_it_needs_is_not_served():
    async def undeclared() -> None:
        """Forgotten."""

    with pytest.raises(LookupError, match="/forgotten does not say which scope it needs"):
        doors([*router.routes(), Route("/forgotten", undeclared)])
