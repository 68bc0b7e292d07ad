"""A definition: an instance that this node should have, in a file under its name. And what a change of it did."""

from __future__ import annotations

from typing import Any

from hvcore.frozen import dataclass
from hvcore.model.instance import Instance
from hvcore.plain import plain_fields

__all__ = ["Definition", "DefinitionOutcome"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Definition:
    """A definition of this node. ``file`` is its absolute path.

    ``autostart``: whether the node's boot starts it, None if the file cannot be read. ``instance`` is what it defines, None
    if the file cannot be read as one. ``problem`` says why it cannot be started, None if it passes every check.
    """

    name: str
    file: str
    driver: str | None = None
    autostart: bool | None = None
    instance: Instance | None = None
    problem: str | None = None

    def to_json(self) -> dict[str, Any]:
        """The facts as plain JSON types, without the instance: it can have secrets."""
        facts = plain_fields(self)
        del facts["instance"]
        return facts


@dataclass(frozen=True, slots=True, kw_only=True)
class DefinitionOutcome:
    """What a change of a definition did: ``define``, ``edit``, ``rename``, ``autostart`` or ``undefine``.

    ``changed`` is False if it was so before. ``file`` is its path, ``autostart`` whether the node's boot starts it now.
    """

    name: str
    action: str
    changed: bool
    file: str
    autostart: bool = False
    notes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The outcome as plain JSON types."""
        return plain_fields(self)
