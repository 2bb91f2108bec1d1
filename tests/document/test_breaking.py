"""Clients of the last release still work, unless the version says that they may not."""

import copy
import json
import re
import subprocess
import sys

import pytest

from tests.document import breaking
from tests.support.service import ROOT

DOCUMENT = json.loads((ROOT / "openapi.json").read_text())


def changed(change):
    document = copy.deepcopy(DOCUMENT)
    change(document)
    return document


def schemas(document):
    return document["components"]["schemas"]


def start(document):
    return document["paths"]["/workflows"]["post"]


def listing(document):
    return document["paths"]["/workflows"]["get"]


def parameter(document, name):
    return next(parameter for parameter in listing(document)["parameters"] if parameter["name"] == name)


def members(document, name):
    return schemas(document)[name]["properties"]


def without(name, *, of):
    return [item for item in of if item["name"] != name]


BREAKS = {
    "GET /workflows is gone": lambda d: d["paths"]["/workflows"].pop("get"),
    "GET /workflows/{id}/steps is gone": lambda d: d["paths"].pop("/workflows/{id}/steps"),
    "GET /workflows: it was list_workflows and is workflows": lambda d: listing(d).update(operationId="workflows"),
    "GET /workflows: its tags were": lambda d: listing(d).update(tags=["listings"]),
    "GET /workflows: it needs another key": lambda d: listing(d).update(security=[{"apiKey": ["write"]}]),
    "GET /healthz: it needs another key": lambda d: d["paths"]["/healthz"]["get"].update(security=[{"apiKey": []}]),
    "GET /workflows: parameter tag is gone": lambda d: listing(d).update(
        parameters=without("tag", of=listing(d)["parameters"])
    ),
    "GET /workflows: parameter shop is new and required": lambda d: listing(d)["parameters"].append(
        {"name": "shop", "in": "query", "required": True, "schema": {"type": "string"}}
    ),
    "GET /workflows: parameter name is required": lambda d: parameter(d, "name").update(required=True),
    "GET /workflows: parameter limit has maximum 1000 against 500": lambda d: parameter(d, "limit")["schema"].update(
        maximum=500
    ),
    "GET /workflows: parameter limit is integer against string": lambda d: parameter(d, "limit").update(
        schema={"type": "string"}
    ),
    "GET /workflows: parameter order is ['asc'] against ['desc']": lambda d: parameter(d, "order")["schema"].update(
        enum=["desc"]
    ),
    "GET /workflows: parameter status/- is ['DEAD'] against": lambda d: schemas(d)["Status"]["enum"].remove("DEAD"),
    "GET /workflows: parameter id_prefix has pattern": lambda d: parameter(d, "id_prefix")["schema"].update(
        pattern="^a$"
    ),
    "POST /workflows/{id}/cancel: a body is required": lambda d: d["paths"]["/workflows/{id}/cancel"]["post"].update(
        requestBody=start(d)["requestBody"]
    ),
    "POST /workflows: a body of application/json is not taken": lambda d: start(d)["requestBody"].update(
        content={"text/plain": {"schema": {}}}
    ),
    "POST /workflows: body/queue is required": lambda d: schemas(d)["CheckoutStart"]["required"].append("queue"),
    "POST /workflows: body/delay is not taken": lambda d: members(d, "CheckoutStart").pop("delay"),
    "POST /workflows: body/input/quantity has maximum 1000 against 10": lambda d: members(d, "CheckoutInput")[
        "quantity"
    ].update(maximum=10),
    "POST /workflows: body/input/sku has minLength 1 against 2": lambda d: members(d, "CheckoutInput")["sku"].update(
        minLength=2
    ),
    "POST /workflows: body/tags/* has maxLength 200 against 20": lambda d: schemas(d)["Tags"][
        "additionalProperties"
    ].update(maxLength=20),
    "POST /workflows: body/id is null against string": lambda d: members(d, "CheckoutStart").update(
        id=members(d, "CheckoutStart")["id"]["anyOf"][0]
    ),
    "POST /workflows: body/name is ['report'] against": lambda d: start(d)["requestBody"]["content"][
        "application/json"
    ]["schema"]["oneOf"].pop(),
    "POST /workflows: 409 is gone": lambda d: start(d)["responses"].pop("409"),
    "POST /workflows: 202 is new, and no refusal": lambda d: start(d)["responses"].update(
        {"202": start(d)["responses"]["201"]}
    ),
    "POST /workflows: 201: header Location is gone": lambda d: start(d)["responses"]["201"]["headers"].pop("Location"),
    "GET /workflows/{id}: 200: header Workflow-Status may be missing": lambda d: d["components"]["headers"][
        "Workflow-Status"
    ].update(required=False),
    "POST /workflows: 201: application/json is gone": lambda d: start(d)["responses"]["201"].update(
        content={"text/plain": {"schema": {}}}
    ),
    "GET /workflows/{id}: 200/attempts may be missing": lambda d: (
        members(d, "Workflow").pop("attempts"),
        schemas(d)["Workflow"]["required"].remove("attempts"),
    ),
    "GET /workflows: 200/workflows/-/output is gone": lambda d: members(d, "ListedWorkflow").pop("output"),
    "GET /workflows/{id}: 200/deadline may be missing": lambda d: schemas(d)["Workflow"]["required"].remove("deadline"),
    "GET /workflows/{id}: 200/priority is number against integer": lambda d: members(d, "Workflow").update(
        priority={"type": "number"}
    ),
    "GET /workflows/{id}: 200/version is null against string": lambda d: members(d, "Workflow").update(
        version={"anyOf": [{"type": "string"}, {"type": "null"}]}
    ),
    "GET /workflows/{id}/steps: 200/steps/-/status is ['RUNNING'] against": lambda d: members(d, "Step")["status"][
        "enum"
    ].append("RUNNING"),
    "GET /workflows/{id}/events/{key}: 200/position has minimum 0 against 1": lambda d: members(d, "SetEvent")[
        "position"
    ].update(minimum=0),
    "GET /workflows/{id}/events: 200/events/-/state is ['late'] against": lambda d: (
        schemas(d).update(
            LateEvent=schemas(d)["NeverEvent"]
            | {"properties": members(d, "NeverEvent") | {"state": {"type": "string", "const": "late"}}}
        ),
        schemas(d)["Event"]["oneOf"].append({"$ref": "#/components/schemas/LateEvent"}),
    ),
    "workflow report is gone": lambda d: schemas(d)["Definition"]["x-workflows"].pop("report"),
    "workflow checkout: events/payment_url is integer against string": lambda d: members(d, "CheckoutEvents").update(
        payment_url={"type": "integer"}
    ),
    "workflow checkout: output/tracking is gone": lambda d: members(d, "CheckoutOutput").pop("tracking"),
}

HOLDS = {
    "nothing": lambda d: None,
    "a new operation": lambda d: d["paths"].update({"/queues": {"get": listing(d)}}),
    "a new optional parameter": lambda d: listing(d)["parameters"].append(
        {"name": "shop", "in": "query", "schema": {"type": "string"}}
    ),
    "a new optional member of a request": lambda d: members(d, "CheckoutStart").update(shop={"type": "string"}),
    "a new member of an answer": lambda d: members(d, "Workflow").update(shop={"type": "string"}),
    "a status that clients bear": lambda d: schemas(d)["Status"]["enum"].append("PAUSED"),
    "a kind of step that clients bear": lambda d: schemas(d)["StepKind"]["enum"].append("fork"),
    "a code that clients bear": lambda d: schemas(d)["ProblemCode"]["enum"].append("queue-active"),
    "a wider limit of a request": lambda d: parameter(d, "limit")["schema"].update(maximum=2000),
    "a narrower limit of an answer": lambda d: members(d, "SetEvent")["position"].update(minimum=2),
    "a new refusal": lambda d: start(d)["responses"].update({"429": start(d)["responses"]["503"]}),
    "another description": lambda d: schemas(d)["Workflow"].update(description="One run."),
    "a schema under another name": lambda d: (
        schemas(d).update(Label=schemas(d)["Tags"]),
        members(d, "Workflow").update(tags={"$ref": "#/components/schemas/Label"}),
    ),
    "a lesser key": lambda d: start(d).update(security=[{"apiKey": ["read"]}]),
    "a new workflow": lambda d: schemas(d)["Definition"]["x-workflows"].update(
        refund=schemas(d)["Definition"]["x-workflows"]["report"]
    ),
}


@pytest.mark.parametrize("told", BREAKS)
def test_a_change_that_breaks_clients_is_found(told):
    found = breaking.changes(DOCUMENT, changed(BREAKS[told]))
    assert any(change.startswith(told) for change in found), found


@pytest.mark.parametrize("what", HOLDS)
def test_a_change_that_clients_bear_is_none(what):
    assert breaking.changes(DOCUMENT, changed(HOLDS[what])) == []


@pytest.mark.parametrize(
    ("old", "new", "may"),
    [
        ("0.1.0", "0.1.0", False),
        ("0.1.0", "0.1.9", False),
        ("0.1.0", "0.2.0", True),
        ("0.9.0", "1.0.0", True),
        ("1.2.0", "1.3.0", False),
        ("1.2.0", "2.0.0", True),
        ("0.2.0", "0.1.9", False),
    ],
)
def test_only_a_version_that_says_so_may_break_clients(old, new, may):
    assert breaking.allowed(old, new) is may


def test_it_fails_a_build_whose_version_does_not_say_so(tmp_path):
    removed = changed(lambda d: d["paths"].pop("/docs"))
    for version, code in (("0.1.1", 1), ("0.2.0", 0)):
        removed["info"]["version"] = version
        (tmp_path / "new.json").write_text(json.dumps(removed))
        (tmp_path / "old.json").write_text(json.dumps(DOCUMENT | {"info": {"version": "0.1.0"}}))
        command = [sys.executable, "-m", "tests.document.breaking", tmp_path / "old.json", tmp_path / "new.json"]
        outcome = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        assert (outcome.returncode, outcome.stdout) == (code, "GET /docs is gone\n")


def test_clients_of_the_last_release_still_work():
    releases = re.findall(r"^## v?(\d+\.\d+\.\d+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    released = json.loads(breaking.RELEASED.read_text()) if breaking.RELEASED.exists() else None
    kept = released and released["info"]["version"]
    assert kept == (releases[0] if releases else None), "a release is not done until its openapi.json is released.json"
    if released and kept:
        broken = breaking.changes(released, DOCUMENT)
        assert not broken or breaking.allowed(kept, DOCUMENT["info"]["version"]), broken
