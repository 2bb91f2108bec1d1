"""The payment provider of the examples: a small page with two buttons, which calls back.

It plays a company of its own, and so keeps to what a real one offers: an API that makes a payment,
once for each Idempotency-Key; a page for the buyer; a callback to the shop, again and again until
it is answered. It shares with the shop nothing but the service it is served by and its database.
A callback goes to this service alone, or else anyone could make it send requests anywhere.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import html
import re
import uuid
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import httpx
from pydantic import BaseModel, Field, ValidationError
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.routing import Route

if TYPE_CHECKING:
    from psycopg import AsyncConnection

Transaction = Callable[[], "AbstractAsyncContextManager[AsyncConnection[Any]]"]

PREFIX = "/examples/provider/payments"
CALLBACK_TRIES = 6
NAMESPACE = uuid.UUID("6f1c4a52-64ce-4b7e-9d0c-0a3f0e7c1b7d")

OPEN, PAID, DECLINED, VOID = "open", "paid", "declined", "void"
CHOICES = {"pay": PAID, "decline": DECLINED}


class NewPayment(BaseModel):
    amount: int = Field(ge=0, le=10**12)
    description: str = Field(max_length=200)
    callback_url: str = Field(max_length=2000)


@dataclass(frozen=True)
class Payment:
    id: str
    amount: int
    description: str
    callback_url: str
    state: str
    delivered: bool


async def prepare(connection: AsyncConnection[Any]) -> None:
    """Make the provider's table."""
    await connection.execute("select pg_advisory_xact_lock(hashtext('milepost examples'))")
    await connection.execute(
        """
        create table if not exists example_payments (
            id text primary key,
            amount bigint not null,
            description text not null,
            callback_url text not null,
            state text not null default 'open',
            delivered boolean not null default false
        )
        """
    )


def routes(public_url: str | None, transaction: Transaction) -> list[Route]:
    """The provider's API and pages. `public_url` is this service's own, the only one that is called back."""
    provider = Provider((public_url or "").rstrip("/"), transaction)
    return [
        Route(PREFIX, provider.create, methods=["POST"]),
        Route(f"{PREFIX}/{{id}}", provider.show, methods=["GET"]),
        Route(f"{PREFIX}/{{id}}/{{choice}}", provider.choose, methods=["POST"]),
    ]


class Provider:
    def __init__(self, public_url: str, transaction: Transaction) -> None:
        self._public_url, self._transaction = public_url, transaction
        self._callback = re.compile(re.escape(public_url) + r"/callbacks/[A-Za-z0-9_-]{16,200}") if public_url else None

    async def create(self, request: Request) -> Response:
        """Make a payment: 201, or 200 when this Idempotency-Key has made it before."""
        key = request.headers.get("Idempotency-Key", "")
        if not 1 <= len(key) <= 255:
            return _problem(400, "An Idempotency-Key is needed, so that no payment is made twice.")
        try:
            new = NewPayment.model_validate_json(await request.body())
        except ValidationError as error:
            return _problem(422, "; ".join(f"{detail['loc']}: {detail['msg']}" for detail in error.errors()))
        if self._callback is None or not self._callback.fullmatch(new.callback_url):
            return _problem(422, "The callback_url is not a callback of this service.")
        payment_id = uuid.uuid5(NAMESPACE, key).hex
        async with self._transaction() as connection:
            cursor = await connection.execute(
                """
                insert into example_payments (id, amount, description, callback_url)
                values (%s, %s, %s, %s)
                on conflict (id) do nothing
                """,
                [payment_id, new.amount, new.description, new.callback_url],
            )
        answer = {"id": payment_id, "url": f"{self._public_url}{PREFIX}/{payment_id}"}
        return JSONResponse(answer, 201 if cursor.rowcount else 200, {"Cache-Control": "no-store"})

    async def show(self, request: Request) -> Response:
        """The buyer's page."""
        payment = await self._find(request.path_params["id"])
        return _page("Unknown payment", "<p>There is no such payment.</p>", 404) if payment is None else _shown(payment)

    async def choose(self, request: Request) -> Response:
        """The buyer has pressed a button. The first choice counts; pressing it again calls back again."""
        state = CHOICES.get(request.path_params["choice"])
        payment = await self._find(request.path_params["id"])
        if state is None or payment is None:
            return _page("Unknown payment", "<p>There is no such payment.</p>", 404)
        payment = await self._settle(payment.id, state)
        if payment.state in (PAID, DECLINED) and not payment.delivered:
            status = await call_back(payment)
            if status is not None:
                await self._delivered(payment.id, taken=200 <= status < 300)
        # Relative, so that it holds under whatever address the buyer has come by.
        return RedirectResponse(f"../{payment.id}", 303)

    async def _find(self, id: str) -> Payment | None:
        async with self._transaction() as connection:
            cursor = await connection.execute(
                """
                select id, amount, description, callback_url, state, delivered
                from example_payments
                where id = %s
                """,
                [id],
            )
            row = await cursor.fetchone()
        return Payment(*row) if row else None

    async def _settle(self, id: str, state: str) -> Payment:
        """Choose a state if none was chosen yet; the payment as it is then."""
        async with self._transaction() as connection:
            cursor = await connection.execute(
                """
                update example_payments
                set state = case when state = 'open' then %s else state end
                where id = %s
                returning id, amount, description, callback_url, state, delivered
                """,
                [state, id],
            )
            rows = await cursor.fetchall()
        return Payment(*rows[0])

    async def _delivered(self, id: str, *, taken: bool) -> None:
        async with self._transaction() as connection:
            await connection.execute(
                """
                update example_payments
                set delivered = true, state = case when %s then state else 'void' end
                where id = %s
                """,
                [taken, id],
            )


async def call_back(payment: Payment) -> int | None:
    """Tell the shop; its status, or None when it could not be reached or could not take it."""
    async with httpx.AsyncClient(timeout=10, trust_env=False) as client:
        for attempt in range(CALLBACK_TRIES):
            try:
                notice = {"payment_id": payment.id, "status": payment.state}
                response = await client.post(payment.callback_url, json=notice)
                if response.status_code < 500:
                    return response.status_code
            except httpx.TransportError:
                # Perhaps it is being started anew.
                pass
            await asyncio.sleep(0.1 * 2**attempt)
    return None


def _problem(status: int, detail: str) -> Response:
    return JSONResponse({"status": status, "detail": detail}, status, media_type="application/problem+json")


STYLE = """
body { font: 1.1rem/1.5 system-ui, sans-serif; max-width: 28rem; margin: 4rem auto; padding: 0 1rem; color: #222 }
form { display: inline }
button { font: inherit; padding: .5rem 1.5rem; margin-right: .5rem; border: 1px solid #888; border-radius: .4rem }
button.pay { background: #17633a; border-color: #17633a; color: #fff }
@media (prefers-color-scheme: dark) { body { background: #181818; color: #ddd } }
"""
STYLE_HASH = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": f"default-src 'none'; style-src 'sha256-{STYLE_HASH}'; form-action 'self';"
    " base-uri 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
}
TOLD = {
    PAID: "This payment has been made. Thank you!",
    DECLINED: "This payment was declined.",
    VOID: "The shop does not wait for this payment any more; nothing was charged.",
}
UNTOLD = "The shop could not be told yet: please press the button again."


def _shown(payment: Payment) -> Response:
    paragraphs = [f"{html.escape(payment.description)}: <strong>{payment.amount / 100:.2f} EUR</strong>"]
    if payment.state != OPEN:
        paragraphs.append(TOLD[payment.state] if payment.delivered else UNTOLD)
    body = "".join(f"<p>{paragraph}</p>" for paragraph in paragraphs)
    return _page("Payment", body if payment.delivered else body + _buttons(payment), 200)


def _buttons(payment: Payment) -> str:
    return "".join(
        f'<form method="post" action="{html.escape(payment.id)}/{choice}">'
        f'<button class="{choice}">{choice.capitalize()}</button></form>'
        for choice, state in CHOICES.items()
        if payment.state in (OPEN, state)
    )


def _page(title: str, body: str, status: int) -> Response:
    page = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{title}</title><style>{STYLE}</style></head><body><h1>{title}</h1>{body}</body></html>"
    )
    return HTMLResponse(page, status, HEADERS)
