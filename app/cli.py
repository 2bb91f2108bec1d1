"""The command line: `python -m app serve|migrate|openapi|workflows`.

What a command needs is imported when it runs, so that `--help` and a refused setting are quick.
Exit codes: 0 done, 1 failed, 2 told wrongly.
"""

from __future__ import annotations

import argparse
import os
import sys
import threading
from collections.abc import Callable, Sequence

from app import settings, telemetry
from app.errors import MilepostError
from app.release import VERSION
from app.settings import Settings, SettingsError
from app.supervisor import Place


def serve(given: Settings, place: Place | None = None) -> None:
    from app import main

    if place is None:
        main.serve(given)
    else:
        main.serve_at(given, place)
    if any(not thread.daemon for thread in threading.enumerate() if thread is not threading.main_thread()):
        # A step that sits in its thread for ever. Its workflow is handed over already: nothing is left to wait for.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)


def migrate(given: Settings) -> None:
    from app import main

    print(f"The database is at revision {main.migrate(given)}.")


def openapi(given: Settings) -> None:
    from app import main

    sys.stdout.write(main.openapi())


def workflows(given: Settings) -> None:
    from app import main

    for definition in main.register(given):
        summary = definition.description.partition("\n")[0]
        print(f"{definition.name} {definition.version}  {summary}".rstrip())


COMMANDS: dict[Callable[..., None], str] = {
    serve: "serve the API and run workflows",
    migrate: "bring the database's schema to what this version needs",
    openapi: "print the OpenAPI document of the API with the shipped workflows alone",
    workflows: "list the workflows that would be served",
}


def main(arguments: Sequence[str] | None = None) -> int:
    told = vars(_parser().parse_args(arguments))
    command, place = told.pop("command"), told.get("place")
    try:
        given = settings.load()
        telemetry.configure(given.log_level, given.log_format, process=place and place.number)
        command(given, **told)
    except SettingsError as error:
        return _failed(error, 2)
    except MilepostError as error:
        return _failed(error, 1)
    except KeyboardInterrupt:
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m app",
        description="Milepost: durable workflows over HTTP.",
        epilog="Settings are environment variables, MILEPOST_…; README.md has them.",
    )
    parser.add_argument("--version", action="version", version=f"Milepost {VERSION}")
    commands = parser.add_subparsers(required=True, metavar="command")
    for command, meaning in COMMANDS.items():
        commands.add_parser(command.__name__, help=meaning, description=meaning).set_defaults(command=command)
    # Of no use by hand: it is given to a process by its parent.
    commands.choices[serve.__name__].add_argument("--place", type=Place.taken, help=argparse.SUPPRESS)
    return parser


def _failed(error: MilepostError, code: int) -> int:
    print(f"milepost: {error}", file=sys.stderr)
    return code
