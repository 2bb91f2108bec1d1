"""Bad queries: numbers, flags, choices, times, cursors, keys, and parameters that there aren't."""

from collections.abc import Iterator
from urllib.parse import quote_from_bytes

from tests.input.raw import CANARY, HOST, JSON, Case

JSON_HEADERS = (HOST, JSON)
START = b'{"name":"echo"}'
MESSAGE = b'{"topic":"t","payload":1}'
SENDS = {b"/workflows": START, b"/workflows/waiting/messages": MESSAGE}

NO_NUMBERS = (
    *("nan", "inf", "Infinity", "-1", "-0", "+1", "1e3", "1e308", "0x10", "5_0", "%205", "5%20", "1.", ".5", "01"),
    *("1,5", "1.5.5", "five", "%D9%A5", "%EF%BC%95", "5%00", "5;", "null", "true", "9" * 5_000 + "x"),
)
NO_TIMEOUTS = (*NO_NUMBERS, "3600.1", "3601", "1" * 400, "9" * 5_000)
NO_WHOLE_NUMBERS = (*NO_NUMBERS, "10.0", "1.5", "9" * 5_000)
WHAT_TAKES_A_TIMEOUT = (
    "/workflows/waiting/events/k",
    "/workflows/waiting/events?key=k",
    "/workflows/waiting/history",
    "/workflows/waiting/result",
    "/workflows",
    "/workflows/waiting/messages",
)
WHAT_TAKES_A_LIMIT = (
    "/workflows/waiting/events",
    "/workflows",
    "/workflows/waiting/steps",
    "/workflows/waiting/history",
    "/workflows/waiting/messages",
    "/definitions",
)
WHAT_TAKES_AFTER = (
    "/workflows/waiting/history",
    "/workflows/waiting/events/k",
    "/workflows/waiting/events",
    "/workflows/waiting/stream",
)
WHAT_KNOWS_ITS_PARAMETERS = (
    ("GET", "/workflows"),
    ("POST", "/workflows"),
    ("GET", "/workflows/waiting"),
    ("DELETE", "/workflows/waiting"),
    ("GET", "/workflows/waiting/result"),
    ("GET", "/workflows/waiting/steps"),
    ("POST", "/workflows/waiting/cancel"),
    ("POST", "/workflows/waiting/resume"),
    ("GET", "/workflows/waiting/events"),
    ("GET", "/workflows/waiting/events/here"),
    ("GET", "/workflows/waiting/history"),
    ("GET", "/workflows/waiting/stream"),
    ("GET", "/workflows/waiting/messages"),
    ("POST", "/workflows/waiting/messages"),
    ("GET", "/definitions"),
    ("GET", "/definitions/echo"),
)
NO_KEYS = {
    "a slash": b"a/b",
    "a backslash": b"a\\b",
    "two dots": b"..",
    "U+0000": b"a\0",
    "no UTF-8": b"\xff",
    "a surrogate": b"\xed\xa0\x80",
    "201 characters": b"k" * 201,
    "nothing": b"",
}
WHAT_TAKES_KEYS = (
    ("key", "/workflows/waiting/events"),
    ("key", "/workflows/waiting/history"),
    ("key", "/workflows/waiting/stream"),
    ("topic", "/workflows/waiting/messages"),
    ("wait_for", "POST /workflows"),
    ("wait_for", "POST /workflows/waiting/messages"),
)
BAD_FILTERS = (
    ("name", "a/b"),
    ("name", "-"),
    ("status", "running"),
    ("status", "GONE"),
    ("queue", "%00"),
    ("schedule", "a%20b"),
    ("parent_id", ".."),
    ("forked_from", "a%2Fb"),
    ("id_prefix", "a%25"),
    ("id_prefix", "i" * 129),
    ("tag", CANARY),
    ("tag", ":value"),
    ("tag", "a%20b:c"),
    ("tag", "shop:" + "v" * 201),
    ("tag", "shop:%00"),
    ("order", "up"),
    ("order", "DESC"),
    ("include", "everything"),
    ("include", "input,input"),
    ("include", "input,"),
    ("include", "input,%20output"),
)
BAD_TIMES = (
    "yesterday",
    "2026-01-01",
    "2026-01-01T00:00:00",
    "2026-13-01T00:00:00Z",
    "2026-02-30T00:00:00Z",
    "0000-01-01T00:00:00Z",
    "2026-01-01T25:00:00Z",
    "2026-01-01T00:00:00.1234567Z",
    "2026-01-01T00:00:00+00:00",
    "0001-01-01T00:00:00%2B23:59",
    "9999-12-31T23:59:59-23:59",
    "99999-01-01T00:00:00Z",
    "1700000000",
    "infinity",
    "now()",
)
STRANGE_FILTERS = (
    ("tag", "shop:'%20or%20'1'='1"),
    ("tag", "shop:"),
    ("tag", "shop:a:b:c"),
    ("id_prefix", "~"),
    ("id_prefix", "_"),
    ("created_after", "0001-01-01T00:00:00Z"),
    ("created_before", "9999-12-31T23:59:59.999999Z"),
    ("completed_after", "2026-01-01t00:00:00z"),
)
NO_CURSORS = {
    "made up": "abcdef",
    "no base64": "a=b",
    "another alphabet": "a%2Bb%2F",
    "no text": "%ff",
    "not ASCII": "%C3%A9",
    "a line break": "YWJj%0a",
    "one character": "a",
    "a JSON text": "eyJhIjoxfQ",
    "10 kB": "A" * 10_000,
    "of zeros": "AAAAAAAAAAAAAAAAAAAAAAAAAAAA",
}


def cases() -> Iterator[Case]:
    for what, bad in (("timeout", NO_TIMEOUTS), ("limit", (*NO_WHOLE_NUMBERS, "0", "1001", "1000000"))):
        paths = WHAT_TAKES_A_TIMEOUT if what == "timeout" else WHAT_TAKES_A_LIMIT
        for number, text in enumerate(bad):
            yield refused(paths[number % len(paths)], what, text)
    for number, text in enumerate((*NO_WHOLE_NUMBERS, "9007199254740992")):
        yield refused(WHAT_TAKES_AFTER[number % len(WHAT_TAKES_AFTER)], "after", text)
    for name, paths in (("timeout", WHAT_TAKES_A_TIMEOUT), ("limit", WHAT_TAKES_A_LIMIT)):
        for path in paths:
            yield refused(path, name, f"5&{name}=5", what="given twice")
            yield refused(path, name, "", what="empty")
    for path, name in (
        ("/workflows/waiting/stream", "names"),
        ("POST /workflows", "wait_for_result"),
        ("POST /workflows/waiting/cancel", "children"),
    ):
        for text in ("1", "yes", "True", "TRUE", "", "false&" + name + "=true"):
            yield refused(path, name, text)
    for path in ("/workflows/waiting/events?key=k", "POST /workflows", "POST /workflows/waiting/messages"):
        yield refused(path, "mode", "both")
        yield refused(path, "mode", "all&mode=any", what="given twice")
    for name, text in BAD_FILTERS:
        yield refused("/workflows", name, text)
    for number, text in enumerate(BAD_TIMES):
        names = ("created_after", "created_before", "completed_after", "completed_before")
        yield refused("/workflows", names[number % 4], text)
    for name, text in STRANGE_FILTERS:
        yield Case(f"GET /workflows: {name} is {text}", f"/workflows?{name}={text}".encode(), 200)
    for what, text in NO_CURSORS.items():
        for path in WHAT_TAKES_A_LIMIT if what == "made up" else ("/workflows", "/workflows/waiting/history"):
            code = "invalid-request" if what == "no text" else "invalid-cursor"
            yield refused(path, "cursor", text, code=code, what=what)
    yield refused("/workflows/waiting/events?key=k", "cursor", "abc", code="invalid-cursor", what="beside keys")
    for method, path in WHAT_KNOWS_ITS_PARAMETERS:
        yield refused(f"{method} {path}", "unknown", CANARY)
    yield refused("/workflows", "Limit", "5", what="in capitals")
    yield refused("/workflows", "", "x", what="without a name")
    for number, (what, key) in enumerate(NO_KEYS.items()):
        for place in range(3):
            name, path = WHAT_TAKES_KEYS[(number + 2 * place) % len(WHAT_TAKES_KEYS)]
            yield refused(path, name, quote_from_bytes(key), what=what)
    yield refused("/workflows/waiting/events", "key", "&key=".join(f"k{n}" for n in range(101)), what="101 keys")
    for path in ("/healthz", "/docs", "/openapi.json"):
        yield Case(f"{path}: whatever stands in its query", path.encode() + b"?a=b&a=c&=&%zz", 200)
    yield Case(
        "many parameters", b"/workflows?" + b"&".join(b"p%d=1" % n for n in range(8_000)), 422, "invalid-request"
    )
    for raw in (b"%ff=1", b"a%=1", b"%ED%A0%80=1"):
        yield Case(f"a parameter's name is {raw.decode()}", b"/workflows?" + raw, 422, "invalid-request", "")


def refused(path: str, name: str, text: str, *, code: str = "invalid-request", what: str = "") -> Case:
    """A query with one bad parameter, on this path; it is a POST where that is said, or where a GET has no such."""
    method, _, bare = path.rpartition(" ")
    if not method:
        posts = name in ("mode", "timeout", "wait_for") and path in ("/workflows", "/workflows/waiting/messages")
        method = "POST" if posts else "GET"
    target = f"{bare}{'&' if '?' in bare else '?'}{name}={text}".encode()
    body = SENDS.get(bare.encode()) if method == "POST" else None
    told = what or (text if len(text) < 40 else f"{text[:10]}… of {len(text)} characters")
    headers = JSON_HEADERS if body else (HOST,)
    return Case(
        f"{method} {bare}: {name} is {told}",
        target,
        422,
        code,
        name,
        method=method.encode(),
        headers=headers,
        body=body,
    )
