"""Definitions: workflow functions under their names, and the registry that finds them.

Versions are compared by number: "1.10" is newer than "1.9". A new start takes the newest version
of its name; a workflow that was started with an older one is recovered with that one.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar, overload

from app import names
from app.authoring import checks, codecs, hints
from app.authoring.codecs import Codec
from app.authoring.context import Context
from app.errors import AuthoringError, Fault, InvalidInput
from app.model import NULL, JsonText

F = TypeVar("F", bound=Callable[..., Awaitable[Any]])

MAX_RECOVERIES = 100

_DEFINITION = "__milepost_workflow__"
_SIGNATURE = "a workflow is written `async def f(ctx: Context)` or `async def f(ctx: Context, input: T)`"


@dataclass(frozen=True)
class Definition:
    """A registered workflow function. `input` is None when it takes no input."""

    name: str
    version: str
    function: Callable[..., Awaitable[Any]]
    description: str
    input: Codec[Any] | None
    output: Codec[Any]
    events: Mapping[str, Codec[Any]]
    timeout: float | None
    on_abort: Definition | None
    max_recoveries: int

    def arguments(self, text: JsonText | None, *, pointer: str = "") -> tuple[Any, ...]:
        """What the function takes after the context; raises InvalidInput with places below `pointer`."""
        if self.input is not None:
            return (self.input.decode(NULL if text is None else text, pointer=pointer),)
        if text is not None and text != NULL:
            raise InvalidInput(Fault(f"the workflow {self.name} takes no input", pointer))
        return ()


class Registry:
    """Definitions by name and version. Decorators fill the module's own; a test may build a fresh one."""

    def __init__(self) -> None:
        self._versions: dict[str, dict[tuple[int, ...], Definition]] = {}

    def add(self, definition: Definition) -> None:
        versions = self._versions.setdefault(definition.name, {})
        number = _number(definition.version)
        if number in versions:
            raise AuthoringError(
                f"The workflow {definition.name}, version {definition.version}, is registered twice: by"
                f" {_place(versions[number].function)} and by {_place(definition.function)}."
                " Give one of them another name, or another version."
            )
        versions[number] = definition

    def newest(self, name: str) -> Definition | None:
        versions = self._versions.get(name)
        return versions[max(versions)] if versions else None

    def get(self, name: str, version: str) -> Definition | None:
        return self._versions.get(name, {}).get(_number(version))

    def names(self) -> list[str]:
        return sorted(self._versions)

    def __iter__(self) -> Iterator[Definition]:
        """By name, the newest version of each first."""
        for name in self.names():
            versions = self._versions[name]
            yield from (versions[number] for number in sorted(versions, reverse=True))

    def __len__(self) -> int:
        return sum(len(versions) for versions in self._versions.values())


registry = _default = Registry()


@overload
def workflow(function: F, /) -> F: ...
@overload
def workflow(
    *,
    name: str | None = ...,
    version: str = ...,
    timeout: float | None = ...,
    events: Mapping[str, Any] | None = ...,
    on_abort: Callable[..., Awaitable[Any]] | None = ...,
    max_recoveries: int = ...,
    registry: Registry | None = ...,
) -> Callable[[F], F]: ...
def workflow(
    function: F | None = None,
    /,
    *,
    name: str | None = None,
    version: str = "1",
    timeout: float | None = None,
    events: Mapping[str, Any] | None = None,
    on_abort: Callable[..., Awaitable[Any]] | None = None,
    max_recoveries: int = MAX_RECOVERIES,
    registry: Registry | None = None,
) -> F | Callable[[F], F]:
    """Register `async def f(ctx: Context)` or `async def f(ctx: Context, input: T)` as a workflow.

    The function stays as it is. Its annotations say what input is accepted and what the output looks
    like, its docstring is the description.

    name:           what it is started by; the function's name unless given.
    version:        whole numbers with dots. Change it when running workflows could not be replayed by
                    the new code, and keep the old function registered beside it until they have ended.
    timeout:        seconds from the first run to the end, suspensions included; None: no limit.
    events:         the types of event keys; what is set under them is validated. Others may be set freely.
    on_abort:       a workflow that is started, once, with {workflow_id, status, input}, when this one
                    ends CANCELLED, TIMED_OUT or DEAD: it puts right what was left half done.
    max_recoveries: losses of the executor in a row, without a new record in between, before it is DEAD.
    registry:       where to register; the module's own unless given.
    """
    target = _default if registry is None else registry

    def decorate(decorated: F) -> F:
        _check_async(decorated)
        definition = Definition(
            name=_checked_name(decorated.__name__ if name is None else name, decorated),
            version=_checked_version(version),
            function=decorated,
            description=inspect.getdoc(decorated) or "",
            input=_input(decorated),
            output=_described(codecs.of(hints.resolve(decorated, "return")), "serialization"),
            events=_events(events or {}),
            timeout=_checked_timeout(timeout),
            on_abort=None if on_abort is None else _abort_definition(on_abort),
            max_recoveries=_checked_recoveries(max_recoveries),
        )
        target.add(definition)
        setattr(decorated, _DEFINITION, definition)
        return decorated

    return decorate if function is None else decorate(function)


def of(function: Callable[..., Awaitable[Any]]) -> Definition:
    """The definition of a decorated function."""
    definition = getattr(function, _DEFINITION, None)
    # A wrapper made with functools.wraps carries the attribute too, but is not what was registered.
    if not isinstance(definition, Definition) or definition.function is not function:
        raise AuthoringError(f"{function!r} is not a workflow: decorate it with @workflow.")
    return definition


def _number(version: str) -> tuple[int, ...]:
    """For comparing: by number, and "1.0" is "1"."""
    try:
        numbers = [int(part) for part in version.split(".")]
    except ValueError:
        return ()
    while len(numbers) > 1 and not numbers[-1]:
        numbers.pop()
    return tuple(numbers)


def _check_async(function: Callable[..., Any]) -> None:
    if not inspect.iscoroutinefunction(function):
        raise AuthoringError(f"{_place(function)} is not an async function: {_SIGNATURE}.")


def _input(function: Callable[..., Any]) -> Codec[Any] | None:
    parameters = list(inspect.signature(function).parameters.values())
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    if not 1 <= len(parameters) <= 2 or any(parameter.kind not in positional for parameter in parameters):
        raise AuthoringError(f"{_place(function)} has other parameters than it may have: {_SIGNATURE}.")
    if any(parameter.default is not inspect.Parameter.empty for parameter in parameters):
        raise AuthoringError(
            f"{_place(function)} has a default for a parameter: {_SIGNATURE}."
            " Give defaults to the members of T instead, or let T be `… | None`."
        )
    first = hints.resolve(function, parameters[0].name)
    if first is not Any and not (isinstance(first, type) and issubclass(first, Context)):
        raise AuthoringError(f"The first parameter of {_place(function)} is not the context: {_SIGNATURE}.")
    if len(parameters) == 1:
        return None
    return _described(codecs.of(hints.resolve(function, parameters[1].name)), "validation")


def _described(codec: Codec[Any], mode: codecs.Mode) -> Codec[Any]:
    """Fail where the author looks, not when somebody asks for the API's document."""
    codec.schema(mode)
    return codec


def _events(types: Mapping[str, Any]) -> dict[str, Codec[Any]]:
    return {checks.event_key(key): _described(codecs.of(kind), "serialization") for key, kind in types.items()}


def _abort_definition(function: Callable[..., Awaitable[Any]]) -> Definition:
    definition = of(function)
    if definition.input is None:
        raise AuthoringError(
            f"{_place(function)} is given as on_abort, so it is started with an input,"
            " {workflow_id, status, input}: let it take one."
        )
    return definition


def _checked_name(name: str, function: Callable[..., Any]) -> str:
    try:
        names.check_name(name)
    except ValueError as error:
        raise AuthoringError(f"{_place(function)} can't be registered as {name!r}: {error}.") from None
    return name


def _checked_version(version: Any) -> str:
    if not isinstance(version, str):
        raise AuthoringError(f"@workflow(version={version!r}): a version is text, such as {str(version)!r}.")
    try:
        names.check_version(version)
    except ValueError as error:
        raise AuthoringError(f"@workflow(version={version!r}): {error}.") from None
    return str(version)


def _checked_timeout(timeout: float | None) -> float | None:
    if timeout is None:
        return None
    if checks.seconds(timeout, "@workflow(timeout=…)") == 0:
        raise AuthoringError("@workflow(timeout=0): a number of seconds above 0; leave it out for no limit.")
    return timeout


def _checked_recoveries(count: Any) -> int:
    if isinstance(count, bool) or not isinstance(count, int) or count < 1:
        raise AuthoringError(f"@workflow(max_recoveries={count!r}): a whole number from 1 on is needed.")
    return int(count)


def _place(function: Callable[..., Any]) -> str:
    return f"{getattr(function, '__module__', '?')}.{getattr(function, '__qualname__', repr(function))}"
