"""Generates clients of the service from its document, and uses them: `make clients`.

Everything is made anew in build/clients. What it is made with is pinned in the lock files here.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from app.store.embedded import EmbeddedPostgres
from tests.clients import altered
from tests.support.keys import issue
from tests.support.service import ROOT, Service

HERE, BUILD = Path(__file__).parent, ROOT / "build" / "clients"
DOCUMENT = ROOT / "openapi.json"
PYTHON, SCRIPT, NODE = BUILD / "python", BUILD / "typescript", BUILD / "node"
BIN = SCRIPT / "node_modules" / ".bin"
OLDEST_NODE = (20, 19)


class Failed(Exception):
    """A command did not do what it should."""


def run(*command: str | Path, folder: Path = ROOT, told: Mapping[str, str] | None = None) -> None:
    """Silently, if it does what it should; `told` are variables of its environment."""
    environment = {**os.environ, **(told or {})}
    outcome = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    if outcome.returncode:
        raise Failed(f"{' '.join(map(str, command))} failed:\n{outcome.stdout}{outcome.stderr}")


def took(what: str, began: float) -> None:
    print(f"{what}: {time.monotonic() - began:.1f} s", flush=True)


def installed(stamp: Path, *locks: Path) -> bool:
    """Whether that was done with these very locks."""
    content = "".join(lock.read_text() for lock in locks)
    if stamp.exists() and stamp.read_text() == content:
        return True
    shutil.rmtree(stamp.parent, ignore_errors=True)
    return False


def install_python(folder: Path, lock: Path) -> None:
    if not installed(folder / "lock", lock):
        run(sys.executable, ROOT / ".ci" / "venv.py", folder, lock)
        (folder / "lock").write_text(lock.read_text())


def node() -> Path:
    """The folder of a Node that is new enough: the machine's, else one that comes as a Python package."""
    found = shutil.which("node")
    if found and shutil.which("npm"):
        version = subprocess.run([found, "--version"], capture_output=True, text=True, check=False).stdout
        if tuple(map(int, version.strip().removeprefix("v").split(".")[:2])) >= OLDEST_NODE:
            return Path(found).parent
    install_python(NODE, HERE / "node.lock")
    return NODE / "bin"


def install_script(path: str) -> None:
    locks = [HERE / "typescript" / name for name in ("package.json", "package-lock.json")]
    if not installed(SCRIPT / "lock", *locks):
        SCRIPT.mkdir(parents=True)
        for lock in locks:
            shutil.copy(lock, SCRIPT)
        run(
            "npm",
            "ci",
            "--ignore-scripts",
            "--no-audit",
            "--no-fund",
            "--loglevel=error",
            folder=SCRIPT,
            told={"PATH": path},
        )
        (SCRIPT / "lock").write_text("".join(lock.read_text() for lock in locks))


def check_document(path: str) -> None:
    shutil.copy(HERE / "typescript" / "redocly.yaml", SCRIPT)
    run(
        *(BIN / "redocly", "lint", "--max-problems=20", "--format=stylish", DOCUMENT),
        folder=SCRIPT,
        told={"PATH": path, "REDOCLY_TELEMETRY": "off", "REDOCLY_SUPPRESS_UPDATE_NOTICE": "true"},
    )


def make_python() -> Path:
    """Generate the client, and check it together with the program that uses it."""
    place = BUILD / "made"
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir()
    # It formats with ruff, which it looks for on the PATH.
    path = f"{PYTHON / 'bin'}{os.pathsep}{os.environ['PATH']}"
    generate = (PYTHON / "bin" / "openapi-python-client", "generate", "--path", DOCUMENT, "--meta", "none")
    run(*generate, "--output-path", place / "milepost_client", "--fail-on-warning", folder=BUILD, told={"PATH": path})
    shutil.copy(HERE / "python" / "shop.py", place)
    interpreter = f"--python-executable={PYTHON / 'bin' / 'python'}"
    cache = f"--cache-dir={BUILD / 'mypy'}"
    config = f"--config-file={HERE / 'python' / 'mypy.ini'}"
    run(*(sys.executable, "-m", "mypy", config, interpreter, cache, "milepost_client", "shop.py"), folder=place)
    return place / "shop.py"


def make_script(path: str) -> list[Path]:
    """Generate both clients, and compile them with the programs that use them."""
    for made in ("hey", "out"):
        shutil.rmtree(SCRIPT / made, ignore_errors=True)
    run(BIN / "openapi-ts", "--input", DOCUMENT, "--output", "hey", "--no-log-file", folder=SCRIPT, told={"PATH": path})
    run(BIN / "openapi-typescript", DOCUMENT, "--output", "schema.d.ts", folder=SCRIPT, told={"PATH": path})
    for file in (HERE / "typescript").glob("*.ts"):
        shutil.copy(file, SCRIPT)
    shutil.copy(HERE / "typescript" / "tsconfig.json", SCRIPT)
    run(BIN / "tsc", "--project", "tsconfig.json", folder=SCRIPT, told={"PATH": path})
    return [SCRIPT / "out" / name for name in ("with-hey.js", "with-fetch.js")]


def use(programs: Sequence[tuple[str | Path, ...]]) -> None:
    """Have each program deal with the service, and with the service of next year."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        secrets = issue(folder / "keys", shop="write", reader="read")
        with (
            EmbeddedPostgres(folder / "postgres", fsync=False) as postgres,
            Service(folder, {"DATABASE_URL": postgres.url(), "API_KEYS_FILE": folder / "keys"}) as service,
            altered.service(service.url) as tomorrow,
        ):
            keys = {"MILEPOST_KEY": secrets["shop"], "MILEPOST_READER": secrets["reader"]}
            for program in programs:
                for flow, url in (("today", service.url), ("tomorrow", tomorrow)):
                    began = time.monotonic()
                    run(*program, flow, told={"MILEPOST_URL": url, **keys})
                    took(f"{Path(program[-1]).name} {flow}", began)


def for_python() -> tuple[str | Path, ...]:
    """The command of the program in Python."""
    began = time.monotonic()
    install_python(PYTHON, HERE / "python" / "requirements.lock")
    took("Python: installed", began)
    began = time.monotonic()
    program = make_python()
    took("Python: generated and checked", began)
    return PYTHON / "bin" / "python", program


def for_script() -> list[tuple[str | Path, ...]]:
    """The commands of those in TypeScript, after a look at the document by a tool that needs Node too."""
    began = time.monotonic()
    found = node()
    path = f"{found}{os.pathsep}{os.environ['PATH']}"
    install_script(path)
    took("TypeScript: installed", began)
    began = time.monotonic()
    check_document(path)
    took("the document has no warnings", began)
    began = time.monotonic()
    programs = make_script(path)
    took("TypeScript: generated and checked", began)
    return [(found / "node", program) for program in programs]


def main() -> None:
    BUILD.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor() as threads:
        shop, scripts = threads.submit(for_python), threads.submit(for_script)
        programs = [shop.result(), *scripts.result()]
    use(programs)


if __name__ == "__main__":
    try:
        main()
    except Failed as failure:
        sys.exit(str(failure))
