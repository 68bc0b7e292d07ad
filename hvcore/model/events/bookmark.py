"""A place in the events of a node, to continue there later: what was known of each instance."""

from __future__ import annotations

from dataclasses import field
from typing import Any, Final

from hvcore.errors import InputError
from hvcore.frozen import dataclass
from hvcore.model.codec import DecodeError, decode, encode

__all__ = ["Bookmark", "Mark"]

_VERSION: Final = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """What was known of an instance: its driver and the time of its start, and what was reported of it.

    ``programs`` are those beside it that lived. ``offsets`` has for each file of events the bytes that were read.
    """

    driver: str
    started_at: float
    started: bool = False
    ended: bool = False
    paused: bool = False
    devices: tuple[str, ...] = ()
    programs: tuple[str, ...] = ()
    offsets: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bookmark:
    """The place after an event. ``marks`` has what was known of each instance then."""

    marks: dict[str, Mark] = field(default_factory=dict)
    version: int = _VERSION

    def to_json(self) -> dict[str, Any]:
        """The bookmark as plain JSON types, for `from_json`."""
        found: dict[str, Any] = encode(self)
        return found

    @classmethod
    def from_json(cls, data: object) -> Bookmark:
        """The bookmark in such data. Raises `InputError`."""
        try:
            found: Bookmark = decode(cls, data, "bookmark")
        except (DecodeError, RecursionError) as error:
            raise InputError(f"{error}; watch without a bookmark") from error
        if not isinstance(data, dict) or "version" not in data:
            raise InputError(f"bookmark: has no version, got {data!r:.80}; watch without a bookmark")
        if found.version != _VERSION:
            raise InputError(f"bookmark: is of another release, got version {found.version}; watch without it")
        return found
