"""One operation on one instance, as a driver sees it: where things are, and how to acquire and release resources.

The ledger comes first: the entry is on disk before the thing exists, so that recovery can release it after a crash.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from hvcore.deadline import Deadline
from hvcore.errors import LeftoverError, NodeError
from hvcore.host.environment import Host, Live
from hvcore.host.files import tail
from hvcore.host.launching.launch import Child, Command, launch, life_lock
from hvcore.host.launching.launch_notes import note_launch
from hvcore.model.record import LIFE_LOCK, LOG, STATUS, ProcessId, Record, of_program
from hvcore.model.resource import InstanceProcess, Resource
from hvcore.model.sandbox import Level
from hvcore.resources.held import Held
from hvcore.resources.kinds import Kinds
from hvcore.resources.owner import Site
from hvcore.state.store import Store

__all__ = ["Job"]

_PROCESS: Final = InstanceProcess(key="process")


class Job:
    """An operation in progress, under the instance's lock and with a deadline.

    ``remarks`` are notes for its outcome: facts worth knowing that are not failures.
    """

    def __init__(
        self,
        *,
        store: Store,
        record: Record,
        site: Site,
        kinds: Kinds,
        deadline: Deadline,
        progress: Callable[[str], None],
    ) -> None:
        self.host: Host = site.host
        self.kinds = kinds
        self.deadline = deadline
        self.progress = progress
        self._store = store
        self._record = record
        self.remarks: list[str] = []
        self.held = Held(self, site)

    @property
    def name(self) -> str:
        """The instance's name."""
        return self._record.name

    @property
    def record(self) -> Record:
        """The current record."""
        return self._record

    @property
    def dir(self) -> Path:
        """The instance's directory, 0700. It is removed once the instance has stopped."""
        return self._store.dir(self.name)

    @property
    def live(self) -> Live:
        """The instance as `observe` gets it."""
        return Live(record=self._record, dir=self.dir, host=self.host)

    def acquire(self, *resources: Resource[Any], level: Level | None = None) -> Held:
        """Acquire these resources, and those that they need, except those that the operation already holds.

        Returns the handles of all resources of the operation: ``job.acquire(socket)[socket]``. ``level`` is the confinement
        of the instance. Default: strict for root, user for others. Descriptors stay open until the operation ends, those
        that the program inherits until it is launched.
        """
        if level is not None:
            self.held.site = replace(self.held.site, level=level)
        self.kinds.acquire(resources, self.held)
        return self.held

    def release(self, *keys: str) -> None:
        """Release the resources with these keys, all without keys: running ones first, then the last acquired.

        Keys that are not in the ledger are fine. Raises `LeftoverError` with every resource that could not be released.
        """
        ledger = self._record.ledger
        entries = [entry for entry in ledger if not keys or entry.key in keys]
        if not keys:
            self.held.close()
        for key in keys:
            self.held.forget(key)
        left, failure = self.kinds.release(entries, self)
        pairs = zip(ledger, self._record.ledger, strict=True)  # a release may have noted something in an entry
        kept = tuple(now for before, now in pairs if before not in entries or before in left)
        if failure is not None:
            try:
                self.update(ledger=kept)
            except NodeError as error:
                raise LeftoverError.of(self.name, (*failure.reasons, str(error))) from failure.__cause__
            raise failure
        if keys and kept != ledger:
            self.update(ledger=kept)

    def prove(self, *resources: Resource[Any], level: Level) -> None:
        """Check these resources after the launch, or when an interrupted start is completed."""
        self.kinds.prove(resources, replace(self.held.site, level=level), self)

    def note(self, key: str, **data: Any) -> None:
        """Add data to the ledger entry of resource ``key``. One durable write."""
        entries = self._record.ledger
        self.update(ledger=tuple(replace(e, data={**e.data, **data}) if e.key == key else e for e in entries))

    def update(self, **changes: Any) -> None:
        """Replace fields of the record, durably."""
        changed = replace(self._record, **changes)
        self._store.save(changed)
        self._record = changed

    def bind(self, **values: Any) -> None:
        """Keep values that exist on this node only (a port, a uid). Saved with the next durable write."""
        self.remember(bindings={**self._record.bindings, **values})

    def remember(self, **fields: Any) -> None:
        """Replace fields of the record. Saved with the next durable write."""
        self._record = replace(self._record, **fields)

    def started(self, process: ProcessId, monitor: ProcessId | None = None) -> None:
        """Keep the instance's process and its monitor. Saved with the next durable write."""
        self.remember(process=process, monitor=monitor)

    def launch(self, command: Command, *, companion: str = "") -> Child:
        """Launch the instance's process, or a program beside it, confined. The caller closes the child.

        The process inherits the descriptors of all acquired resources.
        """
        life, status, log = (self.dir / of_program(companion, name) for name in (LIFE_LOCK, STATUS, LOG))
        inherits = command.sandbox is None or not command.sandbox.reaper
        if inherits:
            # A sandbox with a reaper runs the guest's programs: they may see the file system on a disk, not the disk.
            held = self.held.for_companion if companion else self.held.for_program
            command = replace(command, fds=(*command.fds, *held))
        command = replace(command, group=command.group or self.live.group)
        if self.host.between is not None:
            self.host.between.ports.let_listen()
        if companion:
            note_launch(self.dir, str(self._record.started_at))
        else:
            self.acquire(_PROCESS)  # a crash from here on leaves a process, and the next operation has to end it
        with life_lock(life) as life_fd:
            child = launch(command, life_fd=life_fd, status=status, log=log)
        if inherits and not companion:
            self.held.close_passed()
        return child

    def output(self, companion: str = "") -> str:
        """The last 64 KiB of stdout and stderr of the launched process, or of that program beside it."""
        return tail(self.dir / of_program(companion, LOG))
