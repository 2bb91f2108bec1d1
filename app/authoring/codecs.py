"""Between Python values and JSON text, by the author's annotations.

Reading is Pydantic's JSON mode. Writing validates first, so that what is recorded can be read again,
and ends in `values.encode`, so that nothing is recorded that another reader of JSON would refuse.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, Generic, Literal, TypeVar

from pydantic import PydanticUserError, TypeAdapter, ValidationError
from pydantic_core import CoreConfig, ErrorDetails, PydanticSerializationError, SchemaSerializer

from app import values
from app.errors import MOST_FAULTS, AuthoringError, Fault, InvalidInput, InvalidRequest
from app.model import NULL, JsonText

T = TypeVar("T")
Mode = Literal["validation", "serialization"]

_SCALARS = frozenset({str, int, float, bool})
_MANY = 1_000


class Codec(Generic[T]):
    """Writes values of one annotated type as JSON text, reads them back, and describes them."""

    __slots__ = ("_read", "_serializer", "adapter", "annotation")

    def __init__(self, annotation: Any) -> None:
        self.annotation = annotation
        try:
            self.adapter: TypeAdapter[T] = TypeAdapter(annotation)
            schema = self.adapter.core_schema
        except PydanticUserError as error:
            raise AuthoringError(
                f"{_named(annotation)} has no JSON form; take a Pydantic model, a dataclass, a TypedDict or a"
                f" plain JSON type: {error.message.splitlines()[0]}"
            ) from error
        # The adapter's own, without what it adds to each call.
        self._read: Callable[[str], T] = self.adapter.validator.validate_json
        # The default writes an infinite number inside an untyped member as null, and says nothing.
        self._serializer = SchemaSerializer(schema, CoreConfig(ser_json_inf_nan="constants"))

    def decode(self, text: str, *, pointer: str = "") -> T:
        """Raises InvalidInput, its places below `pointer`, when the value is not of this type."""
        if self.annotation is Any:
            value: T = values.decode(text)
            return value
        try:
            return self._read(text)
        except ValidationError as error:
            if (number := error.error_count()) > _MANY:
                # They are made all or none, and to make them all can take a second.
                raise InvalidInput(
                    Fault(f"this is not of the type that is taken, at {number} places", pointer)
                ) from None
            details = error.errors(include_url=False, include_context=False, include_input=False)
            raise InvalidInput(*_faults(details, values.decode(text), pointer)) from None

    def encode(self, value: T) -> JsonText:
        """Raises AuthoringError when the value is of another type, InvalidRequest when JSON can't hold it."""
        if value is None and self.annotation in (None, Any):
            return NULL
        if type(value) is self.annotation and self.annotation in _SCALARS:
            return values.encode(value)
        if self.annotation is Any:
            return self._encode_anything(value)
        try:
            return values.encode(self._dump(self.adapter.validate_python(value)))
        except ValidationError as error:
            details = error.errors(include_url=False, include_context=False, include_input=False)
            places = "; ".join(_place(detail) for detail in details[:3])
            _refuse_coroutine(value)
            raise AuthoringError(f"{_shown(value)} is not {_named(self.annotation)}: {places}") from None
        except PydanticSerializationError as error:
            raise AuthoringError(f"{_shown(value)} has no JSON form: {error}") from None

    def round_trip(self, value: T) -> tuple[JsonText, T]:
        """The text to record, and the value that a reader of the record will get."""
        text = self.encode(value)
        if value is None or (type(value) in _SCALARS and self.annotation in (type(value), Any)):
            return text, value
        try:
            return text, self.decode(text)
        except InvalidInput as error:
            raise AuthoringError(
                f"a value of {_named(self.annotation)} can't be read from the JSON it was written to: {error.detail}"
            ) from None

    def schema(self, mode: Mode) -> dict[str, Any]:
        """JSON Schema 2020-12: "validation" for what is taken, "serialization" for what is given."""
        try:
            return self.adapter.json_schema(mode=mode)
        except PydanticUserError as error:
            raise AuthoringError(f"{_named(self.annotation)} has no JSON Schema: {error.message}") from error

    def _dump(self, value: Any) -> Any:
        return self._serializer.to_python(value, mode="json", by_alias=True)

    def _encode_anything(self, value: Any) -> JsonText:
        try:
            return values.encode(value)
        except InvalidRequest:
            # Not plain JSON, or not all of it: perhaps a model, a date, a set.
            pass
        try:
            return values.encode(self._dump(value))
        except PydanticSerializationError as error:
            _refuse_coroutine(value)
            raise AuthoringError(f"{_shown(value)} has no JSON form: {error}") from None


def of(annotation: Any) -> Codec[Any]:
    """The codec of an annotation. Those of plain classes are kept: steps made anew in each run are common."""
    # Two spellings of a union are equal and hash alike, yet may read a value differently: not kept.
    if annotation is None or annotation is Any or isinstance(annotation, type):
        return _kept(annotation)
    return Codec(annotation)


@lru_cache(maxsize=1024)
def _kept(annotation: Any) -> Codec[Any]:
    return Codec(annotation)


def _faults(details: Sequence[ErrorDetails], document: Any, pointer: str) -> list[Fault]:
    return [Fault(detail["msg"], pointer + _pointer(detail, document)) for detail in details[:MOST_FAULTS]]


def _pointer(detail: ErrorDetails, document: Any) -> str:
    """Pydantic's location holds the tags of unions as well; only what can be followed in the document counts."""
    steps: list[str] = []
    for part in detail["loc"]:
        if _leads_into(document, part):
            document = document[part]
        elif detail["type"] != "missing" or part != detail["loc"][-1]:
            continue
        steps.append(str(part).replace("~", "~0").replace("/", "~1"))
    return "".join(f"/{step}" for step in steps)


def _leads_into(document: Any, part: str | int) -> bool:
    if isinstance(document, list):
        return isinstance(part, int) and part < len(document)
    return isinstance(document, dict) and part in document


def _place(detail: ErrorDetails) -> str:
    place = ".".join(str(part) for part in detail["loc"])
    return f"{place}: {detail['msg']}" if place else detail["msg"]


def _named(annotation: Any) -> str:
    return annotation.__name__ if isinstance(annotation, type) else str(annotation)


def _shown(value: Any) -> str:
    """The value as JSON where it is plain and short, else its type: a repr may hold what no log should."""
    if isinstance(value, (str, int, float)) and len(str(value)) <= 40:
        return json.dumps(value)
    return f"a value of type {type(value).__name__}"


def _refuse_coroutine(value: Any) -> None:
    if inspect.iscoroutine(value):
        value.close()
        raise AuthoringError("this is a coroutine, not its result: hand over the async function itself, not a lambda")
