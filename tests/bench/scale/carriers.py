"""Clients with values as large as they may be, for a process of their own: what they do to a value is much work too,
and whoever measures small requests meanwhile must not wait for it."""

import json
import random
import time
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from http.client import HTTPConnection
from itertools import count
from threading import Lock
from urllib.parse import urlsplit


class Pace:
    """So many turns a second; None: as many as there can be."""

    def __init__(self, rate: float | None) -> None:
        self._rate, self._next, self._lock = rate, time.monotonic(), Lock()

    def wait(self) -> None:
        if self._rate is None:
            return
        with self._lock:
            # Turns that were missed because the service was slow are made up for, but not for ever.
            self._next = max(self._next, time.monotonic() - 1) + 1 / self._rate
            pause = self._next - 1 / self._rate - time.monotonic()
        if pause > 0:
            time.sleep(pause)


@cache
def prose(size: int) -> str:
    """JSON of so many bytes: a string of lines of words. One letter over and over would be too easy to store."""
    chance = random.Random(1)
    words = ["".join(chance.choices("etaoinshrdlucmfw", k=chance.randint(2, 9))) for _ in range(3_000)]
    text = "\n".join(" ".join(chance.choices(words, k=12)) for _ in range(size // 60))
    while (over := len(json.dumps(text)) - size) > 0:
        text = text[:-over]
    return json.dumps(text + "." * -over)


def carry(url: str, clients: int, size: int, until: float, rate: float | None) -> int:
    """Start workflows with such a value, `rate` in a second, and read it as their event, until a time of the wall's
    clock. Returns how many came through."""
    value, pace, numbers = prose(size), Pace(rate), count()
    address = urlsplit(url).netloc

    def one(connection: HTTPConnection) -> None:
        id = f"carry-{time.time_ns()}-{next(numbers)}"
        body = f'{{"name":"carry","id":"{id}","input":{value}}}'.encode()
        connection.request("POST", "/workflows", body, {"Content-Type": "application/json"})
        _read(connection, 201, size)
        connection.request("GET", f"/workflows/{id}/events/value?timeout=25")
        _read(connection, 200, size)

    def client(_: int) -> int:
        connection, carried = HTTPConnection(address, timeout=60), 0
        while time.time() < until:
            pace.wait()
            one(connection)
            carried += 1
        connection.close()
        return carried

    with ThreadPoolExecutor(clients) as pool:
        return sum(pool.map(client, range(clients)))


def _read(connection: HTTPConnection, status: int, least: int) -> None:
    answer = connection.getresponse()
    body = answer.read()
    assert answer.status == status, body[:1_000]
    assert len(body) > least
