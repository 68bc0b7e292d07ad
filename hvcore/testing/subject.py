"""What is tested: a driver by name, and what its author has to say so that the checks can run it.

A distribution ships its subject as an entry point in the group ``hvcore.conformance``, ``NAME = "module:function"``,
so that one command proves the driver on any node, without a checkout. Its tests use the same one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from hvcore.api.node import Node
from hvcore.errors import DriverLoadError
from hvcore.model.instance import Instance
from hvcore.plugins.catalogue import CatalogueEntry, catalogue
from hvcore.plugins.importing import imported

__all__ = ["CONFORMANCE_GROUP", "Factory", "Subject", "find_subject", "has_subject"]

CONFORMANCE_GROUP: Final = "hvcore.conformance"

Factory = Callable[[str, Path], Instance]
"""Makes an instance of that name, with its files (a disk) in that directory. Files may be left out where a tool that
makes them is missing; the live checks are not run then."""


def _nothing(_node: Node, _name: str) -> None: ...


def _fit() -> str | None:
    return None


def _no_versions() -> Mapping[str, str]:
    return {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """One driver under test. Everything but its name has a default, which does for a driver without disks.

    ``instance`` makes a small valid instance that starts quickly and stops when it is asked to; ``ready`` waits until
    it listens to that. ``stubborn`` makes one that ignores a polite stop, ``ending`` one that ends by itself soon after
    its start, ``failing`` one that passes the check and cannot be started, ``refused`` ones that the check has to
    refuse. ``unfit`` says why this node cannot run live checks, None when it can. ``versions`` are those of the
    programs that the driver uses. ``raw`` are parameters whose values are meant to become arguments as they are.
    ``excused`` are checks of level hardening that it cannot pass, with the reason. ``budgets`` are seconds that replace
    those of the ``time_`` checks, by their names.
    """

    driver: str
    instance: Factory | None = None
    stubborn: Factory | None = None
    ending: Factory | None = None
    failing: Factory | None = None
    refused: tuple[Factory, ...] = ()
    ready: Callable[[Node, str], None] = _nothing
    unfit: Callable[[], str | None] = _fit
    versions: Callable[[], Mapping[str, str]] = _no_versions
    raw: tuple[str, ...] = ()
    excused: Mapping[str, str] = field(default_factory=dict)
    budgets: Mapping[str, float] = field(default_factory=dict)

    def make(self, name: str, directory: Path) -> Instance:
        """The small valid instance."""
        if self.instance is None:
            return Instance(name=name, driver=self.driver)
        return self.instance(name, directory)

    def programs(self) -> dict[str, str]:
        """``versions``, read. Raises `DriverLoadError` when that fails."""
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
    """The subject that the driver's distribution ships, or the default one. Raises `DriverLoadError` for a broken one."""
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
