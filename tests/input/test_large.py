"""Bodies that are too large are not read to the end, and hostile ones hold nobody else up."""

import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.input.raw import Answer, Connection
from tests.support.service import Service
from tests.support.waiting import eventually_sync

LIMIT = 1_114_112
MEGABYTE = 1_000_000
SLOWEST = 0.25
START = b"POST /workflows HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
ROOM = 24 * 1024
"""Kilobytes that a process may grow by while it does something: its allocator keeps some for later."""
OBJECT, TWICE, PAIR, LONE = '{"b":1},', '{"a":1,"a":2},', '"\\ud83d\\ude00",', '"\\ud800"'
MEMBER, TAG = '"aN":0', '"-N":0'


def filled(unit: str, size: int = 1_040_000) -> str:
    return unit * (size // len(unit))


def many(member: str, count: int) -> str:
    return ",".join(member.replace("N", str(number)) for number in range(count))


def started(name: str, input: str) -> str:
    return f'{{"name":"{name}","input":{input}}}'


HOSTILE = {
    "a fault at the end of many numbers": started("echo", f"[{filled('1,')}NaN]"),
    "a fault at the end of many lists": started("echo", f"[{filled('[],')}NaN]"),
    "a fault at the end of many objects": started("echo", f"[{filled(OBJECT)}NaN]"),
    "many surrogates, and a lone one": started("echo", f"[{filled(PAIR)}{LONE}]"),
    "nothing but faults": started("echo", f"[{filled(TWICE)}NaN]"),
    "levels without end": started("echo", "[" * 500_000 + "]" * 500_000),
    "a hundred levels, each wide": started("echo", "[" * 102 + filled("1,") + "1" + "]" * 102),
    "unknown members": f'{{"name":"echo",{many(MEMBER, 90_000)}}}',
    "bad tags": f'{{"name":"echo","tags":{{{many(TAG, 80_000)}}}}}',
    "an input of another type all over": started("scripted", f"[{filled('1,', 400_000)}1]"),
    "an input with unknown members": started("checkout", f"{{{many(MEMBER, 45_000)}}}"),
}


class Watch:
    """Asks a service all the time, and keeps how long the slowest answer took."""

    def __init__(self, port: int) -> None:
        self.slowest, self.count = 0.0, 0
        self._port, self._over = port, threading.Event()

    def ask(self) -> None:
        with Connection(self._port, timeout=30) as connection:
            while not self._over.wait(0.005):
                began = time.monotonic()
                connection.send(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
                assert connection.answer().status == 200
                self.slowest = max(self.slowest, time.monotonic() - began)
                self.count += 1

    @classmethod
    @contextmanager
    def over(cls, port: int) -> Iterator["Watch"]:
        watch = cls(port)
        thread = threading.Thread(target=watch.ask)
        thread.start()
        try:
            yield watch
        finally:
            watch._over.set()
            thread.join()


def bearable(port: int) -> float:
    """How long others may have to wait: more where they have to when nobody does any harm."""
    with Watch.over(port) as watch:
        eventually_sync(lambda: watch.count >= 25, 30)
    return SLOWEST + 3 * watch.slowest


def posted(port: int, body: bytes) -> Answer:
    with Connection(port, timeout=60) as connection:
        connection.send(START + b"Content-Length: %d\r\n\r\n" % len(body) + body)
        return connection.answer()


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_body_is_refused_with_a_short_answer_while_others_are_answered(port: int, name: str):
    body = HOSTILE[name].encode()
    assert len(body) < LIMIT
    seen: list[float] = []

    def harmless() -> bool:
        bound = bearable(port)
        with Watch.over(port) as watch:
            answer = posted(port, body)
        assert (answer.status, answer.media_type) == (422, "application/problem+json")
        assert 1 <= len(answer.json["errors"]) <= 20
        assert len(answer.body) < 10_000
        seen.append(watch.slowest)
        return watch.slowest < bound

    # A busy machine may hold one up, but hardly each time.
    eventually_sync(harmless, 30, lambda: f"others waited {min(seen):.3f} s at best")


@pytest.mark.parametrize("what", ["numbers", "lists", "objects"])
def test_what_takes_long_to_be_judged_is_judged_aside(port: int, what: str):
    """However busy the machine is, others wait for a part of that time only."""
    body = HOSTILE[f"a fault at the end of many {what}"].encode()
    shares: list[float] = []

    def aside() -> bool:
        with Watch.over(port) as watch:
            eventually_sync(lambda: watch.count > 5, 30)
            watch.slowest, began = 0.0, time.monotonic()
            posted(port, body)
            seconds = time.monotonic() - began
        shares.append(watch.slowest / seconds)
        return shares[-1] < 0.6

    eventually_sync(aside, 20, lambda: f"others waited for {min(shares):.0%} of it at best")


def test_a_body_is_refused_by_its_length_before_any_of_it_comes(connection: Connection):
    connection.send(START + b"Content-Length: %d\r\n\r\n" % (LIMIT + 1))
    _is_refused(connection.answer())
    assert connection.closed()


@pytest.mark.parametrize("length", [b"99999999999999999999", b"18446744073709551615", b"9223372036854775808"])
def test_a_length_beyond_all_measure_is_refused(connection: Connection, length: bytes):
    connection.send(START + b"Content-Length: " + length + b"\r\n\r\n")
    with suppress(EOFError):
        assert connection.answer().status in (400, 413)
    assert connection.closed()


def test_chunks_are_refused_as_soon_as_they_are_too_many(connection: Connection):
    connection.send(START + b"Transfer-Encoding: chunked\r\n\r\n")
    chunk = b"[],[],[]," * 4_096
    for _ in range(LIMIT // len(chunk) + 1):
        connection.send(b"%x\r\n%s\r\n" % (len(chunk), chunk))
    _is_refused(connection.answer())
    assert connection.closed()


def test_a_body_that_just_fits_is_taken(port: int):
    value = b'{"name":"echo","id":"taken","input":"%s"}'
    padding = LIMIT - len(value % b"")
    assert posted(port, value % (b"\\u0041" * (padding // 6)) + b" " * (padding % 6)).status == 409


@pytest.mark.parametrize("chunked", [False, True], ids=["with its length", "in chunks"])
@pytest.mark.parametrize("megabytes", [30, 100])
def test_megabytes_of_brackets_cost_no_memory_and_hold_nobody_up(
    hardened: Service, port: int, megabytes: int, chunked: bool
):
    pour(port, megabytes, chunked)  # what is built once is built
    process = Path(f"/proc/{hardened.pid}")
    waits: list[float] = []

    def harmless() -> bool:
        bound = bearable(port)
        (process / "clear_refs").write_text("5")
        before = kilobytes(process, "VmRSS")
        with Watch.over(port) as watch:
            pour(port, megabytes, chunked)
        assert kilobytes(process, "VmHWM") - before < ROOM
        assert kilobytes(process, "VmRSS") - before < ROOM
        waits.append(watch.slowest)
        return watch.slowest < bound

    eventually_sync(harmless, 30, lambda: f"others waited {min(waits):.3f} s at best")


def pour(port: int, megabytes: int, chunked: bool) -> None:
    """Send it all, or as much as is taken."""
    piece = b"[]," * (MEGABYTE // 3)
    declared = b"Transfer-Encoding: chunked" if chunked else b"Content-Length: %d" % (megabytes * len(piece))
    with Connection(port, timeout=30) as connection:
        connection.send(START + declared + b"\r\n\r\n")
        with suppress(ConnectionError):
            for _ in range(megabytes):
                connection.send(b"%x\r\n%s\r\n" % (len(piece), piece) if chunked else piece)
        # It may be gone with the connection, when that was closed before all was sent.
        with suppress(ConnectionError, EOFError):
            _is_refused(connection.answer())
        assert connection.closed()


def kilobytes(process: Path, name: str) -> int:
    found = re.search(rf"^{name}:\s+(\d+) kB", (process / "status").read_text(), re.MULTILINE)
    assert found
    return int(found[1])


def _is_refused(answer: Answer) -> None:
    assert (answer.status, answer.json["code"]) == (413, "body-too-large")
    assert answer.header("connection") == "close"
