"""What Schemathesis is told beyond its configuration: how not to wait for long, and what must hold besides."""

import os
import re
from typing import Any

import httpx
import schemathesis
from schemathesis import Case, CheckContext, HookContext, Response

from tests.input.standing import begin

LONGEST_WAIT = 0.2
TOKENS = os.environ["CALLBACK_TOKENS"].split()
HEADERS = {"Authorization": f"Bearer {os.environ['API_KEY']}"}
_DIGITS = re.compile(r"[0-9]{1,4}").fullmatch
_ID = re.compile(r"[A-Za-z0-9._~:-]{1,128}").fullmatch

REASONS = (
    ("invalid-cursor", "", "cursors are made by the service"),
    (
        "invalid-request",
        "U+0000 is not accepted",
        "any JSON value is taken but this; no schema says so of all strings in it",
    ),
    ("invalid-request", "needs a queue", "a rule between two members, which generators of clients can't read"),
    ("invalid-request", "event keys and topics have", "the pattern does not tell that . and .. are none"),
    ("invalid-request", "a workflow id has", "the pattern does not tell that . and .. are none"),
    ("invalid-request", "ids that begin with 'schedule:'", "they are made by schedules"),
    ("invalid-request", "a comma-separated list of input", "the pattern does not tell that none comes twice"),
    (
        "invalid-request",
        "a time is written as in RFC 3339",
        "to the microsecond, in the years 1 to 9999, no leap seconds",
    ),
    ("invalid-request", "the value of a tag has", "U+0000 again"),
    ("invalid-request", "a number must be finite", "a schema's number has no upper bound"),
    ("invalid-request", "an integer may have", "a schema's integer has no number of digits"),
    ("invalid-request", "should be a valid integer", "1.0 fits a schema's integer, and is a double here"),
    ("invalid-request", "this is empty", "a list of nothing is sent as no parameter"),
)
"""Why a request that fits the document may be refused after all: the code, what the message has in it, the reason."""
LEAKS = re.compile(rb"Traceback|File \"|site-packages|\.py\b|psycopg|sqlalchemy|SQLSTATE|pydantic", re.IGNORECASE)


@schemathesis.hook
def before_call(context: HookContext, case: Case, kwargs: dict[str, Any]) -> None:
    """Waits are made short, and their numbers written as the contract has them: without an exponent."""
    wait = (case.query or {}).get("timeout")
    if isinstance(wait, str) and _DIGITS(wait):
        # From an example of the document.
        wait = float(wait)
    if isinstance(wait, (int, float)) and not isinstance(wait, bool) and 0 <= wait <= 3_600:
        case.query["timeout"] = format(min(wait, LONGEST_WAIT), "f")
    parameters = case.path_parameters or {}
    if case.path.endswith("/stream") and _ID(str(parameters.get("id"))):
        # A stream goes on for as long as its workflow does; so it is that of one that has ended.
        base_url = case.operation.schema.get_base_url()
        with httpx.Client(base_url=base_url, headers=HEADERS, timeout=30, trust_env=False) as client:
            begin(client, "ended")
        parameters["id"] = "ended"
    if "token" in parameters and _few(parameters["token"]):
        # Tokens can't be guessed, and that of nobody is all that would be met otherwise.
        parameters["token"] = TOKENS[len(parameters["token"]) % len(TOKENS)]


@schemathesis.hook
def filter_query(context: HookContext, query: dict[str, Any] | None) -> bool:
    """A parameter that is not sent can't be refused: an empty object leaves no trace in a query."""
    return all(map(_is_sent, (query or {}).values()))


def _is_sent(value: Any) -> bool:
    if isinstance(value, list) and value:
        return any(map(_is_sent, value))
    return value is not None and value != {}


def _few(token: Any) -> bool:
    return isinstance(token, str) and len(token) % 3 > 0


@schemathesis.check
def a_refusal_is_a_problem_that_names_the_place(context: CheckContext, response: Response, case: Case) -> None:
    if response.status_code < 400:
        return
    told = f"{response.status_code} {response.content[:500]!r}"
    assert response.headers["content-type"] == ["application/problem+json"], told
    problem = response.json()
    assert problem["status"] == response.status_code, told
    assert problem["type"] == f"/problems/{problem['code']}", told
    assert problem["detail"], told
    assert response.status_code != 422 or problem["errors"], told
    assert not LEAKS.search(response.content), told
    assert len(response.content) < 100_000, "a refusal is short"


@schemathesis.check
def an_answer_has_the_headers_of_every_answer(context: CheckContext, response: Response, case: Case) -> None:
    assert response.headers["x-content-type-options"] == ["nosniff"]
    assert response.headers["cache-control"][0] in ("no-store", "private, no-cache")
    assert "server" not in response.headers
    assert 0 < len(response.headers["x-request-id"][0]) <= 128


@schemathesis.check
def a_good_request_is_refused_for_a_stated_reason(context: CheckContext, response: Response, case: Case) -> None:
    if response.status_code != 422 or case.meta is None or not case.meta.generation.mode.is_positive:
        return
    problem = response.json()
    for error in problem["errors"]:
        reasons = [reason for code, said, reason in REASONS if problem["code"] == code and said in error["message"]]
        assert reasons, f"the document does not tell that this is refused: {problem}"
