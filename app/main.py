"""The composition root: reads the settings, builds everything, and takes it apart again.

The order of the start is the order in which things are needed, and whatever can fail for a reason
that a person can mend fails first: settings, workflow modules, the address, the database.
"""

from __future__ import annotations

import asyncio
import errno
import gc
import importlib
import os
import resource
import socket
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import uvloop
from starlette.routing import BaseRoute

from app import memory, telemetry
from app.api import openapi as document
from app.api.application import build
from app.authoring import loading
from app.authoring.definitions import Registry, registry
from app.engine.runtime import Limits, Runtime
from app.errors import DatabaseUnavailable, MilepostError
from app.keys import Keys
from app.release import VERSION
from app.server import CLOSING, Server
from app.settings import LogFormat, Role, Settings
from app.store import migrations
from app.store.db import Database
from app.store.embedded import EmbeddedPostgres
from app.supervisor import Place, Supervisor

EXAMPLES = "app.workflows"
DATABASE_PATIENCE = 30.0
KEEPING = 1.0
# File descriptors for all but waiting requests: database, listeners, outgoing HTTP, log, some clients.
RESERVED_FILES = 256
# What a process has to PostgreSQL at most, and what is left to others there, its own keeper among them.
CONNECTIONS = 30
OTHER_CONNECTIONS = 40
GARBAGE = 10_000
"""Objects that have come to be and are not freed, after which the youngest are searched for circles."""
# Seconds that the end of a process takes beyond the grace, when the database is away besides.
PARTING = CLOSING + 10.0

T = TypeVar("T")

log = telemetry.logger(__name__)


class StartError(MilepostError):
    """The service could not start."""


def serve(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT."""
    settings.check_address()
    _keys(settings)
    register(settings)
    with bound_socket(settings) as listener, database(settings) as (url, embedded):
        _migrate_patiently(url)
        if settings.processes == 1:
            work = _serve(settings, url, listener)
        else:
            work = _supervise(settings, url if embedded else None, listener)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_keeping(embedded, work))


def serve_at(settings: Settings, place: Place) -> None:
    """Serve as one of several processes, until the parent says or ends."""
    try:
        register(settings)
        url = place.database_url if settings.database_url is None else settings.database_url.get_secret_value()
        assert url is not None, "the parent has a database of its own where none was given"
        with (
            socket.socket(fileno=place.listener) as listener,
            asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
        ):
            runner.run(_serve(settings, url, listener, place))
    except MilepostError as error:
        place.tell_failure(str(error))
        raise SystemExit(1) from error


def migrate(settings: Settings) -> str:
    """Bring the schema up, and return its revision."""
    with database(settings) as (url, _):
        return _migrate_patiently(url)


def register(settings: Settings) -> Registry:
    """Import the modules that register workflows."""
    if settings.with_examples:
        importlib.import_module(EXAMPLES)
    loading.load(settings.workflows)
    return registry


def openapi() -> str:
    """The OpenAPI document of the API with the shipped workflows alone, as JSON."""
    importlib.import_module(EXAMPLES)
    return document.dumps(document.document(registry))


@contextmanager
def database(settings: Settings) -> Iterator[tuple[str, EmbeddedPostgres | None]]:
    """The URL of the database; and the database itself where it is our own, running meanwhile."""
    if settings.database_url is not None:
        yield settings.database_url.get_secret_value(), None
    else:
        connections = CONNECTIONS * settings.processes + OTHER_CONNECTIONS
        with EmbeddedPostgres(settings.data_dir / "postgres", max_connections=max(100, connections)) as embedded:
            if embedded.attached:
                log.info("the embedded PostgreSQL of another process is shared, and taken over when that one ends")
            yield embedded.url(), embedded


@contextmanager
def bound_socket(settings: Settings) -> Iterator[socket.socket]:
    """A socket that has its address and does not listen yet."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            settings.host.strip("[]"), settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
    except OSError as error:
        raise StartError(f"MILEPOST_HOST={settings.host} is no address of this machine: {error.strerror}.") from error
    with listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(address)
        except OSError as error:
            raise StartError(
                f"{settings.host}:{settings.port} can't be served: {error.strerror}. {_remedy(settings, error)}"
            ) from error
        yield listener


def _remedy(settings: Settings, error: OSError) -> str:
    if error.errno == errno.EADDRNOTAVAIL:
        return f"Set MILEPOST_HOST to an address of this machine, which {settings.host} is not."
    if error.errno == errno.EACCES:
        return "Set MILEPOST_PORT to one above 1023, which needs no privilege."
    return "Set MILEPOST_PORT to a free one."


async def _supervise(settings: Settings, database_url: str | None, listener: socket.socket) -> None:
    await Supervisor(
        listener,
        settings.processes,
        arguments=lambda place: ["-m", "app", "serve", "--place", place.argument()],
        database_url=database_url,
        started=_announcement(settings, _address(settings, listener)),
        grace=settings.grace + PARTING,
    ).run()


async def _serve(settings: Settings, url: str, listener: socket.socket, place: Place | None = None) -> None:
    keys = _keys(settings)
    own_url = _address(settings, listener)
    public_url = settings.public_url or (own_url if settings.loopback and settings.role.takes_requests else None)
    storage = Database(url)
    runtime = Runtime(
        storage,
        registry,
        version=VERSION,
        public_url=public_url,
        limits=_limits(settings),
        sole_host=settings.database_url is None,
    )
    application = build(
        runtime,
        pages=await _patiently(lambda: _examples(storage, public_url)) if settings.with_examples else [],
        only_probes=not settings.role.takes_requests,
        default_timeout=settings.default_timeout,
        max_body_bytes=settings.max_body_bytes,
        public_url=public_url,
        cors_origins=settings.cors_origins,
        keys=keys,
    )
    watching = asyncio.create_task(keys.watch(), name="keys") if keys else None
    try:
        await _patiently(runtime.start)
        # What is there by now stays. A full collection would look through all of it each time, and stop the service
        # for 100 ms about once a second of load.
        gc.collect()
        gc.freeze()
        memory.keep()
        # What a request leaves is freed as it goes. To look for circles after each 700 objects finds none of them.
        gc.set_threshold(GARBAGE, *gc.get_threshold()[1:])
        started = place.tell_ready if place else _announcement(settings, own_url)
        server = Server(application, drain=runtime.drain, started=started, shared=place is not None)
        if place is not None:
            asyncio.get_running_loop().add_reader(place.leash, _orphaned, server, place)
        await server.serve([listener])
    finally:
        if watching:
            watching.cancel()
        await runtime.stop()


def _orphaned(server: Server, place: Place) -> None:
    asyncio.get_running_loop().remove_reader(place.leash)
    log.warning("the parent process was killed: this one leaves too")
    server.abandon()


async def _keeping(embedded: EmbeddedPostgres | None, work: Coroutine[Any, Any, None]) -> None:
    """Do the work, and look after the database of our own meanwhile."""
    keeper = asyncio.create_task(_keep(embedded), name="keeper") if embedded else None
    try:
        await work
    finally:
        if keeper:
            keeper.cancel()


async def _keep(embedded: EmbeddedPostgres) -> None:
    """Nobody else would start it again."""
    while True:
        await asyncio.sleep(KEEPING)
        try:
            if embedded.revive():
                log.warning("the embedded PostgreSQL had ended and was started again")
        except (MilepostError, OSError) as error:
            log.critical("the embedded PostgreSQL has ended and can't be started again", reason=str(error))


async def _examples(storage: Database, public_url: str | None) -> list[BaseRoute]:
    """Make the tables of the shipped workflows; returns the pages that belong to them."""
    from app import workflows

    async with storage.transaction() as connection:
        await workflows.prepare(connection)
    return [*workflows.routes(public_url, storage.transaction)]


def _keys(settings: Settings) -> Keys | None:
    """Those in force; read before anything is started, for then a person can mend them."""
    return None if settings.api_keys_file is None else Keys(settings.api_keys_file)


def _limits(settings: Settings) -> Limits:
    return Limits(
        concurrency=settings.concurrency if settings.role.runs_workflows else 0,
        step_threads=settings.step_threads,
        start_buffer=settings.start_buffer,
        waiting=max(1, min(settings.waiting_limit, _raise_file_limit() - RESERVED_FILES)),
        cache=settings.cache,
        linger=settings.linger,
        time_to_live=settings.time_to_live,
        beat=settings.beat,
        notifications=settings.notifications,
        grace=settings.grace,
    )


def _address(settings: Settings, listener: socket.socket) -> str:
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    return f"http://{host}:{listener.getsockname()[1]}"


def _announcement(settings: Settings, url: str) -> Callable[[], None]:
    """What is said when requests are taken: where, from what data, and what to try."""

    def announce() -> None:
        if settings.public_url is None and settings.role is Role.WORKER:
            log.warning("callbacks fail until MILEPOST_PUBLIC_URL says how others reach those who take requests")
        elif settings.public_url is None and not settings.loopback and settings.api_keys_file is not None:
            log.warning("callbacks fail until MILEPOST_PUBLIC_URL says how others reach this service")
        elif settings.public_url is None and not settings.loopback:
            log.warning(
                "requests from elsewhere are refused, and callbacks fail, until MILEPOST_PUBLIC_URL says how others"
                " reach this service"
            )
        if settings.log_format is LogFormat.JSON:
            log.info(
                "serving",
                url=url,
                version=VERSION,
                role=settings.role,
                processes=settings.processes,
                database="embedded" if settings.database_url is None else "given",
                access="anybody" if settings.api_keys_file is None else "keys",
            )
            return
        print(f"Milepost {VERSION} {_duty(settings, url)}")
        if settings.database_url is None:
            print(f"Data are in {settings.data_dir.absolute()}, an embedded PostgreSQL that survives restarts")
        else:
            print("Data are in the PostgreSQL of MILEPOST_DATABASE_URL")
        print(f"Next: {_suggestion(settings, url)}", flush=True)

    return announce


def _duty(settings: Settings, url: str) -> str:
    several = f", which has {settings.processes} under it" if settings.processes > 1 else ""
    process = f"as process {os.getpid()}{several}"
    if settings.role is Role.WORKER:
        return f"runs workflows {process}, and answers probes on {url}"
    return f"serves on {url} {process}, its API is explained at {url}/docs"


def _suggestion(settings: Settings, url: str) -> str:
    if settings.role is Role.WORKER:
        return f"curl '{url}/readyz'"
    key = "" if settings.api_keys_file is None else ' -H "Authorization: Bearer $KEY"'
    if not settings.with_examples:
        return f"curl '{url}/definitions'{key}"
    body = """'{"name": "checkout", "input": {"sku": "A1"}}'"""
    return f"curl '{url}/workflows?wait_for=payment_url'{key} -H 'Content-Type: application/json' -d {body}"


def _migrate_patiently(url: str) -> str:
    """Bring the schema up; a database that is away is waited for."""
    deadline = time.monotonic() + DATABASE_PATIENCE
    while True:
        try:
            return migrations.migrate(url)
        except DatabaseUnavailable as error:
            _wait_on(error, deadline)
        # Not `time.sleep`: where a library shifts the clock of a process, as for a test, that may fail.
        threading.Event().wait(1)


async def _patiently(do: Callable[[], Awaitable[T]]) -> T:
    """The same with whatever else a service begins with: the database may go away at any time."""
    deadline = time.monotonic() + DATABASE_PATIENCE
    while True:
        try:
            return await do()
        except DatabaseUnavailable as error:
            _wait_on(error, deadline)
        await asyncio.sleep(1)


def _wait_on(error: DatabaseUnavailable, deadline: float) -> None:
    left = deadline - time.monotonic()
    if left <= 0:
        raise StartError(f"The database did not answer in {DATABASE_PATIENCE:g} s: {error}") from error
    log.warning("waiting for the database", reason=str(error), seconds_left=round(left))


def _raise_file_limit() -> int:
    """Every connection is a file; the soft limit is for programs that can't count so far."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = hard if hard != resource.RLIM_INFINITY else max(soft, 65_536)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    except (OSError, ValueError):  # macOS has a lower limit than it says
        return soft
    return wanted
