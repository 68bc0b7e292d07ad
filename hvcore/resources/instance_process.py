"""The instance's own process, and its members: everything that was launched for the instance and still lives."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from hvcore.deadline import Deadline
from hvcore.errors import DeadlineError, LeftoverError
from hvcore.host.launching.launch_notes import note_launch
from hvcore.host.launching.scheduling import PLANNED
from hvcore.host.lock import is_held
from hvcore.host.processes.launched import is_held_unseen, launch_files, members
from hvcore.host.processes.process import boot_id, kill_and_wait, wait_gone
from hvcore.model.plan import Step
from hvcore.model.record import LIFE_LOCK, Entry, Record
from hvcore.model.resource import InstanceProcess
from hvcore.resources.held import Held
from hvcore.resources.kind import ResourceKind, Turn
from hvcore.resources.owner import Owner, Site

__all__ = ["InstanceProcessKind", "end_members", "refuse_unseen"]

_KILL_S: Final = 5.0
_MONITOR_S: Final = 2.0


class InstanceProcessKind(
    ResourceKind[InstanceProcess, None], name="process", turn=Turn.PROGRAM, runs=True, in_ledger=True
):
    """Released first: while the process runs it may write to everything else."""

    def describe(self, resource: InstanceProcess, site: Site) -> Iterator[Step]:
        """What the process does not inherit from the caller."""
        stays = "" if site.host.privileged else "; without root, the process keeps a lower priority of the caller"
        yield Step(kind="process", what=f"runs with {PLANNED}{stays}")

    def acquire(self, resource: InstanceProcess, held: Held) -> None:
        """Note that a process is launched; the launch starts it."""
        note_launch(held.owner.dir, str(held.owner.record.started_at))
        if held.site.between is not None:  # for a driver that launches it without `Job.launch`
            held.site.between.ports.let_listen()

    def release(self, entry: Entry, owner: Owner) -> None:
        """End the process, its monitor, and all members."""
        if owner.record.boot_id == boot_id():  # else the process ended with that boot, and its pid may be another's now
            self._end(owner.record, owner)
        if is_held(owner.dir / LIFE_LOCK):  # the record names another process
            end_members(owner.name, owner.dir, deadline=_allowed(owner))
        refuse_unseen(owner.name, owner.dir / LIFE_LOCK)

    @staticmethod
    def _end(record: Record, owner: Owner) -> None:
        if record.process is not None:
            kill_and_wait(record.process, subject=owner.name, deadline_s=_allowed(owner).left())
        if record.monitor is not None and (
            wait_gone(record.monitor, _MONITOR_S)
            or kill_and_wait(record.monitor, subject=owner.name, deadline_s=_allowed(owner).left())
        ):
            return  # the monitor exits only after everything that it launched
        end_members(owner.name, owner.dir, deadline=_allowed(owner))


def _allowed(owner: Owner) -> Deadline:
    """The time for the end of a killed process: a busy node needs more than an idle one."""
    return owner.deadline.at_least(_KILL_S)


def refuse_unseen(name: str, *lives: Path) -> None:
    """Raise `LeftoverError` while a process that cannot be seen from here holds one of these life locks of the instance."""
    if any(map(is_held_unseen, lives)):
        what = f"{name}: still runs, in a PID namespace that cannot be seen from here"
        raise LeftoverError(f"{what}; run hv where the instance was started")


def end_members(name: str, directory: Path, program: str = "", *, deadline: Deadline | None = None) -> list[int]:
    """End every process that was launched for the instance, or for that program beside it; their pids."""
    deadline = deadline or Deadline(_KILL_S)
    ended: list[int] = []
    # Again and again, because one that was between fork and exec may have made another.
    while found := members(*launch_files(directory, program)):
        left_s = deadline.left()
        ended += [process.pid for process in found if kill_and_wait(process, subject=name, deadline_s=left_s)]
        if deadline.left() == 0.0:
            what = "end of its processes"
            raise DeadlineError(subject=name, waiting_for=what, waited_s=deadline.seconds, todo="try again")
    return ended
