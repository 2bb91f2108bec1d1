"""Who is let in while there are no API keys."""

from typing import ClassVar

import pytest


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST:1", "127.0.0.1:80", "127.9.9.9", "[::1]:8000", "app.localhost"]
)
def test_loopback_hosts_are_answered(client, host):
    assert client.get("/healthz", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "localhost.evil.example", "127.0.0.1.nip.io", "10.0.0.1", "", "a@localhost", "[::2]", "[x"]
)
def test_other_hosts_are_refused(client, host):
    for path in ("/healthz", "/workflows", "/callbacks/x", "/nothing"):
        response = client.get(path, headers={"Host": host})
        assert (response.status_code, response.json()["code"]) == (421, "host-refused")


def test_the_host_of_the_public_url_is_answered(launch):
    service = launch(PUBLIC_URL="https://pay.example/shop")
    with service.client() as client:
        assert client.get("/healthz", headers={"Host": "pay.example"}).status_code == 200
        assert client.get("/healthz", headers={"Host": "www.pay.example"}).status_code == 421
        own = {"Host": "pay.example", "Origin": "https://pay.example"}
        assert client.post("/workflows/nowhere/cancel", headers=own).status_code == 404


def test_a_request_has_one_host(raw):
    for headers in (b"", b"Host: localhost\r\nHost: localhost\r\n"):
        assert raw(b"/healthz", headers=headers).status_code == 400


@pytest.mark.parametrize(
    "origin", ["http://evil.example", "null", "http://localhost:1", "https://shop.example.evil", ""]
)
def test_pages_of_elsewhere_change_nothing(client, start, origin):
    id = start(["receive", "go"])
    for method, path in (("POST", "/workflows"), ("POST", f"/workflows/{id}/cancel"), ("DELETE", f"/workflows/{id}")):
        response = client.request(method, path, headers={"Origin": origin})
        assert (response.status_code, response.json()["code"]) == (403, "origin-refused")
    response = client.get(f"/workflows/{id}", headers={"Origin": origin})
    assert response.status_code == 200
    assert "Access-Control-Allow-Origin" not in response.headers


def test_a_page_of_this_service_may_write(api, client):
    for origin in (api.url, api.url.replace("http:", "https:")):
        response = client.post("/workflows", json={"name": "mute"}, headers={"Origin": origin})
        assert response.status_code == 201


class TestAllowedOrigins:
    ORIGIN: ClassVar = {"Origin": "https://shop.example"}

    def test_they_may_write_and_read(self, client):
        response = client.post("/workflows", json={"name": "mute"}, headers=self.ORIGIN)
        assert response.status_code == 201
        assert response.headers["Access-Control-Allow-Origin"] == "https://shop.example"
        assert response.headers["Vary"] == "Origin"
        exposed = response.headers["Access-Control-Expose-Headers"].split(", ")
        assert {"ETag", "Link", "Location", "Retry-After", "Workflow-Status", "X-Request-Id"} <= set(exposed)
        refused = client.get("/nothing", headers=self.ORIGIN)
        assert refused.headers["Access-Control-Allow-Origin"] == "https://shop.example"

    def test_they_may_read_why_a_body_was_too_large(self, client):
        response = client.post("/workflows", content=b" " * 1_114_113, headers=self.ORIGIN)
        assert response.status_code == 413
        assert response.headers["Access-Control-Allow-Origin"] == "https://shop.example"

    def test_they_may_ask_first(self, client):
        asking = {**self.ORIGIN, "Access-Control-Request-Method": "POST"}
        response = client.options("/workflows", headers=asking)
        assert response.status_code == 204
        assert "POST" in response.headers["Access-Control-Allow-Methods"]
        assert "Idempotency-Key" in response.headers["Access-Control-Allow-Headers"]
        assert client.options("/workflows", headers={**asking, "Origin": "http://evil.example"}).status_code == 405

    def test_answers_to_others_say_that_they_differ(self, client):
        assert client.get("/healthz").headers["Vary"] == "Origin"
