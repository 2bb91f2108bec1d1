"""What the guides' programs are run with: a service that has keys, and a proxy before it."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from app import keys
from app.keys import Scope
from tests.support.guides import ROOT
from tests.support.service import Service

INSTALLED = ROOT / "build" / "guides"


@pytest.fixture
def guarded(launch: Callable[..., Service], tmp_path: Path) -> tuple[Service, str]:
    """A service that asks for keys, and one that may start workflows."""
    secret = keys.new_secret()
    keys.add(tmp_path / "keys", "guides", keys.line("guides", [Scope.WRITE], secret))
    return launch(API_KEYS_FILE=tmp_path / "keys"), secret


@pytest.fixture
def desk(tmp_path: Path) -> Path:
    """The folder of somebody who tries what a guide shows, with the packages of npm that they need."""
    for name in ("node", "npx", "go", "java", "jq", "curl"):
        assert shutil.which(name), f"{name} is missing: `make test-guides` installs it"
    folder = tmp_path / "desk"
    folder.mkdir()
    (folder / "node_modules").symlink_to(INSTALLED / "node_modules")
    return folder
