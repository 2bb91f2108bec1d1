"""Log lines: what is written, in which form, and what never is.

Everything that logs in this process, our own code by structlog and libraries by the standard
library, comes out in one form on stderr. On its way a line loses passwords and callback tokens,
its control characters are escaped (a logged value must not be able to forge a second line), and
long strings are cut.
"""

from __future__ import annotations

import logging
import os
import re
import sys
from collections.abc import Mapping, MutableMapping
from typing import Any, Final

import structlog
from structlog.typing import FilteringBoundLogger, Processor

Logger = FilteringBoundLogger

LONGEST: Final = 256
LONGEST_TRACE: Final = 16_384
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
_CONTROL_BUT_LINES = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
_SECRETS = (
    # Bounded, and begun at words alone: a long text that is almost one of these must not take long.
    (
        re.compile(r"(?P<kept>\b[a-z][a-z0-9+.-]{0,40}://[^\s:/@]{0,200}):[^\s@]{1,500}@", re.IGNORECASE),
        r"\g<kept>:***@",
    ),
    (re.compile(r"(?P<kept>/callbacks/)[^\s/?#\"']+"), r"\g<kept>***"),
    (re.compile(r"(?P<kept>\b(?:bearer|basic)\s+)[A-Za-z0-9._~+/=-]+", re.IGNORECASE), r"\g<kept>***"),
    (re.compile(r"(?P<kept>\bmp_)[A-Za-z0-9_-]{43,200}"), r"\g<kept>***"),
    (re.compile(r"(?P<kept>\bpassword\s*[=:]\s*)[^\s,;)]+", re.IGNORECASE), r"\g<kept>***"),
)
_SECRET_KEYS = frozenset({"authorization", "cookie", "database_url", "password", "secret", "token"})


def logger(component: str) -> Logger:
    """A logger for one part of the service, most often a module. What varies goes into keywords."""
    bound: Logger = structlog.get_logger(component=component.removeprefix("app."))
    return bound


_processors: list[Processor] = []
"""One list for all times, since a logger in use keeps the one that it began with."""


def configure(level: str = "info", form: str = "console", *, process: int | None = None) -> None:
    """Send everything of this level and above to stderr, for people (`console`) or machines (`json`).

    `process`: the number of this one among several, which every line of it then tells with its process id.
    """
    number = logging.getLevelNamesMapping()[level.upper()]
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        clean,
    ]
    if process is not None:
        shared.insert(0, _number(process))
    _processors[:] = [*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter]
    structlog.configure(
        processors=_processors,
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.ExtraAdder(), _name_component, *shared],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, _renderer(form)],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(number)
    # What these say below an error is of their own affairs, or said by the service itself.
    for name in ("alembic", "asyncio", "httpcore", "httpx", "psycopg", "sqlalchemy", "uvicorn"):
        logging.getLogger(name).setLevel(max(number, logging.ERROR))


def _renderer(form: str) -> Processor:
    if form == "json":
        return structlog.processors.JSONRenderer(ensure_ascii=False)
    return structlog.dev.ConsoleRenderer(
        colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback, pad_event_to=0
    )


def _number(process: int) -> Processor:
    pid = os.getpid()

    def number(_logger: Any, _method: str, line: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        line["process"], line["pid"] = process, pid
        return line

    return number


def _name_component(_logger: Any, _method: str, line: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    if record := line.get("_record"):
        line.setdefault("component", record.name)
    return line


def clean(_logger: Any, _method: str, line: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Make a line safe to keep: no secrets, no control characters, no endless strings."""
    for key, value in line.items():
        if key in ("_record", "_from_structlog"):
            continue
        if key == "exception":
            trace = str(value)[-2 * LONGEST_TRACE :]
            line[key] = _CONTROL_BUT_LINES.sub(_escape, _mask(trace)[-LONGEST_TRACE:])
        else:
            line[key] = "***" if key.lower() in _SECRET_KEYS else _plain(value)
    return line


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, (bool, int, float)):
        return value
    if isinstance(value, Mapping):
        return {
            str(key): "***" if str(key).lower() in _SECRET_KEYS else _plain(member) for key, member in value.items()
        }
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_plain(member) for member in value]
    text = _mask(str(value)[: 8 * LONGEST])
    if len(text) > LONGEST:
        text = f"{text[: LONGEST - 1]}…"
    return _CONTROL.sub(_escape, text)


def _mask(text: str) -> str:
    for secret, kept in _SECRETS:
        text = secret.sub(kept, text)
    return text


def _escape(found: re.Match[str]) -> str:
    return found[0].encode("unicode_escape").decode("ascii")
