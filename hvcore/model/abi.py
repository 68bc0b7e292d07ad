"""What a guest can see of its machine, as a sorted list: compared before a migration, an upgrade or a restore. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import field, replace
from enum import StrEnum
from functools import cached_property
from typing import Any, Final

from hvcore.frozen import dataclass
from hvcore.plain import plain, plain_fields

__all__ = ["Abi", "AbiChange", "AbiClass", "AbiEntry", "abi_changes"]


class AbiClass(StrEnum):
    """What a difference does to a guest that moves."""

    WIRE = "wire"
    """The hypervisor cannot load the guest's state."""
    SEEN = "seen"
    """The hypervisor loads the state, and the guest sees something else than before."""
    BOOT = "boot"
    """The guest sees it at its next boot."""
    NAME = "name"
    """Only the operator sees it."""


_ORDER: Final = {kind: place for place, kind in enumerate(AbiClass)}


@dataclass(frozen=True, slots=True, kw_only=True)
class AbiEntry:
    """One fact: ``what`` it is about, such as ``device at pci.0 0xc``, its ``key`` and ``value``.

    ``params`` are the parameters that it follows from.
    """

    kind: AbiClass
    what: str
    key: str
    value: str
    params: tuple[str, ...] = ()

    @property
    def place(self) -> tuple[AbiClass, str, str]:
        """What two lists have in common for entries that are compared."""
        return self.kind, self.what, self.key

    def __str__(self) -> str:
        return f"{self.kind} {self.what}: {self.key} = {self.value}"


_NOTHING: Final = AbiEntry(kind=AbiClass.NAME, what="", key="", value="")


@dataclass(frozen=True, kw_only=True)  # no slots: the digests are derived once
class Abi:
    """All facts about the machine of one guest, sorted.

    ``at_start`` are the digests that the guest was started with; empty if it does not run.
    """

    entries: tuple[AbiEntry, ...]
    at_start: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, entries: Iterable[AbiEntry]) -> Abi:
        """The entries in their order, those that matter most first."""
        return cls(entries=tuple(sorted(entries, key=lambda one: (_ORDER[one.kind], one.what, one.key, one.value))))

    @cached_property
    def digests(self) -> Mapping[str, str]:
        """A short digest for each class, so that a difference names its class at once: 16 hexadecimal digits of SHA-256."""
        import hashlib  # noqa: PLC0415 - 2 ms (OpenSSL), and every driver imports this module

        return {
            str(kind): hashlib.sha256(
                "\n".join(str(entry) for entry in self.entries if entry.kind is kind).encode()
            ).hexdigest()[:16]
            for kind in AbiClass
        }

    @property
    def changed(self) -> tuple[str, ...]:
        """The classes in which the machine is not the one of the start: a device was attached, or QEMU was replaced."""
        return tuple(kind for kind, digest in self.digests.items() if self.at_start.get(kind, digest) != digest)

    def to_json(self) -> dict[str, Any]:
        """``digests`` by class, ``at_start`` likewise, and ``entries``: kind, what, key, value, params."""
        return {"digests": dict(self.digests), "at_start": dict(self.at_start), "entries": plain(self.entries)}

    @classmethod
    def from_json(cls, body: Any) -> Abi:
        """The inverse of `to_json`. Raises ValueError for anything else."""
        try:
            entries = (
                AbiEntry(
                    kind=AbiClass(one["kind"]),
                    what=str(one["what"]),
                    key=str(one["key"]),
                    value=str(one["value"]),
                    params=tuple(map(str, one["params"])),
                )
                for one in body["entries"]
            )
            return replace(cls.of(entries), at_start=dict(body["at_start"]))
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"abi: not in the form of to_json: {error}") from None


@dataclass(frozen=True, slots=True, kw_only=True)
class AbiChange:
    """One difference; ``before`` or ``after`` is None where only the other list has the fact."""

    kind: AbiClass
    what: str
    key: str
    before: str | None
    after: str | None
    params: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """All fields, as plain JSON."""
        return plain_fields(self)


def abi_changes(before: Abi, after: Abi) -> tuple[AbiChange, ...]:
    """The differences, those that matter most first."""
    return tuple(_changes(before, after))


def _changes(before: Abi, after: Abi) -> Iterator[AbiChange]:
    old, new = ({entry.place: entry for entry in abi.entries} for abi in (before, after))
    for place in sorted({*old, *new}, key=lambda place: (_ORDER[place[0]], place)):
        left, right = old.get(place), new.get(place)
        values = [None if one is None else one.value for one in (left, right)]
        if values[0] != values[1]:
            kind, what, key = place
            params = (right or left or _NOTHING).params
            yield AbiChange(kind=kind, what=what, key=key, before=values[0], after=values[1], params=params)
