"""Bad headers, methods, hosts and origins."""

from collections.abc import Iterator

from tests.input.raw import CANARY, HOST, JSON, Case

START = b'{"name":"echo"}'
EVENT = b"/workflows/waiting/events/here"
MESSAGES = b"/workflows/waiting/messages"
STREAM = b"/workflows/ended/stream"
BAD_KEYS = (b"", b" ", b"a b", b"caf\xc3\xa9", b"\xff", b"k" * 256, b"a\tb", CANARY.encode() + b" " + CANARY.encode())
BAD_EVENT_IDS = (
    b"",
    b"x",
    b"-1",
    b"1.5",
    b"1.end.end",
    b"01",
    b"5.END",
    b"9" * 20,
    b"9007199254740992",
    b" 1 2",
    b"\xff",
)
NO_CONDITIONS = (b"", b"*", b"here", b'"abc"', b'W/"x.1"', b'W/"00000000.1', b"\xff", b'W/"0123abcd.99999999999999999"')
METHODS = {
    b"/workflows": (b"PUT", b"PATCH", b"DELETE", b"OPTIONS", b"TRACE"),
    b"/workflows/waiting": (b"PUT", b"PATCH", b"POST", b"OPTIONS", b"TRACE"),
    b"/workflows/waiting/cancel": (b"GET", b"DELETE", b"OPTIONS"),
    b"/workflows/waiting/resume": (b"GET", b"PUT"),
    b"/workflows/waiting/messages": (b"DELETE", b"PATCH"),
    EVENT: (b"PUT", b"POST", b"DELETE"),
    b"/workflows/waiting/stream": (b"POST",),
    b"/callbacks/none": (b"GET", b"PUT", b"DELETE"),
    b"/definitions": (b"POST", b"DELETE"),
    b"/healthz": (b"POST", b"PUT"),
    b"/openapi.json": (b"DELETE",),
}
ALLOWED = {
    b"/workflows": b"GET, HEAD, POST",
    b"/workflows/waiting": b"DELETE, GET, HEAD",
    b"/workflows/waiting/messages": b"GET, HEAD, POST",
}
FOREIGN_HOSTS = (
    b"evil.example",
    b"localhost.evil.example",
    b"127.0.0.1.evil.example",
    b"169.254.169.254",
    b"a@localhost",
    b"localhost@evil.example",
    b"[::ffff:8.8.8.8]",
    b"localhost:80:90",
    b"",
    b"[",
    b"\xff",
    b"2130706433",
)
OWN_HOSTS = (b"localhost:1", b"127.0.0.1", b"[::1]:8000", b"LOCALHOST", b"127.1.2.3", b"shop.localhost")
FOREIGN = b"Origin: https://evil.example"
FOREIGN_ORIGINS = (
    b"https://evil.example",
    b"null",
    b"http://localhost.evil.example",
    b"file://",
    b"",
    b"http://localhost:1",
)


def cases() -> Iterator[Case]:
    for key in BAD_KEYS:
        for path, body in ((b"/workflows", START), (MESSAGES, b'{"topic":"t","payload":1}')):
            headers: tuple[bytes, ...] = (HOST, JSON, b"Idempotency-Key: " + key)
            name = f"POST {path.decode()}: Idempotency-Key is {told(key)}"
            yield Case(name, path, 422, "invalid-request", "Idempotency-Key", b"POST", headers, body)
    twice = (HOST, JSON, b"Idempotency-Key: a", b"Idempotency-Key: a")
    yield Case("Idempotency-Key twice", b"/workflows", 422, "invalid-request", "Idempotency-Key", b"POST", twice, START)
    for id in BAD_EVENT_IDS:
        headers = (HOST, b"Last-Event-ID: " + id)
        yield Case(f"Last-Event-ID is {told(id)}", STREAM, 422, "invalid-request", "Last-Event-ID", headers=headers)
    headers = (HOST, b"Last-Event-ID: 1", b"Last-Event-ID: 2")
    yield Case("Last-Event-ID twice", STREAM, 422, "invalid-request", "Last-Event-ID", headers=headers)
    yield Case("Last-Event-ID of the end", STREAM, 204, headers=(HOST, b"Last-Event-ID: 2.end"))
    yield Case(
        "Last-Event-ID beyond all", STREAM, 200, headers=(HOST, b"Last-Event-ID: 9007199254740991"), says=b"$end"
    )
    for tag in NO_CONDITIONS:
        headers = (HOST, b"If-None-Match: " + tag)
        yield Case(f"If-None-Match is {told(tag)}", EVENT + b"?timeout=0", 200, headers=headers)
    many = (HOST, *[b'If-None-Match: W/"0123abcd.1"'] * 500)
    yield Case("If-None-Match 500 times", EVENT + b"?timeout=0", 200, headers=many)
    for id in (b"", b"a b", b"\xff\xfe", b"i" * 129, CANARY.encode() + b" \x1b[31m".replace(b"\x1b", b"")):
        yield Case(f"X-Request-Id is {told(id)}", b"/healthz", 200, headers=(HOST, b"X-Request-Id: " + id))
    for trace in (
        b"",
        b"00-0-0-00",
        b"00-" + b"0" * 32 + b"-" + b"0" * 16 + b"-01",
        b"ff-" + b"a" * 32,
        CANARY.encode(),
    ):
        headers = (HOST, b"Traceparent: " + trace, b"Tracestate: " + CANARY.encode())
        yield Case(f"traceparent is {told(trace)}", b"/workflows/waiting", 200, headers=headers)
    for secret in (b"Authorization: Bearer " + CANARY.encode(), b"Cookie: session=" + CANARY.encode()):
        yield Case(f"{told(secret)[:13]} of someone", b"/workflows/waiting", 200, headers=(HOST, secret))
    yield Case("a key in the query", b"/workflows?api_key=" + CANARY.encode(), 422, "invalid-request", "api_key")
    for path, methods in METHODS.items():
        for method in methods:
            yield Case(
                f"{method.decode()} {path.decode()}", path, 405, "method-not-allowed", method=method,
                says=b"allow: " + ALLOWED[path] if path in ALLOWED else b"",
            )  # fmt: skip
    yield Case("OPTIONS *", b"*", 404, "route-not-found", method=b"OPTIONS")
    for path in (b"/workflows", b"/workflows/waiting", EVENT, b"/healthz", b"/definitions"):
        yield Case(f"HEAD {path.decode()}", path, 200, method=b"HEAD")
    yield Case("HEAD of nothing", b"/workflows/nothing", 404, method=b"HEAD")
    yield Case("HEAD of a bad key", b"/workflows/waiting/events/%ff", 422, method=b"HEAD")
    yield Case("HEAD of a stream does not wait", b"/workflows/waiting/stream", 200, method=b"HEAD")
    yield from hosts()


def hosts() -> Iterator[Case]:
    for host in FOREIGN_HOSTS:
        yield Case(f"Host is {told(host)}", b"/workflows", 421, "host-refused", headers=(b"Host: " + host,))
    for host in OWN_HOSTS:
        yield Case(f"Host is {told(host)}", b"/workflows/waiting", 200, headers=(b"Host: " + host,))
    yield Case("no Host", b"/healthz", 400, "malformed-request", headers=())
    yield Case("two Hosts", b"/healthz", 400, "malformed-request", headers=(HOST, b"Host: evil.example"))
    yield Case(
        "X-Forwarded-Host does not count", b"/workflows/waiting", 200, headers=(HOST, b"X-Forwarded-Host: evil.example")
    )
    for origin in FOREIGN_ORIGINS:
        start = (HOST, JSON, b"Origin: " + origin)
        name = f"a start from Origin {told(origin)}"
        yield Case(name, b"/workflows", 403, "origin-refused", None, b"POST", start, START)
    headers = (HOST, FOREIGN)
    for method, path in ((b"DELETE", b"/workflows/ended"), (b"POST", b"/workflows/waiting/cancel")):
        yield Case(
            f"{method.decode()} from a foreign Origin", path, 403, "origin-refused", method=method, headers=headers
        )
    yield Case("a read from a foreign Origin", b"/workflows/waiting", 200, headers=headers)
    asks = (*headers, b"Access-Control-Request-Method: POST")
    yield Case("a foreign Origin asks first", b"/workflows", 405, "method-not-allowed", method=b"OPTIONS", headers=asks)
    body = (HOST, JSON, b"Origin: https://pay.example")
    yield Case(
        "a callback from a foreign Origin", b"/callbacks/none", 404, "callback-not-found", None, b"POST", body, b"1"
    )


def told(raw: bytes) -> str:
    text = raw.decode("latin-1").encode("unicode_escape").decode()
    return (text if len(text) < 40 else f"{text[:10]}… of {len(text)} characters") or "nothing"
