"""What a check is, how its body reports what it found, and the bench that it runs on.

A check is one value. The pytest class, ``hv conformance`` and the reference page of all checks are made from it.
"""

from __future__ import annotations

import inspect
import os
import tempfile
import textwrap
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from hvcore.deadline import Deadline
from hvcore.errors import HvError
from hvcore.frozen import dataclass
from hvcore.host.processes.process import kill_and_wait, waited_s
from hvcore.model import sandbox
from hvcore.model.answers import Outcome
from hvcore.model.instance import Instance
from hvcore.model.observation import InstanceInfo
from hvcore.model.record import ProcessId, Record
from hvcore.resources.owner import Site as Place
from hvcore.state.job import Job
from hvcore.state.store import Store
from hvcore.testing.isolate import Failed
from hvcore.testing.site import Site, children_of
from hvcore.testing.subject import Factory, Subject

__all__ = [
    "PATIENCE_S",
    "Bench",
    "Check",
    "Failed",
    "Level",
    "Skipped",
    "Tier",
    "bench_of",
    "check",
    "require",
    "seconds_of",
    "undelayed",
]

# What reports call the checks of a module, where that is another word.
_AREAS: Final = {
    "methods": "contract",
    "optional": "capabilities",
    "plugging": "capabilities",
    "parameters": "schema",
    "states": "lifecycle",
    "running": "capabilities",
}
# For operations that succeed within a second on an idle node. A busy one is no fault of the driver.
PATIENCE_S: Final = 50.0
_NO_PARAMS: Final[Mapping[str, Any]] = MappingProxyType({})


class Skipped(Exception):  # noqa: N818 - the outcome of the check, as `Failed` is
    """The check says nothing about this driver on this node; the text says why."""


def require(condition: object, what: str) -> None:
    """Raise `Failed` with ``what`` unless the condition holds."""
    if not condition:
        raise Failed(what)


def undelayed() -> float:
    """Seconds on a clock that stands still while this thread waits for a processor, because the node is busy."""
    return time.monotonic() - waited_s("thread-self")


def seconds_of(act: Callable[[], object]) -> float:
    """How long the call takes, in seconds, without the time in which this thread waited for a processor."""
    began = undelayed()
    act()
    return undelayed() - began


class Bench(Site):
    """The argument of a check's body. Names of instances are made from labels, so that they cannot clash with others."""

    def instance(
        self, label: str = "web1", factory: Factory | None = None, *, params: Mapping[str, Any] = _NO_PARAMS
    ) -> Instance:
        """The subject's instance, or the one of another of its factories, with parameters added."""
        made = (factory or self.subject.make)(self.name(label), self.directory)
        return replace(made, params={**made.params, **params}) if params else made

    def start(self, label: str = "web1", factory: Factory | None = None, *, paused: bool = False) -> Outcome:
        """Start the instance. Raises `Failed` if that fails."""
        try:
            return self.handle.start(self.instance(label, factory), paused=paused, deadline_s=PATIENCE_S)
        except HvError as error:
            raise Failed(f"cannot start: {error}") from error

    def stop(self, label: str = "web1") -> Outcome:
        """Stop the instance by force. Raises `Failed` if that fails."""
        try:
            return self.node.stop(self.name(label), force=True, deadline_s=PATIENCE_S)
        except HvError as error:
            raise Failed(f"cannot stop by force: {error}") from error

    def info(self, label: str = "web1") -> InstanceInfo:
        """The instance's state and figures."""
        return self.node.info(self.name(label))

    def record(self, label: str = "web1") -> Record:
        """The instance's record."""
        record = Store(self.run_dir).load(self.name(label))
        if record is None:
            raise Failed(f"{self.name(label)} has no record after its start")
        return record

    def save(self, label: str = "web1", **changes: Any) -> None:
        """Change the instance's record, as a crash or an older release would have left it."""
        Store(self.run_dir).save(replace(self.record(label), **changes))

    def job(self, label: str = "web1") -> Job:
        """An operation in progress on the instance."""
        record, host = self.record(label), self.host
        level = sandbox.Level.STRICT if host.privileged else sandbox.Level.USER
        return Job(
            store=Store(self.run_dir),
            record=record,
            site=Place(name=record.name, host=host, level=level),
            kinds=self.loaded.hooks.kinds,
            deadline=Deadline(30.0),
            progress=lambda _: None,
        )

    def process(self, label: str = "web1") -> ProcessId:
        """The instance's process. Skips the check for a driver whose instances have none."""
        process = self.record(label).process
        if process is None:
            raise Skipped("its instances have no process")
        return process

    def processes(self, label: str = "web1") -> list[ProcessId]:
        """The instance's process and monitor with all their descendants."""
        record = self.record(label)
        return [one for top in (record.monitor, record.process) if top is not None for one in children_of(top.pid)]

    def kill(self, *processes: ProcessId) -> None:
        """Kill these processes of web1 and wait until they have exited."""
        for process in processes:
            kill_and_wait(process, subject=self.name(), deadline_s=PATIENCE_S)

    def nothing_left(self, after: str, started: Iterable[ProcessId] = ()) -> None:
        """Require that no file, mount or process of an instance is left. ``after`` says which operation has ended."""
        left = self.scope.leftovers(started)
        require(not left, f"{after} leaves {', '.join(left[:3])}")

    def needs(self, factory: Factory | None, what: str) -> Factory:
        """The factory. Skips the check if the subject has none."""
        if factory is None:
            raise Skipped(f"the subject has no {what} instance")
        return factory


@contextmanager
def bench_of(subject: Subject, *, thorough: bool = False) -> Iterator[Bench]:
    """A bench in a new scratch directory. Removes everything of it after the block."""
    directory = Path(tempfile.mkdtemp(prefix="hvcore-kit-")).resolve()
    os.chmod(directory, 0o711)  # noqa: S103 - guests run as other users and have to reach their disks
    bench = Bench(subject, directory, thorough=thorough)
    try:
        yield bench
    finally:
        bench.clear()


class Level(StrEnum):
    """How binding a check is.

    ``must``: every driver passes. ``capability``: an ability that the driver has works; one that it lacks is refused
    with `UnsupportedError`. ``hardening``: every driver passes, or its subject says why it cannot.
    """

    MUST = "must"
    CAPABILITY = "capability"
    HARDENING = "hardening"


class Tier(StrEnum):
    """What a check needs. ``static``: the installed driver and no hypervisor. ``live``: it starts instances."""

    STATIC = "static"
    LIVE = "live"


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One requirement on drivers. ``what`` says what is checked, ``why`` what goes wrong in a driver that fails it."""

    name: str
    area: str
    level: Level
    tier: Tier
    what: str
    why: str
    body: Callable[[Bench], None]

    def explain(self) -> str:
        """The check in words, for people, in lines of at most 100 characters."""
        head = f"{self.name} ({self.level}, {self.tier}, {self.area})"
        return "\n\n".join(textwrap.fill(part, 100) for part in (head, self.what, f"Why: {self.why}"))


def check(level: Level, tier: Tier) -> Callable[[Callable[[Bench], None]], Check]:
    """Make a function into the `Check` of its name. The area is its module's.

    The docstring says what is checked, and in a last paragraph that begins with ``Why:`` the reason.
    """

    def made(body: Callable[[Bench], None]) -> Check:
        what, _, why = (" ".join(part.split()) for part in (inspect.getdoc(body) or "").partition("\n\nWhy: "))
        module = body.__module__.rpartition(".")[2]
        area = _AREAS.get(module, module)
        return Check(name=body.__name__, area=area, level=level, tier=tier, what=what, why=why, body=body)

    return made
