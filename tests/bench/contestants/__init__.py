"""Who takes part, in the order of the tables."""

from tests.bench.contestants.absurd import Absurd
from tests.bench.contestants.base import Contestant
from tests.bench.contestants.dbos import Dbos, DbosQueue, DbosTuned
from tests.bench.contestants.echoes import Asgi, FastApi, Starlette
from tests.bench.contestants.milepost import Milepost, MilepostTwice
from tests.bench.contestants.restate import Restate

ALL: tuple[type[Contestant], ...] = (
    Milepost,
    MilepostTwice,
    DbosTuned,
    DbosQueue,
    Dbos,
    Restate,
    Absurd,
    FastApi,
    Starlette,
    Asgi,
)
