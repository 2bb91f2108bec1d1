"""Plots as SVG, drawn here: a library that draws would be larger than all that it is asked to draw."""

from collections.abc import Callable, Iterator, Sequence
from html import escape
from math import ceil, floor, log10
from statistics import median

from tests.bench.results import Results

WIDTH, HEIGHT = 860, 440
LEFT, RIGHT, TOP, BOTTOM = 70, 230, 46, 52
COLOURS = ("#0b6bcb", "#7b3fb5", "#c2410c", "#dc8a00", "#b91c1c", "#0f766e", "#4d7c0f", "#64748b", "#94a3b8", "#1e293b")
INK, FAINT = "#1f2937", "#e5e7eb"

Point = tuple[float, float]
Scale = Callable[[float], float]

COMPARED = (
    ("milepost", "two requests"),
    ("milepost", "one request"),
    ("dbos, tuned", "two requests"),
    ("dbos, queue", "two requests"),
    ("dbos", "two requests"),
    ("restate", "two requests"),
    ("absurd", "two requests"),
    ("fastapi", "echo"),
)


def throughput(results: Results) -> str:
    lines = {}
    for way in COMPARED:
        rates = [(clients, results.figures(way, clients, "rate").values()) for clients in results.clients]
        lines[", ".join(way)] = [(float(clients), median(found)) for clients, found in rates if found]
    return chart("Checkouts a second", "clients", "finished/s", lines, results.clients, _logarithmic)


def latencies(results: Results, clients: int) -> str:
    """Quantiles, the slow end of them stretched: each further nine takes the same room."""
    lines = {}
    for way in COMPARED:
        cuts = results.quantiles(way, clients)
        size = len(cuts) + 1
        lines[", ".join(way)] = [(1 / (1 - (place + 1) / size), cut) for place, cut in enumerate(cuts)]
    told = {1: "0", 2: "p50", 10: "p90", 100: "p99"}
    title = f"From the POST to the payment page, {clients} {'client' if clients == 1 else 'clients'}"
    return chart(title, "quantile", "ms", lines, list(told), _logarithmic, told)


def costs(results: Results, clients: int) -> str:
    """Stacked bars, on a scale that begins at nothing."""
    parts = ("service", "database", "server")
    bars = {}
    for way in results.ways:
        if spent := results.cpu(way, clients):
            bars[", ".join(way)] = [median(spent.get(part, [0.0])) for part in parts]
    row, left = 24, 262
    height = TOP + row * len(bars) + 46
    most = max(map(sum, bars.values()), default=1.0)
    room = (WIDTH - left - 110) / most

    def drawn() -> Iterator[str]:
        for line, (name, spent) in enumerate(bars.items()):
            y, x = TOP + row * line, float(left)
            yield _text(left - 8, y + 15, name, anchor="end")
            for colour, amount in zip(COLOURS, spent, strict=False):
                yield f'<rect x="{x:.1f}" y="{y + 3}" width="{amount * room:.1f}" height="{row - 7}" fill="{colour}"/>'
                x += amount * room
            yield _text(x + 6, y + 15, f"{_short(sum(spent))} ms")
        for place, part in enumerate(parts):
            name = "PostgreSQL" if part == "database" else part
            yield f'<rect x="{left + 120 * place}" y="{height - 30}" width="12" height="12" fill="{COLOURS[place]}"/>'
            yield _text(left + 120 * place + 18, height - 20, name)

    return _picture(f"Processor time for a checkout, {clients} clients", height, drawn())


def chart(
    title: str,
    below: str,
    beside: str,
    lines: dict[str, list[Point]],
    marks: Sequence[float],
    scale: Callable[[Sequence[float], float, float], Scale],
    told: dict[int, str] | None = None,
) -> str:
    """Lines on logarithmic axes, each named at the right."""
    lines = {name: points for name, points in lines.items() if points}
    heights = [y for points in lines.values() for _, y in points]
    bottom, top = 10 ** floor(log10(min(heights))), 10 ** ceil(log10(max(heights)))
    across = scale([*marks, *(x for points in lines.values() for x, _ in points)], LEFT, WIDTH - RIGHT)
    up = scale([bottom, top], HEIGHT - BOTTOM, TOP)

    def drawn() -> Iterator[str]:
        power = bottom
        while power <= top:
            y = up(power)
            yield f'<path d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}" stroke="{FAINT}"/>'
            yield _text(LEFT - 8, y + 4, f"{power:,g}", anchor="end")
            power *= 10
        for mark in marks:
            x = across(mark)
            yield f'<path d="M{x:.1f} {TOP}V{HEIGHT - BOTTOM}" stroke="{FAINT}"/>'
            yield _text(x, HEIGHT - BOTTOM + 18, (told or {}).get(int(mark), f"{mark:g}"), anchor="middle")
        yield _text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 12, below, anchor="middle")
        yield _text(WIDTH - RIGHT, TOP - 10, beside, anchor="end")
        ends = _apart({name: up(points[-1][1]) for name, points in lines.items()})
        for colour, (name, points) in zip(COLOURS, lines.items(), strict=False):
            path = "L".join(f"{across(x):.1f} {up(y):.1f}" for x, y in points)
            yield f'<path d="M{path}" fill="none" stroke="{colour}" stroke-width="2" stroke-linejoin="round"/>'
            yield _text(WIDTH - RIGHT + 10, ends[name] + 4, name, colour=colour)

    return _picture(title, HEIGHT, drawn())


def _short(amount: float) -> str:
    return f"{amount:.0f}" if amount >= 10 else f"{amount:.2g}"


def _logarithmic(values: Sequence[float], start: float, end: float) -> Scale:
    low, high = log10(min(values)), log10(max(values))
    return lambda value: start + (end - start) * (log10(value) - low) / ((high - low) or 1)


def _apart(places: dict[str, float], least: float = 16) -> dict[str, float]:
    """Names that would stand on each other are moved down."""
    moved: dict[str, float] = {}
    lowest = 0.0
    for name, place in sorted(places.items(), key=lambda item: item[1]):
        lowest = moved[name] = max(place, lowest + least)
    return moved


def _text(x: float, y: float, text: str, anchor: str = "start", colour: str = INK) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{colour}">{escape(text)}</text>'


def _picture(title: str, height: int, drawn: Iterator[str]) -> str:
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}"'
    style = 'font-family="system-ui, sans-serif" font-size="13"'
    paper = f'<rect width="{WIDTH}" height="{height}" rx="8" fill="#ffffff"/>'
    heading = f'<text x="{LEFT}" y="24" font-size="16" font-weight="600" fill="{INK}">{escape(title)}</text>'
    return "\n".join([f"{head} {style}>", f"<title>{escape(title)}</title>", paper, heading, *drawn, "</svg>", ""])
