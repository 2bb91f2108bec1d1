"""The command line: `python -m app serve|migrate|openapi|workflows|keys`.

What a command needs is imported when it runs, so that `--help` and a refused setting are quick.
Exit codes: 0 done, 1 failed, 2 told wrongly.
"""

from __future__ import annotations

import argparse
import os
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from app import keys, names, settings, telemetry
from app.errors import MilepostError
from app.keys import Scope
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


def new_key(name: str, scope: frozenset[Scope], file: Path | None) -> None:
    """What another program would take is alone on stdout: the line for the file; or the secret, once that is in it."""
    secret = keys.new_secret()
    line = keys.line(name, scope, secret)
    if file is None:
        print(f"The secret of {name}, which is shown only now: {secret}\nIts line for the file:", file=sys.stderr)
        print(line)
    else:
        keys.add(file, name, line)
        print(f"{name} stands in {file}. Its secret, which is shown only now:", file=sys.stderr)
        print(secret)


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
        if command is new_key:
            # Of use before there are any settings, or where they are of another machine.
            command(**told)
        else:
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
        epilog="Settings are environment variables, MILEPOST_…; docs/operations/settings.md has them.",
    )
    parser.add_argument("--version", action="version", version=f"Milepost {VERSION}")
    commands = parser.add_subparsers(required=True, metavar="command")
    for command, meaning in COMMANDS.items():
        commands.add_parser(command.__name__, help=meaning, description=meaning).set_defaults(command=command)
    _add_keys(commands.add_parser("keys", help="make an API key", description="Make an API key."))
    # Of no use by hand: it is given to a process by its parent.
    commands.choices[serve.__name__].add_argument("--place", type=Place.taken, help=argparse.SUPPRESS)
    return parser


def _add_keys(parser: argparse.ArgumentParser) -> None:
    meaning = "make a key: shows its secret once, and its line for the file of MILEPOST_API_KEYS_FILE"
    new = parser.add_subparsers(required=True, metavar="command").add_parser("new", help=meaning, description=meaning)
    new.add_argument("name", type=_named, help="whose it is; stands in the log where the key was used")
    new.add_argument("--scope", type=_scoped, required=True, help="read, write (and read), or admin (and both)")
    new.add_argument("--file", type=Path, help="write the line at the end of this file, rather than show it")
    new.set_defaults(command=new_key)


def _named(text: str) -> str:
    try:
        names.check_name(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return text


def _scoped(text: str) -> frozenset[Scope]:
    try:
        return keys.scopes(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _failed(error: MilepostError, code: int) -> int:
    print(f"milepost: {error}", file=sys.stderr)
    return code
