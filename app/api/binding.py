"""From a request to the arguments of an endpoint, by the endpoint's own signature.

The signatures are FastAPI's, and it writes the document from them. What they ask for is read here: more
strictly (nothing unknown, nothing twice, judged as it was sent), and without the cost of a general
dependency solver. An endpoint may take the request, parts of the path, one query model, one body, and headers.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from itertools import islice
from typing import Annotated, Any, get_args, get_origin, get_type_hints

from fastapi import params
from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from app import values
from app.api.request import Request, decode_path, given
from app.api.schemas.base import NoQuery, Query
from app.errors import MOST_FAULTS, Fault, InvalidRequest

LISTS = frozenset({"If-None-Match"})
"""Headers whose repetition is one list (RFC 9110, 5.3)."""
NO_SUCH_MEMBER = "there is no such member"
MOST_QUERIES = 500
"""Queries of one endpoint that are remembered."""
SHORT = 100
"""Bytes of a query that is worth it."""
ENVELOPE = 1
"""Levels of nesting that a body's own object adds to the values in it."""

Validate = Callable[[str], Any]


class Binding:
    """The reading of one endpoint's arguments."""

    def __init__(self, endpoint: Callable[..., Any], *, strict_query: bool = True) -> None:
        self._request: str | None = None
        self._path: list[tuple[str, str, Validate]] = []
        self._headers: list[tuple[str, str, bytes, Validate]] = []
        self._query: str | None = None
        self._query_model: type[Query] | None = NoQuery if strict_query else None
        self._body: tuple[str, type[BaseModel] | None] | None = None
        hints = get_type_hints(endpoint, include_extras=True)
        for name in inspect.signature(endpoint).parameters:
            self._add(name, hints[name])
        self._queries: dict[bytes, Query] = {}

    def _add(self, name: str, hint: Any) -> None:
        if hint is Request:
            self._request = name
            return
        bare, *extras = get_args(hint) if get_origin(hint) is Annotated else (hint,)
        place = next(extra for extra in extras if isinstance(extra, (params.Param, params.Body)))
        if isinstance(place, params.Path):
            self._path.append((name, place.alias or name, _validation(hint)))
        elif isinstance(place, params.Header):
            alias = place.alias or name
            self._headers.append((name, alias, alias.lower().encode(), _validation(hint)))
        elif isinstance(place, params.Body):
            self._body = (name, bare if isinstance(bare, type) and issubclass(bare, BaseModel) else None)
        else:
            self._query, self._query_model = name, bare

    async def read(self, request: Request) -> dict[str, Any]:
        arguments: dict[str, Any] = {}
        if self._request:
            arguments[self._request] = request
        for name, alias, validate in self._path:
            arguments[name] = _checked(validate, decode_path(request.path_params[alias], alias), alias)
        if self._query_model:
            query = self._read_query(self._query_model, request.scope["query_string"])
            if self._query:
                arguments[self._query] = query
        for name, alias, field, validate in self._headers:
            arguments[name] = _header(request, alias, field, validate)
        if self._body:
            name, body = self._body
            arguments[name] = await _read_body(request, body)
        return arguments

    def _read_query(self, model: type[Query], raw: bytes) -> Query:
        """Queries are much alike, and what is read of them does not change: short ones are read once."""
        query = self._queries.get(raw)
        if query is None:
            query = model.read(raw)
            if len(raw) <= SHORT:
                if len(self._queries) >= MOST_QUERIES:
                    self._queries.clear()
                self._queries[raw] = query
        return query


def _validation(hint: Any) -> Validate:
    """The adapter's own, without what it adds to each call."""
    return TypeAdapter(hint).validator.validate_python


async def _read_body(request: Request, model: type[BaseModel] | None) -> Any:
    if model is None:
        return await request.json()
    value = await request.json(values.MAX_DEPTH + ENVELOPE)
    if isinstance(value, dict) and len(value) > len(model.model_fields) + MOST_FAULTS:
        # To have each of them complained about can take a second.
        unknown = islice((name for name in value if name not in model.model_fields), MOST_FAULTS)
        raise InvalidRequest(*(Fault(NO_SUCH_MEMBER, pointer=_pointer([name])) for name in unknown))
    try:
        return model.model_validate(value)
    except ValidationError as error:
        raise InvalidRequest(*(_in_body(detail) for detail in details(error))) from None


def _header(request: Request, alias: str, field: bytes, validate: Validate) -> Any:
    sent = given(request.scope, field)
    if not sent:
        return None
    if len(sent) > 1 and alias not in LISTS:
        raise InvalidRequest(Fault("this header is given twice", parameter=alias))
    return _checked(validate, b", ".join(sent).decode("latin-1"), alias)


def _checked(validate: Validate, text: str, parameter: str) -> Any:
    try:
        return validate(text)
    except ValidationError as error:
        raise InvalidRequest(*(Fault(message(detail), parameter=parameter) for detail in details(error))) from None


def details(error: ValidationError) -> list[ErrorDetails]:
    return error.errors(include_url=False, include_context=False, include_input=False)


def message(detail: Mapping[str, Any]) -> str:
    """Pydantic's message, told in the way of our own."""
    if detail["type"] == "extra_forbidden":
        return NO_SUCH_MEMBER
    text = str(detail["msg"]).removeprefix("Value error, ")
    return text[:1].lower() + text[1:]


def _in_body(detail: ErrorDetails) -> Fault:
    # Of a member whose name is wrong, Pydantic says so in a step more.
    places = detail["loc"][:-1] if detail["loc"][-1:] == ("[key]",) else detail["loc"]
    return Fault(message(detail), pointer=_pointer(places))


def _pointer(places: Iterable[str | int]) -> str:
    return "".join(f"/{values.pointer_step(str(place))}" for place in places)
