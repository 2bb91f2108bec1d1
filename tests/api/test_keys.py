"""Who is let in where there are API keys, and what each key may do."""

import hashlib
import re
import socket
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
from tests.support.service import Service, plain
from tests.support.waiting import eventually_sync

SCOPES = ("read", "write", "admin")
OPEN = {
    ("GET", "/healthz"),
    ("GET", "/readyz"),
    ("GET", "/problems/{code}"),
    ("GET", "/docs"),
    ("GET", "/openapi.json"),
    ("GET", "/openapi-3.0.json"),
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
    # There is no key that may not read.
    assert need in (None, "read") or "403" in operation["responses"]


def test_the_document_says_what_a_key_is(described: dict[str, Any]):
    scheme = described["components"]["securitySchemes"]["apiKey"]
    assert (scheme["type"], scheme["scheme"]) == ("http", "bearer")


def test_the_page_for_people_tells_the_scopes_too(stranger: httpx.Client):
    operations = stranger.get("/docs").text.split("<h3 ")
    told = {
        re.sub(r"<[^>]+>", "", operation.partition(">")[2].partition("</h3>")[0]): re.findall(
            r"Scope of an API key: <code>(\w+)</code>", operation
        )
        for operation in operations[1:]
    }
    assert told == {f"{method} {path}": [need] if (need := needed(method, path)) else [] for method, path in OPERATIONS}


def test_a_route_that_does_not_say_what_it_needs_is_not_served():
    async def undeclared() -> None:
        """Forgotten."""

    with pytest.raises(LookupError, match="/forgotten does not say which scope it needs"):
        doors([*router.routes(), Route("/forgotten", undeclared)])


WRONG = {
    "no header": [],
    "nothing in it": [""],
    "no secret": ["Bearer"],
    "the secret alone": ["{admin}"],
    "another scheme": ["Basic {admin}"],
    "a scheme that begins alike": ["Bearers {admin}"],
    "a secret of nobody": ["Bearer mp_" + "A" * 43],
    "a secret that is cut": ["Bearer {short}"],
    "more than a secret": ["Bearer {admin}A"],
    "two secrets in one": ["Bearer {admin},{admin}"],
    "two secrets with a space": ["Bearer {admin} {admin}"],
    "the same header twice": ["Bearer {admin}", "Bearer {admin}"],
    "a good one and a bad one": ["Bearer {admin}", "Bearer mp_" + "A" * 43],
    "the digest": ["Bearer {digest}"],
    "60 kB": ["Bearer mp_" + "A" * 60_000],
    "other letters": ["Bearer mp_" + "é" * 43],
    "a tab": ["Bearer\t{admin}"],
}


@pytest.mark.parametrize("what", WRONG)
def test_whatever_is_no_key_gets_the_same_answer(stranger: httpx.Client, issued: dict[str, Any], what: str):
    admin = issued["admin"]
    words = {"admin": admin, "short": admin[:-1], "digest": hashlib.sha256(admin.encode()).hexdigest()}
    headers = [(b"Authorization", value.format(**words).encode()) for value in WRONG[what]]
    for method, path in (("GET", "/workflows"), ("POST", "/workflows"), ("GET", "/workflows/nowhere/events/k")):
        assert refused(stranger.request(method, path, headers=headers))
    assert stranger.get("/readyz", headers=headers).status_code == 200


@pytest.mark.parametrize("form", ["Bearer {}", "bearer {}", "BEARER   {}"])
def test_a_key_may_be_sent_as_http_allows(stranger: httpx.Client, issued: dict[str, Any], form: str):
    assert stranger.get("/workflows", headers={"Authorization": form.format(issued["read"])}).status_code == 200


def test_a_key_elsewhere_than_in_its_header_is_none(stranger: httpx.Client, issued: dict[str, Any]):
    admin = issued["admin"]
    for name in ("api_key", "key", "token", "access_token", "authorization"):
        assert refused(stranger.get("/workflows", params={name: admin}))
        assert refused(stranger.get("/workflows", headers={"Cookie": f"{name}={admin}"}))
    assert refused(stranger.get("/workflows", headers={"X-Api-Key": admin}))
    assert refused(stranger.get("/workflows", headers={"Proxy-Authorization": f"Bearer {admin}"}))


def test_without_a_key_nothing_tells_which_paths_and_methods_there_are(stranger: httpx.Client, issued: dict[str, Any]):
    strange = (
        ("GET", "/nothing"),
        ("GET", "/workflows/"),
        ("GET", "/openapi.json/"),
        ("GET", "/metrics"),
        ("GET", "//healthz"),
        ("GET", "/HEALTHZ"),
        ("GET", "/healthz%2f"),
        ("GET", "/problems/a/b"),
        ("POST", "/healthz"),
        ("GET", "/callbacks/x"),
        ("DELETE", "/workflows"),
        ("OPTIONS", "/workflows"),
        ("TRACE", "/workflows"),
        ("PATCH", "/workflows/x"),
        ("POST", "/workflows/x/%2e%2e"),
    )
    for method, path in strange:
        assert refused(stranger.request(method, path)), (method, path)
    for method, path in strange:
        response = stranger.request(method, path, headers=bearer(issued["read"]))
        assert response.status_code in (403, 404, 405), (method, path)


def test_head_is_asked_for_what_get_is(stranger: httpx.Client, issued: dict[str, Any]):
    response = stranger.head("/workflows")
    assert (response.status_code, response.content) == (401, b"")
    assert stranger.head("/workflows", headers=bearer(issued["read"])).status_code == 200
    assert stranger.head("/healthz").status_code == 200


def test_a_body_is_not_awaited_and_not_judged_before_the_key(keyed: Service, issued: dict[str, Any]):
    """Neither its length, nor its type, nor what is in it: the answer comes while nothing of it has."""
    port = int(keyed.url.rpartition(":")[2])
    for key, status in ((b"", b"401"), (f"Authorization: Bearer {issued['read']}\r\n".encode(), b"403")):
        for length in (b"Content-Length: 10", b"Content-Length: 99999999999", b"Transfer-Encoding: chunked"):
            with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
                head = b"POST /workflows HTTP/1.1\r\nHost: x\r\nContent-Type: text/plain\r\nExpect: 100-continue\r\n"
                connection.sendall(head + key + length + b"\r\n\r\n")
                assert connection.recv(65_536).startswith(b"HTTP/1.1 " + status)


def test_any_host_and_any_origin_is_as_good_as_its_key(stranger: httpx.Client, issued: dict[str, Any]):
    strange = {"Host": "10.1.2.3:8000", "Origin": "https://evil.example"}
    assert stranger.get("/readyz", headers=strange).status_code == 200
    assert refused(stranger.post("/workflows", json={"name": "mute"}, headers=strange))
    response = stranger.post("/workflows", json={"name": "mute"}, headers=strange | bearer(issued["write"]))
    assert response.status_code == 201
    assert "Access-Control-Allow-Origin" not in response.headers


def test_a_page_of_an_allowed_origin_asks_first_without_a_key_and_reads_why_it_was_refused(stranger: httpx.Client):
    page = {"Origin": "https://shop.example"}
    asking = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization"}
    asked = stranger.options("/workflows", headers=page | asking)
    assert asked.status_code == 204
    assert "Authorization" in asked.headers["Access-Control-Allow-Headers"].split(", ")
    assert refused(stranger.options("/workflows", headers={"Origin": "https://evil.example", **asking}))
    answer = stranger.post("/workflows", json={"name": "mute"}, headers=page)
    assert refused(answer)
    assert answer.headers["Access-Control-Allow-Origin"] == "https://shop.example"
    assert "WWW-Authenticate" in answer.headers["Access-Control-Expose-Headers"].split(", ")


def test_a_callback_is_completed_without_a_key(stranger: httpx.Client, issued: dict[str, Any]):
    body = {"name": "scripted", "input": [["callback", "paid", "url"], ["receive", "paid"]]}
    path = "/workflows?wait_for=url&timeout=20"
    started = stranger.post(path, json=body, headers=bearer(issued["write"])).json()
    token = started["events"]["url"]["value"].rpartition("/")[2]
    assert stranger.post(f"/callbacks/{token}", json={"paid": True}).status_code == 204
    ended = stranger.get(f"/workflows/{started['id']}/result?timeout=20", headers=bearer(issued["read"])).json()
    assert ended["status"] == "SUCCEEDED"


def test_the_log_tells_the_name_of_a_key_and_never_its_secret(
    keyed: Service, stranger: httpx.Client, issued: dict[str, Any]
):
    chosen = "a-word-that-somebody-took-for-a-key"
    for headers in (bearer(issued["read"]), bearer(chosen), {"Authorization": f"Basic {chosen}"}):
        stranger.get("/definitions", headers=headers | {"X-Request-Id": "asked-by-name"})
    stranger.get("/definitions", params={"api_key": issued["admin"]})
    stranger.get(f"/definitions/{issued['admin']}", headers=bearer(issued["read"]))

    def told() -> bool:
        lines = [line for line in plain(keyed.log).splitlines() if "asked-by-name" in line]
        return len(lines) == 3 and [("key=read" in line) for line in lines] == [True, False, False]

    eventually_sync(told, message=lambda: keyed.log)
    eventually_sync(lambda: "definitions/mp_***" in keyed.log, message=lambda: keyed.log)
    assert chosen not in keyed.log
    for scope in SCOPES:
        assert issued[scope] not in keyed.log
