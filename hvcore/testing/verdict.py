"""How the body of a check says what it found: it raises `Failed` or `Skipped`, or returns."""

from __future__ import annotations

__all__ = ["Failed", "Skipped", "require"]


class Failed(AssertionError):  # noqa: N818 - it says what became of the check
    """The driver does not do what the check asks."""


class Skipped(Exception):  # noqa: N818 - as above
    """The check says nothing about this driver on this node; the text says why."""


def require(condition: object, what: str) -> None:
    """Raise `Failed` with ``what`` unless the condition holds."""
    if not condition:
        raise Failed(what)
