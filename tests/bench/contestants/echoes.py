"""What bare web frameworks do with the same JSON, and nothing behind them."""

import sys
from collections.abc import Mapping
from typing import ClassVar

from tests.bench.contestants.base import ROOT, Contestant, Program
from tests.bench.generator import Script
from tests.support.ports import free_port


class Echo(Contestant):
    settings = "uvicorn with uvloop and httptools, no access log"
    scripts: ClassVar = {"echo": Script("/echo")}
    framework: ClassVar[str]

    def start(self) -> None:
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        command = [sys.executable, "-m", "tests.bench.echo", str(port), self.framework]
        environment = {"PYTHONPATH": str(ROOT)}
        log = self.place.folder / f"{self.framework}.log"
        self._program = self._running.enter_context(Program(command, log, f"{self.url}/openapi.json", environment))

    def processes(self) -> Mapping[str, int]:
        return {"service": self._program.pid}

    def count(self, began: float, ended: float) -> None:
        return None


class FastApi(Echo):
    name, framework = "fastapi", "fastapi"


class Starlette(Echo):
    name, framework = "starlette", "starlette"


class Asgi(Echo):
    name, framework = "uvicorn", "asgi"
