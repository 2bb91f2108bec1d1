"""Saying in the document what an operation answers: bodies, headers and refusals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel

from app.api.schemas.problems import ALWAYS, PROBLEMS

Responses = dict[int | str, dict[str, Any]]

ETAG, LINK, LOCATION, RETRY_AFTER, WORKFLOW_STATUS = "ETag", "Link", "Location", "Retry-After", "Workflow-Status"
WWW_AUTHENTICATE = "WWW-Authenticate"

_PLACE = "#/components/responses/"

HEADERS: dict[str, tuple[str, str]] = {
    ETAG: ("string", "Names this set of the event; opaque. Send it as If-None-Match to ask for a newer one."),
    LINK: ("string", 'The next page, `rel="next"`, when there is one.'),
    LOCATION: ("string", "The workflow's path."),
    RETRY_AFTER: ("integer", "Seconds after which to try again."),
    WORKFLOW_STATUS: ("string", "The workflow's status at this moment."),
    WWW_AUTHENTICATE: ("string", "That it takes an API key (RFC 6750); at a 403, which scope is missing, if one is."),
    "X-Request-Id": ("string", "The request's id, as it was sent or made; it stands in the log."),
}


def answers(described: Mapping[int, tuple[type[BaseModel] | None, str, Sequence[str]]]) -> Responses:
    """Model, description and headers for each status."""
    return {status: _answer(*parts) for status, parts in described.items()}


def _answer(model: type[BaseModel] | None, description: str, named: Sequence[str]) -> dict[str, Any]:
    said: dict[str, Any] = {"description": description, "headers": headers(*named)}
    if model is not None:
        said["model"] = model
    return said


def refusals(*statuses: int) -> Responses:
    """Problems by status, with those that every operation may answer."""
    return {status: {"$ref": f"{_PLACE}{PROBLEMS[status].name}"} for status in sorted({*statuses, *ALWAYS})}


def components() -> dict[str, Any]:
    """What `refusals` refer to."""
    return {
        answer.name: {
            "description": answer.description,
            "headers": headers(*answer.headers),
            "content": {
                "application/problem+json": {"schema": {"$ref": f"#/components/schemas/{answer.model.__name__}"}}
            },
        }
        for answer in PROBLEMS.values()
    }


def headers(*names: str) -> dict[str, Any]:
    return {name: {"$ref": f"#/components/headers/{name}"} for name in (*names, "X-Request-Id")}


def header_components() -> dict[str, Any]:
    return {
        name: {"description": description, "schema": {"type": kind}} for name, (kind, description) in HEADERS.items()
    }
