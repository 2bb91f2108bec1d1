"""A process that has loaded all that tests need but the service itself, and runs them in forks of it.

For each line on its input (a folder, tests, and what the environment has besides) it runs pytest in that folder and
writes a line with the exit code. To load what is always the same takes much longer than most of the tests.
"""

import importlib
import json
import os
import signal
import sys
from typing import Any

OUTPUT = "output.txt"
LOADED = (
    "alembic.command",
    "anyio.from_thread",
    "fastapi",
    "httpx",
    "psycopg",
    "pydantic",
    "pydantic_settings",
    "pytest",
    "sqlalchemy.ext.asyncio",
    "sqlalchemy.dialects.postgresql.psycopg",
    "structlog",
    "uvicorn",
    "uvloop",
)
QUIET = ("-x", "-q", "-rf", "--tb=line", "-p", "no:cacheprovider", "-p", "anyio.pytest_plugin")


def attend(order: dict[str, Any]) -> int:
    """Be the process that runs these tests."""
    signal.alarm(order["limit"])
    os.chdir(order["folder"])
    os.environ.update(order["environment"])
    sys.path[0] = order["folder"]
    output = os.open(OUTPUT, os.O_WRONLY | os.O_CREAT)
    for stream in (1, 2):
        os.dup2(output, stream)
    pytest = importlib.import_module("pytest")
    return int(pytest.main([*QUIET, "--basetemp", "tmp", *order["tests"]]))


def main() -> None:
    for name in LOADED:
        importlib.import_module(name)
    for line in iter(sys.stdin.readline, ""):
        child = os.fork()
        if not child:
            code = 70
            try:
                code = attend(json.loads(line))
            finally:
                sys.stdout.flush()
                os._exit(code)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


if __name__ == "__main__":
    main()
