"""What the machine itself does of the parts: commits, the journal's statement, a notification to another session."""

import asyncio
import re
import statistics
import subprocess
import time
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import uvloop

from app.store import db, migrations
from tests.bench.postgres import Postgres
from tests.support import rows

DATABASE = "limits"
ONE_ROW = "insert into commits (text) values ('what one row of a journal may be as long as, more or less');\n"
PGBENCH = "/usr/lib/postgresql/15/bin/pgbench"

Figures = dict[str, float]


class Limits:
    def __init__(self, postgres: Postgres, folder: Path) -> None:
        self._postgres, self._folder = postgres, folder
        postgres.create(DATABASE)
        self._url = postgres.url(DATABASE)
        migrations.migrate(self._url)
        postgres.ask(DATABASE, "create table commits (number bigserial primary key, text text not null)")
        folder.mkdir(parents=True, exist_ok=True)

    def measure(self, seconds: float) -> Figures:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return {
                "one-row commits/s, 1 connection": self._pgbench(1, seconds),
                "one-row commits/s, 8 connections": self._pgbench(8, seconds),
                "checkouts/s by the journal's statement, 1 in a flush": runner.run(self._journal(1, seconds)),
                "checkouts/s by the journal's statement, 64 in a flush": runner.run(self._journal(64, seconds)),
                "ms from a NOTIFY to a listener, p50": self._notify(seconds),
            }

    def _pgbench(self, clients: int, seconds: float) -> float:
        script = self._folder / "one-row.sql"
        script.write_text(ONE_ROW)
        how = ["-n", "-M", "prepared", "-f", str(script), "-c", str(clients), "-T", str(max(1, round(seconds)))]
        told = subprocess.run([PGBENCH, *how, self._url], capture_output=True, text=True, check=True).stdout
        found = re.search(r"tps = ([\d.]+)", told)
        assert found, told
        return float(found[1])

    async def _journal(self, size: int, seconds: float) -> float:
        """Checkouts written from one connection, each as its start and then all the rest of it."""
        database = db.Database(self._url)
        line = db.Line(database, "journal")
        await line.open()
        done, began = 0, time.perf_counter()
        while (took := time.perf_counter() - began) < seconds:
            ids = sorted(str(uuid4()) for _ in range(size))
            await rows.flush(line, rows.batch(starts=[_started(id) for id in ids]), skip=True)
            await rows.flush(line, _rest(ids), skip=True)
            done += size
        await line.close()
        await database.close()
        return done / took

    def _notify(self, seconds: float) -> float:
        """From one session to another, both connected before; a commit with nothing but the notification."""
        took = []
        with (
            psycopg.connect(self._url, autocommit=True) as listener,
            psycopg.connect(self._url, autocommit=True) as sender,
        ):
            listener.execute("listen bench")
            until = time.perf_counter() + seconds
            while (began := time.perf_counter()) < until:
                sender.execute("select pg_notify('bench', 'x')")
                next(listener.notifies(stop_after=1))
                took.append(time.perf_counter() - began)
        return 1000 * statistics.median(took)


def _started(id: str) -> dict[str, Any]:
    return rows.start(id, status="RUNNING", name="purchase", input={"sku": "A1", "quantity": 2})


def _rest(ids: list[str]) -> Any:
    return rows.batch(
        *(rows.entry(id, fin="SUCCEEDED", output="confirmed") for id in ids),
        steps=[rows.step(id, seq) for id in ids for seq in (1, 2)],
        events=[rows.event(id, key="payment_url", value="https://pay.example/A1") for id in ids],
    )
