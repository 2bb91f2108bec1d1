"""The shipped workflows as a visitor tries them: over HTTP, with the pages of the provider."""

import re
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import psycopg
import pytest

from tests.support.service import Service


class Shop:
    """A customer of the running service."""

    def __init__(self, service: Service, client: httpx.Client, database_url: str) -> None:
        self.service, self.client, self._database_url = service, client, database_url

    def stock(self, sku: str = "A1") -> int:
        with psycopg.connect(self._database_url) as connection:
            row = connection.execute("select available from example_stock where sku = %s", [sku]).fetchone()
        assert row is not None
        return int(row[0])

    def order(self, id: str, **order: Any) -> str:
        """Order, and return the address of the payment's page."""
        response = self.client.post(
            "/workflows",
            params={"wait_for": "payment_url", "timeout": 20},
            json={"name": "checkout", "id": id, "input": {"sku": "A1", **order}},
        )
        assert response.status_code == 201, response.text
        event = response.json()["events"]["payment_url"]
        assert event["state"] == "set", response.text
        return str(event["value"])

    def press(self, url: str, button: str) -> str:
        """Press a button of the payment's page as a browser does, and return the page that comes then."""
        page = self.client.get(url)
        assert page.status_code == 200
        # With the stricter policy of the other answers, a browser would post the form with a null Origin.
        assert page.headers.get_list("Referrer-Policy") == ["same-origin"]
        action = next(action for action in re.findall(r'action="([^"]+)"', page.text) if action.endswith(button))
        headers = {"Origin": self.service.url, "Content-Type": "application/x-www-form-urlencoded"}
        response = self.client.post(httpx.URL(url).join(action), headers=headers, follow_redirects=True)
        assert response.status_code == 200, response.text
        return response.text

    def result(self, id: str) -> dict[str, Any]:
        response = self.client.get(f"/workflows/{id}/result", params={"timeout": 30})
        assert response.status_code == 200, response.text
        return dict(response.json())

    def log(self, id: str, key: str) -> list[Any]:
        events = self.client.get(f"/workflows/{id}/history", params={"key": key}).json()["events"]
        return [event["value"] for event in events]

    def event(self, id: str, key: str, after: int = 0) -> dict[str, Any]:
        response = self.client.get(f"/workflows/{id}/events/{key}", params={"timeout": 20, "after": after})
        assert response.status_code == 200, response.text
        return dict(response.json())


@pytest.fixture
def shop(service: Service, database_url: str) -> Iterator[Shop]:
    with service.client() as client:
        yield Shop(service, client, database_url)


def test_an_order_that_is_paid_is_shipped(shop):
    before = shop.stock()

    page = shop.press(shop.order("order-1", quantity=3), "pay")
    result = shop.result("order-1")

    assert "has been made" in page
    assert result["status"] == "SUCCEEDED"
    assert (result["output"]["status"], result["output"]["amount"]) == ("shipped", 3 * 1999)
    assert shop.log("order-1", "status") == ["reserved", "awaiting_payment", "paid", "shipped"]
    assert shop.log("order-1", "progress") == [0, 25, 50, 75, 100]
    assert shop.stock() == before - 3


def test_an_order_that_is_declined_gives_its_stock_back(shop):
    before = shop.stock()

    url = shop.order("order-1")
    assert shop.stock() == before - 1
    shop.press(url, "decline")

    assert shop.result("order-1")["output"]["status"] == "declined"
    assert shop.stock() == before


def test_an_order_that_is_paid_too_late_gives_its_stock_back_and_is_not_charged(shop):
    before = shop.stock()

    url = shop.order("order-1", pay_within=0.3)
    assert shop.result("order-1")["output"]["status"] == "expired"

    assert "nothing was charged" in shop.press(url, "pay")
    assert shop.stock() == before


def test_an_order_that_is_cancelled_gives_its_stock_back(shop):
    before = shop.stock()
    url = shop.order("order-1")

    assert shop.client.post("/workflows/order-1/cancel").json()["status"] == "CANCELLED"

    assert shop.result("order-1:abort")["output"] is True
    assert shop.event("order-1:abort", "released")["value"] is True
    assert "nothing was charged" in shop.press(url, "pay")
    assert shop.stock() == before


def test_without_stock_nothing_is_to_be_paid(shop):
    shop.client.post("/workflows", json={"name": "checkout", "id": "order-1", "input": {"sku": "C3"}})

    assert shop.result("order-1")["output"] == {
        "status": "out_of_stock",
        "amount": None,
        "payment_id": None,
        "tracking": None,
    }
    assert shop.client.get("/workflows/order-1/events/payment_url").status_code == 410


def test_an_order_outlives_the_process_while_it_waits_for_its_payment(shop):
    before = shop.stock()
    url = shop.order("order-1")

    shop.service.kill()
    shop.service.start()
    shop.press(url, "pay")

    assert shop.result("order-1")["output"]["status"] == "shipped"
    assert shop.stock() == before - 1


def test_an_order_outlives_the_process_while_it_is_dispatched(shop):
    before = shop.stock()
    shop.press(shop.order("order-1"), "pay")
    shop.event("order-1", "progress")

    shop.service.kill()
    shop.service.start()

    assert shop.result("order-1")["output"]["status"] == "shipped"
    assert shop.log("order-1", "progress") == [0, 25, 50, 75, 100]
    steps = shop.client.get("/workflows/order-1/steps").json()["steps"]
    assert [step["output"] for step in steps if step["name"] == "handle_parcel"] == [
        "A1 picked",
        "A1 packed",
        "A1 labelled",
        "A1 handed over",
    ]
    assert shop.stock() == before - 1


def test_many_orders_at_once_take_each_what_they_ordered(shop):
    before = shop.stock()
    starts = [{"name": "checkout", "id": f"order-{n}", "input": {"sku": "A1", "quantity": 2}} for n in range(20)]
    for start in starts:
        assert shop.client.post("/workflows", json=start).status_code == 201
    for start in starts:
        assert shop.event(str(start["id"]), "payment_url")["state"] == "set"

    assert shop.stock() == before - 40


def test_a_report_shows_its_sections_while_it_is_made(shop):
    request = {"name": "report", "id": "report-1", "input": {"upto": 1000, "sections": 5, "pace": 0.05}}
    first = shop.client.post("/workflows", params={"wait_for": "section"}, json=request).json()["events"]["section"]

    assert first["workflow_status"] == "RUNNING"
    assert first["value"]["number"] == 1
    output = shop.result("report-1")["output"]
    assert output["primes"] == 168
    assert shop.log("report-1", "section") == output["sections"]
    assert shop.log("report-1", "progress") == [0, 20, 40, 60, 80, 100]


def test_a_report_that_is_interrupted_is_made_again(shop):
    request = {"name": "report", "id": "report-1", "input": {"upto": 1000, "sections": 5, "pace": 0.1}}
    shop.client.post("/workflows", params={"wait_for": "section"}, json=request)

    shop.service.kill()
    shop.service.start()

    assert shop.result("report-1")["output"]["primes"] == 168
    numbers = [section["number"] for section in shop.log("report-1", "section")]
    assert numbers[0] == 1
    assert numbers[-5:] == [1, 2, 3, 4, 5]


def test_without_the_examples_there_is_no_provider(launch: Callable[..., Service]):
    with launch(EXAMPLES="false").client() as client:
        assert client.get("/examples/provider/payments/x").status_code == 404
        assert client.get("/definitions").json()["definitions"] == []


def test_another_replica_keeps_the_stock_as_it_is(launch: Callable[..., Service], shop: Shop):
    before = shop.stock()

    other = launch()

    with other.client() as client:
        shop.press(shop.order("order-1"), "pay")
        assert client.get("/workflows/order-1/result", params={"timeout": 30}).json()["output"]["status"] == "shipped"
    assert shop.stock() == before - 1
