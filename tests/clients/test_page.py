"""The page about generated clients names the versions that they are tested with."""

import json
import re

from tests.support.service import ROOT

HERE = ROOT / "tests" / "clients"
PAGE = (ROOT / "docs" / "generated-clients.md").read_text()


def test_the_page_has_the_versions_of_the_locks():
    package = json.loads((HERE / "typescript" / "package.json").read_text())
    python = re.findall(
        r"^(openapi-python-client)==(\S+)", (HERE / "python" / "requirements.lock").read_text(), re.MULTILINE
    )
    pinned = dict(python) | package["dependencies"] | package["devDependencies"]
    for name in ("openapi-python-client", "@hey-api/openapi-ts", "openapi-typescript", "openapi-fetch"):
        assert f"{name} {pinned[name]}" in PAGE
    locked = json.loads((HERE / "typescript" / "package-lock.json").read_text())["packages"]
    for name, version in (package["dependencies"] | package["devDependencies"]).items():
        assert locked[f"node_modules/{name}"]["version"] == version
