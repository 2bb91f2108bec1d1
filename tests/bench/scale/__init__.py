"""What becomes of Milepost where there is very much of something, and a profile: `make bench ARGS=waiting`."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from tests.bench.contestants.base import Place
from tests.bench.postgres import Postgres
from tests.bench.scale import blocking, flat, large, parked, profile, waiting, wake


@dataclass(frozen=True, slots=True)
class Measure:
    run: Callable[[Place, int, int], dict[str, list[float]]]
    title: str
    size: int
    repetitions: int
    aims: dict[str, str] = field(default_factory=dict)
    settings: dict[str, str] = field(default_factory=dict)
    """Of PostgreSQL, besides those of the other measures."""


RATIO = "≤ 1.25"
ALL = {
    "waiting": Measure(
        waiting.measure,
        "long polls held by one process",
        10_000,
        5,
        {
            "KiB of memory each": "≤ 22",
            "% of a processor while nothing happens": "< 2",
            "statements/s while nothing happens": "≤ 2",
            "database connections that they hold": "0",
            "s until all are answered": "≤ 3",
        },
    ),
    "parked": Measure(
        parked.measure,
        "workflows that wait for a message",
        1_000_000,
        5,
        {"ms from a message to the answer, p99": "< 50", "MiB of memory, with all": "≤ 30 more than with none"},
    ),
    "flat": Measure(
        flat.measure,
        "workflows in the tables",
        5_000_000,
        5,
        {f"{what}: {name}, ratio": RATIO for what in flat.REQUESTS for name in ("ms", "ms in the database")},
    ),
    "large": Measure(
        large.measure,
        "bytes in a value",
        2**20,
        5,
        {
            "MB/s of values through start, event and read": "≥ 30",
            f"p99 beside {large.ASKED} MB/s to alone, ratio": "< 3",
        },
    ),
    "blocking": Measure(
        blocking.measure, "steps that hold a thread for a second", 200, 5, {"p99 beside them to alone, ratio": "≤ 2"}
    ),
    "wake": Measure(
        wake.measure,
        "long polls, each awaited from the commit of its event",
        500,
        5,
        {"ms in the same process, p50": "< 2", "ms in another replica, p50": "< 6"},
        {"track_commit_timestamp": "on"},
    ),
    "profile": Measure(
        profile.measure,
        "samples a second of where its time goes, with 32 clients and one request for a checkout",
        400,
        3,
    ),
}


def measure(name: str, folder: Path, postgres: Postgres, size: int, repetitions: int) -> dict[str, list[float]]:
    return ALL[name].run(Place(folder / name, postgres), size, repetitions)
