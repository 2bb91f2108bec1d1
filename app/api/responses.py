"""Saying in the document what an operation answers: bodies, headers and refusals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel

from app.api.schemas.problems import ALWAYS, PROBLEMS
from app.errors import known

Responses = dict[int | str, dict[str, Any]]

CACHE_CONTROL, POLICY, UNBUFFERED = "Cache-Control", "Content-Security-Policy", "X-Accel-Buffering"
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
    UNBUFFERED: ("string", "`no`: it is to be passed on as it comes."),
    POLICY: ("string", "A page may do nothing but show itself."),
    CACHE_CONTROL: ("string", "`no-store`; an event may be kept if it is asked for anew: `private, no-cache`."),
    "Referrer-Policy": ("string", "`no-referrer`."),
    "X-Content-Type-Options": ("string", "`nosniff`."),
    "X-Request-Id": ("string", "The request's id, as it was sent or made; it stands in the log."),
}
EVERYWHERE = (CACHE_CONTROL, "Referrer-Policy", "X-Content-Type-Options", "X-Request-Id")
OPTIONAL = frozenset({LINK})
"""Headers that an answer that is said to have them may do without."""


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
    described = header_components()
    return {
        answer.name: {
            "description": f"{answer.description} {_codes(status)}",
            "headers": headers(*answer.headers)
            | {name: described[name] | {"required": False} for name in answer.sometimes},
            "content": {
                "application/problem+json": {"schema": {"$ref": f"#/components/schemas/{answer.model.__name__}"}}
            },
        }
        for status, answer in PROBLEMS.items()
    }


def _codes(status: int) -> str:
    codes = sorted(code for code, kind in known().items() if kind.status == status)
    return f"`code`: {', '.join(f'`{code}`' for code in codes)}."


def headers(*names: str) -> dict[str, Any]:
    return {name: {"$ref": f"#/components/headers/{name}"} for name in (*names, *EVERYWHERE)}


def header_components() -> dict[str, Any]:
    """All of them by name."""
    described: dict[str, Any] = {
        name: {"description": description, "required": name not in OPTIONAL, "schema": {"type": kind}}
        for name, (kind, description) in HEADERS.items()
    }
    described[WORKFLOW_STATUS]["schema"] = {"$ref": "#/components/schemas/WorkflowStatus"}
    return described
