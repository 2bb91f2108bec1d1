"""Absurd, whose tasks run in workers, behind FastAPI and on the same PostgreSQL."""

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from tests.bench.contestants.base import BENCH, INSTALLED, TWO, Contestant, Count, Program
from tests.support.ports import free_port

COUNTED = """
    select count(*),
           count(*) filter (where r.state = 'completed' and r.completed_at <= to_timestamp(%s)),
           count(*) filter (where r.state <> 'completed')
    from absurd.r_default r
    where r.created_at >= to_timestamp(%s)
"""


class Absurd(Contestant):
    name = "absurd"
    settings = (
        "four workers in the process of the web server, a connection and 8 tasks each, `poll_interval` 0.005 (its own"
        " is 0.25); four more connections for starts; events are read from its table every 5 ms, for all who wait in"
        " one statement; uvloop and httptools"
    )
    scripts: ClassVar = {"two requests": TWO}
    database = "absurd"

    def start(self) -> None:
        assert self.database
        self.place.postgres.create(self.database)
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        python, program = INSTALLED / "absurd" / "bin" / "python", BENCH / "peers" / "absurd_checkout.py"
        command: list[str | Path] = [python, program, str(port), self.place.postgres.url(self.database)]
        self._program = self._running.enter_context(
            Program(command, self.place.folder / "absurd.log", f"{self.url}/openapi.json")
        )

    def processes(self) -> Mapping[str, int]:
        return {"service": self._program.pid}

    def count(self, began: float, ended: float) -> Count:
        return self.counted(COUNTED, ended, began)
