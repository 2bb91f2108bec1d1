"""The description of the service: valid in both versions, complete, stable, and true in its examples."""

import json
import re

import pytest
from jsonschema import Draft4Validator, Draft202012Validator  # type: ignore[import-untyped]
from openapi_spec_validator import OpenAPIV30SpecValidator, OpenAPIV31SpecValidator

from app.api import examples, older, openapi
from app.authoring.definitions import Registry
from app.model import Status, StepKind
from tests.document.replay import answers, body, constant
from tests.support.service import ROOT

DOCUMENT = json.loads((ROOT / "openapi.json").read_text())
OPERATIONS = {
    operation["operationId"]: (method, path, operation) for method, path, operation in openapi.operations(DOCUMENT)
}
STABLE = {
    *("start_workflow", "list_workflows", "get_workflow", "delete_workflow", "get_result", "list_steps"),
    *("cancel_workflow", "resume_workflow", "get_event", "list_events", "get_history", "stream_events"),
    *("send_message", "list_messages", "complete_callback", "list_definitions", "get_definition"),
    *("get_health", "get_readiness", "explain_problem", "get_docs", "get_openapi", "get_openapi_3_0"),
}
"""Functions of generated clients have these names: to change one breaks every client."""
KINDS = DOCUMENT["components"].keys() - {"securitySchemes"}
REFERENCE = re.compile(r'"(?:\$ref)": "#/components/(\w+)/([^"]+)"')


def places(kind):
    return DOCUMENT["components"][kind]


def referred(node):
    return set(REFERENCE.findall(json.dumps(node)))


def test_it_is_valid_openapi_3_1():
    assert DOCUMENT["openapi"].startswith("3.1.")
    assert not list(OpenAPIV31SpecValidator(DOCUMENT).iter_errors())


def test_operations_keep_their_short_names():
    assert set(OPERATIONS) == STABLE
    for _, path, operation in OPERATIONS.values():
        assert len(operation["summary"]) <= 120, path
        assert not operation["summary"].endswith(".")


def test_each_operation_has_the_tag_of_its_resource():
    tags = {tag["name"] for tag in DOCUMENT["tags"]}
    used = set()
    for _, path, operation in OPERATIONS.values():
        (tag,) = operation["tags"]
        used.add(tag)
        noun = {"history": "events", "stream": "events"}
        nouns = [noun.get(part, part) for part in path.split("/") if noun.get(part, part) in tags]
        assert tag == (nouns[-1] if nouns else "operation"), path
    assert used == tags


def test_everything_that_is_described_can_be_reached():
    reached, left = set(), referred(DOCUMENT["paths"])
    while left:
        reached |= left
        left = {found for kind, name in left for found in referred(places(kind)[name])} - reached
    described = {(kind, name) for kind in KINDS for name in places(kind)}
    assert described == reached


def test_a_definition_leads_to_the_types_of_its_workflow():
    of = places("schemas")["Definition"]["x-workflows"]
    assert set(of) == {"checkout", "release_checkout", "report"}
    for name, schemas in of.items():
        assert set(schemas) == {"events", "input", "output", "start", "workflow"}, name
    events = places("schemas")[of["checkout"]["events"]["$ref"].rpartition("/")[2]]["properties"]
    assert events == {
        "payment_url": {"type": "string"},
        "progress": {"type": "integer"},
        "status": {"$ref": "#/components/schemas/CheckoutStatus"},
    }


def test_a_start_is_one_of_the_workflows_by_name():
    taken = OPERATIONS["start_workflow"][2]["requestBody"]["content"]["application/json"]["schema"]
    of = places("schemas")["Definition"]["x-workflows"]
    assert taken["discriminator"] == {
        "propertyName": "name",
        "mapping": {name: schemas["start"]["$ref"] for name, schemas in of.items()},
    }
    assert taken["oneOf"] == [schemas["start"] for schemas in of.values()]


def test_a_start_leads_to_all_that_can_be_done_with_it():
    about_one = {id for id, (_, path, _) in OPERATIONS.items() if path.startswith("/workflows/{id}")}
    for status in ("200", "201"):
        links = OPERATIONS["start_workflow"][2]["responses"][status]["links"]
        assert set(links) == about_one
    for name, link in places("links").items():
        assert (link["operationId"], link["parameters"]) == (name, {"id": "$response.body#/id"})


def test_what_may_get_more_values_is_open_in_answers_and_closed_in_queries():
    schemas = places("schemas")
    assert schemas["WorkflowStatus"]["anyOf"] == [{"$ref": "#/components/schemas/Status"}, {"type": "string"}]
    assert schemas["Status"]["enum"] == list(Status)
    assert schemas["StepKind"]["enum"] == list(StepKind)
    asked = next(
        parameter for parameter in OPERATIONS["list_workflows"][2]["parameters"] if parameter["name"] == "status"
    )
    assert asked["schema"]["items"] == {"$ref": "#/components/schemas/Status"}
    text = json.dumps({name: schema for name, schema in schemas.items() if name not in ("WorkflowStatus", "Step")})
    for closed in ("Status", "StepKind"):
        assert f'"$ref": "#/components/schemas/{closed}"' not in text
    for name, schema in schemas.items():
        code = schema.get("properties", {}).get("code")
        assert code is None or {"type": "string"} in code["anyOf"], name


def test_answers_may_get_more_members():
    for name, schema in places("schemas").items():
        assert name.endswith("Start") or name == "Send" or schema.get("additionalProperties") is not False, name


def test_every_example_is_what_its_schema_says():
    count = 0
    for _, _, operation in OPERATIONS.values():
        contents = list(operation.get("requestBody", {}).get("content", {}).values())
        for answer in operation["responses"].values():
            told = places("responses")[answer["$ref"].rpartition("/")[2]] if "$ref" in answer else answer
            contents += told.get("content", {}).values()
        for content in contents:
            for example in content.get("examples", {}).values():
                schema = {**content["schema"], "components": DOCUMENT["components"]}
                Draft202012Validator(schema).validate(example["value"])
                count += 1
    assert count >= len(examples.recorded())


def test_an_answer_has_one_media_type():
    for id, (_, _, operation) in OPERATIONS.items():
        for status, answer in operation["responses"].items():
            assert len(answer.get("content", {})) <= 1, (id, status)


def test_no_example_has_references_in_it():
    """Some generators of clients follow them there too, to nowhere."""
    assert '"$ref"' not in json.dumps(examples.recorded())


def test_a_service_without_the_checkout_shows_no_examples_of_it():
    assert "order-42" not in openapi.dumps(openapi.document(Registry()))


def test_the_examples_are_what_the_service_answers(service):
    """Run in their order against a service with an empty database."""
    with service.client() as client:
        for exchange, response in answers(client, client.get("/openapi.json").json()):
            told = f"{exchange['operation']} {exchange['name']}"
            assert response.status_code == exchange["status"], f"{told}: {response.text}"
            assert constant(body(response)) == constant(exchange["answer"]), told


class TestOlder:
    """The same in OpenAPI 3.0."""

    DOCUMENT = older.document(DOCUMENT)

    def test_it_is_valid_openapi_3_0(self):
        assert self.DOCUMENT["openapi"] == "3.0.3"
        assert not list(OpenAPIV30SpecValidator(self.DOCUMENT).iter_errors())

    def test_it_is_served(self, service):
        with service.client() as client:
            assert client.get("/openapi-3.0.json").json() == older.document(client.get("/openapi.json").json())

    def test_it_has_the_same_operations_with_the_same_answers(self):
        for method, path, operation in openapi.operations(self.DOCUMENT):
            _, _, newer = OPERATIONS[operation["operationId"]]
            assert operation["responses"].keys() == newer["responses"].keys(), (method, path)
            assert [p["name"] for p in operation.get("parameters", [])] == [
                p["name"] for p in newer.get("parameters", [])
            ]
        assert self.DOCUMENT["components"].keys() == DOCUMENT["components"].keys()
        for kind, parts in self.DOCUMENT["components"].items():
            assert parts.keys() == DOCUMENT["components"][kind].keys()

    def test_its_schemas_take_the_same_answers(self):
        """As its readers do: null is let in wherever it may stand, whatever else is said there."""
        components = json.loads(json.dumps(self.DOCUMENT["components"]), object_hook=nullable)
        for exchange in examples.recorded():
            answer = OPERATIONS[exchange["operation"]][2]["responses"][str(exchange["status"])]
            if "$ref" in answer:
                answer = places("responses")[answer["$ref"].rpartition("/")[2]]
            for content in answer.get("content", {}).values():
                schema = older.schema(content["schema"])
                Draft4Validator({**schema, "components": components}).validate(exchange["answer"])

    @pytest.mark.parametrize(
        ("newer", "expected"),
        [
            (True, {}),
            (False, {"not": {}}),
            ({"const": 1}, {"enum": [1]}),
            ({"type": "null"}, {"nullable": True, "enum": [None]}),
            ({"type": ["string", "null"]}, {"type": "string", "nullable": True}),
            ({"type": ["string", "integer"]}, {"anyOf": [{"type": "string"}, {"type": "integer"}]}),
            ({"type": "string", "enum": ["a"], "examples": ["a"]}, {"type": "string", "enum": ["a"], "example": "a"}),
            ({"exclusiveMinimum": 0, "exclusiveMaximum": 9}, {
                "minimum": 0, "exclusiveMinimum": True, "maximum": 9, "exclusiveMaximum": True,
            }),
            ({"anyOf": [{"type": "integer", "minimum": 1}, {"type": "null"}], "description": "d"},
             {"type": "integer", "minimum": 1, "nullable": True, "description": "d"}),
            ({"anyOf": [{"$ref": "#/a"}, {"type": "null"}]}, {"allOf": [{"$ref": "#/a"}], "nullable": True}),
            ({"anyOf": [{"type": "string"}, {"type": "integer"}, {"type": "null"}]},
             {"anyOf": [{"type": "string"}, {"type": "integer"}], "nullable": True}),
            ({"anyOf": [{"const": "a"}, {"type": "null"}]}, {"enum": ["a", None], "nullable": True}),
            ({"$ref": "#/a", "description": "d"}, {"allOf": [{"$ref": "#/a"}], "description": "d"}),
            ({"type": "array"}, {"type": "array", "items": {}}),
            ({"type": "array", "prefixItems": [{"type": "string"}, True]},
             {"type": "array", "items": {"anyOf": [{"type": "string"}, {}]}}),
            ({"type": "object", "propertyNames": {"pattern": "a"}, "additionalProperties": {"const": 1}},
             {"type": "object", "additionalProperties": {"enum": [1]}}),
            ({"type": "object", "patternProperties": {"^a": {"const": 1}}, "additionalProperties": False},
             {"type": "object", "additionalProperties": {"enum": [1]}}),
            ({"type": "object", "patternProperties": {"^a": {"const": 1}}},
             {"type": "object", "additionalProperties": True}),
            ({"type": "object", "properties": {"const": {"const": 1}}, "unevaluatedProperties": False},
             {"type": "object", "properties": {"const": {"enum": [1]}}}),
        ],
    )  # fmt: skip
    def test_what_an_author_may_say_has_older_words(self, newer, expected):
        found = older.schema(newer)
        assert found == expected
        document = {**self.DOCUMENT, "paths": {}, "components": {"schemas": {"A": found}}}
        assert "#/a" in json.dumps(found) or not list(OpenAPIV30SpecValidator(document).iter_errors())


def nullable(schema):
    if schema.get("nullable") is True:
        return {"anyOf": [{name: value for name, value in schema.items() if name != "nullable"}, {"type": "null"}]}
    return schema


def test_what_is_served_is_what_is_written(service):
    with service.client() as client:
        assert client.get("/openapi.json").json() == DOCUMENT
