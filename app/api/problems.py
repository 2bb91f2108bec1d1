"""Refusals as `application/problem+json`, and the pages that explain them."""

from __future__ import annotations

import html

from starlette.datastructures import MutableHeaders
from starlette.responses import Response
from starlette.types import Scope

from app.api import render
from app.api.request import raw_path
from app.errors import (
    Fault,
    InsufficientScope,
    Invalid,
    MethodNotAllowed,
    Refusal,
    Unauthenticated,
)

MEDIA_TYPE = "application/problem+json"
CHALLENGE = 'Bearer realm="Milepost"'


def respond(refusal: Refusal, scope: Scope) -> Response:
    text = (
        f'{{"type":"/problems/{refusal.code}","title":"{title(refusal.code)}","status":{refusal.status},'
        f'"detail":{render.quote(_sendable(refusal.detail))},"instance":{render.quote(raw_path(scope))},'
        f'"code":"{refusal.code}"{render.members(refusal.extra)}'
    )
    if isinstance(refusal, Invalid):
        text += f',"errors":{render.array(_fault(fault) for fault in refusal.faults)}'
    response = render.respond(text + "}", refusal.status, media_type=MEDIA_TYPE)
    if isinstance(refusal, Unauthenticated):
        response.headers["WWW-Authenticate"] = CHALLENGE
    elif isinstance(refusal, InsufficientScope):
        response.headers["WWW-Authenticate"] = f'{CHALLENGE}, error="insufficient_scope", scope="{refusal.scope}"'
    elif isinstance(refusal, MethodNotAllowed):
        response.headers["Allow"] = refusal.allow
    status = refusal.extra.get("workflow_status")
    if status is not None:
        response.headers["Workflow-Status"] = str(status)
    return response


def title(code: str) -> str:
    return code.replace("-", " ").capitalize()


def explanation(kind: type[Refusal]) -> Response:
    """The page of a problem's type."""
    heading, told = html.escape(title(kind.code)), html.escape((kind.__doc__ or "").strip())
    body = (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{heading}</title></head>\n'
        f"<body><h1>{heading}</h1><p>{told}</p><p>Status {kind.status}, code <code>{kind.code}</code>.</p>"
        "</body></html>\n"
    )
    return page(body)


def page(body: str, *, styles: str = "'none'") -> Response:
    """HTML that may do nothing but show itself."""
    response = Response(body, media_type="text/html")
    headers = MutableHeaders(raw=response.raw_headers)
    headers["Content-Security-Policy"] = (
        f"default-src 'none'; style-src {styles}; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    return response


def _fault(fault: Fault) -> str:
    where = "pointer" if fault.parameter is None else "parameter"
    place = fault.pointer if fault.parameter is None else fault.parameter
    return f'{{"{where}":{render.quote(_sendable(place or ""))},"message":{render.quote(_sendable(fault.message))}}}'


def _sendable(text: str) -> str:
    """Without half a surrogate pair, which is no UTF-8."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")
