"""The campaign's own machinery: programs that can be repeated, and a proxy that does what it says."""

import asyncio
import json
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.chaos.program import LONGEST, Fate, unit
from tests.chaos.proxy import Cut, Proxy, Way
from tests.support.waiting import eventually

READY = b"Z\0\0\0\5I"
NAMED = b"S\0\0\0\0application_name\0milepost listener\0"


def test_a_unit_is_the_same_each_time_and_another_for_each_seed_and_number():
    assert unit(7, 3) == unit(7, 3)
    assert unit(7, 3) != unit(7, 4)
    assert unit(7, 3) != unit(8, 3)


def test_programs_are_json_and_not_longer_than_they_may_be():
    programs = [program for number in range(500) for program in unit(1, number)]
    assert max(len(program.commands) for program in programs) == LONGEST - 1
    for program in programs:
        assert json.loads(json.dumps(program.commands)) == program.commands


def test_every_kind_of_command_and_of_fate_comes():
    programs = [program for number in range(500) for program in unit(1, number)]
    assert {program.fate for program in programs} == set(Fate) - {Fate.POISON}
    verbs = {command[0] for program in programs for command in program.commands}
    assert verbs >= {"step", "transaction", "echo", "child", "gather", "race", "collect", "send", "suicide", "callback"}


class Server:
    """Stands for PostgreSQL: says that it is ready, and then answers each packet."""

    def __init__(self) -> None:
        self.got: list[bytes] = []
        self.connections: list[asyncio.StreamWriter] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections.append(writer)
        writer.write(NAMED + READY)
        while data := await reader.read(1000):
            self.got.append(data)
            writer.write(b"answer to " + data)
        writer.close()


@pytest.fixture
async def server() -> Server:
    return Server()


@pytest.fixture
async def proxy(server: Server, tmp_path: Path) -> AsyncIterator[Proxy]:
    socket = tmp_path / "socket"
    listening = await asyncio.start_unix_server(server.serve, socket)
    proxy = Proxy(socket)
    await proxy.start()
    yield proxy
    await proxy.stop()
    listening.close()


@asynccontextmanager
async def connected(proxy: Proxy) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    try:
        async with asyncio.timeout(10):
            assert await reader.readexactly(len(NAMED + READY)) == NAMED + READY
            yield reader, writer
    finally:
        writer.close()


async def test_what_is_held_back_arrives_in_its_order_when_the_line_is_whole_again(proxy: Proxy, server: Server):
    async with connected(proxy) as (reader, writer):
        proxy.hold(Way.UP)
        writer.write(b"one ")
        await eventually(lambda: proxy.kept == 1)
        writer.write(b"two")
        await eventually(lambda: proxy.kept == 2)
        assert not server.got
        proxy.heal()
        assert (await reader.readexactly(10)).startswith(b"answer to ")
        assert b"".join(server.got) == b"one two"


async def test_a_line_that_is_held_in_one_direction_is_open_in_the_other(proxy: Proxy, server: Server):
    async with connected(proxy) as (reader, writer):
        proxy.hold(Way.DOWN)
        writer.write(b"one")
        await eventually(lambda: server.got == [b"one"] and proxy.kept == 1)
        proxy.heal()
        assert await reader.readexactly(13) == b"answer to one"


async def test_delayed_packets_keep_their_order(proxy: Proxy, server: Server):
    async with connected(proxy) as (_, writer):
        proxy.delay = (0.02, 0.02)
        expected = bytes(range(100))
        for number in range(100):
            writer.write(expected[number : number + 1])
            await writer.drain()
            if number == 60:
                proxy.delay = None
        await eventually(lambda: b"".join(server.got) == expected)


@pytest.mark.parametrize(("cut", "got"), [(Cut.BEFORE, []), (Cut.AFTER, [b"commit"])])
async def test_a_connection_is_cut_before_or_after_the_statement_that_is_wanted(
    proxy: Proxy, server: Server, cut: Cut, got: list[bytes]
):
    async with connected(proxy) as (reader, writer):
        proxy.order_cuts(cut, 1, lambda link, data: link.duty == "milepost listener" and data == b"commit")
        writer.write(b"commit")
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            await reader.readexactly(1)
    assert server.got == got
    assert proxy.cuts == ["milepost listener"]
    async with connected(proxy) as (reader, writer):
        writer.write(b"commit")
        assert await reader.readexactly(16) == b"answer to commit"


async def test_notifications_are_swallowed_and_nothing_else(proxy: Proxy, server: Server):
    notification = b"A" + struct.pack("!I", 4 + 3) + b"abc"
    async with connected(proxy) as (reader, _):
        proxy.swallows = True
        (to_client,) = server.connections
        for part in (notification + READY[:3], READY[3:] + notification[:2], notification[2:] + READY):
            to_client.write(part)
            await to_client.drain()
        assert await reader.readexactly(2 * len(READY)) == 2 * READY
        assert proxy.swallowed == 2


async def test_a_half_open_connection_is_gone_for_the_server_alone(proxy: Proxy, server: Server):
    async with connected(proxy) as (reader, writer):
        for link in list(proxy.links):
            link.half_open()
        await eventually(server.connections[0].is_closing)
        writer.write(b"hello?")
        await writer.drain()
        assert not reader.at_eof()
        proxy.heal()
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            await reader.readexactly(1)


async def test_a_reset_ends_all_connections(proxy: Proxy):
    async with connected(proxy) as (one, _), connected(proxy) as (other, _):
        assert proxy.reset() == 2
        for reader in (one, other):
            with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
                await reader.readexactly(1)
