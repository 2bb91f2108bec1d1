"""The bases of all schemas, and the small types that queries are made of."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Any, ClassVar, Self, get_origin

from fastapi import Path
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PrivateAttr,
    ValidationError,
    WithJsonSchema,
)
from typing_extensions import TypeAliasType

from app import names
from app.api.request import query_pairs
from app.errors import Fault, InvalidRequest
from app.model import Status, WorkflowId

LONGEST_WAIT = 3_600
LARGEST_POSITION = 2**53 - 1
MOST_KEYS = 100
TEN_YEARS = 315_576_000

_NUMBER = re.compile(r"(0|[1-9][0-9]*)(\.[0-9]+)?").fullmatch
_INTEGER = re.compile(r"0|[1-9][0-9]{0,18}").fullmatch
_TIME = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt][0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,6})?([Zz]|[+-][0-9]{2}:[0-9]{2})"
).fullmatch


class Body(BaseModel):
    """An envelope that is read: no unknown members, no conversions."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


def _without_defaults(schema: dict[str, Any]) -> None:
    for member in schema.get("properties", {}).values():
        member.pop("default", None)


class Out(BaseModel):
    """An answer. Models of this kind are for the document; answers are written by `app.api.render`.

    A member that has a default is one that may be absent.
    """

    model_config = ConfigDict(frozen=True, json_schema_extra=_without_defaults)


class Query(BaseModel):
    """A query that is read as it was sent: nothing unknown, nothing repeated that isn't a list, nothing empty."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    _given: dict[str, list[str]] = PrivateAttr(default_factory=dict)
    _lists: ClassVar[frozenset[str]] = frozenset()

    @classmethod
    def __pydantic_init_subclass__(cls, **_: Any) -> None:
        cls._lists = frozenset(
            name for name, field in cls.model_fields.items() if get_origin(field.annotation) is tuple
        )

    @classmethod
    def read(cls, raw: bytes) -> Self:
        given: dict[str, list[str]] = {}
        for name, value in query_pairs(raw):
            given.setdefault(name, []).append(value)
        return cls.of(given)

    @classmethod
    def of(cls, given: dict[str, list[str]]) -> Self:
        faults = [
            Fault("this is given more than once", parameter=name)
            for name, texts in given.items()
            if len(texts) > 1 and name in cls.model_fields and name not in cls._lists
        ]
        faults += [Fault("this is empty", parameter=name) for name, texts in given.items() if "" in texts]
        if faults:
            raise InvalidRequest(*faults)
        try:
            members = {name: texts if name in cls._lists else texts[0] for name, texts in given.items()}
            return cls.model_validate(members, context=given)
        except ValidationError as error:
            raise InvalidRequest(*map(_fault, error.errors(include_url=False, include_input=False))) from None

    def model_post_init(self, given: dict[str, list[str]] | None, /) -> None:
        self._given = given or {}

    @property
    def given(self) -> dict[str, list[str]]:
        """The parameters as they were sent."""
        return self._given


class NoQuery(Query):
    """Takes no parameter."""


class Mode(StrEnum):
    """When a wait for several events is over: when all of them are decided, or at the first that is set."""

    ALL = "all"
    ANY = "any"


def _fault(detail: Any) -> Fault:
    if detail["type"] == "extra_forbidden":
        return Fault("there is no such parameter", parameter=str(detail["loc"][0]))
    text = str(detail["msg"]).removeprefix("Value error, ")
    return Fault(text[:1].lower() + text[1:], parameter=str(detail["loc"][0]))


def _number(text: Any) -> float:
    if not _NUMBER(text):
        raise ValueError("a number is digits, and perhaps a point and more digits")
    return float(text)


def _integer(text: Any) -> int:
    if not _INTEGER(text):
        raise ValueError("a whole number is digits without anything before, between or after them")
    return int(text)


def _flag(text: Any) -> bool:
    if text not in ("true", "false"):
        raise ValueError("this is either true or false")
    return bool(text == "true")


def _time(text: Any) -> datetime:
    try:
        if _TIME(text):
            return datetime.fromisoformat(text.upper()).astimezone(UTC)
    except (ValueError, OverflowError):
        pass
    raise ValueError("a time is written as in RFC 3339, such as 2030-01-31T08:00:00Z (a + is sent as %2B)")


def _tag(text: Any) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    if not colon:
        raise ValueError("a tag is written name:value")
    names.check_name(name)
    names.check_tag_value(value)
    return name, value


def checked(check: Callable[[str], None]) -> AfterValidator:
    """One of the rules of `app.names`, as a validator of text."""

    def validate(text: str) -> str:
        check(text)
        return text

    return AfterValidator(validate)


def _known_id(text: str) -> str:
    # What the service makes itself is read too: ids of schedules, and those of abort workflows, which are longer.
    if not _KNOWN_ID(text) or text in (".", ".."):
        raise ValueError("a workflow id has 1 to 128 characters of A-Z a-z 0-9 . _ ~ : - and is not '.' or '..'")
    return text


_KNOWN_ID = re.compile(names.WORKFLOW_ID + "(:abort)*").fullmatch

KeyName = Annotated[str, checked(names.check_key), Field(json_schema_extra={"pattern": f"^{names.KEY}$"})]
"""An event key or a topic."""
Name = Annotated[str, checked(names.check_name), Field(json_schema_extra={"pattern": f"^{names.NAME}$"})]
"""Of a definition, a queue, a schedule or a tag."""
NewId = Annotated[str, checked(names.check_workflow_id), Field(json_schema_extra={"pattern": f"^{names.WORKFLOW_ID}$"})]
"""Of a workflow, given by a caller."""
KnownId = Annotated[
    str, AfterValidator(_known_id), Field(json_schema_extra={"pattern": f"^{names.WORKFLOW_ID}(:abort)*$"})
]
"""Of a workflow that there may be."""

WorkflowIdPath = Annotated[
    WorkflowId,
    Path(alias="id", description="The workflow's id.", json_schema_extra={"pattern": f"^{names.WORKFLOW_ID}$"}),
    AfterValidator(_known_id),
]
EventKeyPath = Annotated[
    str,
    Path(
        alias="key",
        description="The event's key, as percent-encoded UTF-8.",
        json_schema_extra={"pattern": f"^{names.KEY}$"},
    ),
    checked(names.check_key),
]
DefinitionPath = Annotated[
    str,
    Path(alias="name", description="The definition's name.", json_schema_extra={"pattern": f"^{names.NAME}$"}),
    checked(names.check_name),
]

Timeout = Annotated[
    Annotated[float, Field(ge=0, le=LONGEST_WAIT), BeforeValidator(_number)] | None,
    Field(description="Seconds to wait at most, 60 unless the service is set otherwise; 0 looks and does not wait."),
]
After = Annotated[
    int,
    Field(ge=0, le=LARGEST_POSITION),
    BeforeValidator(_integer),
    Field(description="Only what has a greater position counts."),
]
Limit = Annotated[
    int,
    Field(ge=1, le=1_000),
    BeforeValidator(_integer),
    Field(description="How many a page may have; it may have fewer."),
]
Moment = Annotated[str, Field(json_schema_extra={"format": "date-time"})]
"""A time in an answer."""
Long = Annotated[int, Field(json_schema_extra={"format": "int64"})]
"""A number that may grow beyond 32 bits."""
WorkflowStatus = TypeAliasType(
    "WorkflowStatus",
    Annotated[Status | str, Field(description="The status of a workflow. Bear one that you do not know.")],
)
"""A status in an answer: others may be added, so it is not closed as that of a query is."""
Cursor = Annotated[
    Annotated[str, Field(json_schema_extra={"pattern": "^[A-Za-z0-9_-]+$"})] | None,
    Field(description="From `next_cursor`: goes on there, with the same filters."),
]
Flag = Annotated[bool, BeforeValidator(_flag)]
Time = Annotated[datetime, BeforeValidator(_time)] | None
Tag = Annotated[
    tuple[str, str],
    BeforeValidator(_tag),
    WithJsonSchema({"type": "string", "pattern": f"^{names.NAME}:[^\\u0000]{{0,{names.MAX_TAG_VALUE}}}$"}),
]
Keys = Annotated[tuple[KeyName, ...], Field(max_length=MOST_KEYS)]
