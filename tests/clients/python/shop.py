"""A shop in Python, by the client that openapi-python-client generates: `shop.py FLOW`, see FLOWS.

No cast, no Any where the document has a type: this file and the client are checked by `mypy --strict`.
"""

import os
import sys
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime

import httpx
from milepost_client import AuthenticatedClient, Client
from milepost_client.api.definitions import get_definition
from milepost_client.api.events import get_event, get_history, list_events
from milepost_client.api.messages import list_messages, send_message
from milepost_client.api.operation import get_health
from milepost_client.api.workflows import (
    cancel_workflow,
    delete_workflow,
    get_result,
    get_workflow,
    list_steps,
    list_workflows,
    start_workflow,
)
from milepost_client.models import (
    CheckoutEvents,
    CheckoutInput,
    CheckoutOutput,
    CheckoutStart,
    CheckoutStatus,
    CheckoutWorkflow,
    ConflictProblem,
    Definition,
    EventPage,
    Health,
    InvalidProblem,
    ListedWorkflow,
    MessagePage,
    NeverSetProblem,
    NotFoundProblem,
    PendingEvent,
    Problem,
    ProblemCode,
    Send,
    SentMessage,
    SetEvent,
    StartedWorkflow,
    Status,
    StepPage,
    Tags,
    Workflow,
    WorkflowPage,
)
from milepost_client.types import UNSET, Unset

URL, KEY, READER = os.environ["MILEPOST_URL"], os.environ["MILEPOST_KEY"], os.environ["MILEPOST_READER"]
WAIT = 25
TERMINAL = {Status.SUCCEEDED, Status.FAILED, Status.CANCELLED, Status.TIMED_OUT, Status.DEAD}
TAG = uuid.uuid4().hex


def connected(key: str) -> AuthenticatedClient:
    # A read takes as long as the longest wait, and a little more.
    timeout = httpx.Timeout(10, read=WAIT + 10)
    return AuthenticatedClient(base_url=URL, token=key, timeout=timeout, raise_on_unexpected_status=True)


shop = connected(KEY)


def order(sku: str, quantity: int = 1) -> CheckoutStart:
    tags = Tags()
    tags["shop"] = TAG
    return CheckoutStart(
        name="checkout", id=f"order-{uuid.uuid4()}", input_=CheckoutInput(sku=sku, quantity=quantity), tags=tags
    )


def start(sku: str) -> StartedWorkflow:
    found = start_workflow.sync(client=shop, body=order(sku))
    assert isinstance(found, StartedWorkflow), found
    return found


def wait_for(id: str, key: str, after: int = 0, timeout: float = WAIT) -> SetEvent | PendingEvent | NeverSetProblem:
    """Each of the answers has a type of its own."""
    found = get_event.sync(id, key, client=shop, after=after, timeout=timeout)
    if isinstance(found, (SetEvent, PendingEvent, NeverSetProblem)):
        return found
    if isinstance(found, NotFoundProblem):
        raise LookupError(found.detail)
    if isinstance(found, (Problem, InvalidProblem)):
        raise TypeError(found.detail)
    raise AssertionError("304 is only for those who have sent an ETag")


def payment_url(id: str) -> str:
    while True:
        found = wait_for(id, "payment_url")
        if isinstance(found, SetEvent):
            published = CheckoutEvents.from_dict({found.key: found.value})
            assert isinstance(published.payment_url, str)
            return published.payment_url
        if isinstance(found, NeverSetProblem):
            raise LookupError(found.detail)


def progress(id: str) -> Iterator[int]:
    """All that is published under the key, to the end of the workflow."""
    after = 0
    while True:
        log = get_history.sync(id, client=shop, after=after, key=["progress"], timeout=WAIT)
        assert isinstance(log, EventPage), log
        for event in log.events:
            assert isinstance(event, SetEvent)
            percent = CheckoutEvents.from_dict({event.key: event.value}).progress
            assert isinstance(percent, int)
            yield percent
        after = log.position
        if not log.events and log.workflow_status in TERMINAL:
            return


def pages() -> Iterator[ListedWorkflow]:
    cursor: str | None = None
    while True:
        page = list_workflows.sync(client=shop, tag=[f"shop:{TAG}"], limit=1, cursor=cursor or UNSET)
        assert isinstance(page, WorkflowPage), page
        yield from page.workflows
        cursor = page.next_cursor
        if cursor is None:
            return


def check_out() -> None:
    """From the order to the parcel."""
    body = order("A1", quantity=2)
    started = start_workflow.sync(client=shop, body=body, wait_for=["payment_url"], timeout=WAIT)
    assert isinstance(started, StartedWorkflow), started
    assert not isinstance(started.events, Unset)
    first = started.events["payment_url"]
    assert isinstance(first, SetEvent)
    assert payment_url(started.id) == first.value
    again = start_workflow.sync_detailed(client=shop, body=body)
    assert again.status_code == 200
    assert isinstance(again.parsed, StartedWorkflow)

    sent = send_message.sync(started.id, client=shop, body=Send(topic="payment", payload={"status": "paid"}))
    assert isinstance(sent, SentMessage), sent
    assert list(progress(started.id)) == [0, 25, 50, 75, 100]

    ended = get_result.sync(started.id, client=shop, timeout=WAIT)
    assert isinstance(ended, Workflow), ended
    assert isinstance(ended.completed_at, datetime)
    assert ended.created_at < ended.completed_at <= datetime.now(UTC)
    receipt = CheckoutWorkflow.from_dict(ended.to_dict()).output
    assert isinstance(receipt, CheckoutOutput)
    assert receipt.status is CheckoutStatus.SHIPPED
    assert isinstance(receipt.tracking, str)

    steps = list_steps.sync(started.id, client=shop)
    assert isinstance(steps, StepPage)
    assert steps.steps[0].kind == "transaction"
    messages = list_messages.sync(started.id, client=shop)
    assert isinstance(messages, MessagePage)
    assert [message.id for message in messages.messages] == [sent.id]


def tell_answers_apart() -> None:
    """Set, not yet, nothing newer, never, no such workflow."""
    open_order, sold_out = start("A1").id, start("C3").id
    assert isinstance(wait_for(open_order, "payment_url"), SetEvent)
    assert isinstance(wait_for(open_order, "progress", timeout=0), PendingEvent)
    never = wait_for(sold_out, "payment_url")
    assert isinstance(never, NeverSetProblem)
    assert never.workflow_status == Status.SUCCEEDED
    try:
        wait_for("nowhere", "payment_url")
    except LookupError:
        pass
    else:
        raise AssertionError("there is no such workflow")
    known = get_event.sync_detailed(open_order, "payment_url", client=shop)
    unchanged = get_event.sync_detailed(
        open_order, "payment_url", client=shop, timeout=0, if_none_match=known.headers["ETag"]
    )
    assert (unchanged.status_code, unchanged.parsed) == (304, None)
    board = list_events.sync(open_order, client=shop, key=["payment_url", "progress"], timeout=0)
    assert isinstance(board, EventPage), board
    assert [type(event) for event in board.events] == [SetEvent, PendingEvent]


def turn_pages() -> None:
    ids = {start("C3").id for _ in range(3)}
    found = [workflow.id for workflow in pages()]
    assert len(found) == len(set(found))
    assert ids <= set(found)


def meet_problems() -> None:
    """Each has its type, and within it its code."""
    id = start("C3").id
    get_result.sync(id, client=shop, timeout=WAIT)
    refused = cancel_workflow.sync(id, client=shop)
    assert isinstance(refused, ConflictProblem), refused
    assert (refused.code, refused.workflow_status) == (ProblemCode.WORKFLOW_FINISHED, Status.SUCCEEDED)
    invalid = start_workflow.sync(client=shop, body=order("A1", quantity=0))
    assert isinstance(invalid, InvalidProblem), invalid
    assert [place.pointer for place in invalid.errors] == ["/input/quantity"]
    unknown = get_workflow.sync("nowhere", client=shop)
    assert isinstance(unknown, NotFoundProblem), unknown
    assert unknown.code == ProblemCode.WORKFLOW_NOT_FOUND
    forbidden = start_workflow.sync(client=connected(READER), body=order("A1"))
    assert isinstance(forbidden, Problem), forbidden
    assert (forbidden.status, forbidden.code) == (403, ProblemCode.INSUFFICIENT_SCOPE)
    stranger = list_workflows.sync(client=connected("mp_of_nobody"))
    assert isinstance(stranger, Problem), stranger
    assert stranger.code == ProblemCode.UNAUTHENTICATED
    healthy = get_health.sync(client=Client(base_url=URL))
    assert isinstance(healthy, Health), healthy
    definition = get_definition.sync("checkout", client=shop)
    assert isinstance(definition, Definition), definition
    assert set(definition.events.additional_properties) == {"payment_url", "progress", "status"}
    assert delete_workflow.sync_detailed(id, client=shop).status_code == 204


def bear_what_is_new() -> None:
    """Asked of a service of next year: with a status, a kind of step, a code and members that nobody here knows."""
    id = start("C3").id
    ended = get_result.sync(id, client=shop, timeout=WAIT)
    assert isinstance(ended, Workflow), ended
    assert ended.status == "PAUSED"
    assert ended.status not in TERMINAL
    assert ended["novelty"] == {"of": "next year"}
    assert {str(workflow.status) for workflow in pages()} == {"PAUSED"}
    board = list_events.sync(id, client=shop)
    assert isinstance(board, EventPage), board
    assert board.workflow_status == "PAUSED"
    assert all(isinstance(event, SetEvent) for event in board.events)
    steps = list_steps.sync(id, client=shop)
    assert isinstance(steps, StepPage)
    assert {step.kind for step in steps.steps} == {"quantum"}
    unknown = get_workflow.sync("nowhere", client=shop)
    assert isinstance(unknown, NotFoundProblem), unknown
    assert (unknown.code, unknown.status) == ("of-next-year", 404)
    never = wait_for(id, "payment_url")
    assert isinstance(never, NeverSetProblem)
    assert never.workflow_status == "PAUSED"


FLOWS: dict[str, list[Callable[[], None]]] = {
    "today": [check_out, tell_answers_apart, turn_pages, meet_problems],
    "tomorrow": [bear_what_is_new],
}

if __name__ == "__main__":
    for flow in FLOWS[sys.argv[1]]:
        flow()
