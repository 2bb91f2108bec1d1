"""Schemas of many authors in one document."""

from app.api.components import Components

NODE = {"$ref": "#/$defs/Node", "$defs": {"Node": {"properties": {"next": {"$ref": "#/$defs/Node"}}}}}


def test_definitions_are_moved_beside_the_schema():
    components = Components({})
    assert components.add("TreeInput", NODE) == "#/components/schemas/TreeInput"
    assert components.sorted() == {
        "Node": {"properties": {"next": {"$ref": "#/components/schemas/Node"}}},
        "TreeInput": {"$ref": "#/components/schemas/Node"},
    }


def test_equal_definitions_are_one():
    components = Components({})
    components.add("A", NODE)
    components.add("B", NODE)
    assert list(components.sorted()) == ["A", "B", "Node"]


def test_different_definitions_of_one_name_stay_apart():
    components = Components({"Order": {"type": "string"}})
    components.add("Input", {"$ref": "#/$defs/Order", "$defs": {"Order": {"type": "integer"}}})
    assert components.get("Order") == {"type": "string"}
    assert components.get("Input") == {"$ref": "#/components/schemas/InputOrder"}
    assert components.get("InputOrder") == {"type": "integer"}


def test_workflows_whose_names_look_alike_have_schemas_of_their_own():
    components = Components({})
    names = ["ship-it", "ship.it", "ship~it", "ship-it", "ShipIt"]
    assert [components.prefix(name) for name in names] == ["ShipIt", "ShipIt_2", "ShipIt_3", "ShipIt", "ShipIt_4"]


def test_equal_definitions_that_refer_to_different_ones_stay_apart():
    def schema(inner):
        return {"$ref": "#/$defs/A", "$defs": {"A": {"items": {"$ref": "#/$defs/B"}}, "B": {"type": inner}}}

    components = Components({})
    components.add("First", schema("string"))
    components.add("Second", schema("integer"))
    components.add("Third", schema("string"))
    assert components.get("First") == components.get("Third") == {"$ref": "#/components/schemas/A"}
    assert components.get("A") == {"items": {"$ref": "#/components/schemas/B"}}
    assert components.get("SecondA") == {"items": {"$ref": "#/components/schemas/SecondB"}}
