"""API keys for tests: a file of them, and their secrets."""

from pathlib import Path

from app import keys


def issue(file: Path, *kept: str, **scopes: str) -> dict[str, str]:
    """Have these keys in the file, `shop="read,write"`, and lines that are kept; the new secrets by name."""
    made = {name: keys.new_secret() for name in scopes}
    replace(file, *kept, *(keys.line(name, keys.scopes(scopes[name]), made[name]) for name in made))
    return made


def replace(file: Path, *lines: str) -> None:
    """By a rename: nobody sees it half written, however slow this machine is."""
    new = file.with_name(f"{file.name}.new")
    new.write_text("".join(f"{line}\n" for line in lines))
    new.replace(file)
