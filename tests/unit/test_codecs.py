import math
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from enum import StrEnum
from typing import Any

import pytest
from pydantic import BaseModel, Field
from typing_extensions import TypedDict

from app.authoring import codecs
from app.errors import AuthoringError, InvalidInput, InvalidRequest, ValueTooLarge


class Colour(StrEnum):
    RED = "red"


class Item(BaseModel):
    sku: str
    quantity: int = Field(default=1, ge=1)


class Order(BaseModel):
    items: list[Item]
    colour: Colour = Colour.RED


@dataclass
class Payment:
    id: str
    amount: float
    extra: Any = None
    tags: list[str] = field(default_factory=list)


class Address(TypedDict):
    street: str


class Aliased(BaseModel):
    order_id: str = Field(alias="orderId")


class Opaque:
    pass


@pytest.mark.parametrize(
    ("annotation", "value", "text"),
    [
        (Item, Item(sku="A1"), '{"sku":"A1","quantity":1}'),
        (Order, Order(items=[Item(sku="A1")]), '{"items":[{"sku":"A1","quantity":1}],"colour":"red"}'),
        (Payment, Payment("p", 1.0), '{"id":"p","amount":1.0,"extra":null,"tags":[]}'),
        (Address, {"street": "Main"}, '{"street":"Main"}'),
        (Aliased, Aliased(orderId="1"), '{"orderId":"1"}'),
        (Colour, Colour.RED, '"red"'),
        (list[Item] | None, None, "null"),
        (dict[str, Item], {"a": Item(sku="A1")}, '{"a":{"sku":"A1","quantity":1}}'),
        (set[int], {1}, "[1]"),
        (date, date(2026, 1, 2), '"2026-01-02"'),
        (datetime, datetime(2026, 1, 2, tzinfo=UTC), '"2026-01-02T00:00:00Z"'),
        (tuple[int, str], (1, "a"), '[1,"a"]'),
        (int, 10**3_999, str(10**3_999)),
        (float, 1.0, "1.0"),
        (str, "größe", '"größe"'),
        (None, None, "null"),
        (Any, {"b": 1, "a": [True, 1.5]}, '{"b":1,"a":[true,1.5]}'),
    ],
)
def test_a_value_comes_back_equal_from_its_json(annotation, value, text):
    codec = codecs.of(annotation)

    assert codec.encode(value) == text
    assert codec.decode(text) == value
    assert codec.round_trip(value) == (text, value)


def test_without_an_annotation_a_value_comes_back_as_plain_json():
    codec = codecs.of(Any)

    assert codec.round_trip((1, 2))[1] == [1, 2]
    assert codec.round_trip(Item(sku="A1"))[1] == {"sku": "A1", "quantity": 1}
    assert codec.round_trip({"when": date(2026, 1, 2)})[1] == {"when": "2026-01-02"}
    assert codec.round_trip(Colour.RED)[1] == "red"


def test_a_plain_object_becomes_the_annotated_model():
    assert codecs.of(Item).round_trip({"sku": "A1"})[1] == Item(sku="A1")


@pytest.mark.parametrize(
    ("annotation", "value"),
    [(Item, {"quantity": 1}), (Item, 5), (str, 5), (None, 5), (Payment, "p"), (Colour, "blue"), (list[int], ["x"])],
)
def test_a_value_of_another_type_is_refused_when_it_is_written(annotation, value):
    with pytest.raises(AuthoringError):
        codecs.of(annotation).encode(value)


@pytest.mark.parametrize("annotation", [Any, dict[str, Any], dict[str, float]])
@pytest.mark.parametrize("number", [math.nan, math.inf])
def test_numbers_that_json_does_not_have_are_refused(annotation, number):
    with pytest.raises(InvalidRequest) as caught:
        codecs.of(annotation).encode({"a": number})

    assert caught.value.faults[0].pointer == "/a"


def test_an_infinite_number_in_an_untyped_member_of_a_model_is_not_written_as_null():
    with pytest.raises(InvalidRequest):
        codecs.of(Payment).encode(Payment("p", 1.0, extra=[math.inf]))


def test_text_that_can_not_be_stored_is_refused():
    for text in ("a\0b", "\ud800"):
        with pytest.raises(InvalidRequest):
            codecs.of(Any).encode({"a": text})


def test_a_value_over_the_limit_is_refused():
    with pytest.raises(ValueTooLarge):
        codecs.of(str).encode("x" * 1_048_576)


def test_an_object_without_a_json_form_is_refused_by_its_type():
    with pytest.raises(AuthoringError, match="Opaque"):
        codecs.of(Any).encode(Opaque())
    with pytest.raises(AuthoringError, match="Opaque has no JSON form"):
        codecs.of(Opaque)


def test_a_coroutine_is_told_apart_from_its_result():
    async def later():
        return 1

    for annotation in (Any, int):
        with pytest.raises(AuthoringError, match="hand over the async function itself"):
            codecs.of(annotation).encode(later())


def test_the_message_does_not_repeat_a_value_that_may_be_secret():
    with pytest.raises(AuthoringError) as caught:
        codecs.of(Item).encode({"sku": ["hunter2"]})

    assert "hunter2" not in str(caught.value)


def test_an_input_that_does_not_fit_is_told_with_its_places():
    with pytest.raises(InvalidInput) as caught:
        codecs.of(Order).decode('{"items":[{"sku":"A1","quantity":0},{"quantity":2}]}', pointer="/input")

    assert [fault.pointer for fault in caught.value.faults] == ["/input/items/0/quantity", "/input/items/1/sku"]


def test_the_place_in_a_union_is_that_of_the_document():
    with pytest.raises(InvalidInput) as caught:
        codecs.of(list[Item | Payment]).decode('[{"sku":1,"a/b":2}]')

    assert {fault.pointer for fault in caught.value.faults} == {"/0/sku", "/0/id", "/0/amount"}


def test_a_value_that_can_not_be_read_again_is_refused_when_it_is_recorded():
    class Odd(BaseModel):
        secret: str = Field(exclude=True)

    with pytest.raises(AuthoringError, match="can't be read"):
        codecs.of(Odd).round_trip(Odd(secret="s"))


def test_the_schema_describes_input_and_output():
    assert codecs.of(Item).schema("validation")["required"] == ["sku"]
    assert codecs.of(str).schema("serialization") == {"type": "string"}
