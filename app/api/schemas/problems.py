"""Problems: every refusal of the application is one of these (RFC 9457)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field, WithJsonSchema

from app.api.components import PLACE
from app.api.schemas.base import Out, WorkflowStatus
from app.api.schemas.events import Event
from app.api.schemas.workflows import WorkflowError


class Problem(Out):
    """Why a request was refused. Further members depend on the code."""

    type: Annotated[
        str, Field(description="Answers GET with an explanation.", json_schema_extra={"format": "uri-reference"})
    ]
    title: str
    status: int
    detail: str
    instance: Annotated[str, Field(description="The path of the request.")]
    code: Annotated[
        str,
        Field(description="Stable; programs tell problems apart by it. Bear one that you do not know."),
        WithJsonSchema({"anyOf": [{"$ref": f"{PLACE}ProblemCode"}, {"type": "string"}]}),
    ]


class Place(Out):
    """One place that was wrong: in the body (a JSON Pointer), or a parameter or header."""

    message: str
    pointer: str = ""
    parameter: str = ""


class InvalidProblem(Problem):
    """The request was understood, and something in it is not as it should be."""

    errors: list[Place]


class NotFoundProblem(Problem):
    """There is no such workflow, route or name."""

    registered: Annotated[list[str], Field(default_factory=list, description="What could be started instead.")]


class ConflictProblem(Problem):
    """The state of the workflow does not allow it."""

    workflow_status: WorkflowStatus | None = None
    workflow_id: str | None = None


class NeverSetProblem(Problem):
    """The workflow has ended, so the event can't come any more."""

    workflow_status: WorkflowStatus
    error: WorkflowError | None = None
    events: Annotated[list[Event], Field(default_factory=list)]


@dataclass(frozen=True)
class Answer:
    """How a status that refuses is described."""

    name: str
    model: type[Problem]
    description: str
    headers: tuple[str, ...] = ()
    sometimes: tuple[str, ...] = ()
    """Headers that only some of them have."""


PROBLEMS: dict[int, Answer] = {
    400: Answer("Malformed", Problem, "The request can't be read."),
    401: Answer("Unauthenticated", Problem, "There is no API key, or none that is in force.", ("WWW-Authenticate",)),
    403: Answer(
        "Forbidden",
        Problem,
        "The API key has not the scope for this, or the request comes from a page of an origin that is not allowed.",
        sometimes=("WWW-Authenticate",),
    ),
    404: Answer("NotFound", NotFoundProblem, "There is no such thing."),
    409: Answer(
        "Conflict", ConflictProblem, "The state of the workflow does not allow it.", sometimes=("Workflow-Status",)
    ),
    410: Answer(
        "Gone", NeverSetProblem, "The event can't come any more: the workflow has ended.", ("Workflow-Status",)
    ),
    413: Answer("TooLarge", Problem, "The body is too large."),
    415: Answer("UnsupportedMediaType", Problem, "The body is not application/json."),
    421: Answer("Misdirected", Problem, "The service does not answer for this Host."),
    422: Answer("Invalid", InvalidProblem, "Something in the request is not as it should be."),
    500: Answer("Broken", Problem, "Something broke in the service."),
    503: Answer("Unavailable", Problem, "The service can't do this now.", ("Retry-After",)),
}
ALWAYS = (400, 421, 500)
"""What any operation may answer."""
