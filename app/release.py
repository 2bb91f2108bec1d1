"""Which Milepost this is; the project file says the same, and a test sees to that."""

from typing import Final

VERSION: Final = "0.1.0"
