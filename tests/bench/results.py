"""What a run leaves behind, and how it is asked: medians over the rounds, and ratios within each of them."""

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

Key = tuple[str, str, int]
"""A contestant, a scenario, how many clients."""

MILEPOST: tuple[str, str] = ("milepost", "two requests")
ECHO: tuple[str, str] = ("fastapi", "echo")


@dataclass
class Results:
    facts: dict[str, Any]
    settings: dict[str, str]
    rows: list[dict[str, Any]] = field(default_factory=list)

    @classmethod
    def read(cls, path: Path) -> "Results":
        return cls(**json.loads(path.read_text()))

    def write(self, path: Path) -> None:
        """One row on a line, so that two runs can be compared."""
        rows = ",\n".join(json.dumps(row, separators=(",", ":")) for row in map(_rounded, self.rows))
        head = json.dumps({"facts": self.facts, "settings": self.settings}, indent=1)
        path.write_text(f'{head[:-2]},\n "rows": [\n{rows}\n]}}\n')

    @property
    def rounds(self) -> int:
        return len({row["round"] for row in self.rows if "round" in row})

    @property
    def clients(self) -> list[int]:
        return sorted({row["clients"] for row in self.rows if "clients" in row})

    @property
    def ways(self) -> list[tuple[str, str]]:
        """Contestants and scenarios, in the order of the first round's contestants as they are told in `settings`."""
        order = list(self.settings)
        found = dict.fromkeys((row["contestant"], row["scenario"]) for row in self.rows if "contestant" in row)
        return sorted(found, key=lambda way: order.index(way[0]))

    def figures(self, way: tuple[str, str], clients: int, name: str) -> dict[int, float]:
        """By round."""
        return {
            row["round"]: row[name]
            for row in self.rows
            if row.get("contestant") == way[0] and row["scenario"] == way[1] and row["clients"] == clients
            if name in row
        }

    def cpu(self, way: tuple[str, str], clients: int) -> dict[str, list[float]]:
        """Milliseconds for a checkout, by part, in each round."""
        parts: dict[str, list[float]] = {}
        for row in self.rows:
            if (row.get("contestant"), row.get("scenario"), row.get("clients")) == (*way, clients):
                for name, spent in row.items():
                    if name.startswith("cpu "):
                        parts.setdefault(name.removeprefix("cpu "), []).append(spent)
        return parts

    def total(self, way: tuple[str, str], clients: int) -> dict[int, float]:
        """Milliseconds of processor time for a checkout, all parts together, by round."""
        return {
            row["round"]: sum(spent for name, spent in row.items() if name.startswith("cpu "))
            for row in self.rows
            if (row.get("contestant"), row.get("scenario"), row.get("clients")) == (*way, clients)
        }

    def scale(self) -> list[dict[str, Any]]:
        """One row for each measure: its name as `scale`, its `size`, and `figures` with all repetitions."""
        return [row for row in self.rows if "scale" in row]

    def limits(self) -> dict[str, list[float]]:
        found: dict[str, list[float]] = {}
        for row in self.rows:
            for name, figure in row.get("limits", {}).items():
                found.setdefault(name, []).append(figure)
        return found

    def quantiles(self, way: tuple[str, str], clients: int) -> list[float]:
        """The median of the rounds at each cut of the distribution."""
        rounds = self.figures(way, clients, "quantiles").values()
        return [median(cut) for cut in zip(*rounds, strict=True)]


def ratios(over: dict[int, float], under: dict[int, float]) -> list[float]:
    """Within each round."""
    return [over[number] / under[number] for number in over if under.get(number)]


def spread(figures: Iterable[float]) -> str:
    """The median, and half the distance of the extremes."""
    told = list(figures)
    if not told:
        return ""
    middle = median(told)
    digits = 0 if middle >= 100 else 1 if middle >= 10 else 2 if middle >= 0.1 or not middle else 3
    return f"{middle:,.{digits}f} ± {(max(told) - min(told)) / 2:,.{digits}f}"


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _rounded(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_rounded(inner) for inner in value]
    return float(f"{value:.5g}") if isinstance(value, float) else value
