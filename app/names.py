"""Which names are good ones: the rules of ids, event keys, topics and definitions, in one place.

Each `check_…` returns nothing, or raises a ValueError whose message is fit to be shown to the caller.
The patterns are for documents and for path routing; they are written so that Python and ECMAScript
read them alike, and are meant for the whole text.
"""

from __future__ import annotations

import re

MAX_KEY = 200
MAX_TAG_VALUE = 200
MAX_TAGS = 32

WORKFLOW_ID = r"[A-Za-z0-9._~:\-]{1,128}"
KEY = r"[^\u0000-\u001f\u007f-\u009f/\\]{1,200}"
NAME = r"[A-Za-z0-9_][A-Za-z0-9._~\-]{0,63}"
VERSION = r"(0|[1-9][0-9]{0,8})(\.(0|[1-9][0-9]{0,8})){0,7}"
IDEMPOTENCY_KEY = r"[\u0021-\u007e]{1,255}"

RESERVED_ID_PREFIX = "schedule:"
RESERVED_KEY_PREFIX = "$"

_workflow_id = re.compile(WORKFLOW_ID).fullmatch
# Python's strings may hold half a surrogate pair, which is no character and no UTF-8.
_key = re.compile(r"[^\u0000-\u001f\u007f-\u009f/\\\ud800-\udfff]{1,200}").fullmatch
_name = re.compile(NAME).fullmatch
_version = re.compile(VERSION).fullmatch
_DOTS = frozenset({".", ".."})


def check_workflow_id(text: str) -> None:
    """An id that a caller gives; the service's own (UUIDs, and those of schedules) need no check."""
    if not _workflow_id(text) or text in _DOTS:
        raise ValueError("a workflow id has 1 to 128 characters of A-Z a-z 0-9 . _ ~ : - and is not '.' or '..'")
    if text.startswith(RESERVED_ID_PREFIX):
        raise ValueError(f"ids that begin with {RESERVED_ID_PREFIX!r} are made by schedules")


def check_key(text: str) -> None:
    """An event key or a message topic."""
    if not _key(text) or text in _DOTS:
        raise ValueError(
            f"event keys and topics have 1 to {MAX_KEY} characters, no control character, no / or \\,"
            " and are not '.' or '..'"
        )


def check_name(text: str) -> None:
    """The name of a definition, a queue, a schedule or a tag."""
    if not _name(text):
        raise ValueError("a name has 1 to 64 characters of A-Z a-z 0-9 . _ ~ - and begins with a letter, digit or _")


def check_version(text: str) -> None:
    """The version of a definition: whole numbers with dots between them."""
    if not _version(text):
        raise ValueError('a version is whole numbers with dots between them, such as "1" or "1.10"')


def check_tag_value(text: str) -> None:
    if len(text) > MAX_TAG_VALUE or any(character == "\0" or "\ud800" <= character <= "\udfff" for character in text):
        raise ValueError(f"the value of a tag has at most {MAX_TAG_VALUE} characters, and no U+0000")
