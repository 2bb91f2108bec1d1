"""The payment provider of the examples, with a shop that answers as it is told."""

import asyncio
import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest
from starlette.applications import Starlette

from app import workflows
from app.store.db import Database
from tests.support.ports import free_port
from tests.support.waiting import eventually

TOKEN = "f" * 64


class Shop:
    """A server that keeps what it was sent, and answers with `status`."""

    def __init__(self) -> None:
        self.port = free_port()
        self.status = 204
        self.notices: list[dict[str, str]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        async with await asyncio.start_server(self._answer, "127.0.0.1", self.port):
            yield

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = re.search(rb"content-length: (\d+)", head.lower())
        self.notices.append(json.loads(await reader.readexactly(int(length[1])) if length else b"{}"))
        writer.write(f"HTTP/1.1 {self.status} -\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode())
        await writer.drain()
        writer.close()


@pytest.fixture
def shop() -> Shop:
    return Shop()


@pytest.fixture
async def database(database_url):
    database = Database(database_url)
    async with database.transaction() as connection:
        await workflows.prepare(connection)
    yield database
    await database.close()


@asynccontextmanager
async def browser(shop: Shop, database: Database) -> AsyncIterator[httpx.AsyncClient]:
    application = Starlette(routes=workflows.routes(shop.url, database.transaction))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(application), base_url=shop.url) as client:
        yield client


@pytest.fixture
async def client(shop, database):
    async with browser(shop, database) as client:
        yield client


async def create(client: httpx.AsyncClient, key: str = "order:1", **members) -> httpx.Response:
    callback_url = str(client.base_url.join(f"/callbacks/{TOKEN}"))
    body = {"amount": 1999, "description": "1 of A1", "callback_url": callback_url}
    return await client.post(
        "/examples/provider/payments", json={**body, **members}, headers={"Idempotency-Key": key} if key else {}
    )


async def press(client: httpx.AsyncClient, url: str, button: str) -> str:
    response = await client.post(f"{url}/{button}")
    assert response.status_code == 303
    page = await client.get(response.headers["Location"].replace("..", "/examples/provider/payments"))
    assert page.status_code == 200
    return page.text


async def test_a_payment_is_made_once_for_each_key(client, shop):
    first, again, other = await create(client), await create(client), await create(client, key="order:2")

    assert (first.status_code, again.status_code, other.status_code) == (201, 200, 201)
    assert first.json() == again.json()
    assert first.json()["id"] != other.json()["id"]
    assert first.json()["url"] == f"{shop.url}/examples/provider/payments/{first.json()['id']}"


async def test_a_payment_needs_a_key(client):
    assert (await create(client, key="")).status_code == 400


@pytest.mark.parametrize(
    "url",
    [
        "http://169.254.169.254/callbacks/" + TOKEN,
        "{shop}.evil.test/callbacks/" + TOKEN,
        "{shop}@evil.test/callbacks/" + TOKEN,
        "{shop}/workflows",
        "{shop}/callbacks/../workflows/x/cancel",
        "{shop}/callbacks/" + TOKEN + "?x",
        "file:///etc/passwd",
        "",
    ],
)
async def test_only_callbacks_of_this_service_are_called(client, shop, url):
    response = await create(client, callback_url=url.replace("{shop}", shop.url))

    assert response.status_code == 422
    assert response.headers["Content-Type"] == "application/problem+json"


async def test_without_a_public_address_there_is_nothing_to_call_back(database):
    application = Starlette(routes=workflows.routes(None, database.transaction))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(application), base_url="http://shop.test") as client:
        assert (await create(client)).status_code == 422


async def test_what_is_no_payment_is_refused(client):
    assert (await create(client, amount=-1)).status_code == 422
    response = await client.post("/examples/provider/payments", content="{", headers={"Idempotency-Key": "1"})
    assert response.status_code == 422


async def test_the_page_shows_what_is_to_be_paid_and_runs_nothing(client):
    url = (await create(client, description="<script>alert(1)</script>")).json()["url"]

    page = await client.get(url)

    assert page.status_code == 200
    assert "19.99" in page.text
    assert "&lt;script&gt;" in page.text
    assert "<script" not in page.text
    assert page.headers["Content-Security-Policy"].startswith("default-src 'none'")
    assert re.findall(r'action="[0-9a-f]{32}/(\w+)"', page.text) == ["pay", "decline"]


@pytest.mark.parametrize(("button", "status"), [("pay", "paid"), ("decline", "declined")])
async def test_a_button_calls_the_shop_back(client, shop, button, status):
    payment = (await create(client)).json()

    async with shop.open():
        page = await press(client, payment["url"], button)

    assert shop.notices == [{"payment_id": payment["id"], "status": status}]
    assert "<form" not in page
    assert "This payment" in page


async def test_the_first_choice_counts(client, shop):
    url = (await create(client)).json()["url"]

    async with shop.open():
        await press(client, url, "pay")
        page = await press(client, url, "decline")

    assert [notice["status"] for notice in shop.notices] == ["paid"]
    assert "has been made" in page


async def test_a_shop_that_is_away_for_a_moment_is_told_when_it_is_back(client, shop):
    url = (await create(client)).json()["url"]
    pressed = asyncio.ensure_future(press(client, url, "pay"))

    async def told() -> bool:
        return "could not be told yet" in (await client.get(url)).text

    await eventually(told)
    async with shop.open():
        assert "has been made" in await pressed

    assert [notice["status"] for notice in shop.notices] == ["paid"]


async def test_a_payment_that_the_shop_does_not_take_is_void(client, shop):
    url = (await create(client)).json()["url"]
    shop.status = 409

    async with shop.open():
        page = await press(client, url, "pay")

    assert "nothing was charged" in page
    assert "<form" not in page


async def test_a_payment_outlives_the_process_that_made_it(client, shop, database):
    url = (await create(client)).json()["url"]

    async with browser(shop, database) as anew, shop.open():
        assert "has been made" in await press(anew, url, "pay")


@pytest.mark.parametrize("path", ["unknown", "unknown/pay"])
async def test_an_unknown_payment_is_not_found(client, path):
    ask = client.post if path.endswith("/pay") else client.get

    assert (await ask(f"/examples/provider/payments/{path}")).status_code == 404


async def test_preparing_again_keeps_what_is_there(database):
    async with database.transaction() as connection:
        await connection.execute("update example_stock set available = 7 where sku = 'A1'")
        await workflows.prepare(connection)
        cursor = await connection.execute("select sku, available from example_stock order by sku")

        assert await cursor.fetchall() == [("A1", 7), ("B2", 25), ("C3", 0)]
