"""This service, by two requests, by one, and by a start that nobody waits for; with one process and with two."""

from collections.abc import Mapping
from typing import ClassVar

from tests.bench.contestants.base import START, TWO, Contestant, Count, Place
from tests.bench.generator import Script
from tests.support.service import Service

COUNTED = """
    select count(*), count(*) filter (where completed_at <= to_timestamp(%s)), count(*) - count(completed_at)
    from workflows
    where created_at >= to_timestamp(%s)
"""


class Milepost(Contestant):
    name = "milepost"
    settings = "as it comes, one process"
    scripts: ClassVar = {
        "two requests": TWO,
        "one request": Script("/workflows?wait_for=payment_url&timeout=25"),
        "start": START,
    }
    database = "milepost_1"
    processes_of_it = 1

    def __init__(self, place: Place, database: str | None = None, **settings: object) -> None:
        super().__init__(place)
        self.database, self._more = database or self.database, settings

    def start(self) -> None:
        assert self.database
        self.place.postgres.create(self.database)
        settings = {
            "DATABASE_URL": self.place.postgres.url(self.database),
            "WORKFLOWS": "tests.bench.workflows",
            "EXAMPLES": False,
            "PROCESSES": self.processes_of_it,
            **self._more,
        }
        self.service = self._running.enter_context(Service(self.place.folder, settings))
        self.url = self.service.url

    def processes(self) -> Mapping[str, int]:
        return {"service": self.service.pid}

    def count(self, began: float, ended: float) -> Count:
        return self.counted(COUNTED, ended, began)


class MilepostTwice(Milepost):
    name = "milepost, 2 processes"
    settings = "PROCESSES=2"
    database = "milepost_2"
    processes_of_it = 2
