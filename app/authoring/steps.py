"""Steps: plain functions, with what the engine needs to know about them attached from the side.

A step is called by `ctx.step(function, …)`. Its *spec* says how (name, retries, time-out, thread or
loop, and the type of its result); its *digest* says with which arguments, so that a replay that
asks for something else is noticed.
"""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from types import FunctionType
from typing import Any, TypeVar, overload
from weakref import WeakKeyDictionary

from app.authoring import codecs, hints
from app.authoring.codecs import Codec
from app.authoring.digests import digest
from app.errors import AuthoringError, Fatal, Invalid, Unwound

__all__ = ["Retry", "StepSpec", "digest", "root", "spec", "step"]

F = TypeVar("F", bound=Callable[..., Any])

_OPTIONS = "__milepost_step__"
_FINAL = (Fatal, AuthoringError, Invalid, Unwound)


@dataclass(frozen=True)
class Retry:
    """How often a step is tried, and how long apart.

    `attempts` counts the first try. Between two tries lies a random wait (full jitter) of up to
    `delay` seconds, then `delay * backoff`, and so on, never more than `max_delay`. Only errors
    that are instances of `on` are tried again, and never those that would only come again:
    `Fatal`, and a result or an event that is not what was declared.
    """

    attempts: int = 1
    delay: float = 1.0
    backoff: float = 2.0
    max_delay: float = 60.0
    on: tuple[type[BaseException], ...] = (Exception,)

    def __post_init__(self) -> None:
        _check_attempts(self.attempts)
        _check_number("Retry(delay", self.delay, least=0)
        _check_number("Retry(backoff", self.backoff, least=1)
        _check_number("Retry(max_delay", self.max_delay, least=0)
        _check_kinds(self.on)

    def wait(self, attempt: int, uniform: Callable[[], float]) -> float:
        """Seconds between the failure of this attempt (from 1) and the next; `uniform` gives [0, 1)."""
        try:
            longest = min(self.max_delay, self.delay * float(self.backoff) ** (attempt - 1))
        except OverflowError:
            longest = self.max_delay if self.delay else 0.0
        return uniform() * longest

    def retries(self, error: BaseException, attempt: int) -> bool:
        """Whether a step that failed so in this attempt (from 1) is tried again."""
        return attempt < self.attempts and isinstance(error, self.on) and not isinstance(error, _FINAL)


@dataclass(frozen=True)
class StepSpec:
    """How a step is called, and what its result is recorded as."""

    name: str
    retry: Retry
    timeout: float | None
    is_async: bool
    output: Codec[Any]


@dataclass(frozen=True)
class _Options:
    name: str | None = None
    retry: Retry = field(default_factory=Retry)
    timeout: float | None = None


_specs: WeakKeyDictionary[Callable[..., Any], StepSpec] = WeakKeyDictionary()


@overload
def step(function: F, /) -> F: ...
@overload
def step(*, retry: Retry = ..., timeout: float | None = ..., name: str | None = ...) -> Callable[[F], F]: ...
def step(
    function: F | None = None, /, *, retry: Retry | None = None, timeout: float | None = None, name: str | None = None
) -> F | Callable[[F], F]:
    """Say how a function is run as a step. It stays a plain function that can be called directly.

    retry:   when and how often to try again; one try unless given.
    timeout: seconds for each try; an async step is cancelled then, a sync one goes on in its
             thread and its result is dropped. None: no limit.
    name:    what the record is called; the function's name unless given. Renaming a step that
             running workflows have recorded makes their replay fail.
    """
    options = _Options(_checked_name(name), _checked_retry(retry), _checked_timeout(timeout))

    def decorate(decorated: F) -> F:
        _check_function(decorated)
        setattr(decorated, _OPTIONS, options)
        _specs.pop(decorated, None)
        return decorated

    return decorate if function is None else decorate(function)


def spec(function: Callable[..., Any]) -> StepSpec:
    """The spec of a function, decorated or not, of a bound method, a partial or a callable object."""
    body = function if type(function) is FunctionType else root(function)
    try:
        found = _specs.get(body)
    except TypeError:  # neither hashable nor weakly referable: made anew each time
        return _made(body)
    if found is None:
        found = _specs[body] = _made(body)
    return found


def root(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function behind bound methods and partials."""
    while True:
        if isinstance(function, functools.partial):
            function = function.func
        elif inspect.ismethod(function):
            function = function.__func__
        else:
            return function


def _made(function: Callable[..., Any]) -> StepSpec:
    _check_function(function)
    options: _Options = getattr(function, _OPTIONS, None) or _Options()
    body = function if inspect.isroutine(function) else type(function).__call__
    return StepSpec(
        name=options.name or str(getattr(function, "__name__", type(function).__name__)),
        retry=options.retry,
        timeout=options.timeout,
        is_async=inspect.iscoroutinefunction(body),
        output=codecs.of(hints.resolve(body, "return")),
    )


def _check_function(function: Any) -> None:
    if not callable(function) or isinstance(function, type):
        raise AuthoringError(f"A step is a function, not {function!r}; hand over the function itself, uncalled.")
    if inspect.isasyncgenfunction(function) or inspect.isgeneratorfunction(function):
        raise AuthoringError(f"The step {function.__qualname__} is a generator; a step returns its result at once.")
    if hasattr(function, "__milepost_workflow__"):
        raise AuthoringError(f"{function.__qualname__} is a workflow, not a step: start it with ctx.start(…).")


def _checked_name(name: Any) -> str | None:
    if name is not None and not (isinstance(name, str) and 1 <= len(name) <= 200 and name.isprintable()):
        raise AuthoringError(f"@step(name={name!r}): 1 to 200 printable characters are needed.")
    return name


def _checked_retry(retry: Any) -> Retry:
    if retry is None:
        return Retry()
    if not isinstance(retry, Retry):
        raise AuthoringError(f"@step(retry={retry!r}): a Retry(…) is needed.")
    return retry


def _checked_timeout(timeout: float | None) -> float | None:
    if timeout is not None:
        _check_number("@step(timeout", timeout, least=0)
        if timeout == 0:
            raise AuthoringError("@step(timeout=0): a number of seconds above 0; leave it out for no limit.")
    return timeout


def _check_attempts(attempts: Any) -> None:
    if not isinstance(attempts, int) or isinstance(attempts, bool) or attempts < 1:
        raise AuthoringError(f"Retry(attempts={attempts!r}): a whole number from 1 on; it counts the first try.")


def _check_number(what: str, number: Any, *, least: float) -> None:
    if isinstance(number, bool) or not isinstance(number, (int, float)) or not math.isfinite(number) or number < least:
        raise AuthoringError(f"{what}={number!r}): a finite number from {least} on is needed.")


def _check_kinds(kinds: Any) -> None:
    if not isinstance(kinds, tuple) or not all(
        isinstance(kind, type) and issubclass(kind, BaseException) for kind in kinds
    ):
        raise AuthoringError(f"Retry(on={kinds!r}): a tuple of exception classes, such as (OSError,).")
