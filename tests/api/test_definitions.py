"""What the service can run, and how it describes itself."""

import subprocess
import sys

from jsonschema import Draft202012Validator  # type: ignore[import-untyped]
from openapi_spec_validator import validate

from tests.support.service import ROOT


def test_definitions_are_listed_by_name(client):
    definitions = client.get("/definitions").json()["definitions"]
    names = [definition["name"] for definition in definitions]
    assert names == sorted(names)
    assert {"checkout", "count", "echo", "mute", "scripted"} <= set(names)


def test_definitions_come_in_pages(client):
    url, seen = "/definitions?limit=2", []
    while url:
        response = client.get(url)
        seen += response.json()["definitions"]
        url = response.links.get("next", {}).get("url")
    assert seen == client.get("/definitions").json()["definitions"]


def test_a_definition_has_its_schemas(client):
    count = client.get("/definitions/count").json()
    assert (count["version"], count["description"], count["queue"], count["timeout"]) == (
        "1",
        "Take a number.",
        None,
        None,
    )
    assert (count["input_schema"], count["output_schema"], count["events"]) == (
        {"type": "integer"},
        {"type": "integer"},
        {},
    )
    assert client.get("/definitions/scripted").json()["events"] == {"count": {"type": "integer"}}
    assert client.get("/definitions/mute").json()["input_schema"] is None
    for definition in client.get("/definitions").json()["definitions"]:
        for schema in filter(
            None, (definition["input_schema"], definition["output_schema"], *definition["events"].values())
        ):
            Draft202012Validator.check_schema(schema)


def test_an_unknown_definition_is_not_found(client):
    response = client.get("/definitions/nothing")
    assert (response.status_code, response.json()["code"]) == (404, "definition-not-found")
    assert client.get("/definitions/a%20b").status_code == 422


def test_the_document_has_the_workflows_of_this_service(client):
    document = client.get("/openapi.json").json()
    validate(document)
    body = document["paths"]["/workflows"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert body["discriminator"]["mapping"]["count"] == "#/components/schemas/CountStart"
    schemas = document["components"]["schemas"]
    assert schemas["CountStart"]["properties"]["name"]["const"] == "count"
    assert schemas["CountStart"]["required"] == ["name", "input"]
    assert schemas["MuteStart"]["required"] == ["name"]


def test_the_committed_document_is_current():
    """`make openapi` writes it; here too in a process of its own, for tests register workflows of theirs."""
    command = [sys.executable, "-m", "app", "openapi"]
    printed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert (ROOT / "openapi.json").read_text() == printed
