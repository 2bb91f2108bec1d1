"""Errors as they stand in records, and the exceptions that a workflow's code gets for them.

A record's error is `{type, message, step, details}`. What a durable call raises is made from the record
alone, live and in replay alike; live, the original exception is its cause.
"""

from __future__ import annotations

import json
from typing import Any

from app import errors, values
from app.model import JsonText, StepKind

MESSAGE_LIMIT = 2_000
"""Characters of an author's message that are kept."""

# Raised by durable calls other than steps; their class says all there is to say.
_PLAIN: dict[str, type[errors.MilepostError]] = {
    kind.__name__: kind
    for kind in (
        errors.TimedOut,
        errors.EventNeverSet,
        errors.WorkflowNotFound,
        errors.WorkflowFinished,
        errors.WorkflowIdConflict,
        errors.WorkflowNotRegistered,
        errors.QueueNotFound,
        errors.AuthoringError,
    )
}


def describe(error: BaseException, *, step: str | None = None) -> JsonText:
    """What a record keeps of an exception."""
    details: Any = None
    error = _sole(error)
    if isinstance(error, errors.StepFailed):
        return _text(error.type, _message(error.message), error.step, error.details)
    if isinstance(error, errors.ChildFailed):
        details = {"workflow_id": error.workflow_id, "status": error.status, "error": error.error}
        return _text("ChildFailed", _message(error.detail), step, details)
    if isinstance(error, errors.Fatal):
        details = error.details
    if isinstance(error, errors.Invalid):
        details = [{"pointer": fault.pointer or "", "message": fault.message} for fault in error.faults]
    said = error.detail if isinstance(error, errors.MilepostError) else error
    return _text(type(error).__name__, _message(said), step, details)


def _message(said: object) -> str:
    """What an exception was raised with: text most often, but authors raise with anything."""
    try:
        return str(said)
    except Exception as broken:
        return f"(its message can't be had: {type(broken).__name__})"


def _sole(error: BaseException) -> BaseException:
    """A group with one error in it says no more than that error."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error


def _text(type: str, message: str, step: str | None, details: Any) -> JsonText:
    # A message may hold what JSON can't: it is for people, so it is mended rather than refused.
    clean = message[:MESSAGE_LIMIT].replace("\0", "\ufffd").encode("utf-8", "replace").decode("utf-8")
    try:
        kept = values.encode(details)
    except errors.Invalid:
        kept = values.encode(None)
    return JsonText(f'{{"type":{_string(type)},"message":{_string(clean)},"step":{_string(step)},"details":{kept}}}')


def _string(text: str | None) -> str:
    return json.dumps(text, ensure_ascii=False)


def revive(kind: StepKind, name: str, error: JsonText, attempts: int) -> Exception:
    """The exception that a durable call raises for the error in its record."""
    record = json.loads(error)
    name_of, message, details = record["type"], record["message"], record["details"]
    if kind in (StepKind.STEP, StepKind.TRANSACTION):
        return errors.StepFailed(record["step"] or name, name_of, message, details, attempts)
    if name_of == "ChildFailed":
        return errors.ChildFailed(details["workflow_id"], details["status"], details["error"])
    if name_of in ("InvalidInput", "InvalidRequest", "ValueTooLarge"):
        return errors.InvalidInput(*(errors.Fault(fault["message"], fault["pointer"]) for fault in details or ()))
    return (
        _PLAIN[name_of](message) if name_of in _PLAIN else errors.StepFailed(name, name_of, message, details, attempts)
    )
