"""Workflows: starting, reading, listing, and steps."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator
from typing_extensions import TypeAliasType

from app import names
from app.api.schemas.base import (
    TEN_YEARS,
    Body,
    Cursor,
    Flag,
    Keys,
    KnownId,
    Limit,
    Mode,
    Moment,
    Name,
    NewId,
    Out,
    Query,
    Tag,
    Time,
    Timeout,
    WorkflowStatus,
    checked,
)
from app.api.schemas.events import EventsByKey
from app.errors import Fault, InvalidRequest
from app.model import Status, StepKind

Label = Annotated[str, checked(names.check_key), Field(json_schema_extra={"minLength": 1, "maxLength": 200})]
Seconds = Annotated[float, Field(ge=0, le=TEN_YEARS, allow_inf_nan=False)]


def _few(tags: Any) -> Any:
    # Asked first: each tag is checked otherwise, and each of a hundred thousand complained about.
    if isinstance(tags, dict) and len(tags) > names.MAX_TAGS:
        raise ValueError(f"there may be {names.MAX_TAGS} tags")
    return tags


TagName = Annotated[str, checked(names.check_name)]
TagValue = Annotated[str, checked(names.check_tag_value), Field(json_schema_extra={"maxLength": names.MAX_TAG_VALUE})]


Tags = TypeAliasType(
    "Tags",
    Annotated[
        dict[TagName, TagValue],
        Field(
            max_length=names.MAX_TAGS,
            description="Labels of a workflow: names and their values.",
            json_schema_extra={"propertyNames": {"pattern": f"^{names.NAME}$"}},
        ),
        BeforeValidator(_few),
    ],
)


class Start(Body):
    """What starts a workflow. Null means the definition's own."""

    name: Annotated[Name, Field(description="The definition's name.")]
    input: Annotated[Any, Field(description="What the definition takes.")] = None
    id: Annotated[
        NewId | None,
        Field(description="A workflow is started once for each id: starting it again answers with what there is."),
    ] = None
    queue: Annotated[Name | None, Field(description="The queue it waits in for its turn.")] = None
    priority: Annotated[int | None, Field(ge=-(2**31), le=2**31 - 1, description="Smaller is earlier; in a queue.")] = 0
    partition: Annotated[Label | None, Field(description="The part of the queue it belongs to.")] = None
    deduplication_id: Annotated[Label | None, Field(description="At most one active workflow of the queue has it.")] = (
        None
    )
    delay: Annotated[Seconds | None, Field(description="Seconds before it may run.")] = 0
    timeout: Annotated[
        Annotated[float, Field(gt=0, le=TEN_YEARS, allow_inf_nan=False)] | None,
        Field(description="Seconds from its first run, suspensions included, after which it is ended as TIMED_OUT."),
    ] = None
    tags: Annotated[
        Tags | None,
        Field(default_factory=dict, description="Labels to list it by."),
    ]

    @model_validator(mode="after")
    def _only_in_a_queue(self) -> Start:
        if self.queue is None and (self.priority or self.partition or self.deduplication_id):
            given = {"priority": self.priority, "partition": self.partition, "deduplication_id": self.deduplication_id}
            faults = (Fault(f"{name} needs a queue", pointer=f"/{name}") for name, value in given.items() if value)
            raise InvalidRequest(*faults)
        return self


class Waits(Query):
    """A wait for events, right after what the request did."""

    wait_for: Annotated[Keys, Field(description="Answer when this event is set; may be repeated.")] = ()
    mode: Annotated[Mode, Field(description="Whether all events are waited for, or any of them.")] = Mode.ALL
    timeout: Timeout = None


class StartQuery(Waits):
    wait_for_result: Annotated[Flag, Field(description="Answer when the workflow has ended.")] = False


class ResultQuery(Query):
    timeout: Timeout = None


class CancelQuery(Query):
    children: Annotated[Flag, Field(description="Whether its children are cancelled too.")] = True


INCLUDE = "^(input|output|error)(,(input|output|error)){0,2}$"


def _members(text: str) -> str:
    members = text.split(",")
    if len(set(members)) < len(members) or not set(members) <= {"input", "output", "error"}:
        raise ValueError("this is a comma-separated list of input, output and error")
    return text


Names = Annotated[tuple[Name, ...], Field(max_length=100)]
Ids = Annotated[tuple[KnownId, ...], Field(max_length=100)]


class ListQuery(Query):
    name: Annotated[Names, Field(description="Any of these definitions; may be repeated.")] = ()
    status: Annotated[tuple[Status, ...], Field(max_length=100, description="Any of these; may be repeated.")] = ()
    queue: Annotated[Names, Field(description="Any of these queues; may be repeated.")] = ()
    schedule: Annotated[Names, Field(description="Any of these schedules; may be repeated.")] = ()
    parent_id: Annotated[Ids, Field(description="Children of any of these; may be repeated.")] = ()
    forked_from: Annotated[Ids, Field(description="Forks of any of these; may be repeated.")] = ()
    id_prefix: Annotated[
        Annotated[str, Field(pattern=f"^{names.WORKFLOW_ID}$")] | None,
        Field(description="Ids that begin so."),
    ] = None
    tag: Annotated[
        tuple[Tag, ...], Field(max_length=100, description="All of these, as name:value; may be repeated.")
    ] = ()
    created_after: Time = None
    created_before: Time = None
    completed_after: Time = None
    completed_before: Time = None
    order: Annotated[Literal["desc", "asc"], Field(description="By time of creation, newest first unless asc.")] = (
        "desc"
    )
    include: Annotated[
        Annotated[str, AfterValidator(_members), Field(json_schema_extra={"pattern": INCLUDE})] | None,
        Field(description="What is otherwise left out: a comma-separated list of input, output and error."),
    ] = None
    limit: Limit = 100
    cursor: Cursor = None


class StepsQuery(Query):
    limit: Limit = 100
    cursor: Cursor = None


class WorkflowError(Out):
    """Why a workflow or a step failed, in the words of its author."""

    type: str
    message: str
    step: str | None
    details: Any


class WorkflowBase(Out):
    id: str
    name: str
    version: str
    status: WorkflowStatus


class WorkflowRest(Out):
    tags: Tags
    queue: str | None
    priority: int
    partition: str | None
    deduplication_id: str | None
    parent_id: str | None
    forked_from: str | None
    schedule: str | None
    attempts: Annotated[int, Field(description="1, and the take-overs after an executor was lost.")]
    created_at: Moment
    started_at: Annotated[Moment | None, Field(description="Its first run.")]
    updated_at: Annotated[Moment, Field(description="The last change of its status.")]
    completed_at: Moment | None
    deadline: Moment | None
    wake_at: Moment | None


class Workflow(WorkflowRest, WorkflowBase):
    """One run of a definition."""

    input: Annotated[Any, Field(description="As it was sent.")]
    output: Annotated[Any, Field(description="null unless SUCCEEDED.")]
    error: WorkflowError | None


class StartedWorkflow(Workflow):
    """A workflow, and the events that the request waited for."""

    events: Annotated[EventsByKey, Field(default_factory=dict, description="Present with `wait_for`.")]


class ListedWorkflow(WorkflowRest, WorkflowBase):
    """A workflow; `input`, `output` and `error` are there when `include` names them."""

    input: Any = None
    output: Any = None
    error: WorkflowError | None = None


class WorkflowPage(Out):
    workflows: list[ListedWorkflow]
    next_cursor: str | None


class Step(Out):
    """A durable call that has come out."""

    seq: Annotated[int, Field(description="1, 2, 3 … in the order of calling.")]
    name: str
    kind: Annotated[StepKind | str, Field(description="Bear one that you do not know.")]
    status: Literal["SUCCEEDED", "FAILED"]
    output: Any
    error: WorkflowError | None
    attempts: int
    started_at: Moment
    completed_at: Moment
    child_id: str | None


class StepPage(Out):
    steps: list[Step]
    next_cursor: str | None
