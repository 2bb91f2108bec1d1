"""Three replicas, each with a line of its own to one PostgreSQL, which is private and durable.

PostgreSQL's data lie on a small volume in memory that can be made full; its log of transactions is on the disk.
"""

import asyncio
import os
import shutil
import signal
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import psycopg
from psycopg.rows import namedtuple_row

from app.store import migrations
from app.store.embedded import DATABASE, USER, EmbeddedPostgres
from tests.chaos.client import Client
from tests.chaos.proxy import Proxy
from tests.chaos.workflows import POISONED, TABLES
from tests.support.service import Service

T = TypeVar("T")

SETTINGS: Mapping[str, object] = {
    "WORKFLOWS": "tests.chaos.workflows",
    "EXAMPLES": False,
    "TIME_TO_LIVE": 5,
    "BEAT": 1,
    "LINGER": 0.3,
}
TIME_TO_LIVE = 5.0
NAMES = ("a", "b", "c")
CLOCKED = "c"
"""The replica whose clock can be set."""
VOLUME = "4g"
WATCH = 0.05
RIGHT = "+0"


class Unfit(Exception):
    """This machine lacks something that the campaign needs."""


def faketime() -> Path:
    """libfaketime, which is installed if need be."""
    if (found := _faketime()) is None and os.geteuid() == 0 and shutil.which("apt-get"):
        for command in (["apt-get", "update", "-q"], ["apt-get", "install", "-q", "-y", "faketime"]):
            subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
        found = _faketime()
    if found is None:
        raise Unfit("libfaketime is needed to set clocks: install Debian's package `faketime`.")
    return found


def _faketime() -> Path | None:
    return next(iter(sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))), None)


class Volume:
    """A file system of its own, in memory, that can be made full."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._mounted = False

    def mount(self) -> None:
        self.folder.mkdir()
        if os.geteuid() != 0 or not self._mount(f"size={VOLUME}"):
            raise Unfit("A volume to fill must be mounted: run this as root, where `mount -t tmpfs` is allowed.")
        self._mounted = True

    def fill(self) -> None:
        """No byte is left, but for what is freed meanwhile."""
        state = os.statvfs(self.folder)
        self._mount(f"remount,size={(state.f_blocks - state.f_bfree) * state.f_frsize}")

    def widen(self) -> None:
        self._mount(f"remount,size={VOLUME}")

    def unmount(self) -> None:
        if self._mounted:
            subprocess.run(["umount", "-l", self.folder], check=False)
            self._mounted = False

    def _mount(self, options: str) -> bool:
        command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(self.folder)]
        return subprocess.run(command, capture_output=True, check=False).returncode == 0


class Postgres:
    """The database's server. What waits is done in a thread, which lives for as long as the server may."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.volume = Volume(folder / "volume")
        self._server = EmbeddedPostgres(folder, max_connections=150)
        # A server ends with the thread that started it.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="postgres")

    @property
    def socket(self) -> Path:
        return self.folder / ".s.PGSQL.5432"

    @property
    def log(self) -> Path:
        return self.folder / "postgres.log"

    def url(self) -> str:
        return self._server.url()

    async def prepare(self) -> None:
        """Make the cluster, move it to its volume, and bring the schema up."""
        await self._do(self._server.start)
        await self._do(self._server.stop)
        self.volume.mount()
        data = self.folder / "pgdata"
        shutil.move(data, self.volume.folder / "pgdata")
        data.symlink_to(self.volume.folder / "pgdata")
        shutil.move(data / "pg_wal", self.folder / "pg_wal")
        (data / "pg_wal").symlink_to(self.folder / "pg_wal")
        with (data / "postgresql.conf").open("a") as settings:
            # When each row was committed; and no file that must be made at a checkpoint, or else a crash.
            settings.write("track_commit_timestamp = on\nmax_active_replication_origins = 0\n")
        await self._do(self._server.start)
        await self._do(lambda: migrations.migrate(self.url()))
        async with self.session() as session:
            await session.execute(TABLES.encode())

    @asynccontextmanager
    async def session(self, **options: Any) -> AsyncIterator[Any]:
        """A session past all proxies, in autocommit."""
        connection = await psycopg.AsyncConnection.connect(
            self.url(),
            autocommit=True,
            row_factory=namedtuple_row,
            application_name="chaos",
            connect_timeout=5,
            options="-c timezone=UTC -c default_transaction_read_only=off",
            **options,
        )
        try:
            yield connection
        finally:
            await connection.close()

    async def rows(self, statement: str, params: Any = None) -> list[Any]:
        async with self.session() as session:
            cursor = await session.execute(statement.encode(), params)
            return await cursor.fetchall() if cursor.description else []

    async def answers(self) -> bool:
        with suppress(psycopg.Error):
            await self.rows("select 1")
            return True
        return False

    async def restart(self, how: signal.Signals) -> None:
        """Stop it by a signal, as `pg_ctl -m immediate` or `-m fast` does, and start it."""
        pid = int((self.folder / "pgdata" / "postmaster.pid").read_text().split()[0])
        os.kill(pid, how)
        await self._do(self._server.stop)
        await self._do(self._server.start)

    async def ensure(self, timeout: float = 60.0) -> None:
        """Wait until it answers; start it again if it has ended."""
        deadline = time.monotonic() + timeout
        while not await self.answers():
            if time.monotonic() > deadline:
                raise AssertionError("PostgreSQL does not come back")
            await self._do(self._server.revive)
            await asyncio.sleep(0.05)

    async def close(self) -> None:
        await self._do(self._server.stop)
        self._thread.shutdown()
        self.volume.unmount()

    async def _do(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)


class Replica(Service):
    """One process of the service, started again whenever it is to be up and is not."""

    def __init__(self, name: str, folder: Path, postgres: Postgres, environment: Mapping[str, str]) -> None:
        self.name = name
        self.proxy = Proxy(postgres.socket)
        self._folder, self._more = folder, dict(environment)
        super().__init__(folder, SETTINGS)
        self._log_path = folder / f"replica-{name}.log"
        self.wanted = False
        self.was_ready = False
        self.starts = self.poisoned = 0
        self.busy = asyncio.Lock()
        """Held by the fault that strikes it."""
        self.clock = folder / f"clock-{name}"

    @property
    def port(self) -> int:
        return int(str(self._settings["PORT"]))

    async def prepare(self) -> None:
        await self.proxy.start()
        options = "sslmode=disable&gssencmode=disable"
        self._settings["DATABASE_URL"] = f"postgresql://{USER}@127.0.0.1:{self.proxy.port}/{DATABASE}?{options}"

    def begin(self) -> None:
        self.wanted, self.was_ready = True, False
        self.starts += 1
        self.spawn()

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    async def ended(self, timeout: float = 40.0) -> int | None:
        """Its exit code, once it has ended; None: it does not."""
        deadline = time.monotonic() + timeout
        while (code := self.process.poll()) is None and time.monotonic() < deadline:
            await asyncio.sleep(0.02)
        return code

    def set_clock(self, shift: str) -> None:
        self.clock.write_text(f"{shift}\n")

    def _environment(self) -> dict[str, str]:
        return {**super()._environment(), **self._more}

    def memory(self) -> int:
        """Bytes of it that are in memory."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        return 1024 * int(status.partition("VmRSS:")[2].split()[0])


class Cluster:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.postgres = Postgres(folder / "postgres")
        self.executions = folder / "executions"
        self.replicas: dict[str, Replica] = {}
        self._watch: asyncio.Task[None] | None = None
        self.unexpected: list[str] = []
        """Ends of replicas that nobody had brought about."""

    async def start(self) -> None:
        library = faketime()
        await self.postgres.prepare()
        for name in NAMES:
            environment = {"CHAOS_LOG": str(self.executions)}
            if name == CLOCKED:
                environment |= {
                    "LD_PRELOAD": str(library),
                    "FAKETIME_TIMESTAMP_FILE": str(self.folder / f"clock-{name}"),
                    "FAKETIME_CACHE_DURATION": "1",
                    "FAKETIME_DONT_FAKE_MONOTONIC": "1",
                }
            self.replicas[name] = Replica(name, self.folder, self.postgres, environment)
        urls = ",".join(replica.url for replica in self.replicas.values())
        for replica in self.replicas.values():
            replica._more["CHAOS_URLS"] = urls
            await replica.prepare()
            replica.set_clock(RIGHT)
            replica.begin()
        self._watch = asyncio.create_task(self._keep_up(), name="keep up")

    @property
    def ports(self) -> dict[str, int]:
        return {name: replica.port for name, replica in self.replicas.items()}

    async def ready(self, client: Client, *names: str, timeout: float = 60.0) -> bool:
        """Wait until replicas can take requests."""
        deadline = time.monotonic() + timeout
        left = set(names or self.replicas)
        while left and time.monotonic() < deadline:
            for name in list(left):
                answer = await client.peek(name, "/readyz", timeout=1.0)
                if answer is not None and answer.status == 200:
                    self.replicas[name].was_ready = True
                    left.discard(name)
            await asyncio.sleep(0.05)
        return not left

    async def _keep_up(self) -> None:
        """Start again whatever has ended and should not have."""
        while True:
            for replica in self.replicas.values():
                if replica.wanted and not replica.running:
                    code = replica.process.returncode
                    if code == POISONED:
                        replica.poisoned += 1
                    elif replica.was_ready:
                        self.unexpected.append(f"replica {replica.name} ended by itself with {code}")
                    replica.begin()
            await asyncio.sleep(WATCH)

    async def heal(self) -> None:
        """Undo whatever a fault may have left."""
        self.postgres.volume.widen()
        await self.postgres.ensure()
        await self.postgres.rows("alter system reset default_transaction_read_only")
        await self.postgres.rows("select pg_reload_conf()")
        for replica in self.replicas.values():
            replica.proxy.heal()
            replica.set_clock(RIGHT)
            if replica.running:
                replica.signal(signal.SIGCONT)
            elif not replica.wanted:
                replica.begin()

    async def stop(self) -> dict[str, int | None]:
        """Stop everything in order; the replicas' exit codes."""
        if self._watch is not None:
            self._watch.cancel()
        codes: dict[str, int | None] = {}
        for replica in self.replicas.values():
            replica.wanted = False
            if replica.running:
                replica.process.terminate()
        for replica in self.replicas.values():
            codes[replica.name] = await replica.ended()
        return codes

    async def close(self) -> None:
        """End whatever is still there."""
        for replica in self.replicas.values():
            replica.wanted = False
            if replica.running:
                replica.signal(signal.SIGCONT)
                replica.kill()
            await replica.proxy.stop()
        await self.postgres.close()
