"""Bad bodies: what is no JSON, what would not come back, what is no envelope, and what is said of them by headers."""

import json
from collections.abc import Iterator
from typing import Any

from tests.input.raw import CANARY, HOST, JSON, Case

HEADERS = (HOST, JSON)
PLACES = {
    b"/workflows": (b'{"name":"echo","input":%s}', "/input"),
    b"/workflows/waiting/messages": (b'{"topic":"t","payload":%s}', "/payload"),
    b"/callbacks/" + CANARY.encode(): (b"%s", ""),
}
"""Where any JSON value is taken: the body around it, and the pointer to it."""

REFUSED = {
    "NaN": (b"NaN", ""),
    "-Infinity": (b'{"a":[1,-Infinity]}', "/a/1"),
    "1e400": (b"[1e400]", "/0"),
    "-1e400": (b"-1e400", ""),
    "1e131071": (b"1e131071", ""),
    "1e131073": (b'{"n":1e131073}', "/n"),
    "a long number with a fraction": (b"9" * 400 + b".0", ""),
    "an integer of 4,001 digits": (b"[" + b"9" * 4_001 + b"]", "/0"),
    "an integer of 100,000 digits": (b"-" + b"9" * 100_000, ""),
    "U+0000": (b'"%s\\u0000"' % CANARY.encode(), ""),
    "U+0000 in a name": (b'{"a\\u0000b":1}', "/a\ufffdb"),
    "a lone high surrogate": (b'["\\ud800"]', "/0"),
    "a lone low surrogate": (b'{"a/b":"\\udc00x"}', "/a~1b"),
    "surrogates the wrong way round": (b'"\\udc00\\ud800"', ""),
    "a surrogate in a name": (b'{"\\ud83d":1}', "/\ufffd"),
    "a member twice": (b'{"a":1,"a":1}', "/a"),
    "a member twice, once escaped": (b'{"a":1,"\\u0061":2}', "/a"),
    "the empty name twice": (b'[{"":1,"":2}]', "/0/"),
    "a long name twice": (b'{"%s":1,"%s":2}' % (b"k" * 300_000, b"k" * 300_000), "/" + "k" * 200),
    "101 levels": (b"[" * 101 + b"]" * 101, "/0" * 100),
    "990 levels": (b'{"a":' * 990 + b"1" + b"}" * 990, "/a" * 100),
    "5,000 levels": (b"[" * 5_000 + b"]" * 5_000, "/0" * 100),
    "100,000 levels": (b"[" * 100_000 + b"]" * 100_000, "/0" * 100),
}
TAKEN = {
    "100 levels": b"[" * 100 + b"]" * 100,
    "2^53 + 1": b"9007199254740993",
    "10^400": b"1" + b"0" * 400,
    "an integer of 4,000 digits": b"9" * 4_000,
    "the empty name": b'{"":{"":null}}',
    "a name of 300 kB": b'{"%s":1}' % (b"k" * 300_000),
    "a pair of surrogates": b'"\\ud83d\\ude00"',
    "the smallest double": b"5e-324",
    "what is too small for a double": b"1e-400",
    "a literal \\u0000": b'"\\\\u0000"',
    "markup": b'"<img src=x onerror=alert(1)></script>"',
    "SQL": b'"\'; drop table workflows; --"',
    "an escape of terminals": b'"\\u001b[2J"',
}
NO_JSON = {
    "nothing": b"",
    "a space": b" ",
    "a byte order mark": b"\xef\xbb\xbf{}",
    "UTF-16": "{}".encode("utf-16"),
    "UTF-16 without a mark": "{}".encode("utf-16-le"),
    "UTF-32": "{}".encode("utf-32-be"),
    "bad UTF-8": b'{"name":"\xff"}',
    "a surrogate as UTF-8": b'"\xed\xa0\x80"',
    "overlong UTF-8": b'"\xc0\xaf"',
    "something behind it": b"{} {}",
    "a comment": b"{} // no",
    "a comma too many": b'{"name":"echo",}',
    "quotes of another kind": b"{'name':'echo'}",
    "names without quotes": b'{name:"echo"}',
    "a line break in a string": b'"a\nb"',
    "a tab in a string": b'"a\tb"',
    "U+0000 as a byte": b'"a\0b"',
    "leading zeros": b"01",
    "a plus": b"+1",
    "hexadecimal": b"0x1",
    "an unknown word": b"None",
    "an unknown escape": b'"\\x41"',
    "half an escape": b'"\\u00"',
    "half of it": b'{"name":"ec',
    "an open bracket": b"[",
    "two documents": b"1\n2",
    "a form": b"name=echo",
    "XML": b"<name>echo</name>",
    "random bytes": bytes(range(128, 256)),
    "gzip": b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03",
}
OTHER_TYPES = {
    "none": (),
    "text": (b"Content-Type: text/plain",),
    "a form": (b"Content-Type: application/x-www-form-urlencoded",),
    "a form with parts": (b"Content-Type: multipart/form-data; boundary=x",),
    "XML": (b"Content-Type: application/xml",),
    "a patch": (b"Content-Type: application/merge-patch+json",),
    "another charset": (b"Content-Type: application/json; charset=latin-1",),
    "UTF-16": (b"Content-Type: application/json; charset=utf-16",),
    "almost": (b"Content-Type: application/jsonp",),
    "any": (b"Content-Type: */*",),
    "two": (JSON, b"Content-Type: text/plain"),
    "one twice": (JSON, JSON),
    "nothing in it": (b"Content-Type:",),
    "gzip": (JSON, b"Content-Encoding: gzip"),
    "identity": (JSON, b"Content-Encoding: identity"),
}
GOOD_TYPES = (
    b"Content-Type: application/json; charset=utf-8",
    b'content-type: APPLICATION/JSON ; charset="UTF-8"',
    b"Content-Type: application/json;",
)
STARTS: dict[str, tuple[Any, str]] = {
    "no object": ([], ""),
    "a string": ("echo", ""),
    "null": (None, ""),
    "a number": (1, ""),
    "without a name": ({"input": 1}, "/name"),
    "name null": ({"name": None}, "/name"),
    "name a number": ({"name": 1}, "/name"),
    "name empty": ({"name": ""}, "/name"),
    "name a list": ({"name": ["echo"]}, "/name"),
    "name with a slash": ({"name": "a/b"}, "/name"),
    "name of 65 characters": ({"name": "n" * 65}, "/name"),
    "name with a line break": ({"name": "echo\n"}, "/name"),
    "id empty": ({"name": "echo", "id": ""}, "/id"),
    "id a number": ({"name": "echo", "id": 5}, "/id"),
    "id two dots": ({"name": "echo", "id": ".."}, "/id"),
    "id of 129 characters": ({"name": "echo", "id": "i" * 129}, "/id"),
    "id with a slash": ({"name": "echo", "id": "a/b"}, "/id"),
    "id with a line break": ({"name": "echo", "id": "a\r\nX-Injected: c"}, "/id"),
    "id not ASCII": ({"name": "echo", "id": "caf\u00e9"}, "/id"),
    "id of a schedule": ({"name": "echo", "id": "schedule:a"}, "/id"),
    "queue a number": ({"name": "echo", "queue": 1}, "/queue"),
    "queue with a space": ({"name": "echo", "queue": "a b"}, "/queue"),
    "priority a double": ({"name": "echo", "priority": 1.0}, "/priority"),
    "priority text": ({"name": "echo", "priority": "1"}, "/priority"),
    "priority true": ({"name": "echo", "priority": True}, "/priority"),
    "priority too large": ({"name": "echo", "priority": 2**31, "queue": "q"}, "/priority"),
    "priority huge": ({"name": "echo", "priority": 10**300, "queue": "q"}, "/priority"),
    "priority without a queue": ({"name": "echo", "priority": 1}, "/priority"),
    "partition without a queue": ({"name": "echo", "partition": "p"}, "/partition"),
    "partition empty": ({"name": "echo", "queue": "q", "partition": ""}, "/partition"),
    "deduplication without a queue": ({"name": "echo", "deduplication_id": "p"}, "/deduplication_id"),
    "delay negative": ({"name": "echo", "delay": -1}, "/delay"),
    "delay text": ({"name": "echo", "delay": "1"}, "/delay"),
    "delay true": ({"name": "echo", "delay": True}, "/delay"),
    "delay of eleven years": ({"name": "echo", "delay": 3.5e8}, "/delay"),
    "timeout nothing": ({"name": "echo", "timeout": 0}, "/timeout"),
    "timeout negative": ({"name": "echo", "timeout": -0.5}, "/timeout"),
    "timeout of eleven years": ({"name": "echo", "timeout": 3.5e8}, "/timeout"),
    "timeout text": ({"name": "echo", "timeout": CANARY}, "/timeout"),
    "tags a list": ({"name": "echo", "tags": ["a"]}, "/tags"),
    "a tag's value a number": ({"name": "echo", "tags": {"a": 1}}, "/tags/a"),
    "a tag's value null": ({"name": "echo", "tags": {"a": None}}, "/tags/a"),
    "a tag's value long": ({"name": "echo", "tags": {"a": "v" * 201}}, "/tags/a"),
    "a tag's name empty": ({"name": "echo", "tags": {"": "v"}}, "/tags/"),
    "a tag's name with a slash": ({"name": "echo", "tags": {"a/b": "v"}}, "/tags/a~1b"),
    "33 tags": ({"name": "echo", "tags": {f"t{n}": "" for n in range(33)}}, "/tags"),
    **{
        f"{member} given": ({"name": "echo", member: value}, f"/{member}")
        for member, value in {
            "status": "SUCCEEDED",
            "output": CANARY,
            "error": None,
            "version": "1",
            "attempts": 1,
            "generation": 7,
            "tenant": "other",
            "created_at": "2026-01-01T00:00:00Z",
            "parent_id": "waiting",
            "forked_from": "waiting",
            "schedule": "s",
            "executor_id": "e",
            "__proto__": {"admin": True},
            "callback_url": "http://169.254.169.254/latest/meta-data",
            "Name": "echo",
        }.items()
    },
}
MESSAGES: dict[str, tuple[Any, str]] = {
    "no object": ([1], ""),
    "an empty object": ({}, "/topic"),
    "without a payload": ({"topic": "t"}, "/payload"),
    "topic null": ({"topic": None, "payload": 1}, "/topic"),
    "topic empty": ({"topic": "", "payload": 1}, "/topic"),
    "topic with a slash": ({"topic": "a/b", "payload": 1}, "/topic"),
    "topic a dot": ({"topic": ".", "payload": 1}, "/topic"),
    "topic with a line break": ({"topic": "a\nb", "payload": 1}, "/topic"),
    "topic of 201 characters": ({"topic": "t" * 201, "payload": 1}, "/topic"),
    "topic of 2,800 bytes": ({"topic": "\u00e9" * 1_400, "payload": 1}, "/topic"),
    "topic a number": ({"topic": 1, "payload": 1}, "/topic"),
    "an id given": ({"topic": "t", "payload": 1, "id": CANARY}, "/id"),
    "a position given": ({"topic": "t", "payload": 1, "position": 1}, "/position"),
    "received already": ({"topic": "t", "payload": 1, "received_at": None}, "/received_at"),
}
INPUTS: dict[str, tuple[str, Any, str]] = {
    "text for a number": ("count", CANARY, "/input"),
    "a double for a number": ("count", 1.5, "/input"),
    "null for a number": ("count", None, "/input"),
    "something for nothing": ("mute", {"a": 1}, "/input"),
    "false for nothing": ("mute", False, "/input"),
    "without what is asked for": ("checkout", {}, "/input/sku"),
    "a number for text": ("checkout", {"sku": 1}, "/input/sku"),
    "text for a list": ("scripted", CANARY, "/input"),
    "text in a list of lists": ("scripted", [["set", "a", 1], CANARY], "/input/1"),
    "too much": ("report", {"upto": 10**9}, "/input/upto"),
    "beyond 64 bit": ("report", {"upto": 10**30}, "/input/upto"),
}


def cases() -> Iterator[Case]:
    for path, (around, pointer) in PLACES.items():
        known = "callbacks" not in path.decode()
        told = f"POST {path.decode() if known else '/callbacks'}"
        for what, (value, place) in REFUSED.items():
            yield post(f"{told}: {what}", path, around % value, 422, "invalid-request", pointer + place)
        for what, body in NO_JSON.items():
            yield post(f"{told}: {what}", path, body, 400, "malformed-json")
        for what, headers in OTHER_TYPES.items():
            body = around % b"1"
            yield post(f"{told}: media type is {what}", path, body, 415, "unsupported-media-type", headers=headers)
        # A byte more than fits, and how much of it came escaped does not count.
        for what, value in {"plain": b"x" * 1_048_575, "escaped": b"\\u0078" * 180_000 + b"x" * 868_575}.items():
            if len(value) < 1_100_000:
                body = around % (b'"%s"' % value)
                yield post(f"{told}: a byte too much, {what}", path, body, 422, "value-too-large", pointer)
    taken = b'{"name":"echo","id":"taken","input":%s}'
    for what, value in TAKEN.items():
        # The id was started with another input: so it was read, compared, and not stored.
        yield post(f"POST /workflows: {what}", b"/workflows", taken % value, 409, "workflow-id-conflict")
        yield post(f"POST /callbacks: {what}", b"/callbacks/none", value, 404, "callback-not-found")
        path = b"/workflows/ended/messages"
        yield post(
            f"POST {path.decode()}: {what}", path, b'{"topic":"t","payload":%s}' % value, 409, "workflow-finished"
        )
    for header in GOOD_TYPES:
        body = taken % b'{"sku":"A1"}'
        yield post(f"POST /workflows: {header.decode()}", b"/workflows", body, 200, headers=(header,))
    body = b'{"name":"echo","id":"taken","input":{"\\u0073ku":"A\\u0031"}}'
    yield post("POST /workflows: an equal input, written otherwise", b"/workflows", body, 200)
    for what, (start, place) in STARTS.items():
        yield post(f"POST /workflows: {what}", b"/workflows", compact(start), 422, "invalid-request", place)
    for what, (message, place) in MESSAGES.items():
        path = b"/workflows/waiting/messages"
        yield post(f"POST {path.decode()}: {what}", path, compact(message), 422, "invalid-request", place)
    for what, (name, value, place) in INPUTS.items():
        body = compact({"name": name, "input": value})
        yield post(f"POST /workflows: {name} is given {what}", b"/workflows", body, 422, "invalid-input", place)
    for name in ("nobody", "os.system", "app.workflows.checkout", "builtins.eval", "ECHO", "echo.2", "__class__"):
        body = compact({"name": name, "input": "id"})
        yield post(f"POST /workflows: name is {name}", b"/workflows", body, 404, "workflow-not-registered")
    yield post(
        "a queue that there isn't", b"/workflows", compact({"name": "mute", "queue": "q"}), 404, "queue-not-found"
    )


def post(
    id: str,
    path: bytes,
    body: bytes,
    status: int,
    code: str | None = None,
    place: str | None = None,
    headers: tuple[bytes, ...] = (JSON,),
) -> Case:
    return Case(id, path, status, code, place, method=b"POST", headers=(HOST, *headers), body=body)


def compact(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()
