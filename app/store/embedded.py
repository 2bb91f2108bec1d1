"""A PostgreSQL of one's own, for a service that was not given a database.

The cluster lives in one folder and is reached through a Unix socket only. Of the package that
brings the server, only the programs are used; its life is managed here, by two file locks:

* `service.lock` is held by the process that owns the cluster. Who finds it taken attaches.
* `server.lock` is inherited by the PostgreSQL server and so is held for as long as that lives,
  whatever becomes of its owner. Who owns the first lock and finds the second one taken has met
  a server whose owner was killed: it is shut down, or already shutting down, and started anew.

So at no moment can two servers run on one folder, and a leftover `postmaster.pid` is known to be
stale even when the process id in it belongs to something else by now, as it does in a container
that was started again.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import IO, Self
from urllib.parse import quote

import psycopg

from app.store import programs
from app.store.programs import EmbeddedError

USER = "milepost"
DATABASE = "milepost"
# A socket's path may have 104 bytes on macOS, the shortest of all; "/.s.PGSQL.5432" is part of it.
_LONGEST_FOLDER = 88
_PLAIN_PATH = re.compile(r"[A-Za-z0-9/._ -]+")


class EmbeddedPostgres:
    """One cluster in `folder`. `fsync=False` makes it fast and forgetful: for tests only.

    Start it from the main thread: on Linux the server is told to stop when the thread that
    started it dies, which is how a killed service takes its server along.
    """

    def __init__(self, folder: Path, *, fsync: bool = True, max_connections: int = 100) -> None:
        self.folder = folder.absolute()
        self._data = self.folder / "pgdata"
        self._log = self.folder / "postgres.log"
        self._fsync = fsync
        self._max_connections = max_connections
        self._owned: IO[bytes] | None = None
        self._server: subprocess.Popen[bytes] | None = None

    @property
    def attached(self) -> bool:
        """Whether the cluster belongs to another process."""
        return self._owned is None

    def url(self, database: str = DATABASE) -> str:
        return f"postgresql://{USER}@/{database}?host={quote(str(self._socket_folder()), safe='/')}"

    def start(self, timeout: float = 60.0) -> None:
        """Start the server, or attach to it where another process has; returns when it answers."""
        deadline = time.monotonic() + timeout
        with _explained(self.folder):
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._socket_folder().mkdir(mode=0o700, exist_ok=True)
            _check_private(self._socket_folder())
        try:
            self._wait_until_it_answers(deadline)
        except BaseException:
            self.stop()
            raise

    def stop(self, timeout: float = 20.0) -> None:
        """Shut the server down if it is ours; may be called twice, and without a start."""
        if self._server and self._server.poll() is None:
            self._server.send_signal(signal.SIGINT)
            try:
                self._server.wait(timeout)
            except subprocess.TimeoutExpired:
                self._server.send_signal(signal.SIGQUIT)
                self._server.wait()
        self._server = None
        if self._owned:
            self._owned.close()
            self._owned = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def revive(self) -> bool:
        """Start the server again if it has died, or was left by the process that owned it.

        To be called now and then, from the main thread; it does not wait. True if it started one.
        """
        if self._server and self._server.poll() is None:
            return False
        if self._owned is None:
            self._owned = _try_lock(self.folder / "service.lock")
        server_lock = self._try_server_lock() if self._owned else None
        if server_lock:
            self._launch(server_lock)
        return server_lock is not None

    def _wait_until_it_answers(self, deadline: float) -> None:
        while True:
            if self._owned is None and (lock := _try_lock(self.folder / "service.lock")):
                self._owned = lock
                self._launch(self._await_server_lock(deadline))
            if self._answers():
                return
            if self._server and self._server.poll() is not None:
                raise EmbeddedError(f"The embedded PostgreSQL has stopped at its start. {self._last_words()}")
            if time.monotonic() > deadline:
                raise EmbeddedError(f"The embedded PostgreSQL does not answer. {self._last_words()}")
            time.sleep(0.02)

    def _await_server_lock(self, deadline: float) -> IO[bytes]:
        while not (lock := self._try_server_lock()):
            if time.monotonic() > deadline:
                raise EmbeddedError(f"An earlier PostgreSQL server in {self.folder} does not stop; end it by hand.")
            time.sleep(0.02)
        return lock

    def _try_server_lock(self) -> IO[bytes] | None:
        """The lock, if no server lives; one that does has lost its owner, and is told to stop."""
        if lock := _try_lock(self.folder / "server.lock"):
            return lock
        with suppress(OSError, ValueError, IndexError):
            os.kill(int((self._data / "postmaster.pid").read_text().split()[0]), signal.SIGINT)
        return None

    def _launch(self, server_lock: IO[bytes]) -> None:
        with server_lock, self._log.open("ab") as log:
            binaries, prefix = programs.find(), programs.without_root()
            if not (self._data / "PG_VERSION").exists():
                self._create(binaries, prefix)
            self._check_version(binaries)
            (self._data / "postmaster.pid").unlink(missing_ok=True)
            arguments = [f"-c{name}={value}" for name, value in self._settings().items()]
            self._server = subprocess.Popen(
                [*prefix, binaries / "postgres", "-D", self._data, *arguments],
                cwd=self.folder,
                env=programs.environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=[server_lock.fileno()],
                # A session of its own: Ctrl-C in the terminal is for the service, which stops first.
                start_new_session=True,
                preexec_fn=programs.die_with(os.getpid()) if sys.platform == "linux" else None,
            )

    def _settings(self) -> dict[str, str]:
        settings = {
            "listen_addresses": "",
            "unix_socket_directories": str(self._socket_folder()),
            "unix_socket_permissions": "0700",
            "max_connections": str(self._max_connections),
            "timezone": "UTC",
            "log_timezone": "UTC",
            "logging_collector": "off",
            "log_checkpoints": "off",
            "jit": "off",
            "max_wal_size": "256MB",
        }
        if not self._fsync:
            settings |= {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
        return settings

    def _create(self, binaries: Path, prefix: list[str]) -> None:
        """Make a new cluster beside its place and move it there whole."""
        unfinished = self.folder / "pgdata.new"
        shutil.rmtree(unfinished, ignore_errors=True)
        options = ["-U", USER, "-A", "trust", "-E", "UTF8", "--locale=C", "--no-instructions"]
        if not self._fsync:
            options.append("--no-sync")
        made = subprocess.run(
            [*prefix, binaries / "initdb", "-D", unfinished, *options],
            cwd=self.folder,
            env=programs.environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        if made.returncode:
            raise EmbeddedError(f"The embedded PostgreSQL could not be set up. {_one_line(made.stderr)}")
        unfinished.rename(self._data)

    def _check_version(self, binaries: Path) -> None:
        cluster = (self._data / "PG_VERSION").read_text().strip()
        answer = subprocess.run([binaries / "postgres", "--version"], capture_output=True, text=True, check=True).stdout
        if (found := re.search(r"(\d+)", answer)) and found[1] != cluster:
            raise EmbeddedError(
                f"The data in {self.folder} is of PostgreSQL {cluster}, but the server here is {found[1]}: "
                "dump it with the old version and restore it with the new one."
            )

    def _answers(self) -> bool:
        """Whether the server takes connections; makes the database if it isn't there yet."""
        if self._owned and not self._server:
            return False
        with suppress(psycopg.Error):
            with psycopg.connect(self.url("postgres"), autocommit=True, connect_timeout=2) as connection:
                if not connection.execute("select from pg_database where datname = %s", [DATABASE]).fetchone():
                    with suppress(psycopg.errors.DuplicateDatabase, psycopg.errors.UniqueViolation):
                        connection.execute(f"create database {DATABASE}")
            return True
        return False

    def _socket_folder(self) -> Path:
        """The folder itself, or a short one of our own where that can't be a socket's address."""
        path = str(self.folder)
        if len(os.fsencode(path)) <= _LONGEST_FOLDER and _PLAIN_PATH.fullmatch(path):
            return self.folder
        return Path(tempfile.gettempdir(), f"milepost-{hashlib.sha256(os.fsencode(path)).hexdigest()[:12]}")

    def _last_words(self) -> str:
        with suppress(OSError):
            return _one_line(self._log.read_text(errors="replace")[-2000:])
        return ""


def _try_lock(path: Path) -> IO[bytes] | None:
    file = path.open("ab")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        return None
    return file


def _check_private(folder: Path) -> None:
    """Whoever can reach the socket is the database's superuser."""
    if folder.stat().st_uid != os.geteuid():
        raise EmbeddedError(f"{folder} belongs to another user; set MILEPOST_DATA_DIR to a folder of your own.")
    folder.chmod(0o700)


@contextmanager
def _explained(folder: Path) -> Iterator[None]:
    """Say of an OSError what it means for the user."""
    try:
        yield
    except OSError as error:
        raise EmbeddedError(
            f"{folder} can't be used for data ({error.strerror}); set MILEPOST_DATA_DIR to another folder."
        ) from error


def _one_line(text: str) -> str:
    return " ".join(text.split())[-600:]
