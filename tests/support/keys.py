"""API keys for tests: a file of them, and their secrets."""

from pathlib import Path

from app import keys


def issue(file: Path, **scopes: str) -> dict[str, str]:
    """Have exactly these keys in the file, `shop="read,write"`; their secrets by name.

    The file is there with all of its lines or not at all, as when it is replaced by a rename.
    """
    made = {name: keys.new_secret() for name in scopes}
    new = file.with_name(f"{file.name}.new")
    new.write_text("".join(f"{keys.line(name, keys.scopes(scopes[name]), made[name])}\n" for name in made))
    new.replace(file)
    return made
