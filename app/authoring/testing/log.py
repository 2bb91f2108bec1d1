"""Where `ctx.logger` goes in a test."""

from __future__ import annotations

import logging
from typing import Any


class Log:
    """Goes to the standard logger, where a test runner shows it."""

    def debug(self, event: str, /, *args: Any, **values: Any) -> None:
        self._log(logging.DEBUG, event, args, values)

    def info(self, event: str, /, *args: Any, **values: Any) -> None:
        self._log(logging.INFO, event, args, values)

    def warning(self, event: str, /, *args: Any, **values: Any) -> None:
        self._log(logging.WARNING, event, args, values)

    def error(self, event: str, /, *args: Any, **values: Any) -> None:
        self._log(logging.ERROR, event, args, values)

    def exception(self, event: str, /, *args: Any, **values: Any) -> None:
        self._log(logging.ERROR, event, args, values, exc_info=True)

    def _log(self, level: int, event: str, args: Any, named: dict[str, Any], *, exc_info: bool = False) -> None:
        told = (event % args if args else event, *(f"{name}={value!r}" for name, value in named.items()))
        logging.getLogger("workflow").log(level, " ".join(told), exc_info=exc_info)
