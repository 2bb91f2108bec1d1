"""What holds for every operation: bodies, errors, paths, headers, limits."""

import json
import re
import socket
import struct
from uuid import uuid4

import pytest

from app.errors import known

JSON = {"Content-Type": "application/json"}


def start_raw(client, body, **headers):
    return client.post("/workflows?wait_for_result=true&timeout=20", content=body, headers={**JSON, **headers})


class TestValues:
    @pytest.mark.parametrize(
        "value",
        [
            '{"z":1,"a":2,"":3}',
            "[1,1.0,-0.0,0.1,1e22,5e-324,1.7976931348623157e308]",
            "12345678901234567890123",
            "9" * 4_000,
            '"caf\u00e9 cafe\u0301 \U0001f600 \\u2028 \\" \\\\ \\/ \\n"',
            "null",
            "false",
            '""',
            "[" * 100 + "]" * 100,
        ],
    )
    def test_a_value_comes_back_equal(self, client, value):
        response = start_raw(client, f'{{"name": "echo", "input": {value}}}')
        assert response.status_code == 201, response.text
        returned = json.loads(response.text)
        expected = json.loads(value)
        for found in (returned["input"], returned["output"]):
            assert repr(found) == repr(expected)

    @pytest.mark.parametrize(
        ("value", "pointer"),
        [
            ("NaN", "/input"),
            ("[1, Infinity]", "/input/1"),
            ("-1e400", "/input"),
            ("[" * 101 + "]" * 101, "/input" + "/0" * 100),
            ("[" * 5_000 + "]" * 5_000, "/input" + "/0" * 100),
            ('{"a": 1, "a": 2}', "/input/a"),
            ('["\\ud800"]', "/input/0"),
            ('{"x": "\\u0000"}', "/input/x"),
            ("9" * 4_001, "/input"),
        ],
    )
    def test_a_value_that_would_not_come_back_is_refused(self, client, value, pointer):
        id = f"w-{uuid4()}"
        response = start_raw(client, f'{{"name": "echo", "id": "{id}", "input": {value}}}')
        assert (response.status_code, response.json()["code"]) == (422, "invalid-request")
        assert [fault["pointer"] for fault in response.json()["errors"]] == [pointer]
        assert "101" not in response.json()["detail"], "the limit is that of the value, not of the body around it"
        assert client.get(f"/workflows/{id}").status_code == 404

    @pytest.mark.parametrize(
        "body",
        [b"", b" ", b"{", b"{} {}", b"\xef\xbb\xbf{}", b'{"name": "\xff"}', "{}".encode("utf-16"), b"{} // no", b"'x'"],
    )
    def test_what_is_no_json_is_refused(self, client, body):
        response = start_raw(client, body)
        assert (response.status_code, response.json()["code"]) == (400, "malformed-json")

    def test_duplicate_members_of_the_envelope_are_refused(self, client):
        response = start_raw(client, '{"name": "echo", "name": "mute"}')
        assert (response.status_code, response.json()["errors"][0]["pointer"]) == (422, "/name")

    def test_a_value_has_at_most_a_mebibyte(self, client):
        fits, exceeds = "x" * (1_048_576 - 2), "x" * (1_048_576 - 1)
        assert start_raw(client, json.dumps({"name": "echo", "input": fits})).json()["output"] == fits
        response = start_raw(client, json.dumps({"name": "echo", "input": exceeds}))
        assert (response.status_code, response.json()["code"]) == (422, "value-too-large")
        assert response.json()["errors"][0]["pointer"] == "/input"

    def test_what_a_workflow_publishes_is_held_to_the_same(self, client, start, ended):
        id = start(["set", "big", "x" * 600_000], ["set", "a/b", 1])
        workflow = ended(id)
        assert workflow["status"] == "FAILED"
        assert client.get(f"/workflows/{id}/events/big").json()["value"] == "x" * 600_000


class TestBodies:
    @pytest.mark.parametrize(
        "content_type",
        [
            "text/plain",
            "application/x-www-form-urlencoded",
            "multipart/form-data; boundary=x",
            "application/problem+json",
            "application/jsonx",
            "application/json; charset=latin-1",
            "application/json; charset=utf-16",
            "application/json, application/json",
            "*/*",
            "",
        ],
    )
    def test_any_other_media_type_is_refused(self, client, content_type):
        response = client.post("/workflows", content=b'{"name": "mute"}', headers={"Content-Type": content_type})
        assert (response.status_code, response.json()["code"]) == (415, "unsupported-media-type")

    @pytest.mark.parametrize(
        "content_type", ["application/json; charset=utf-8", 'Application/JSON;charset="UTF-8"', "application/json;v=1"]
    )
    def test_json_may_be_named_in_other_ways(self, client, content_type):
        response = client.post("/workflows", content=b'{"name": "mute"}', headers={"Content-Type": content_type})
        assert response.status_code == 201

    @pytest.mark.parametrize("encoding", ["gzip", "identity", "br"])
    def test_any_encoding_is_refused(self, client, encoding):
        assert start_raw(client, b'{"name": "mute"}', **{"Content-Encoding": encoding}).status_code == 415

    def test_a_body_that_is_too_large_is_refused_by_its_length(self, api):
        port = int(api.url.rpartition(":")[2])
        with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
            length = b"Content-Length: 1114113\r\n"
            connection.sendall(b"POST /workflows HTTP/1.1\r\nHost: localhost\r\n" + length + b"\r\n")
            answer = b"".join(iter(lambda: connection.recv(65_536), b""))
        assert answer.startswith(b"HTTP/1.1 413 ")
        assert b"body-too-large" in answer
        assert b"connection: close" in answer.lower()

    def test_a_body_that_is_too_large_is_refused_before_it_is_read_to_the_end(self, api):
        port = int(api.url.rpartition(":")[2])
        with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            head = b"POST /workflows HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            connection.sendall(head + b"Transfer-Encoding: chunked\r\n\r\n")
            chunk = b"10000\r\n" + b" " * 65_536 + b"\r\n"
            for _ in range(18):
                connection.sendall(chunk)
            assert connection.recv(65_536).startswith(b"HTTP/1.1 413 ")

    def test_a_client_that_sends_all_of_it_first_gets_the_answer_too(self, api):
        length = 40_000_000
        head = f"POST /workflows HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n".encode()
        port = int(api.url.rpartition(":")[2])
        with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
            connection.sendall(head + b" " * length)
            assert connection.recv(65_536).startswith(b"HTTP/1.1 413 ")

    def test_the_largest_body_is_taken(self, client):
        body = b'{"name": "mute"}'.ljust(1_114_112)
        assert start_raw(client, body).status_code == 201


class TestProblems:
    def test_a_refusal_is_a_problem(self, client):
        response = client.get("/workflows/nowhere?x=1")
        assert response.headers["Content-Type"] == "application/problem+json"
        assert response.json() == {
            "type": "/problems/invalid-request",
            "title": "Invalid request",
            "status": 422,
            "detail": "x: there is no such parameter",
            "instance": "/workflows/nowhere",
            "code": "invalid-request",
            "errors": [{"parameter": "x", "message": "there is no such parameter"}],
        }

    def test_every_type_is_explained(self, client):
        for code, kind in known().items():
            response = client.get(f"/problems/{code}?x=1&x=2")
            assert response.status_code == 200
            assert str(kind.status) in response.text
        assert client.get("/problems/nothing").status_code == 404

    @pytest.mark.parametrize(
        "path", ["/", "/nothing", "/workflows/", "/workflows/x/", "/healthz/", "/Workflows", "/fork"]
    )
    def test_an_unknown_path_is_no_route(self, client, path):
        response = client.get(path)
        assert (response.status_code, response.json()["code"]) == (404, "route-not-found")

    @pytest.mark.parametrize(
        ("method", "path", "allow"),
        [
            ("PATCH", "/workflows", "GET, HEAD, POST"),
            ("PUT", "/workflows/w", "DELETE, GET, HEAD"),
            ("POST", "/workflows/w/events/k", "GET, HEAD"),
            ("GET", "/workflows/w/cancel", "POST"),
            ("HEAD", "/workflows/w/cancel", "POST"),
            ("OPTIONS", "/workflows/w/messages", "GET, HEAD, POST"),
            ("TRACE", "/healthz", "GET, HEAD"),
            ("POST", "/openapi.json", "GET, HEAD"),
        ],
    )
    def test_a_method_that_a_path_does_not_take_is_refused(self, client, method, path, allow):
        response = client.request(method, path)
        assert (response.status_code, response.headers["Allow"]) == (405, allow)
        assert method == "HEAD" or response.json()["code"] == "method-not-allowed"

    def test_nothing_that_was_sent_can_break_a_problem(self, raw):
        for target in (b"/%22%7D%0d%0a", b"/workflows/%F0%9F%98%80", b"/workflows?%22=%00", b"/workflows?a=%ED%A0%80"):
            response = raw(target)
            assert response.status_code in (404, 422)
            assert response.json()["status"] == response.status_code


class TestHeaders:
    @pytest.mark.parametrize(
        "path", ["/healthz", "/nothing", "/workflows/nowhere", "/definitions", "/problems/draining"]
    )
    def test_every_answer_is_marked(self, client, path):
        headers = client.get(path).headers
        assert headers["Cache-Control"] == "no-store"
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Referrer-Policy"] == "no-referrer"
        assert "Server" not in headers

    def test_a_request_id_is_made_or_taken(self, client):
        made = {client.get("/healthz").headers["X-Request-Id"] for _ in range(2)}
        assert len(made) == 2
        for given in ("a", "x" * 128, "!~"):
            assert client.get("/healthz", headers={"X-Request-Id": given}).headers["X-Request-Id"] == given
        for bad in ("", "x" * 129, "a b", "caf\u00e9"):
            taken = client.get("/healthz", headers={"X-Request-Id": bad.encode()}).headers["X-Request-Id"]
            assert taken != bad
            assert re.fullmatch("[0-9a-f]{32}", taken)

    def test_head_works_on_every_get(self, client, start):
        id = start(["set", "a", 1], ["receive", "go"])
        for path in (
            "/workflows",
            f"/workflows/{id}",
            f"/workflows/{id}/steps",
            f"/workflows/{id}/messages",
            f"/workflows/{id}/events",
            f"/workflows/{id}/history?timeout=60&after=9",
            "/definitions",
            "/definitions/echo",
            "/healthz",
            "/readyz",
            "/docs",
            "/openapi.json",
            "/openapi-3.0.json",
            "/problems/overloaded",
        ):
            response = client.head(path)
            assert (response.status_code, response.content) == (200, b""), path
            assert int(response.headers["Content-Length"]) > 0


class TestPages:
    def test_probes_and_pages_ignore_their_query(self, client):
        for path in ("/healthz", "/readyz", "/docs", "/openapi.json", "/openapi-3.0.json"):
            assert client.get(f"{path}?x=%ff&x=2").status_code == 200

    def test_pages_load_nothing_and_run_nothing(self, client):
        for path in ("/docs", "/problems/overloaded"):
            response = client.get(path)
            assert "default-src 'none'" in response.headers["Content-Security-Policy"]
            assert not re.search(r"<script|<link|src=|https?://", response.text)
        assert "GET</b> /workflows/{id}/events/{key}" in client.get("/docs").text
