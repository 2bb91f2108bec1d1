"""The workflows that the tests beside this file start. They are written as anyone would write them."""

from pathlib import Path
from typing import Any

from app import Context, Retry, step, workflow
from tests.support.gates import note, notes, opened


@workflow
async def greet(ctx: Context, name: str) -> str:
    if not name:
        raise ValueError("nobody is there to be greeted")
    return f"Hello, {name}!"


@workflow(events={"payment_url": str, "status": str})
async def order(ctx: Context, sku: str) -> str:
    """Publishes where to pay, and waits until that is done."""
    url = await ctx.step(create_payment, sku)
    await ctx.set_event("payment_url", url)
    payment = await ctx.receive("payment")
    await ctx.set_event("status", payment)
    return f"{sku} is {payment}"


async def create_payment(sku: str) -> str:
    return f"https://pay.example/{sku}"


@workflow
async def diary(ctx: Context) -> str:
    """Publishes what it is told to, until it is told nothing more."""
    while (entry := await ctx.receive("entry")) is not None:
        await ctx.set_event(entry["key"], entry["value"])
    return "closed"


@workflow
async def count(ctx: Context, to: int) -> int:
    """Publishes the numbers from 1 on."""
    for number in range(1, to + 1):
        await ctx.set_event("number", number)
    return to


@workflow
async def collect(ctx: Context, topics: list[str]) -> list[Any]:
    """Returns what it received, topic by topic."""
    return [await ctx.receive(topic) for topic in topics]


@workflow
async def invoice(ctx: Context) -> Any:
    """Gives an address to a party that knows nothing of workflows, and keeps what that says until it is filed."""
    await ctx.set_event("callback_url", await ctx.callback("answer"))
    answer = await ctx.receive("answer")
    await ctx.receive("filed")
    return answer


@workflow
async def nap(ctx: Context, seconds: float) -> float:
    """Returns how long it really was, by its own clock."""
    before = ctx.now()
    await ctx.sleep(seconds)
    return (ctx.now() - before).total_seconds()


@workflow
async def journey(ctx: Context, folder: str) -> list[str]:
    """Goes through three places. At the second one it must wait until the file `open` is there."""
    places = []
    for place in ("harbour", "lock", "sea"):
        places.append(await ctx.step(visit, folder, place))
        await ctx.set_event("place", place)
    return places


async def visit(folder: str, place: str) -> str:
    note(Path(folder, "log"), f"enters {place}")
    if place == "lock":
        await opened(Path(folder, "open"))
    return f"was at the {place}"


@workflow
async def stubborn(ctx: Context, folder: str) -> str:
    return await ctx.step(succeed_at_the_third_try, folder)


@step(retry=Retry(attempts=3, delay=0.01))
async def succeed_at_the_third_try(folder: str) -> str:
    log = Path(folder, "log")
    note(log, "try")
    if (tries := len(notes(log))) < 3:
        raise ConnectionError(f"try {tries} was in vain")
    return f"it took {tries} tries"


@workflow
async def hopeless(ctx: Context) -> None:
    await ctx.step(fail)


@step(retry=Retry(attempts=2, delay=0.01))
def fail() -> None:
    raise LookupError("there is no such thing")


@workflow
async def release(ctx: Context, aborted: dict[str, Any]) -> str:
    """Cleans up after a booking that was broken off."""
    await ctx.set_event("released", aborted["input"])
    return f"{aborted['workflow_id']} was {aborted['status']}"


@workflow(on_abort=release)
async def book(ctx: Context, room: str) -> Any:
    return await ctx.receive("checkout")


@workflow
async def family(ctx: Context) -> Any:
    """Starts a child and waits for it."""
    child = await ctx.start(nap, 600, id=f"{ctx.workflow_id}.child")
    await ctx.set_event("child", child.id)
    return await child.result()
