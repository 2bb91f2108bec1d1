"""The file of API keys: what may stand in it, and what is said of one that can't be used."""

import asyncio
import hashlib
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import structlog

from app import keys
from app.keys import Keys, KeysError, Scope
from tests.support.keys import issue, replace
from tests.support.waiting import eventually

DIGEST = hashlib.sha256(b"x").hexdigest()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "keys"


def refusal(file: Path) -> str:
    with pytest.raises(KeysError) as refused:
        Keys(file)
    assert "\n" not in str(refused.value)
    return str(refused.value)


def test_a_secret_has_256_random_bits_behind_its_prefix():
    secrets = {keys.new_secret() for _ in range(1000)}
    assert len(secrets) == 1000
    assert all(keys.is_secret(secret.encode()) for secret in secrets)


@pytest.mark.parametrize("word", [b"", b"mp_", b"hunter2", b"mp_" + b"A" * 42, b"mp_" + b"A" * 44, b"mp_" + b"+" * 43])
def test_a_word_of_somebodys_choice_is_no_secret(word: bytes):
    assert not keys.is_secret(word)


def test_a_line_has_the_digest_and_not_the_secret(file: Path):
    secret = keys.new_secret()
    line = keys.line("shop", keys.scopes("write,read"), secret)
    assert line == f"shop read,write {hashlib.sha256(secret.encode()).hexdigest()}"
    file.write_text(line)
    owner = Keys(file).owner(secret.encode())
    assert owner
    assert owner.name == "shop"
    assert set(owner.scopes) == {Scope.READ, Scope.WRITE}


@pytest.mark.parametrize(
    ("told", "granted"),
    [
        ("read", {"read"}),
        ("write", {"read", "write"}),
        ("admin", {"read", "write", "admin"}),
        ("read,admin", {"read", "write", "admin"}),
    ],
)
def test_a_scope_includes_those_below_it(file: Path, told: str, granted: set[str]):
    secret = issue(file, one=told)["one"]
    owner = Keys(file).owner(secret.encode())
    assert owner
    assert owner.scopes == granted


def test_nobody_owns_another_secret(file: Path):
    issue(file, one="read")
    found = Keys(file)
    assert found.owner(keys.new_secret().encode()) is None
    assert found.owner(b"") is None


def test_comments_empty_lines_and_other_line_ends_do_not_count(file: Path):
    file.write_bytes(
        b"\xef\xbb\xbf# name scopes digest\r\n\r\n \t\n  one\tread   " + DIGEST.upper().encode() + b" \r\n"
    )
    assert len(Keys(file)) == 1


SECRET = "mp_" + "s" * 43


@pytest.mark.parametrize(
    ("line", "told"),
    [
        (f"one read {SECRET}", "the SHA-256 of a secret has 64 hexadecimal digits"),
        (f"{SECRET}", "a line is a name, scopes and a SHA-256, with spaces between them"),
        (f"one read write {SECRET}", "a line is a name, scopes and a SHA-256, with spaces between them"),
        (f"one read {DIGEST} # {SECRET}", "a line is a name, scopes and a SHA-256, with spaces between them"),
        (f"one {SECRET} {DIGEST}", "scopes are read, write, admin, with commas between them and no spaces"),
        (f"one read, {DIGEST}", "scopes are read, write, admin, with commas between them and no spaces"),
        (f"one Read {DIGEST}", "scopes are read, write, admin, with commas between them and no spaces"),
        (f"{SECRET}/ read {DIGEST}", "a name has 1 to 64 characters"),
        (f"zero read {DIGEST[::-1]}", "its name or its secret is that of a line before"),
        (f"one read {hashlib.sha256(b'0').hexdigest()}", "its name or its secret is that of a line before"),
        (f"one read {DIGEST[:-1]}é", "the SHA-256 of a secret has 64 hexadecimal digits"),
    ],
)
def test_a_malformed_line_is_told_by_its_number_and_never_shown(file: Path, line: str, told: str):
    file.write_text(f"# the first\nzero read {hashlib.sha256(b'0').hexdigest()}\n{line}\n")
    message = refusal(file)
    assert message.startswith(f"{file}, line 3: {told}")
    assert SECRET not in message
    assert DIGEST not in message


def test_a_file_that_is_no_text_is_told_by_its_line(file: Path):
    file.write_bytes(b"# fine\none read \xff\xfe\n")
    assert refusal(file) == f"{file}, line 2: this is not UTF-8."


@pytest.mark.parametrize("text", ["", "\n\n", "# one read 0\n"])
def test_a_file_without_a_key_is_refused(file: Path, text: str):
    file.write_text(text)
    assert "has no API key: make one" in refusal(file)


def test_a_file_that_is_not_there_or_is_a_folder_or_is_huge_is_refused(file: Path, tmp_path: Path):
    assert "No such file" in refusal(file)
    assert "directory" in refusal(tmp_path)
    file.write_bytes(b"#" * (keys.LARGEST_FILE + 1))
    assert "more than 1048576 bytes" in refusal(file)


def test_a_key_is_added_behind_what_is_there_whether_or_not_that_has_an_end(file: Path):
    for number in range(2):
        keys.add(file, f"k{number}", keys.line(f"k{number}", [Scope.READ], keys.new_secret()))
        file.write_text(file.read_text().removesuffix("\n"))
    assert len(Keys(file)) == 2
    with pytest.raises(KeysError, match="has a key of the name k1 already"):
        keys.add(file, "k1", "k1 …")


def removed(file: Path) -> None:
    file.unlink()


def lines(file: Path) -> list[str]:
    return file.read_text().splitlines()


@pytest.fixture
def look() -> Iterator[Callable[..., None]]:
    """Have keys look at their file all the time."""
    looking: list[asyncio.Task[None]] = []

    def look(found: Keys, settling: float = 0.001) -> None:
        looking.append(asyncio.create_task(found.watch(0.001, settling)))

    yield look
    for task in looking:
        task.cancel()


async def test_a_change_that_leaves_size_and_times_as_they_were_is_seen(file: Path, look):
    before = issue(file, one="read")["one"]
    found = Keys(file)
    look(found)
    after = in_place(file)
    await eventually(lambda: found.owner(after.encode()))
    assert found.owner(before.encode()) is None


def in_place(file: Path) -> str:
    """Give the key of a file another secret, and leave no trace of that in what the folder tells."""
    times = file.stat()
    secret = keys.new_secret()
    with file.open("r+") as same:
        same.write(keys.line("one", [Scope.READ], secret))
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
    return secret


async def test_a_file_that_can_not_be_used_any_more_leaves_the_keys_in_force_and_is_told_once(file: Path, look):
    secret = issue(file, one="read")["one"]
    found = Keys(file)
    with structlog.testing.capture_logs() as logged:
        look(found)

        async def told(count: int, reason: str) -> None:
            await eventually(lambda: len(logged) >= count, message=lambda: str(logged))
            began = time.monotonic()
            await eventually(lambda: time.monotonic() > began + 0.05)
            assert len(logged) == count
            assert (logged[-1]["log_level"], reason in logged[-1].get("reason", "")) == ("error", True)
            assert found.owner(secret.encode())

        replace(file, f"one read {SECRET}")
        await told(1, "line 1")
        replace(file)
        await told(2, "has no API key")
        removed(file)
        await told(3, "No such file")
        other = issue(file, two="read")["two"]
        await eventually(lambda: found.owner(other.encode()))
        assert found.owner(secret.encode()) is None
        assert [line["log_level"] for line in logged if line["log_level"] != "info"] == ["error"] * 3
    assert SECRET not in str(logged)


async def test_a_file_that_is_still_being_written_is_not_taken_half(file: Path, look):
    """Its first half would be a good file by itself, with fewer keys."""
    secret = issue(file, one="read", two="read")["two"]
    found = Keys(file)
    look(found, settling=1.0)
    whole = lines(file)
    began = time.monotonic()
    replace(file, whole[0])

    def written() -> bool:
        assert found.owner(secret.encode())
        return time.monotonic() > began + 0.1

    await eventually(written)
    replace(file, *whole)
    await eventually(lambda: time.monotonic() > began + 1.2 and found.owner(secret.encode()))
    assert len(found) == 2
