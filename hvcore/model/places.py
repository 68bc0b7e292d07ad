"""Names of the files that the core keeps in an instance's directory. Pure."""

from __future__ import annotations

from typing import Final

__all__ = ["LIFE_LOCK", "LOG", "STATUS", "of_program"]

LIFE_LOCK: Final = "alive"
STATUS: Final = "status"
LOG: Final = "log"


def of_program(program: str, name: str) -> str:
    """The same file of a program beside the instance's own: ``tpm.alive``; of the instance's own when it is empty."""
    return f"{program}.{name}" if program else name
