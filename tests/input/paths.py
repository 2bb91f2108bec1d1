"""Bad paths: ids, keys, names, and places that there aren't."""

from collections.abc import Iterator

from tests.input.raw import Case

WHAT_TAKES_AN_ID = (
    (b"GET", b"/workflows/%s"),
    (b"DELETE", b"/workflows/%s"),
    (b"GET", b"/workflows/%s/result?timeout=0"),
    (b"GET", b"/workflows/%s/steps"),
    (b"POST", b"/workflows/%s/cancel"),
    (b"POST", b"/workflows/%s/resume"),
    (b"GET", b"/workflows/%s/events/key?timeout=0"),
    (b"GET", b"/workflows/%s/events"),
    (b"GET", b"/workflows/%s/events?key=a&timeout=0"),
    (b"GET", b"/workflows/%s/history"),
    (b"GET", b"/workflows/%s/stream"),
    (b"GET", b"/workflows/%s/messages"),
)
BAD_IDS = {
    "a dot": b".",
    "two dots": b"..",
    "129 characters": b"i" * 129,
    "10 kB": b"i" * 10_000,
    "a slash": b"a%2Fb",
    "an escaped escape": b"a%252Fb",
    "a space": b"a%20b",
    "a line break": b"a%0d%0aX-Injected:%20c",
    "U+0000": b"a%00b",
    "an emoji": b"%F0%9F%98%80",
    "half an escape": b"a%Z1",
    "no UTF-8": b"%ff",
    "overlong UTF-8": b"%C0%AF",
    "a surrogate as UTF-8": b"%ED%A0%80",
    "SQL": b"'%20or%201=1--",
}
NO_KEYS = {
    "a dot": b".",
    "two dots": b"..",
    "two dots, escaped": b"%2e%2e",
    "a slash": b"a%2Fb",
    "a backslash": b"a%5Cb",
    "U+0000": b"a%00b",
    "a line break": b"%0d%0a",
    "an escape of terminals": b"%1b[31m",
    "a C1 control": b"%C2%85",
    "201 characters": b"k" * 201,
    "201 characters of four bytes": b"%F0%9F%98%80" * 201,
    "2,800 bytes": b"%C3%A9" * 1_400,
    "10 kB": b"k" * 10_000,
    "60 kB": b"k" * 60_000,
    "half an escape": b"%ZZ",
    "an escape cut off": b"a%2",
    "no UTF-8": b"%ff",
    "overlong UTF-8": b"%C0%AF",
    "a surrogate as UTF-8": b"%ED%A0%80",
    "beyond Unicode": b"%F4%90%80%80",
}
STRANGE_KEYS = {
    "an emoji": b"%F0%9F%98%80",
    "composed": b"caf%C3%A9",
    "decomposed": b"cafe%CC%81",
    "an escaped escape": b"%252F",
    "a space": b"%20",
    "200 characters of four bytes": b"%F0%9F%98%80" * 200,
    "markup": b"%3Cimg%20src=x%20onerror=alert(1)%3E",
    "SQL": b"';drop%20table%20events;--",
    "the service's own": b"$end",
    "a plus": b"a+b",
    "a bare quote": b"a'b",
}
NO_PLACES = (
    b"/",
    b"/workflows/",
    b"/workflows/waiting/",
    b"/workflows//steps",
    b"/workflows/waiting/events/",
    b"/workflows/waiting/events/a/b",
    b"//workflows",
    b"/Workflows",
    b"/workflows/waiting/Events",
    b"/workflows/waiting/unknown",
    b"/workflows/waiting/fork",
    b"/v1/workflows",
    b"/api/workflows",
    b"/docs/",
    b"/healthz/",
    b"/redoc",
    b"/docs/oauth2-redirect",
    b"/debug",
    b"/admin",
    b"/.env",
    b"/.git/config",
    b"/etc/passwd",
    b"/../../etc/passwd",
    b"/workflows/../healthz",
    b"/problems/..%2f..%2fetc%2fpasswd",
    b"/problems/no-such-problem",
    b"/problems/",
    b"/queues/a",
    b"/schedules/a",
    b"/openapi.json/",
    b"/%68ealthz",
    b"/workflows;a=b",
    b"/callbacks/",
    b"/callbacks/a/b",
)
BAD_NAMES = {
    "65 characters": b"n" * 65,
    "a dash first": b"-name",
    "a slash": b"a%2Fb",
    "U+0000": b"a%00",
    "no UTF-8": b"%ff",
    "a space": b"a%20b",
}


def cases() -> Iterator[Case]:
    for number, (method, path) in enumerate(WHAT_TAKES_AN_ID):
        # All of them where it costs least to ask, and a few different ones everywhere else.
        ids = list(BAD_IDS.items())
        for what, id in ids if number == 0 else [ids[(3 * number + n) % len(ids)] for n in range(3)]:
            yield Case(
                f"{method.decode()} {path.decode() % 'ID'}: id is {what}",
                path % id,
                422,
                "invalid-request",
                "id",
                method=method,
            )
        yield Case(
            f"{method.decode()} {path.decode() % 'ID'}: no such workflow",
            path % b"nobody",
            404,
            "workflow-not-found",
            method=method,
        )
    yield Case("an id of a schedule may be asked for", b"/workflows/schedule:a:b", 404, "workflow-not-found")
    for what, key in NO_KEYS.items():
        yield Case(f"key in a path: {what}", b"/workflows/waiting/events/" + key, 422, "invalid-request", "key")
    for what, key in STRANGE_KEYS.items():
        yield Case(f"strange key in a path: {what}", b"/workflows/waiting/events/%s?timeout=0" % key, 202)
        yield Case(
            f"strange key in a path of what has ended: {what}",
            b"/workflows/ended/events/" + key,
            410,
            "event-never-set",
        )
    for path in NO_PLACES:
        yield Case(f"no place: {path.decode()}", path, 404, "route-not-found")
    for what, name in BAD_NAMES.items():
        yield Case(f"name of a definition: {what}", b"/definitions/" + name, 422, "invalid-request", "name")
    for name in (b"nobody", b"os.system", b"app.workflows.checkout", b"__import__", b"checkout~2"):
        yield Case(f"definition {name.decode()}", b"/definitions/" + name, 404, "definition-not-found")
