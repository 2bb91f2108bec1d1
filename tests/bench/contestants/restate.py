"""Restate: its server, which keeps what was done, and a program of ours that it calls."""

import shutil
from collections.abc import Mapping
from typing import ClassVar

import httpx

from tests.bench.contestants.base import BENCH, INSTALLED, Contestant, Count, Program
from tests.bench.generator import ORDER, Script
from tests.support.ports import free_port

COUNTED = """
    select count(*) as started,
           count(case when completed_at <= to_timestamp_millis({ended}) then 1 end) as finished,
           count(case when status <> 'completed' then 1 end) as unfinished
    from sys_invocation
    where target_handler_name = 'run' and created_at >= to_timestamp_millis({began})
"""


class Restate(Contestant):
    name = "restate"
    settings = (
        "one server as it comes, telemetry off and logs of warnings only; the program served by hypercorn over HTTP/2"
        " on uvloop; a workflow is sent by `/purchase/{key}/run/send`, and its durable promise awaited by"
        " `/purchase/{key}/payment_url`"
    )
    scripts: ClassVar = {
        "two requests": Script("/purchase/%ID%/run/send", body=ORDER, method="POST", wait="/purchase/%ID%/payment_url")
    }

    def start(self) -> None:
        folder = self.place.folder / "restate"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        ingress, admin, fabric, program = (free_port() for _ in range(4))
        self.url, self._admin = f"http://127.0.0.1:{ingress}", f"http://127.0.0.1:{admin}"
        (server,) = (INSTALLED / "npm").glob("node_modules/@restatedev/restate-server-*/bin/restate-server")
        environment = {
            "RESTATE_BASE_DIR": str(folder),
            "RESTATE_INGRESS__BIND_ADDRESS": f"127.0.0.1:{ingress}",
            "RESTATE_ADMIN__BIND_ADDRESS": f"127.0.0.1:{admin}",
            "RESTATE_BIND_ADDRESS": f"127.0.0.1:{fabric}",
            "RESTATE_LISTEN_MODE": "tcp",
            "RESTATE_DISABLE_TELEMETRY": "true",
            "RESTATE_LOG_FILTER": "warn",
        }
        self._program = self._running.enter_context(
            Program(
                [INSTALLED / "restate" / "bin" / "python", BENCH / "peers" / "restate_checkout.py", str(program)],
                folder / "program.log",
                f"http://127.0.0.1:{program}/restate/health",
            )
        )
        self._server = self._running.enter_context(
            Program([server, "--no-logo"], folder / "server.log", f"{self._admin}/health", environment)
        )
        deployment = {"uri": f"http://127.0.0.1:{program}"}
        answer = httpx.post(f"{self._admin}/deployments", json=deployment, timeout=60, trust_env=False)
        answer.raise_for_status()

    def processes(self) -> Mapping[str, int]:
        return {"service": self._program.pid, "server": self._server.pid}

    def count(self, began: float, ended: float) -> Count:
        query = COUNTED.format(began=int(1000 * began), ended=int(1000 * ended))
        headers = {"Accept": "application/json"}
        answer = httpx.post(f"{self._admin}/query", json={"query": query}, headers=headers, timeout=60, trust_env=False)
        (row,) = answer.raise_for_status().json()["rows"]
        return Count(row["started"], row["finished"], row["unfinished"])
