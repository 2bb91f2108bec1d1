"""A long piece of work that shows its results while it goes on.

One step does all of it, in a thread, and publishes a `section` as soon as it has one: read as a
stream, the key's log is the report as it grows. A step that a crash has interrupted is run again
from its beginning, and so publishes its sections again; what must not be done twice belongs into
steps of its own, as in `checkout`.
"""

from __future__ import annotations

import time

from pydantic import BaseModel, Field

from app import Context, workflow


class ReportRequest(BaseModel):
    upto: int = Field(default=50_000, ge=10, le=1_000_000, description="look for prime numbers below this one")
    sections: int = Field(default=10, ge=1, le=100)
    pace: float = Field(default=0.2, ge=0, le=60, description="seconds of rest before each section, so that it is seen")


class Section(BaseModel):
    number: int
    first: int
    last: int
    primes: int
    largest: int | None


class Report(BaseModel):
    upto: int
    primes: int
    sections: list[Section]


@workflow(events={"section": Section, "progress": int})
async def report(ctx: Context, request: ReportRequest) -> Report:
    """Count the prime numbers up to a limit, section by section."""
    ctx.set_event("progress", 0)
    sections = await ctx.step(count_primes, ctx, request)
    return Report(upto=request.upto, primes=sum(section.primes for section in sections), sections=sections)


def count_primes(ctx: Context, request: ReportRequest) -> list[Section]:
    """A plain function, so it runs in a thread; the context may be used there to publish."""
    composite = bytearray(request.upto)
    composite[:2] = b"\1\1"
    for number in range(2, int(request.upto**0.5) + 1):
        if not composite[number]:
            composite[number * number :: number] = b"\1" * len(range(number * number, request.upto, number))
    sections = []
    for number in range(1, request.sections + 1):
        time.sleep(request.pace)
        first = (number - 1) * request.upto // request.sections
        last = number * request.upto // request.sections - 1
        section = Section(
            number=number,
            first=first,
            last=last,
            primes=composite.count(0, first, last + 1),
            largest=largest if (largest := composite.rfind(0, first, last + 1)) >= 0 else None,
        )
        sections.append(section)
        ctx.set_event("section", section)
        ctx.set_event("progress", 100 * number // request.sections)
    return sections
