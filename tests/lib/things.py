"""Resources that are only files in the run directory, one class for each turn that matters."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from hvcore import Problem, Step
from hvcore.plugin import Entry, Held, Job, Owner, Resource, ResourceKind, Site, Turn
from hvcore.resources.kinds import Kinds


@dataclass(frozen=True, slots=True, kw_only=True)
class Thing(Resource[str]):
    """A file ``thing-KEY``. The handle is its text."""

    on: tuple[Resource[Any], ...] = ()
    size: int = 0

    def needs(self) -> tuple[Resource[Any], ...]:
        return self.on


@dataclass(frozen=True, slots=True, kw_only=True)
class Who(Thing):
    """Acquired before a `Thing`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Runs(Thing):
    """Acquired after it, and released first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fleeting(Thing):
    """A resource without a ledger entry."""


Doing = Callable[[str, str], None]


def nothing(what: str, key: str) -> None:
    """The default of ``doing``: does nothing."""


class ThingKind(ResourceKind[Thing, str]):
    """Calls ``doing`` with the step and the key at the start of each step."""

    name: ClassVar[str] = "thing"
    resource: ClassVar[type[Resource[Any]]] = Thing
    turn: ClassVar[Turn] = Turn.FILE

    def __init__(self, doing: Doing = nothing) -> None:
        self.doing = doing

    def verify(self, resource: Thing, site: Site) -> Iterator[Problem]:
        self.doing("verify", resource.key)
        yield Problem(path=resource.where, what="is looked for", got=site.name)

    def describe(self, resource: Thing, site: Site) -> Iterator[Step]:
        self.doing("describe", resource.key)
        yield Step(kind=self.name, what=resource.key)

    def placeholder(self, resource: Thing, site: Site) -> str:
        self.doing("placeholder", resource.key)
        return f"{{{resource.key}}}"

    def entry(self, resource: Thing, site: Site) -> Mapping[str, Any] | None:
        self.doing("entry", resource.key)
        return {"size": resource.size}

    def acquire(self, resource: Thing, held: Held) -> str:
        self.doing("acquire", resource.key)
        path = held.owner.host.run_dir / f"thing-{resource.key}"
        path.write_text("x" * resource.size)
        self.doing("acquired", resource.key)
        return " ".join([resource.key, *(held[needed] for needed in resource.on)])

    def prove(self, resource: Thing, site: Site, owner: Owner) -> None:
        self.doing("prove", resource.key)

    def release(self, entry: Entry, owner: Owner) -> None:
        self.doing("release", entry.key)
        (owner.host.run_dir / f"thing-{entry.key}").unlink(missing_ok=True)
        self.doing("released", entry.key)


class WhoKind(ThingKind):
    name: ClassVar[str] = "who"
    resource: ClassVar[type[Resource[Any]]] = Who
    turn: ClassVar[Turn] = Turn.WHO


class RunsKind(ThingKind):
    name: ClassVar[str] = "runs"
    resource: ClassVar[type[Resource[Any]]] = Runs
    turn: ClassVar[Turn] = Turn.PROGRAM
    runs: ClassVar[bool] = True


class FleetingKind(ThingKind):
    name: ClassVar[str] = "fleeting"
    resource: ClassVar[type[Resource[Any]]] = Fleeting
    turn: ClassVar[Turn] = Turn.SOCKET

    def entry(self, resource: Thing, site: Site) -> Mapping[str, Any] | None:
        return None


def kinds(doing: Doing = nothing) -> Kinds:
    """The four kinds, as those of a plugin ``things``."""
    return Kinds([("things", kind(doing)) for kind in (ThingKind, WhoKind, RunsKind, FleetingKind)])


def left(job: Job) -> list[str]:
    """The keys whose files are there."""
    return sorted(path.name.removeprefix("thing-") for path in job.host.run_dir.glob("thing-*"))
