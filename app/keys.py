"""API keys: what a secret is, the file that says which are in force, and what each of them may do.

The file has a line for each key: its name, its scopes with commas between them, and the SHA-256 of its secret. The
secret itself is nowhere but with its owner. It has 256 random bits, so a plain hash of it can't be guessed from, and
neither can a look-up by that hash: whoever asks does not choose the bits by which it goes through the table.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import re
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final

from app import names, telemetry
from app.settings import SettingsError

PREFIX: Final = "mp_"
"""By this a secret is known for one where it should not be: in a log, in a repository."""
RANDOM_BYTES: Final = 32
LARGEST_FILE: Final = 1_048_576
LOOK_EVERY: Final = 1.0
SETTLING: Final = 0.1
"""Seconds for which a file that has changed must stay as it is: its writer may not have come to the end."""

is_secret = re.compile(rb"mp_[A-Za-z0-9_-]{43}").fullmatch
"""Whether it looks like what `new_secret` makes. Nothing else is ever taken: a chosen word can be guessed."""
_is_digest = re.compile(r"[0-9a-f]{64}").fullmatch

log = telemetry.logger(__name__)


class KeysError(SettingsError):
    """The file of API keys can't be used."""


class Scope(StrEnum):
    """What a key may do. Each of them includes those before it."""

    READ = "read"
    WRITE = "write"
    ADMIN = "admin"


_ORDER = tuple(Scope)


@dataclass(frozen=True, slots=True)
class Key:
    name: str
    scopes: frozenset[Scope]
    """All of them, those too that are included in others."""
    digest: bytes


NOBODY: Final = Key("", frozenset(), secrets.token_bytes(hashlib.sha256().digest_size))


class Keys:
    """The keys in force, as the file said when it could last be read."""

    def __init__(self, path: Path) -> None:
        """Raises KeysError when the file can't be used."""
        self._path = path
        self._text = _read(path)
        self._by_digest = _parsed(path, self._text)

    def __len__(self) -> int:
        return len(self._by_digest)

    def owner(self, secret: bytes) -> Key | None:
        """The key with this secret. All who have none take the same way."""
        digest = hashlib.sha256(secret).digest()
        found = self._by_digest.get(digest, NOBODY)
        return found if hmac.compare_digest(found.digest, digest) else None

    async def watch(self, every: float = LOOK_EVERY, settling: float = SETTLING) -> None:
        """Take over what is written into the file, for ever. Not by its times: a second change can have those of the
        first, and to read a few lines each second is nothing."""
        told = ""
        while True:
            await asyncio.sleep(every)
            try:
                if await self._look(settling):
                    log.info("the API keys were read again", keys=len(self))
                told = ""
            except KeysError as error:
                if told != str(error):
                    told = str(error)
                    log.error("the API keys can't be read again, those in force stay", reason=told)  # noqa: TRY400
            except Exception:
                log.exception("looking for new API keys broke, and is tried again")

    async def _look(self, settling: float) -> bool:
        """Read the file; True when it has other keys than before."""
        text = await asyncio.to_thread(_read, self._path)
        if text == self._text:
            return False
        await asyncio.sleep(settling)
        if text != await asyncio.to_thread(_read, self._path):
            return False
        self._by_digest = await asyncio.to_thread(_parsed, self._path, text)
        self._text = text
        return True


def new_secret() -> str:
    return PREFIX + secrets.token_urlsafe(RANDOM_BYTES)


def line(name: str, scopes: Iterable[Scope], secret: str) -> str:
    """The key's line in the file."""
    told = ",".join(scope for scope in _ORDER if scope in set(scopes))
    return f"{name} {told} {hashlib.sha256(secret.encode()).hexdigest()}"


def scopes(text: str) -> frozenset[Scope]:
    """Those that are written with commas between them; raises ValueError."""
    try:
        return frozenset(Scope(word) for word in text.split(","))
    except ValueError:
        raise ValueError(f"scopes are {', '.join(Scope)}, with commas between them and no spaces") from None


def add(path: Path, name: str, added: str) -> None:
    """Write a line at the end of the file, which is made if there is none."""
    text = _read(path) if path.exists() else b""
    if text and name in {key.name for key in _keys(path, text)}:
        raise KeysError(f"{path} has a key of the name {name} already.")
    begin = "\n" if text and not text.endswith(b"\n") else ""
    try:
        with path.open("a", encoding="utf-8") as file:
            file.write(f"{begin}{added}\n")
    except OSError as error:
        raise KeysError(f"{path} can't be written: {error.strerror}.") from None


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            text = file.read(LARGEST_FILE + 1)
    except OSError as error:
        raise KeysError(f"The API keys in {path} can't be read: {error.strerror}.") from None
    if len(text) > LARGEST_FILE:
        raise KeysError(f"The API keys in {path} can't be read: the file has more than {LARGEST_FILE} bytes.")
    return text


def _parsed(path: Path, text: bytes) -> dict[bytes, Key]:
    """The keys by their digests. An error tells the line and never what stands in it, which may be a secret."""
    found = {key.digest: key for key in _keys(path, text)}
    if not found:
        raise KeysError(f"{path} has no API key: make one with python -m app keys new NAME --scope read,write.")
    return found


def _keys(path: Path, text: bytes) -> list[Key]:
    found: list[Key] = []
    taken: set[str | bytes] = set()
    for number, written in enumerate(text.removeprefix(b"\xef\xbb\xbf").split(b"\n"), 1):
        words = written.split()
        if not words or words[0].startswith(b"#"):
            continue
        try:
            key = _key([word.decode() for word in words], taken)
        except UnicodeDecodeError:
            raise KeysError(f"{path}, line {number}: this is not UTF-8.") from None
        except ValueError as error:
            raise KeysError(f"{path}, line {number}: {error}.") from None
        taken |= {key.name, key.digest}
        found.append(key)
    return found


def _key(words: list[str], taken: set[str | bytes]) -> Key:
    if len(words) != 3:
        raise ValueError("a line is a name, scopes and a SHA-256, with spaces between them")
    name, told, digest = words
    names.check_name(name)
    highest = max(map(_ORDER.index, scopes(told)))
    if not _is_digest(digest.lower()):
        raise ValueError("the SHA-256 of a secret has 64 hexadecimal digits")
    key = Key(name, frozenset(_ORDER[: highest + 1]), bytes.fromhex(digest))
    if not taken.isdisjoint((key.name, key.digest)):
        raise ValueError("its name or its secret is that of a line before")
    return key
