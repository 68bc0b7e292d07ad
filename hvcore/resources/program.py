"""A program beside an instance, such as swtpm: connected before either runs, equally confined, ended together.

The program exits when its connection is closed. If it does not, it is killed when the ledger is released.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final, NamedTuple

from hvcore.deadline import Deadline
from hvcore.errors import ConfinementError, OperationError, Problem
from hvcore.host.confinement.bubblewrap import installation
from hvcore.host.confinement.proof import has_filter, weaknesses
from hvcore.host.launching.launch import Command
from hvcore.host.lock import is_held
from hvcore.host.processes.launched import launch_files, members, read_status
from hvcore.host.processes.process import boot_id, identify, wait_gone
from hvcore.host.programs import is_program
from hvcore.model.codec import decode, encode
from hvcore.model.plan import Step
from hvcore.model.record import LOG, STATUS, Entry, ProcessId, Record, of_program
from hvcore.model.resource import Program
from hvcore.model.sandbox import AsCaller, AsUser, Level, Sandbox, View
from hvcore.resources.held import Held
from hvcore.resources.instance_process import end_members, refuse_unseen
from hvcore.resources.kind import ResourceKind, Turn
from hvcore.resources.owner import Owner, Site

__all__ = [
    "PROGRAMS",
    "ProgramKind",
    "confined_less",
    "end_program",
    "launch_program",
    "program_ended",
    "program_process",
    "prove_program",
    "recorded_program",
]

PROGRAMS: Final = "companions"
"""In the record's bindings: uid, process and monitor (bubblewrap) of each program beside the instance, by key."""

_STATE: Final = "/state"
_END_S: Final = 1.0
_KILL_S: Final = 5.0
_SET_UP_S: Final = 5.0  # bubblewrap and setpriv take 10 ms; on a busy node they wait for a processor
_LOOK_S: Final = 0.001
_NOISE: Final = " to syslog"  # of a program in a sandbox without /dev/log


class ProgramKind(ResourceKind[Program, str], name="companion", turn=Turn.PROGRAM, runs=True):
    """Released among the first: while it runs it may write to its state."""

    def verify(self, resource: Program, site: Site) -> Iterator[Problem]:
        """The program must be installed."""
        if not is_program(resource.binary):
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
        return launch_program(resource, held, held.site.level)

    def prove(self, resource: Program, site: Site, owner: Owner) -> None:
        """Record its process, and check how it is confined. Raises `OperationError`, `ConfinementError`."""
        prove_program(resource, owner, site.level)

    def release(self, entry: Entry, owner: Owner) -> None:
        """Wait a second for the program, which exits after the guest and saves its state; then kill it."""
        end_program(entry, owner)


def launch_program(program: Program, held: Held, level: Level) -> str:
    """Start the program, connected to the instance; the instance's end of the pair of sockets. Does not wait."""
    user, state = held[program.user], None if program.state is None else held[program.state]
    # A program of that key may have run before: its status would be taken for that of the new one, and its log is full.
    for name in (STATUS, LOG):
        (held.owner.dir / of_program(program.key, name)).unlink(missing_ok=True)
    with ExitStack() as opened:
        ours, theirs = _connection(program)
        opened.callback(os.close, theirs)
        end = held.add(ours)
        files = [_output(held.owner.dir, name, opened) for name in (program.output, program.also)]
        command = _command(program, level, user, _Ends(theirs, state, *files))
        child = held.owner.launch(command, companion=program.key)
        child.close()
    about: dict[str, Any] = {"uid": None if user is None else user.uid}
    if command.sandbox is not None and (monitor := child.monitor()) is not None:
        about["monitor"] = encode(monitor)
    _remember(held.owner, program.key, about)
    return end


def _connection(program: Program) -> tuple[int, int]:
    """The instance's end and the program's."""
    if program.pipe:
        theirs, ours = os.pipe()
        return ours, theirs
    one, other = socket.socketpair()
    return one.detach(), other.detach()


def _output(directory: Path, name: str | None, opened: ExitStack) -> int | None:
    if name is None:
        return None
    fd = os.open(directory / name, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    opened.callback(os.close, fd)
    return fd


class _Ends(NamedTuple):
    """The descriptors of a program: its end of the connection, its state directory, its output, and another file."""

    connection: int
    state: int | None
    output: int | None
    also: int | None


def prove_program(program: Program, owner: Owner, level: Level) -> None:
    """Record the program's process, and check how it is confined. It is waited for until its sandbox is complete.

    Raises `OperationError` with its output if it has ended, and `ConfinementError`.
    """
    about = recorded_program(owner.record, program.key)
    uid, setting_up = about.get("uid"), Deadline(_SET_UP_S)
    sandbox = _sandbox(program, level, None if uid is None else AsUser(uid))

    def ready(process: ProcessId) -> bool:
        if program.own_sandbox:
            return has_filter(process.pid)
        # bubblewrap reports the process before it is confined.
        return not weaknesses(sandbox, process.pid) or setting_up.left() == 0.0

    process = program_process(program, owner, ready)
    if process is None:
        raise program_ended(program, owner)
    found = weaknesses(sandbox, process.pid)
    if found:
        raise confined_less(program.key, owner, level, found)
    _remember(owner, program.key, {**about, "uid": uid, "process": encode(process)})


def program_ended(program: Program, owner: Owner) -> OperationError:
    """The error for a program that ended before it was ready, with its output."""
    lines = [line for line in owner.output(program.key).splitlines() if not line.endswith(_NOISE)]
    said = " ".join(" ".join(lines).split())[-300:] or "without output"
    return OperationError(f"{owner.name}: {program.binary} ended at once: {said}")


def confined_less(key: str, owner: Owner, level: Level, found: list[str]) -> ConfinementError:
    """The error for a program with those weaknesses."""
    what = f"{owner.name}: {key} is confined less than requested ({level}): {'; '.join(found)}"
    return ConfinementError(f"{what}; check what differs on this node")


def end_program(entry: Entry, owner: Owner) -> None:
    """Wait a second for the program to exit, then kill it."""
    program, deadline = entry.data["name"], Deadline(_END_S)
    if owner.record.boot_id != boot_id():
        return
    life, status = launch_files(owner.dir, program)
    # The first process of a PID namespace ends with all others in it, and bubblewrap ends after it. To search /proc for
    # them takes longer than the rest of a stop.
    known = [recorded_program(owner.record, program).get(name) for name in ("process", "monitor")]
    gone = (data is not None and wait_gone(decode(ProcessId, data, "bindings"), deadline.left()) for data in known)
    if all(gone) and not is_held(life):
        return
    for process in members(life, status):
        wait_gone(process, deadline.left())
    end_members(owner.name, owner.dir, program, deadline=owner.deadline.at_least(_KILL_S))
    refuse_unseen(owner.name, life)


def program_process(program: Program, owner: Owner, ready: Callable[[ProcessId], bool]) -> ProcessId | None:
    """The program's process, once it is ready; None if it has ended. Raises `OperationError` if it does neither.

    A program that makes its own sandbox reports nothing when that is complete, which takes 25 ms. QEMU starts meanwhile
    and takes longer.
    """
    life, status = launch_files(owner.dir, program.key)
    process = _process(status)
    while owner.deadline.left() > 0.0:
        known = [process] if process is not None else members(life, status)
        if not known:
            return None
        if process is not None and ready(process):
            return process
        if wait_gone(known[0], _LOOK_S) and process is not None:
            return None
        process = _process(status)
    raise OperationError(f"{owner.name}: {program.binary} runs, but is not ready; see its log in {owner.dir}")


def _process(status: Path) -> ProcessId | None:
    pid = read_status(status).pid
    return None if pid is None else identify(pid)


def recorded_program(record: Record, key: str) -> dict[str, Any]:
    """What the record has about that program, see `PROGRAMS`. Empty if it was not launched."""
    return dict(record.bindings.get(PROGRAMS, {}).get(key, {}))


def _remember(owner: Owner, key: str, about: dict[str, Any]) -> None:
    owner.bind(**{PROGRAMS: {**owner.record.bindings.get(PROGRAMS, {}), key: about}})


def _command(program: Program, level: Level, user: AsUser | None, ends: _Ends) -> Command:
    # Without a sandbox by descriptor: no option of the program can be made of the directory's name.
    off = level is Level.OFF
    place = f"/proc/self/fd/{ends.state}" if off else _STATE
    words = {"fd": ends.connection, "state": place, "output": ends.output, "also": ends.also}
    argv = tuple(argument.format(**words) for argument in program.arguments)
    sandbox = _sandbox(program, level, user)
    stdin = ends.connection if program.on_stdin else None
    fds = (ends.connection if stdin is None else None, ends.state if off else None, ends.output, ends.also)
    given = tuple(fd for fd in fds if fd is not None)
    return Command(
        argv=(program.binary, *argv),
        sandbox=sandbox,
        fds=given,
        stdin=stdin,
        largest_file_bytes=program.largest_file_bytes,
    )


def _sandbox(program: Program, level: Level, user: AsUser | None) -> Sandbox | None:
    if level is Level.OFF:
        return None
    shown = (*installation(program.binary), *(path for path in program.reads if os.path.exists(path)))
    view = View(
        read_only=tuple((path, path) for path in shown),
        writable=() if program.state is None else ((program.state.path, _STATE),),
        devices=tuple((path, path) for path in program.devices),
        proc=program.proc,
        empty=program.empty,
    )
    return Sandbox(
        who=user or AsCaller(),
        view=view,
        seccomp=program.seccomp,
        share_network=program.network,
        own_users=program.own_sandbox,
        own_rights=program.own_rights,
    )
