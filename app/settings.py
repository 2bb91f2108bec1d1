"""What can be set, read once from the environment at the start.

A variable that begins with MILEPOST_ and is no setting, or one whose value is malformed, stops the
start: a typing error in a time-out or a limit should not be found out in production.
"""

from __future__ import annotations

import difflib
import ipaddress
import os
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Self
from urllib.parse import SplitResult, urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, ValidationError, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from app.errors import MilepostError

PREFIX = "MILEPOST_"
_POSTGRESQL = ("postgresql", "postgres", "postgresql+psycopg")
_DEMANDS = {
    "bool_parsing": "must be true or false",
    "int_parsing": "must be a whole number",
    "float_parsing": "must be a number",
}
"""In words of our own where the library's are about parsing."""


class SettingsError(MilepostError):
    """A setting is wrong."""


class LogLevel(StrEnum):
    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class LogFormat(StrEnum):
    CONSOLE = "console"
    JSON = "json"


class Role(StrEnum):
    ALL = "all"
    API = "api"
    WORKER = "worker"

    @property
    def runs_workflows(self) -> bool:
        return self is not Role.API

    @property
    def takes_requests(self) -> bool:
        return self is not Role.WORKER


def _split(value: Any) -> Any:
    """A comma-separated list; spaces around its members don't count."""
    if isinstance(value, str):
        return tuple(part for part in (piece.strip() for piece in value.split(",")) if part)
    return value


def _lower(value: Any) -> Any:
    return value.lower() if isinstance(value, str) else value


def _database_url(value: SecretStr) -> SecretStr:
    scheme, separator, rest = value.get_secret_value().partition("://")
    if scheme not in _POSTGRESQL or not separator or not rest:
        raise ValueError("must be like postgresql://user:password@host:5432/database")
    return SecretStr(f"postgresql://{rest}")


def _web_address(value: str) -> SplitResult:
    try:
        parts = urlsplit(value)
        parts.port  # noqa: B018 - raises when it is none
    except ValueError:
        parts = urlsplit("")
    if (
        parts.scheme not in ("http", "https")
        or not parts.hostname
        or "@" in parts.netloc
        or parts.query
        or parts.fragment
    ):
        raise ValueError("must be like https://shop.example.com")
    return parts


def _public_url(value: str) -> str:
    parts = _web_address(value)
    return f"{parts.scheme}://{parts.netloc.lower()}{parts.path.rstrip('/')}"


def _origins(values: tuple[str, ...]) -> tuple[str, ...]:
    for value in values:
        if _web_address(value).path:
            raise ValueError("must be origins like https://shop.example.com, separated by commas")
    return tuple(value.lower() for value in values)


def _modules(values: tuple[str, ...]) -> tuple[str, ...]:
    for value in values:
        if not all(part.isidentifier() for part in value.split(".")):
            raise ValueError("must be names of Python modules such as shop.orders, separated by commas")
    return values


class Settings(BaseSettings):
    """Every field is a setting: `database_url` is read from MILEPOST_DATABASE_URL.

    A field's description is what a person gets when its value is refused.
    """

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_ignore_empty=True, extra="forbid", frozen=True, hide_input_in_errors=True
    )

    database_url: Annotated[SecretStr, AfterValidator(_database_url)] | None = Field(
        None, description="PostgreSQL 14 or newer; unset, an embedded one under MILEPOST_DATA_DIR"
    )
    data_dir: Path = Field(Path(".milepost"), description="the folder of the embedded PostgreSQL")
    embedded: bool = Field(True, description="whether the embedded PostgreSQL may be used")
    host: str = Field("127.0.0.1", min_length=1, description="the address to serve on")
    port: int = Field(8000, ge=0, le=65535, description="the port to serve on; 0 takes a free one")
    processes: int = Field(1, ge=1, le=64, description="processes that serve, under one more that watches over them")
    role: Annotated[Role, BeforeValidator(_lower)] = Field(Role.ALL, description="all, api or worker")
    public_url: Annotated[str, AfterValidator(_public_url)] | None = Field(
        None, description="the address under which others reach this service, for callbacks"
    )
    workflows: Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split), AfterValidator(_modules)] = Field(
        (), description="modules that register workflows, separated by commas"
    )
    examples: bool | None = Field(
        None, description="whether the shipped workflows are served; unset, with the embedded PostgreSQL only"
    )
    max_body_bytes: int = Field(1_114_112, ge=1024, le=2**30, description="the largest request body, in bytes")
    default_timeout: float = Field(
        60.0, ge=0, le=3600, allow_inf_nan=False, description="how long a request waits that does not say, in seconds"
    )
    api_keys_file: Path | None = Field(None, description="the file of API keys; unset, nobody needs one")
    allow_anonymous: bool = Field(
        False, description="whether addresses beyond loopback are served without API keys, to anybody"
    )
    cors_origins: Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split), AfterValidator(_origins)] = Field(
        (), description="origins whose pages may call this service, separated by commas"
    )
    log_level: Annotated[LogLevel, BeforeValidator(_lower)] = Field(
        LogLevel.INFO, description="debug, info, warning or error"
    )
    log_format: Annotated[LogFormat, BeforeValidator(_lower)] = Field(LogFormat.CONSOLE, description="console or json")

    concurrency: int = Field(1000, ge=1, le=1_000_000, description="workflows in memory at once")
    step_threads: int = Field(64, ge=1, le=10_000, description="threads for steps that are plain functions")
    start_buffer: int = Field(10_000, ge=1, le=10_000_000, description="starts accepted and not yet committed")
    waiting_limit: int = Field(20_000, ge=1, le=1_000_000, description="requests that wait at once, streams included")
    linger: float = Field(
        1.0, ge=0, le=3600, allow_inf_nan=False, description="seconds before a waiting workflow leaves memory"
    )
    cache: int = Field(1000, ge=0, le=1_000_000, description="suspended workflows kept ready to go on in memory")
    time_to_live: float = Field(
        10.0,
        ge=1,
        le=3600,
        allow_inf_nan=False,
        description="seconds without a heartbeat after which a process is dead",
    )
    beat: float = Field(1.0, ge=0.05, le=60, allow_inf_nan=False, description="seconds between heartbeats")
    notifications: bool = Field(True, description="whether replicas tell each other of commits by NOTIFY")
    grace: float = Field(
        20.0, ge=0, le=3600, allow_inf_nan=False, description="seconds that running steps get when the service stops"
    )

    @model_validator(mode="after")
    def _fit_together(self) -> Self:
        if self.database_url is None and not self.embedded:
            raise ValueError(
                "MILEPOST_DATABASE_URL must be set: there is no other place to keep data,"
                " because MILEPOST_EMBEDDED=false forbids the embedded PostgreSQL"
            )
        if self.api_keys_file is not None and self.allow_anonymous:
            raise ValueError(
                "MILEPOST_ALLOW_ANONYMOUS=true and MILEPOST_API_KEYS_FILE contradict each other: unset one of them"
            )
        if self.time_to_live < 3 * self.beat:
            raise ValueError("MILEPOST_TIME_TO_LIVE must be at least three times MILEPOST_BEAT")
        return self

    def check_address(self) -> None:
        """Raises `SettingsError` when the address that is to be served would be everybody's by mistake."""
        if not self.loopback and self.api_keys_file is None and not self.allow_anonymous:
            raise SettingsError(
                f"MILEPOST_HOST={self.host} would let anyone on the network start workflows:"
                " set MILEPOST_API_KEYS_FILE, serve a loopback address such as 127.0.0.1,"
                " or set MILEPOST_ALLOW_ANONYMOUS=true."
            )

    @property
    def loopback(self) -> bool:
        """Whether only this machine can reach the address that is served."""
        if self.host.lower() == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host.strip("[]")).is_loopback
        except ValueError:
            return False

    @property
    def with_examples(self) -> bool:
        return self.database_url is None if self.examples is None else self.examples


def load(environment: Mapping[str, str] | None = None) -> Settings:
    """The settings of this process; raises `SettingsError` with one line that says what to do."""
    environment = os.environ if environment is None else environment
    known = {f"{PREFIX}{name.upper()}": name for name in Settings.model_fields}
    given = {}
    for variable, value in environment.items():
        if not variable.upper().startswith(PREFIX):
            continue
        if variable not in known:
            raise SettingsError(f"{variable} is no setting of Milepost; {_advice(variable, known)}")
        if value.strip():
            given[known[variable]] = value.strip()
    try:
        return Settings.model_validate(given)
    except ValidationError as error:
        raise SettingsError(_told(error)) from None


def _advice(variable: str, known: Mapping[str, str]) -> str:
    names = {setting: f"{PREFIX}{setting.upper()}" for setting in known.values()}
    close = difflib.get_close_matches(variable[len(PREFIX) :].lower(), names, n=1)
    return f"did you mean {names[close[0]]}?" if close else "unset it."


def _told(error: ValidationError) -> str:
    """The first fault, without the value: it may be a secret."""
    fault = error.errors(include_url=False, include_context=False, include_input=False)[0]
    message = fault["msg"].removeprefix("Value error, ")
    if not fault["loc"]:
        return f"{message}."
    name = str(fault["loc"][0])
    meaning = Settings.model_fields[name].description
    demand = _DEMANDS.get(fault["type"]) or message.replace("Input should", "must")
    return f"{PREFIX}{name.upper()} ({meaning}): {demand}."
