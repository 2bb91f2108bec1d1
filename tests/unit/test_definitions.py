from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from app import AuthoringError, Context, Registry, workflow
from app.authoring import definitions
from app.errors import InvalidInput
from app.model import JsonText

if TYPE_CHECKING:
    from collections import OrderedDict


@dataclass
class Order:
    sku: str


def defined(function: Callable[..., Awaitable[Any]], **options: Any) -> definitions.Definition:
    return definitions.of(workflow(registry=Registry(), **options)(function))


async def checkout(ctx: Context, order: Order) -> str:
    """Take an order.

    And ship it.
    """
    return order.sku


async def nightly(ctx: Context) -> None: ...


def test_the_name_and_the_description_are_the_functions_own():
    definition = defined(checkout)

    assert (definition.name, definition.version) == ("checkout", "1")
    assert definition.description == "Take an order.\n\nAnd ship it."
    assert definition.timeout is None
    assert definition.max_recoveries == 100


async def test_a_decorated_function_can_still_be_called():
    decorated = workflow(registry=Registry())(checkout)

    assert decorated is checkout
    assert await decorated(None, Order("A1")) == "A1"  # type: ignore[arg-type]


def test_bare_decoration_registers_in_the_registry_of_the_module(monkeypatch):
    fresh = Registry()
    monkeypatch.setattr(definitions, "_default", fresh)

    workflow(nightly)

    assert fresh.newest("nightly") is definitions.of(nightly)


def test_annotations_give_the_input_and_the_output():
    definition = defined(checkout)

    assert definition.input is not None
    assert definition.arguments(JsonText('{"sku":"A1"}')) == (Order("A1"),)
    assert definition.output.encode("shipped") == '"shipped"'


def test_an_input_that_does_not_fit_is_refused_with_its_place():
    with pytest.raises(InvalidInput) as caught:
        defined(checkout).arguments(JsonText("{}"), pointer="/input")

    assert caught.value.faults[0].pointer == "/input/sku"


def test_an_absent_input_is_null():
    async def optional(ctx: Context, order: Order | None) -> None: ...

    assert defined(optional).arguments(None) == (None,)
    with pytest.raises(InvalidInput):
        defined(checkout).arguments(None)


def test_a_workflow_without_input_takes_only_null():
    definition = defined(nightly)

    assert definition.input is None
    assert definition.arguments(None) == definition.arguments(JsonText("null")) == ()
    with pytest.raises(InvalidInput, match="takes no input"):
        definition.arguments(JsonText("{}"))


def test_without_annotations_any_json_is_taken():
    async def loose(ctx, value): ...

    assert defined(loose).arguments(JsonText('[1,{"a":null}]')) == ([1, {"a": None}],)


def test_annotations_that_are_text_are_evaluated():
    async def quoted(ctx: "Context", order: "Order") -> "str":
        return order.sku

    assert defined(quoted).arguments(JsonText('{"sku":"A1"}')) == (Order("A1"),)


def test_a_type_that_can_not_be_found_is_told_by_its_name():
    async def hidden(ctx: Context, order: "OrderedDict[str, int]") -> None: ...

    with pytest.raises(AuthoringError, match=r"parameter 'order' of .*hidden.*OrderedDict.*TYPE_CHECKING"):
        defined(hidden)


def plain(ctx: Context) -> None: ...
async def nothing() -> None: ...
async def three(ctx: Context, a: int, b: int) -> None: ...
async def spread(ctx: Context, *values: int) -> None: ...
async def named(ctx: Context, *, order: Order) -> None: ...
async def defaulted(ctx: Context, order: Order = Order("A1")) -> None: ...  # noqa: B008
async def swapped(order: Order, ctx: Context) -> None: ...
async def opaque(ctx: Context, thing: object) -> None: ...
async def callback(ctx: Context, then: Callable[[], None]) -> None: ...


@pytest.mark.parametrize("function", [plain, nothing, three, spread, named, defaulted, swapped])
def test_other_signatures_are_refused_with_the_right_ones(function):
    with pytest.raises(AuthoringError, match=r"async def f\(ctx: Context, input: T\)"):
        defined(function)


def test_an_input_that_has_no_json_form_is_refused():
    with pytest.raises(AuthoringError, match="JSON"):
        defined(callback)


@pytest.mark.parametrize(
    "options",
    [
        {"name": "a b"},
        {"name": ""},
        {"version": "v1"},
        {"version": 1},
        {"timeout": 0},
        {"timeout": -1},
        {"timeout": float("inf")},
        {"timeout": True},
        {"max_recoveries": 0},
        {"max_recoveries": 1.5},
        {"events": {"a/b": str}},
        {"events": {"$end": str}},
        {"events": {"when": Callable}},
        {"on_abort": plain},
    ],
)
def test_options_are_judged_when_the_workflow_is_defined(options):
    with pytest.raises(AuthoringError):
        defined(nightly, **options)


def test_the_workflow_for_aborts_must_take_an_input():
    release = workflow(registry=Registry())(checkout)
    assert defined(nightly, on_abort=release).on_abort is definitions.of(checkout)

    defined(nightly)
    with pytest.raises(AuthoringError, match="let it take one"):
        defined(checkout, on_abort=nightly)


def test_a_wrapper_is_not_the_workflow_that_it_wraps():
    import functools

    decorated = workflow(registry=Registry())(checkout)

    @functools.wraps(decorated)
    async def wrapper(ctx: Context, order: Order) -> str:
        return await decorated(ctx, order)

    with pytest.raises(AuthoringError, match="decorate it"):
        definitions.of(wrapper)


def test_versions_are_compared_by_number():
    registry = Registry()
    for version in ("1.9", "1.10", "1"):
        workflow(registry=registry, version=version)(nightly)

    newest, older = registry.newest("nightly"), registry.get("nightly", "1.9")
    assert newest is not None
    assert newest.version == "1.10"
    assert older is not None
    assert older.version == "1.9"
    assert registry.get("nightly", "2") is None
    assert registry.get("nightly", "latest") is None
    assert [definition.version for definition in registry] == ["1.10", "1.9", "1"]


def test_the_registry_lists_by_name():
    registry = Registry()
    workflow(registry=registry, name="b")(nightly)
    workflow(registry=registry, name="a")(nightly)

    assert registry.names() == ["a", "b"]
    assert [definition.name for definition in registry] == ["a", "b"]
    assert registry.newest("c") is None


@pytest.mark.parametrize("again", ["1", "1.0"])
def test_a_version_is_registered_once(again):
    registry = Registry()
    workflow(registry=registry, name="job")(nightly)

    with pytest.raises(AuthoringError, match=r"registered twice: by .*nightly and by .*checkout"):
        workflow(registry=registry, name="job", version=again)(checkout)
