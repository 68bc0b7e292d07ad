"""Where a check runs: a site, and what checks do there with instances of the subject."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from hvcore.deadline import Deadline
from hvcore.errors import HvError
from hvcore.model.info import InstanceInfo
from hvcore.model.instance import Instance
from hvcore.model.outcome import Outcome
from hvcore.model.record import ProcessId, Record
from hvcore.model.sandbox import Level
from hvcore.resources.owner import Site as Place
from hvcore.state.job import Job
from hvcore.state.store import Store
from hvcore.testing.residue import children_of
from hvcore.testing.site import Site
from hvcore.testing.subject import Factory, Subject
from hvcore.testing.verdict import Failed, Skipped

__all__ = ["Bench", "bench_of"]

_NO_PARAMS: Final[Mapping[str, Any]] = MappingProxyType({})


class Bench(Site):
    """What the body of a check gets. Names of instances are made from labels, so that nothing else has them."""

    def instance(
        self, label: str = "web1", factory: Factory | None = None, *, params: Mapping[str, Any] = _NO_PARAMS
    ) -> Instance:
        """The subject's instance, or that of another factory of it, with parameters added."""
        made = (factory or self.subject.make)(self.name(label), self.directory)
        return replace(made, params={**made.params, **params}) if params else made

    def start(self, label: str = "web1", factory: Factory | None = None, *, paused: bool = False) -> Outcome:
        """Start that instance. Raises `Failed` when it does not come up."""
        try:
            return self.handle.start(self.instance(label, factory), paused=paused, deadline_s=30)
        except HvError as error:
            raise Failed(f"cannot start: {error}") from error

    def stop(self, label: str = "web1") -> Outcome:
        """Stop it by force. Raises `Failed` when it does not go."""
        try:
            return self.node.stop(self.name(label), force=True, deadline_s=10)
        except HvError as error:
            raise Failed(f"cannot stop by force: {error}") from error

    def info(self, label: str = "web1") -> InstanceInfo:
        """How it is doing."""
        return self.node.info(self.name(label))

    def record(self, label: str = "web1") -> Record:
        """Its record."""
        record = Store(self.run_dir).load(self.name(label))
        if record is None:
            raise Failed(f"{self.name(label)} has no record after its start")
        return record

    def save(self, label: str = "web1", **changes: Any) -> None:
        """Change its record, as a crash or an older release would have left it."""
        Store(self.run_dir).save(replace(self.record(label), **changes))

    def job(self, label: str = "web1") -> Job:
        """An operation at work on it."""
        record, host = self.record(label), self.host
        level = Level.STRICT if host.privileged else Level.USER
        return Job(
            store=Store(self.run_dir),
            record=record,
            site=Place(name=record.name, host=host, level=level),
            kinds=self.loaded.hooks.kinds,
            deadline=Deadline(30.0),
            progress=_silent,
        )

    def process(self, label: str = "web1") -> ProcessId:
        """Its process; skips the check for a driver whose instances have none."""
        process = self.record(label).process
        if process is None:
            raise Skipped("its instances have no process")
        return process

    def processes(self, label: str = "web1") -> list[ProcessId]:
        """Its process and monitor with everything that descends from them."""
        record = self.record(label)
        return [one for top in (record.monitor, record.process) if top is not None for one in children_of(top.pid)]

    def nothing_left(self, after: str, started: Iterable[ProcessId] = ()) -> None:
        """Demand that nothing of an instance is left: no file, no mount, no process. ``after`` are words for what was done."""
        left = self.scope.leftovers(started)
        if left:
            raise Failed(f"{after} leaves {', '.join(left[:3])}")

    def needs(self, factory: Factory | None, what: str) -> Factory:
        """That factory; skips the check when the subject has none."""
        if factory is None:
            raise Skipped(f"the subject has no {what} instance")
        return factory


def _silent(_text: str) -> None: ...


@contextmanager
def bench_of(subject: Subject, *, thorough: bool = False) -> Iterator[Bench]:
    """A bench in a new scratch directory; everything of it is gone after the block."""
    directory = Path(tempfile.mkdtemp(prefix="hvcore-kit-")).resolve()
    os.chmod(directory, 0o711)  # noqa: S103 - guests run as other users and have to reach their disks
    bench = Bench(subject, directory, thorough=thorough)
    try:
        yield bench
    finally:
        bench.clear()
