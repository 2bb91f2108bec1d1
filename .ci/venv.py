"""Make a virtual environment and install a lock file into it: `venv.py FOLDER LOCK`.

Needs nothing but the Python that runs it. uv is used where it is on the PATH, being some ten times
faster; else pip, also from a Python that came without the means to put pip into a new environment.
"""

import shutil
import subprocess
import sys
from pathlib import Path

NO_PIP = """\
This Python can make no environment with pip in it. Any of these helps:
  * install the package python3-venv (Debian, Ubuntu), or
  * install uv, or
  * name another Python: make PYTHON=/path/to/python3"""


def works(*command: str | Path) -> bool:
    try:
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    except OSError:
        return False


def run(*command: str | Path) -> None:
    if subprocess.run(command, check=False).returncode:
        sys.exit(f"That failed: {' '.join(map(str, command))}")


def create(folder: Path, uv: str | None) -> None:
    """An environment that runs; one whose Python has gone away is made anew."""
    if works(folder / "bin" / "python", "-c", ""):
        return
    shutil.rmtree(folder, ignore_errors=True)
    if uv:
        run(uv, "venv", "--quiet", "--python", sys.executable, "--no-python-downloads", folder)
    elif not works(sys.executable, "-m", "venv", folder):
        # Debian has ensurepip's name without its content: it fails half-way.
        run(sys.executable, "-m", "venv", "--clear", "--without-pip", folder)


def install(folder: Path, lock: Path, uv: str | None) -> None:
    python = folder / "bin" / "python"
    if uv:
        run(uv, "pip", "install", "--quiet", "--python", python, "--require-hashes", "-r", lock)
        return
    if works(python, "-m", "pip", "--version"):
        pip: list[str | Path] = [python, "-m", "pip"]
    elif works(sys.executable, "-m", "pip", "--version"):
        pip = [sys.executable, "-m", "pip", "--python", python]
    else:
        sys.exit(NO_PIP)
    options = ["--quiet", "--disable-pip-version-check", "--require-hashes", "--only-binary", ":all:"]
    run(*pip, "install", *options, "-r", lock)


def main() -> None:
    folder, lock = Path(sys.argv[1]), Path(sys.argv[2])
    uv = shutil.which("uv")
    told = "a few seconds" if uv else "about half a minute"
    print(f"Installing {lock} into {folder} with {'uv' if uv else 'pip'}: {told}, once …", flush=True)
    create(folder, uv)
    install(folder, lock, uv)


if __name__ == "__main__":
    main()
