"""A program beside an instance, such as swtpm: connected before either runs, equally confined, ended together.

The program exits when its connection is closed. If it does not, it is killed when the ledger is released.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator, Mapping
from typing import Any, Final

from hvcore.deadline import Deadline
from hvcore.errors import ConfinementError, OperationError, Problem
from hvcore.host.confinement.bubblewrap import installation
from hvcore.host.confinement.proof import weaknesses
from hvcore.host.launching.launch import Command
from hvcore.host.processes.launched import members, read_status
from hvcore.host.processes.process import boot_id, identify, wait_gone
from hvcore.model.codec import encode
from hvcore.model.plan import Step
from hvcore.model.record import LIFE_LOCK, STATUS, Entry, of_program
from hvcore.model.resource import Program
from hvcore.model.sandbox import AsCaller, AsUser, Level, Sandbox, View
from hvcore.resources.held import Held
from hvcore.resources.instance_process import end_members
from hvcore.resources.kind import ResourceKind, Turn
from hvcore.resources.owner import Owner, Site

__all__ = ["PROGRAMS", "ProgramKind"]

PROGRAMS: Final = "companions"
"""In the record's bindings: uid and process of each program beside the instance, by key."""

_STATE: Final = "/state"
_END_S: Final = 1.0


class ProgramKind(ResourceKind[Program, str], name="companion", turn=Turn.PROGRAM, runs=True):
    """Released among the first: while it runs it may write to its state."""

    def verify(self, resource: Program, site: Site) -> Iterator[Problem]:
        """The program must be installed."""
        if not os.access(resource.binary, os.X_OK) or not os.path.isfile(resource.binary):
            todo = f"install it (Debian: {resource.package})"
            yield Problem(
                path=resource.where, what="is not a program of this node", got=repr(resource.binary), todo=todo
            )

    def describe(self, resource: Program, site: Site) -> Iterator[Step]:
        """One step: the program is launched."""
        own = ", with its own uid" if site.level is Level.STRICT else ""
        yield Step(kind="launch", what=f"{resource.binary} beside the instance{own}; it ends with the guest")

    def entry(self, resource: Program, site: Site) -> Mapping[str, Any]:
        """The name that its files in the instance's directory begin with."""
        return {"name": resource.key}

    def acquire(self, resource: Program, held: Held) -> str:
        """Launch the program; the instance's end of the pair of sockets."""
        user, place = held[resource.state.owner], held[resource.state]
        ours, theirs = socket.socketpair()
        with ours, theirs:
            end = held.add(os.dup(ours.fileno()))
            command = _command(resource, held.site, user, theirs.fileno(), place)
            held.owner.launch(command, companion=resource.key).close()
        _remember(held.owner, resource.key, uid=None if user is None else user.uid)
        return end

    def prove(self, resource: Program, site: Site, owner: Owner) -> None:
        """Record its process, and check how it is confined. Raises `OperationError`, `ConfinementError`."""
        pid = read_status(owner.dir / of_program(resource.key, STATUS)).pid
        process = None if pid is None else identify(pid)
        if process is None:
            said = " ".join(owner.output(resource.key).split())[-300:] or "without output"
            raise OperationError(f"{owner.name}: {resource.binary} ended at once: {said}")
        uid = owner.record.bindings.get(PROGRAMS, {}).get(resource.key, {}).get("uid")
        found = weaknesses(_sandbox(resource, site.level, None if uid is None else AsUser(uid)), process.pid)
        if found:
            what = f"{owner.name}: {resource.key} is confined less than requested ({site.level}): {'; '.join(found)}"
            raise ConfinementError(f"{what}; check what differs on this node")
        _remember(owner, resource.key, uid=uid, process=encode(process))

    def release(self, entry: Entry, owner: Owner) -> None:
        """Wait a second for the program, which exits after the guest and saves its state; then kill it."""
        program, deadline = entry.data["name"], Deadline(_END_S)
        if owner.record.boot_id != boot_id():
            return
        for process in members(*(owner.dir / of_program(program, file) for file in (LIFE_LOCK, STATUS))):
            wait_gone(process, deadline.left())
        end_members(owner.name, owner.dir, program)


def _remember(owner: Owner, key: str, **about: Any) -> None:
    owner.bind(**{PROGRAMS: {**owner.record.bindings.get(PROGRAMS, {}), key: about}})


def _command(program: Program, site: Site, user: AsUser | None, end: int, state: int) -> Command:
    # Without a sandbox by descriptor: no option of the program can be made of the directory's name.
    off = site.level is Level.OFF
    place = f"/proc/self/fd/{state}" if off else _STATE
    argv = tuple(argument.format(fd=end, state=place) for argument in program.arguments)
    sandbox = _sandbox(program, site.level, user)
    return Command(argv=(program.binary, *argv), sandbox=sandbox, fds=(end, state) if off else (end,))


def _sandbox(program: Program, level: Level, user: AsUser | None) -> Sandbox | None:
    if level is Level.OFF:
        return None
    installed = tuple((path, path) for path in installation(program.binary))
    view = View(read_only=installed, writable=((program.state.path, _STATE),))
    return Sandbox(who=user or AsCaller(), view=view, seccomp=program.seccomp)
