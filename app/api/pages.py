"""The operations on one page, without a script and without anything from elsewhere."""

from __future__ import annotations

import base64
import hashlib
from html import escape
from typing import Any

from starlette.responses import Response

from app.api import problems

STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#1b1f24}"
    "code{font:14px/1.5 ui-monospace,monospace}h2{margin-top:2.5rem;border-bottom:1px solid #d0d7de}"
    "h3{margin:1.5rem 0 0}h3 b{display:inline-block;min-width:4.5rem}table{border-spacing:0 .2rem}"
    "td{padding-right:1.5rem;vertical-align:top}"
    "@media(prefers-color-scheme:dark){body{background:#0d1117;color:#e6edf3}a{color:#6cb6ff}}"
)
_STYLES = f"'sha256-{base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()}'"


def docs(document: dict[str, Any]) -> Response:
    parts = [
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>Milepost</title>',
        f'<meta name="viewport" content="width=device-width"><style>{STYLE}</style></head><body><h1>Milepost</h1>',
        *(f"<p>{_text(part)}</p>" for part in document["info"]["description"].split("\n\n")),
        '<p>The whole description, for programs: <a href="/openapi.json">openapi.json</a>.</p>',
    ]
    for tag in document["tags"]:
        parts.append(f"<h2>{escape(tag['name'].capitalize())}</h2><p>{_text(tag['description'])}</p>")
        for path, operations in document["paths"].items():
            parts += [
                _operation(method, path, operation)
                for method, operation in operations.items()
                if tag["name"] in operation["tags"]
            ]
    parts.append("</body></html>\n")
    return problems.page("\n".join(parts), styles=_STYLES)


def _operation(method: str, path: str, operation: dict[str, Any]) -> str:
    rows = [
        f"<tr><td><code>{escape(parameter['name'])}</code></td><td>{escape(parameter['in'])}</td>"
        f"<td>{_text(parameter.get('description', ''))}</td></tr>"
        for parameter in operation.get("parameters", [])
    ]
    rows += [
        f"<tr><td>{status}</td><td></td><td>{_text(answer['description'])}</td></tr>"
        for status, answer in operation["responses"].items()
        if status < "300"
    ]
    further = f"<p>{_text(operation['description'])}</p>" if "description" in operation else ""
    scopes = [escape(scope) for way in operation["security"] for names in way.values() for scope in names]
    scope = "".join(f"<p>Scope of an API key: <code>{name}</code></p>" for name in scopes)
    return (
        f'<h3 id="{escape(operation["operationId"])}"><code><b>{method.upper()}</b> {escape(path)}</code></h3>'
        f"<p>{_text(operation['summary'])}.</p>{further}{scope}<table>{''.join(rows)}</table>"
    )


def _text(markdown: str) -> str:
    """Escaped, with what stands in back-quotes as code."""
    pieces = escape(markdown).split("`")
    return "".join(f"<code>{piece}</code>" if index % 2 else piece for index, piece in enumerate(pieces))
