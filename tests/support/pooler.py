"""A PgBouncer of one's own before a PostgreSQL server, with the defaults that it has and a mode of pooling."""

import os
import shutil
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Self

import psycopg
from sqlalchemy import make_url

from app.store import programs
from tests.support.ports import free_port

PLACES = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin"])

CONFIGURATION = """
[databases]
* = {server}

[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = trust
auth_file = {users}
pool_mode = {mode}
admin_users = {user}
"""


class Pooler:
    """Listens on one port for as long as it lives; `stop` and `start` are a restart.

    Everything that `options` does not name is as PgBouncer has it without a word.
    """

    def __init__(self, folder: Path, server: str, *, mode: str = "transaction", **options: object) -> None:
        """`server` is the URL of a PostgreSQL server; any of its databases can be reached."""
        self._folder, self._server = folder, make_url(server)
        self._mode, self._options = mode, options
        self._port = free_port()
        self._process: subprocess.Popen[bytes] | None = None

    def url(self, database: str) -> str:
        """The URL of a database of the server, by way of the pooler; `database` is its own."""
        return self._url(str(make_url(database).database))

    def _url(self, name: str) -> str:
        return f"postgresql://{self._server.username}@127.0.0.1:{self._port}/{name}"

    @property
    def log(self) -> str:
        return (self._folder / "pgbouncer.log").read_text(errors="replace")

    def start(self, timeout: float = 10.0) -> Self:
        program = shutil.which("pgbouncer", path=PLACES)
        assert program, "PgBouncer is not installed: `make test-pooler` installs it from Debian's packages"
        self._configure()
        with (self._folder / "pgbouncer.log").open("ab") as log:
            self._process = subprocess.Popen(
                [*programs.without_root(), program, self._folder / "pgbouncer.ini"],
                env=programs.environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        deadline = time.monotonic() + timeout
        while not self._answers():
            assert self._process.poll() is None, f"PgBouncer has ended:\n{self.log}"
            assert time.monotonic() < deadline, f"PgBouncer does not answer:\n{self.log}"
            time.sleep(0.02)
        return self

    def stop(self) -> None:
        """As its death: all connections break off at once. May be called twice."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def show(self, what: str) -> list[dict[str, object]]:
        """What its console says to `show pools`, say."""
        with psycopg.connect(self._url("pgbouncer"), autocommit=True, cursor_factory=psycopg.ClientCursor) as console:
            cursor = console.execute(f"show {what}".encode())
            names = [column.name for column in cursor.description or ()]
            return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _configure(self) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        url = self._server
        host = url.host or url.query.get("host", "127.0.0.1")
        server = {"host": host, "port": url.port or 5432, "user": url.username, "password": url.password}
        users = self._folder / "users.txt"
        users.write_text(f'"{url.username}" ""\n')
        text = CONFIGURATION.format(
            server=" ".join(f"{name}={value}" for name, value in server.items() if value is not None),
            port=self._port,
            users=users,
            mode=self._mode,
            user=url.username,
        )
        more = "".join(f"{name} = {value}\n" for name, value in self._options.items())
        (self._folder / "pgbouncer.ini").write_text(text + more)

    def _answers(self) -> bool:
        try:
            self.show("version")
        except psycopg.Error:
            return False
        return True
