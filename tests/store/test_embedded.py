"""The embedded PostgreSQL outlives what may happen to the processes that use it."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from app.store import programs
from app.store.embedded import EmbeddedPostgres
from app.store.programs import EmbeddedError
from tests.support.service import ROOT
from tests.support.waiting import eventually_sync

OWNER = """
import sys
from pathlib import Path
from app.store.embedded import EmbeddedPostgres
postgres = EmbeddedPostgres(Path(sys.argv[1]))
postgres.start()
print("attached" if postgres.attached else "owner", flush=True)
sys.stdin.read()
postgres.stop()
"""


class Owner:
    """Another process that has started (or attached to) the cluster in `folder`."""

    def __init__(self, folder: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", OWNER, folder],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout
        self.role = self.process.stdout.readline().strip()

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()

    def leave(self) -> None:
        self.process.communicate(timeout=30)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One cluster for all tests here: what they try is its starts and ends."""
    return tmp_path_factory.mktemp("embedded")


@pytest.fixture
def postgres(folder: Path) -> Iterator[EmbeddedPostgres]:
    with EmbeddedPostgres(folder) as postgres:
        yield postgres


def ask(postgres: EmbeddedPostgres, statement: str) -> object:
    with psycopg.connect(postgres.url(), autocommit=True) as connection:
        cursor = connection.execute(statement)
        row = cursor.fetchone() if cursor.description else None
        return row[0] if row else None


def owns(postgres: EmbeddedPostgres) -> bool:
    return not postgres.attached


def test_it_is_durable_private_and_reached_through_a_socket_only(postgres: EmbeddedPostgres):
    assert ask(postgres, "show fsync") == "on"
    assert ask(postgres, "show synchronous_commit") == "on"
    assert ask(postgres, "show full_page_writes") == "on"
    assert ask(postgres, "show listen_addresses") == ""
    assert postgres.folder.stat().st_mode & 0o077 == 0


def test_data_outlives_a_stop_and_a_start(postgres: EmbeddedPostgres):
    ask(postgres, "create table kept as select 42 as answer")
    postgres.stop()
    postgres.start()
    assert ask(postgres, "select answer from kept") == 42
    ask(postgres, "drop table kept")


def test_starting_and_stopping_twice_does_no_harm(postgres: EmbeddedPostgres):
    postgres.start()
    assert ask(postgres, "select 1") == 1
    postgres.stop()
    postgres.stop()


def test_a_second_process_attaches_and_leaves_without_stopping_it(postgres: EmbeddedPostgres):
    second = Owner(postgres.folder)
    assert second.role == "attached"
    second.leave()
    assert ask(postgres, "select 1") == 1


def test_a_killed_owner_is_succeeded_at_once_and_nothing_is_lost(folder: Path):
    """The next start falls into the time in which the old server is still shutting down."""
    for number in range(3):
        owner = Owner(folder)
        assert owner.role == "owner"
        with psycopg.connect(EmbeddedPostgres(folder).url(), autocommit=True) as connection:
            connection.execute(f"create table survivor_{number} ()")
        owner.kill()
        with EmbeddedPostgres(folder) as successor:
            assert owns(successor)
            assert ask(successor, f"select to_regclass('survivor_{number}')::text") == f"survivor_{number}"


def test_a_process_that_waits_for_a_killed_owner_takes_over(folder: Path):
    first = Owner(folder)
    attached = Owner(folder)
    assert (first.role, attached.role) == ("owner", "attached")
    first.kill()
    with EmbeddedPostgres(folder) as third:
        assert owns(third)
        assert ask(third, "select 1") == 1
    attached.leave()


def test_a_server_that_its_owner_left_behind_is_stopped_and_started_anew(folder: Path):
    """Where nothing tells a server that its owner has died, as on macOS, the next owner does."""
    first = EmbeddedPostgres(folder)
    first.start()
    old = ask(first, "select pg_postmaster_start_time()::text")
    assert first._server
    server, first._server = first._server, None
    first.stop()
    with EmbeddedPostgres(folder) as second:
        assert owns(second)
        assert ask(second, "select pg_postmaster_start_time()::text") != old
    assert server.wait(10) == 0


def test_a_stale_pid_file_that_names_a_living_process_is_no_obstacle(folder: Path):
    with EmbeddedPostgres(folder):
        pid_file = folder / "pgdata" / "postmaster.pid"
        lines = pid_file.read_text().splitlines()
    pid_file.write_text("\n".join([str(os.getpid()), *lines[1:]]))
    with EmbeddedPostgres(folder) as postgres:
        assert ask(postgres, "select 1") == 1


def test_a_killed_server_recovers_what_was_committed(folder: Path):
    with EmbeddedPostgres(folder) as postgres:
        ask(postgres, "create table committed as select 7 as number")
        assert postgres._server
        postgres._server.send_signal(signal.SIGQUIT)
        eventually_sync(lambda: postgres._server and postgres._server.poll() is not None)
    with EmbeddedPostgres(folder) as postgres:
        assert ask(postgres, "select number from committed") == 7


def test_a_killed_server_is_revived_in_place(postgres: EmbeddedPostgres):
    assert not postgres.revive()
    assert postgres._server
    postgres._server.kill()
    eventually_sync(postgres.revive)
    postgres.start()
    assert ask(postgres, "select 1") == 1
    assert not postgres.revive()


def test_an_attached_process_becomes_the_owner_when_the_first_one_leaves(folder: Path):
    first = Owner(folder)
    attached = EmbeddedPostgres(folder)
    attached.start()
    assert not owns(attached)
    assert not attached.revive()
    first.leave()
    eventually_sync(attached.revive)
    attached.start()
    assert owns(attached)
    assert ask(attached, "select 1") == 1
    attached.stop()


def test_an_unfinished_set_up_is_begun_again(tmp_path: Path):
    unfinished = tmp_path / "pgdata.new"
    unfinished.mkdir()
    (unfinished / "PG_VERSION").write_text("1")
    with EmbeddedPostgres(tmp_path, fsync=False) as postgres:
        assert ask(postgres, "select 1") == 1


def test_a_folder_whose_path_is_long_or_odd_works_too(tmp_path: Path):
    folder = tmp_path / ("deep-" * 20) / "with, a comma"
    with EmbeddedPostgres(folder, fsync=False) as postgres:
        assert ask(postgres, "select 1") == 1


def test_data_of_another_major_version_are_refused_with_advice(folder: Path):
    version = folder / "pgdata" / "PG_VERSION"
    with EmbeddedPostgres(folder):
        right = version.read_text()
    version.write_text("12\n")
    try:
        with pytest.raises(EmbeddedError, match=r"PostgreSQL 12, but the server here is .* dump it"):
            EmbeddedPostgres(folder).start()
    finally:
        version.write_text(right)


def test_a_server_that_ends_at_its_start_says_why(folder: Path):
    configuration = folder / "pgdata" / "postgresql.conf"
    with EmbeddedPostgres(folder):
        right = configuration.read_text()
    configuration.write_text("no_such_setting = 1\n")
    try:
        with pytest.raises(EmbeddedError, match="no_such_setting"):
            EmbeddedPostgres(folder).start()
    finally:
        configuration.write_text(right)


def test_a_place_that_is_no_folder_is_refused_with_the_setting_to_change(tmp_path: Path):
    place = tmp_path / "file"
    place.touch()
    with pytest.raises(EmbeddedError, match="MILEPOST_DATA_DIR"):
        EmbeddedPostgres(place / "postgres").start()


def test_programs_can_be_chosen(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    for name in ("postgres", "initdb"):
        (tmp_path / name).touch()
    monkeypatch.setenv("PGBIN", str(tmp_path))
    assert programs.find() == tmp_path
