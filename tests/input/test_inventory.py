"""What can be asked for at all: nothing is served that nobody meant to serve."""

import httpx

APPROVED = {
    "/workflows": {"get", "post"},
    "/workflows/{id}": {"get", "delete"},
    "/workflows/{id}/result": {"get"},
    "/workflows/{id}/steps": {"get"},
    "/workflows/{id}/cancel": {"post"},
    "/workflows/{id}/resume": {"post"},
    "/workflows/{id}/events": {"get"},
    "/workflows/{id}/events/{key}": {"get"},
    "/workflows/{id}/history": {"get"},
    "/workflows/{id}/stream": {"get"},
    "/workflows/{id}/messages": {"get", "post"},
    "/callbacks/{token}": {"post"},
    "/definitions": {"get"},
    "/definitions/{name}": {"get"},
    "/healthz": {"get"},
    "/readyz": {"get"},
    "/problems/{code}": {"get"},
    "/docs": {"get"},
    "/openapi.json": {"get"},
    "/openapi-3.0.json": {"get"},
}


def test_the_document_has_the_approved_operations_and_no_others(client: httpx.Client):
    document = client.get("/openapi.json").json()
    assert {path: set(operations) for path, operations in document["paths"].items()} == APPROVED


def test_probes_tell_nothing_of_what_is_inside(client: httpx.Client):
    for path in ("/healthz", "/readyz"):
        assert client.get(path).json() == {"status": "ok"}
