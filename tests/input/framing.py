"""What is hardly a request: it never reaches the application, and the connection is closed with a bare status."""

from collections.abc import Iterator

from tests.input.raw import HOST, Case

CHUNKED = b"Transfer-Encoding: chunked"


def request(line: bytes, *headers: bytes, body: bytes = b"") -> bytes:
    return b"\r\n".join((line, *headers)) + b"\r\n\r\n" + body


def post(*headers: bytes, body: bytes = b"") -> bytes:
    return request(b"POST /workflows HTTP/1.1", HOST, b"Content-Type: application/json", *headers, body=body)


def get(*headers: bytes, target: bytes = b"/healthz") -> bytes:
    return request(b"GET " + target + b" HTTP/1.1", *headers)


NO_REQUESTS = {
    "a length and chunks": post(b"Content-Length: 4", CHUNKED, body=b"0\r\n\r\n"),
    "chunks and a length": post(CHUNKED, b"Content-Length: 4", body=b"0\r\n\r\n"),
    "two lengths": post(b"Content-Length: 4", b"Content-Length: 5", body=b"abcde"),
    "a negative length": post(b"Content-Length: -1"),
    "a length with a plus": post(b"Content-Length: +1", body=b"1"),
    "a length in hexadecimal": post(b"Content-Length: 0x1", body=b"1"),
    "a length of 30 digits": post(b"Content-Length: " + b"9" * 30, body=b"1"),
    "chunks that are not last": post(CHUNKED + b", gzip", body=b"0\r\n\r\n"),
    "a bad chunk": post(CHUNKED, body=b"zz\r\n"),
    "a negative chunk": post(CHUNKED, body=b"-1\r\n"),
    "a chunk of 2^64": post(CHUNKED, body=b"10000000000000000\r\n"),
    "a space before a colon": get(b"Host : localhost"),
    "a header without a name": get(HOST, b": x"),
    "a folded header": get(HOST, b" folded"),
    "U+0000 in a header": get(HOST, b"X-A: a\0b"),
    "a line feed in the path": get(HOST, target=b"/heal\nthz"),
    "a byte above ASCII in the path": get(HOST, target=b"/workflows/\xff"),
    "a space in the path": get(HOST, target=b"/workflows/a b"),
    "no path": request(b"GET HTTP/1.1", HOST),
    "HTTP/3.0": request(b"GET /healthz HTTP/3.0", HOST),
    "an unknown method": request(b"GIVE /healthz HTTP/1.1", HOST),
    "a method in small letters": request(b"get /healthz HTTP/1.1", HOST),
    "a preface of HTTP/2": request(b"PRI * HTTP/2.0", body=b"SM\r\n\r\n"),
    "a TLS hello": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    "a greeting of another protocol": b"EHLO localhost\r\n",
}
TOO_LONG_HEADERS = {
    "100 KiB of a header": (b"X-Long: " + b"x" * 110_000,),
    "100 KiB of headers": (b"X-Many: " + b"x" * 990,) * 110,
    "many headers": (b"X-Many: x",) * 1_100,
}
TOO_LONG_TARGETS = {
    "70 kB of a path": b"/workflows/" + b"p" * 70_000,
    "300 kB of a key": b"/workflows/waiting/events/" + b"k" * 300_000,
    "70 kB of a query": b"/workflows?tag=" + b"q" * 70_000,
}


def cases() -> Iterator[Case]:
    for what, raw in NO_REQUESTS.items():
        yield Case(what, b"", 400, raw=raw, closes=True)
    for what, headers in TOO_LONG_HEADERS.items():
        yield Case(what, b"/healthz", 431, headers=(HOST, *headers), closes=True)
    for what, target in TOO_LONG_TARGETS.items():
        yield Case(what, target, 414, closes=True)
    # Odd, and no harm: the answer is that to the path, and what stands in `Host` is looked at as ever.
    old = request(b"GET /healthz", HOST)
    yield Case("a request of HTTP/0.9", b"/healthz", 200, raw=old, closes=True)
    yield Case("a request of HTTP/1.0", b"/healthz", 200, raw=request(b"GET /healthz HTTP/1.0", HOST), closes=True)
    yield Case("an absolute target", b"http://evil.example/workflows/waiting", 200)
    foreign = get(b"Host: evil.example", target=b"http://localhost/workflows")
    yield Case("an absolute target, and a foreign Host", b"/workflows", 421, "host-refused", raw=foreign)
