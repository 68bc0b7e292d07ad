"""One operation on one instance, as a driver sees it: where things are, and how to acquire them safely.

Whatever a driver acquires, it says first (`Job.intend`): the entry is on disk before the thing
exists, so that a crash at any moment leaves something that recovery can release.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from hvcore.deadline import Deadline
from hvcore.errors import NodeError
from hvcore.host.cgroups.group import Group
from hvcore.host.cgroups.hierarchy import GroupLimits, group_name
from hvcore.host.confinement.namespaces import UID_RANGE_SIZE, uid_ranges
from hvcore.host.disks.disk_claims import DISK, DiskClaims
from hvcore.host.environment import Host
from hvcore.host.files import tail
from hvcore.host.launching.launch import Child, Command, launch, life_lock
from hvcore.host.processes.launch_notes import note_launch
from hvcore.host.uids import UidClaims
from hvcore.model.record import Entry, ProcessId, Record
from hvcore.state.live import CGROUP, Live
from hvcore.state.store import Store

__all__ = [
    "COMPANION",
    "DISK",
    "LIFE_LOCK",
    "LINK",
    "LOG",
    "MOUNT",
    "PROCESS",
    "STATUS",
    "UID",
    "UID_RANGE",
    "Job",
]

# Kinds of ledger entries that the core itself releases.
PROCESS: Final = "process"
COMPANION: Final = "companion"  # data["name"]: a program beside the instance's own, which ends with it
UID: Final = "uid"
UID_RANGE: Final = "uid-range"
MOUNT: Final = "mount"  # anything mounted below its directory; data["disk"], if there, has to be unused afterwards
LINK: Final = "link"  # data["path"]: a link to something in the instance's directory

# Files of the launch, in the instance's directory; those of a companion have its name and a dot before theirs.
LIFE_LOCK: Final = "alive"
STATUS: Final = "status"
LOG: Final = "log"

NO_LIMITS: Final = GroupLimits()


class Job:
    """An operation at work, under the instance's lock and with a deadline."""

    def __init__(
        self, *, host: Host, store: Store, record: Record, deadline: Deadline, progress: Callable[[str], None]
    ) -> None:
        self.host = host
        self.deadline = deadline
        self.progress = progress
        self.claims = DiskClaims(host.run_dir, record.name)
        self.uids = UidClaims(host.run_dir, record.name, node_wide=host.privileged)
        self._store = store
        self._record = record

    @property
    def name(self) -> str:
        """The instance's name."""
        return self._record.name

    @property
    def record(self) -> Record:
        """The record as it stands."""
        return self._record

    @property
    def dir(self) -> Path:
        """The instance's own directory, 0700. All of it is removed when the instance has stopped."""
        return self._store.dir(self.name)

    @property
    def live(self) -> Live:
        """The instance as `observe` sees it."""
        return Live(record=self._record, dir=self.dir, host=self.host)

    def intend(self, *entries: Entry) -> None:
        """Write to the ledger what is about to be acquired, in the order it will be. One durable write."""
        self.update(ledger=(*self._record.ledger, *entries))

    def update(self, **changes: Any) -> None:
        """Replace fields of the record, durably."""
        changed = replace(self._record, **changes)
        self._store.save(changed)
        self._record = changed

    def bind(self, **values: Any) -> None:
        """Remember values that exist on this node only (a port, a uid). Saved with the next durable write."""
        self._record = replace(self._record, bindings={**self._record.bindings, **values})

    def started(self, process: ProcessId, monitor: ProcessId | None = None) -> None:
        """Remember the instance's process and its monitor. Saved with the next durable write."""
        self._record = replace(self._record, process=process, monitor=monitor)

    def take_uid(self) -> int:
        """A uid that no other instance on this node has. Intend a ``uid`` entry first."""
        pool = self.host.uid_pool
        uid = self.uids.take_one(UID, pool)
        if uid is None:
            raise NodeError(f"uid pool {pool.start}-{pool.stop - 1}: all {len(pool)} are taken; stop an instance first")
        return uid

    def take_uid_range(self) -> range:
        """65536 uids that no other instance on this node has, for users of its own. Intend a ``uid-range`` first."""
        ranges = uid_ranges()
        first = self.uids.take_one(UID_RANGE, ranges)
        if first is None:
            raise NodeError(f"uid ranges: all {len(ranges)} of this node are taken; stop an instance first")
        return range(first, first + UID_RANGE_SIZE)

    def take_group(self, limits: GroupLimits = NO_LIMITS) -> Group | None:
        """A control group of the instance's own with these limits, None when this node can have none and none are asked.

        Writes the ledger itself, and only once it has seen that nobody is in a group of that name. All that the job
        launches from here on begins in it. Raises `NodeError`; ``host.cgroups.problems`` says beforehand what is wrong
        with limits.
        """
        groups = self.host.cgroups
        if not groups.usable and not limits.controllers():
            return None
        problems = groups.problems(limits)
        if problems:
            raise NodeError(f"{self.name}: its limits cannot be set, {'; '.join(problems)}")
        group = Group(group_name(self.host.run_dir, self.name), groups)
        strangers = group.holders()
        if strangers:
            pids = ", ".join(map(str, strangers))
            what = f"{self.name}: its control group {group.directories[0]} is in use by pid {pids}"
            raise NodeError(f"{what}, which no instance has started; end that first")
        self.intend(Entry(kind=CGROUP, data={"name": group.name}))
        group.create(limits)
        return group

    def claim_disk(self, path: str, *, read_only: bool = False, lock: bool = True) -> None:
        """Become the one user of the disk on this node; readers share. Intend a ``disk`` entry first.

        The node knows of it until what is launched next, and has inherited the claim, has gone. What is launched in a
        sandbox with a reaper does not: there a mount of the disk has to say that it is in use. Without ``lock`` it is
        known in this run directory only: for a file that its user locks as a whole, which our lock would keep it from.
        A directory that is used as a whole can be claimed as well; `claim_mount` then keeps it after the start.

        Raises `DiskInUseError` naming the holder, and OSError when there is no such disk.
        """
        self.claims.take(path, read_only=read_only, lock=lock)

    def launch(self, command: Command, *, companion: str = "") -> Child:
        """Start the instance's process, or a companion of it, confined. Close the child when done.

        Intend a ``process`` entry first, or a ``companion`` one.
        """
        life, status, log = (self.dir / _of(companion, name) for name in (LIFE_LOCK, STATUS, LOG))
        if command.sandbox is None or not command.sandbox.reaper:
            # A sandbox with a reaper runs other people's programs: they see the file system on a disk, not the disk.
            disks = () if companion else self.claims.fds
            command = replace(command, fds=(*command.fds, *disks, *self.uids.fds))
        command = replace(command, group=command.group or self.live.group)
        note_launch(self.dir, str(self._record.started_at))
        with life_lock(life) as life_fd:
            return launch(command, life_fd=life_fd, status=status, log=log)

    def output(self, companion: str = "") -> str:
        """The last 64 KiB that the launched process, or that companion of it, wrote to stdout and stderr."""
        return tail(self.dir / _of(companion, LOG))


def _of(companion: str, name: str) -> str:
    return f"{companion}.{name}" if companion else name
