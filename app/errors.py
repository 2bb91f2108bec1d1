"""Everything that can go wrong on purpose. A docstring is the message a person gets.

MilepostError
├── Refusal                 answered over HTTP as a problem: has `code` and `status`
│   ├── MalformedJson … 400, WorkflowNotFound … 404, WorkflowFinished … 409, …
│   └── Unavailable         503 with Retry-After: DatabaseUnavailable, Overloaded, Draining
├── AuthoringError          a workflow was written or registered wrongly
└── WorkflowError           raised into a workflow's code, as EventNeverSet, WorkflowNotFound
    │                       and WorkflowFinished are
    ├── StepFailed, ChildFailed, NonDeterministicWorkflow, TimedOut
    └── Fatal               raised by a step: do not try it again
Unwound (BaseException)     takes a workflow's code out of memory: Suspended, Aborted
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

MOST_FAULTS = 20
"""How many places a refusal names at most."""


class MilepostError(Exception):
    """Something went wrong in Milepost."""

    def __init__(self, detail: str | None = None) -> None:
        self.detail = detail or (type(self).__doc__ or "").strip()
        super().__init__(self.detail)


@dataclass(frozen=True, slots=True)
class Fault:
    """One place that was wrong. `pointer` is a JSON Pointer (RFC 6901) into the body; else `parameter`."""

    message: str
    pointer: str | None = None
    parameter: str | None = None


def _told(fault: Fault) -> str:
    place = fault.pointer or fault.parameter
    return f"{place}: {fault.message}" if place else fault.message


class Refusal(MilepostError):
    """The request was refused."""

    status: ClassVar[int]
    code: ClassVar[str]

    def __init__(self, detail: str | None = None, **extra: Any) -> None:
        super().__init__(detail)
        self.extra: Mapping[str, Any] = extra
        """Further members of the problem document."""


class MalformedJson(Refusal):
    """The body is not JSON."""

    status, code = 400, "malformed-json"


class MalformedRequest(Refusal):
    """The request can't be understood."""

    status, code = 400, "malformed-request"


class Unauthenticated(Refusal):
    """This needs an API key that is in force, in the header Authorization: Bearer."""

    status, code = 401, "unauthenticated"


class InsufficientScope(Refusal):
    """The API key may not do this."""

    status, code = 403, "insufficient-scope"

    def __init__(self, scope: str) -> None:
        super().__init__(f"The API key may not do this: it needs the scope {scope}.")
        self.scope = scope


class OriginRefused(Refusal):
    """A page of another origin may not do this; add the origin to MILEPOST_CORS_ORIGINS to allow it."""

    status, code = 403, "origin-refused"


class RouteNotFound(Refusal):
    """There is nothing at this path."""

    status, code = 404, "route-not-found"


class WorkflowNotFound(Refusal):
    """There is no workflow with this id."""

    status, code = 404, "workflow-not-found"


class WorkflowNotRegistered(Refusal):
    """No workflow of this name is registered with this service."""

    status, code = 404, "workflow-not-registered"


class DefinitionNotFound(Refusal):
    """There is no definition of this name."""

    status, code = 404, "definition-not-found"


class QueueNotFound(Refusal):
    """There is no queue of this name."""

    status, code = 404, "queue-not-found"


class CallbackNotFound(Refusal):
    """This callback is unknown or has expired."""

    status, code = 404, "callback-not-found"


class MethodNotAllowed(Refusal):
    """This path does not take that method."""

    status, code = 405, "method-not-allowed"

    def __init__(self, allow: str) -> None:
        super().__init__()
        self.allow = allow


class WorkflowIdConflict(Refusal):
    """This id was started before with another name or input."""

    status, code = 409, "workflow-id-conflict"


class WorkflowFinished(Refusal):
    """The workflow has ended."""

    status, code = 409, "workflow-finished"


class WorkflowActive(Refusal):
    """The workflow is still active; cancel it first."""

    status, code = 409, "workflow-active"


class WorkflowAborted(Refusal):
    """The workflow's abort workflow has been started, so it can't go on."""

    status, code = 409, "workflow-aborted"


class IdempotencyConflict(Refusal):
    """This Idempotency-Key was used before with another topic or payload."""

    status, code = 409, "idempotency-conflict"


class CallbackUsed(Refusal):
    """This callback was completed before with another payload."""

    status, code = 409, "callback-used"


class EventNeverSet(Refusal):
    """The workflow has ended without setting this event."""

    status, code = 410, "event-never-set"


class PreconditionFailed(Refusal):
    """A precondition of the request does not hold."""

    status, code = 412, "precondition-failed"


class BodyTooLarge(Refusal):
    """The body is larger than this service takes."""

    status, code = 413, "body-too-large"


class UnsupportedMediaType(Refusal):
    """The body must be application/json in UTF-8, without a Content-Encoding."""

    status, code = 415, "unsupported-media-type"


class HostRefused(Refusal):
    """This service does not answer for that Host; set MILEPOST_PUBLIC_URL to its public address."""

    status, code = 421, "host-refused"


class Invalid(Refusal):
    """A refusal that names the places that were wrong."""

    def __init__(self, *faults: Fault, detail: str | None = None) -> None:
        super().__init__(detail or "; ".join(map(_told, faults[:3])) or None)
        # A small request must not have a large answer.
        self.faults = faults[:MOST_FAULTS]


class InvalidRequest(Invalid):
    """The request is not what this operation takes."""

    status, code = 422, "invalid-request"


class InvalidInput(Invalid):
    """The input is not what this workflow takes."""

    status, code = 422, "invalid-input"


class InvalidCursor(Invalid):
    """The cursor was not made by this listing with these filters."""

    status, code = 422, "invalid-cursor"


class ValueTooLarge(Invalid):
    """A value is larger than 1 MiB."""

    status, code = 422, "value-too-large"


class InternalError(Refusal):
    """Something broke in the service; the log has it under this request's id."""

    status, code = 500, "internal-error"


class Unavailable(Refusal):
    """The service can't do this now; try again."""

    status = 503


class DatabaseUnavailable(Unavailable):
    """The database does not answer now; try again."""

    code = "database-unavailable"


class Overloaded(Unavailable):
    """The service has as much to do as it may take on; try again."""

    code = "overloaded"


class Draining(Unavailable):
    """This process is shutting down; try again and another one will answer."""

    code = "draining"


def known() -> dict[str, type[Refusal]]:
    """Every refusal by its code."""
    return {kind.code: kind for kind in _kinds(Refusal) if hasattr(kind, "code")}


def _kinds(kind: type[Refusal]) -> Iterator[type[Refusal]]:
    for child in kind.__subclasses__():
        yield child
        yield from _kinds(child)


class AuthoringError(MilepostError):
    """A workflow or step is not written as Milepost needs it."""


class WorkflowError(MilepostError):
    """Something that a workflow's code may catch."""


class Fatal(WorkflowError):
    """Raised by a step that should not be tried again."""

    def __init__(self, message: str = "", details: Any = None) -> None:
        super().__init__(message)
        self.details = details


class StepFailed(WorkflowError):
    """A step has failed for good."""

    def __init__(self, step: str, type: str, message: str, details: Any = None, attempts: int = 1) -> None:
        super().__init__(message)
        self.step, self.type, self.message, self.details, self.attempts = step, type, message, details, attempts


class ChildFailed(WorkflowError):
    """A child workflow did not succeed."""

    def __init__(self, workflow_id: str, status: str, error: Any) -> None:
        super().__init__(f"child {workflow_id} ended {status}")
        self.workflow_id, self.status, self.error = workflow_id, status, error


class TimedOut(WorkflowError, TimeoutError):
    """The wait was over before what it waited for had come."""


class NonDeterministicWorkflow(WorkflowError):
    """The workflow's code did not do in replay what it had done when it was recorded."""


class Unwound(BaseException):
    """Takes a workflow's code off the stack; not an Exception, so that `except Exception` lets it through."""


class Suspended(Unwound):
    """The workflow waits for something and leaves memory; it will run again from its records."""


class Aborted(Unwound):
    """The workflow was cancelled, ran out of time, or goes on elsewhere."""
