"""The subject of the checks: a driver by name, and the instances that its author provides for the checks.

A distribution ships its subject as an entry point in the group ``hvcore.conformance``, ``NAME = "module:function"``,
so that one command proves the driver on any node, without a checkout. Its tests use the same one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import field
from pathlib import Path
from typing import Any, Final

from hvcore.api.node import Node
from hvcore.errors import DriverLoadError
from hvcore.frozen import dataclass
from hvcore.model.devices import Disk, ListedDevice, Nic
from hvcore.model.instance import Instance
from hvcore.plugins.catalogue import CatalogueEntry, catalogue
from hvcore.plugins.importing import imported

__all__ = ["CONFORMANCE_GROUP", "Factory", "Subject", "find_subject", "has_subject"]

CONFORMANCE_GROUP: Final = "hvcore.conformance"

Factory = Callable[[str, Path], Instance]
"""Makes an instance of that name, with its files (a disk) in that directory. If a tool that makes such a file is missing,
the factory may leave the file out; the live checks are not run then."""


_DEVICE_BYTES: Final = 1 << 20


def _disk(directory: Path) -> Disk:
    path = directory / "more.img"
    with path.open("wb") as file:
        file.truncate(_DEVICE_BYTES)
    return Disk(path=str(path))


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """One driver under test. The defaults of all other fields suit a driver without disks.

    ``instance`` makes a small valid instance that starts quickly and obeys a polite stop; ``ready`` waits until it can
    receive one. ``stubborn`` makes an instance that ignores a polite stop, ``ending`` one that exits soon after its
    start, ``failing`` one that passes the check and cannot be started. ``refused`` make instances that the check has to
    refuse. ``device`` makes a device to attach, with its files in that directory.

    ``unfit`` says why this node cannot run live checks, None if it can. ``versions`` are the versions of the
    programs that the driver uses. ``raw`` are parameters whose values become arguments unchanged. ``excused`` are
    checks of level hardening that the driver cannot pass, with the reason. ``budgets`` replace the seconds of ``time_``
    checks, by the check's name.
    """

    driver: str
    instance: Factory | None = None
    stubborn: Factory | None = None
    ending: Factory | None = None
    failing: Factory | None = None
    refused: tuple[Factory, ...] = ()
    device: Callable[[Path], Disk | Nic | ListedDevice] = _disk
    ready: Callable[[Node, str], None] = lambda _node, _name: None
    unfit: Callable[[], str | None] = lambda: None
    versions: Callable[[], Mapping[str, str]] = dict
    raw: tuple[str, ...] = ()
    excused: Mapping[str, str] = field(default_factory=dict)
    budgets: Mapping[str, float] = field(default_factory=dict)

    def make(self, name: str, directory: Path) -> Instance:
        """The small valid instance."""
        return self.instance(name, directory) if self.instance else Instance(name=name, driver=self.driver)

    def programs(self) -> dict[str, str]:
        """The result of ``versions``. Raises `DriverLoadError` if that fails."""
        try:
            return dict(self.versions())
        except (Exception, SystemExit) as error:
            what = f"its subject's versions cannot be read, got {type(error).__name__}: {error}"
            raise DriverLoadError(f"driver {self.driver}: {what}; correct that function") from error


def has_subject(driver: str) -> bool:
    """Whether the driver's distribution ships a subject."""
    return bool(_declared(driver))


def _declared(driver: str) -> list[CatalogueEntry]:
    return [entry for entry in catalogue(CONFORMANCE_GROUP) if entry.name == driver]


def find_subject(driver: str) -> Subject:
    """The subject that the driver's distribution ships, or the default one. Raises `DriverLoadError` if it is broken."""
    declared = _declared(driver)
    if not declared:
        return Subject(driver=driver)
    target = declared[0].target
    try:
        make: Any = imported(CONFORMANCE_GROUP, declared[0])
        found = make()
    except (Exception, SystemExit) as error:
        what = f"its subject {target!r} cannot be used, got {type(error).__name__}: {error}"
        raise DriverLoadError(f"driver {driver}: {what}; correct the entry point in {CONFORMANCE_GROUP}") from error
    if not isinstance(found, Subject) or found.driver != driver:
        what = f"its subject {target!r} is {found!r:.80}; return an hvcore.testing.Subject of driver {driver!r}"
        raise DriverLoadError(f"driver {driver}: {what}")
    return found
