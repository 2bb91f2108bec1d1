"""What the measures of scale share: one service on a database of its own, and copies of a workflow's rows."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from statistics import quantiles
from typing import Any

from tests.bench import machine
from tests.bench.contestants.base import Place
from tests.bench.contestants.milepost import Milepost
from tests.support.wire import Wire

Figures = dict[str, list[float]]
"""By what is measured: the figure of each repetition."""

TABLES = {"workflows": "id", "steps": "workflow_id", "events": "workflow_id", "waits": "workflow_id"}
COLUMNS = """
    select string_agg(quote_ident(column_name), ', ' order by ordinal_position)
    from information_schema.columns
    where table_schema = 'public' and table_name = %s and column_name::text <> all (%s)
"""
AT_ONCE = 100_000


class Bench:
    """A service, and the database that it works on."""

    def __init__(self, milepost: Milepost) -> None:
        self.milepost, self.service, self.postgres = milepost, milepost.service, milepost.place.postgres
        assert milepost.database
        self.database: str = milepost.database

    def ask(self, query: str, *parameters: object) -> Any:
        answer = self.postgres.ask(self.database, query, *parameters)
        return answer[0] if answer else None

    def cpu(self) -> tuple[float, float]:
        """Seconds of processor time so far, of the service and of the database."""
        return machine.cpu(self.service.pid), machine.cpu(self.postgres.pid)

    def statements(self) -> int:
        return self.postgres.statements(self.database)[0]

    def connections(self) -> int:
        return int(self.ask("select count(*) from pg_stat_activity where application_name like 'milepost%'"))

    def copy(self, id: str, count: int, prefix: str) -> None:
        """So many workflows like this one, as `prefix`1, `prefix`2 and so on, with all that is under them."""
        for begin in range(1, count + 1, AT_ONCE):
            end = min(begin + AT_ONCE - 1, count)
            for table, key in TABLES.items():
                own = [key, "start_token"] if table == "workflows" else [key]
                columns = self.ask(COLUMNS, table, own)
                token = ", gen_random_uuid()" if table == "workflows" else ""
                self.ask(
                    f"insert into {table} ({', '.join(own)}, {columns})"
                    f" select %s::text || n{token}, {columns}"
                    f" from {table}, generate_series(%s::int, %s::int) n where {key} = %s",
                    *(prefix, begin, end, id),
                )
        self.ask("vacuum analyze workflows, steps, events, waits")
        self.ask("checkpoint")


@contextmanager
def bench(place: Place, database: str = "scale", **settings: object) -> Iterator[Bench]:
    with Milepost(place, database, **settings) as milepost:
        yield Bench(milepost)


async def timed(wire: Wire, method: str, target: str, body: Any = None) -> float:
    """Milliseconds until an answer that is good."""
    began = time.perf_counter()
    answer = await wire.ask(method, target, body)
    assert answer.status in {200, 201}, answer.body
    return 1000 * (time.perf_counter() - began)


def note(figures: Figures, repetition: Mapping[str, float]) -> None:
    """Add what one repetition has measured."""
    for name, figure in repetition.items():
        figures.setdefault(name, []).append(figure)


def cut(milliseconds: list[float], percent: int) -> float:
    return quantiles(milliseconds, n=100)[percent - 1]
