"""DBOS for Python behind FastAPI, on the same PostgreSQL."""

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from tests.bench.contestants.base import BENCH, INSTALLED, START, TWO, Contestant, Count, Program
from tests.support.ports import free_port

COUNTED = """
    select count(*),
           count(*) filter (where status = 'SUCCESS' and updated_at <= %s),
           count(*) filter (where status <> 'SUCCESS')
    from dbos.workflow_status
    where created_at >= %s
"""


class Dbos(Contestant):
    name = "dbos"
    settings = "as its documentation begins: plain functions, `DBOS.start_workflow`, no setting but the database"
    scripts: ClassVar = {"two requests": TWO}
    database = "dbos_default"
    mode = "default"

    def start(self) -> None:
        assert self.database
        self.place.postgres.create(self.database)
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        python, program = INSTALLED / "dbos" / "bin" / "python", BENCH / "peers" / "dbos_checkout.py"
        command: list[str | Path] = [python, program, str(port), self.place.postgres.url(self.database), self.mode]
        self._program = self._running.enter_context(
            Program(command, self.place.folder / "dbos.log", f"{self.url}/openapi.json")
        )

    def processes(self) -> Mapping[str, int]:
        return {"service": self._program.pid}

    def count(self, began: float, ended: float) -> Count:
        return self.counted(COUNTED, 1000 * ended, 1000 * began)


class DbosTuned(Dbos):
    name = "dbos, tuned"
    settings = (
        "`sys_db_pool_size` 40, `sys_db_polling_concurrency` 0, `max_executor_threads` 96, `notification_coalesce_sec`"
        " 0.001, `notification_listener_polling_interval_sec` 0.01, logs of warnings only, no access log; uvloop and"
        " httptools"
    )
    scripts: ClassVar = {"two requests": TWO, "start": START}
    database = "dbos_tuned"
    mode = "tuned"


class DbosQueue(Dbos):
    name = "dbos, queue"
    settings = "tuned, and started by way of a queue with `polling_interval_sec` 0.01 and no limit"
    database = "dbos_queue"
    mode = "queue"
