"""Milepost: durable workflows over HTTP. What a workflow's author needs is here.

    from app import Context, Retry, step, workflow

The service itself (`app.main`) is not imported by this.
"""

from app.authoring import testing
from app.authoring.context import Context, Handle, Logger
from app.authoring.definitions import Definition, Registry, workflow
from app.authoring.steps import Retry, step
from app.errors import (
    AuthoringError,
    ChildFailed,
    EventNeverSet,
    Fatal,
    InvalidInput,
    NonDeterministicWorkflow,
    StepFailed,
    TimedOut,
    WorkflowError,
    WorkflowFinished,
    WorkflowIdConflict,
    WorkflowNotFound,
    WorkflowNotRegistered,
)

__all__ = [
    "AuthoringError",
    "ChildFailed",
    "Context",
    "Definition",
    "EventNeverSet",
    "Fatal",
    "Handle",
    "InvalidInput",
    "Logger",
    "NonDeterministicWorkflow",
    "Registry",
    "Retry",
    "StepFailed",
    "TimedOut",
    "WorkflowError",
    "WorkflowFinished",
    "WorkflowIdConflict",
    "WorkflowNotFound",
    "WorkflowNotRegistered",
    "step",
    "testing",
    "workflow",
]
