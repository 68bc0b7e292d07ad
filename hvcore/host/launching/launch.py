"""Starting one confined process, so that it can be found again at any moment, whoever dies.

Three things are arranged before exec and need nobody to live on:

- the *life lock*: a ``flock`` on a file, inherited by everything that is launched. While any of it is
  between fork and exec, or lives, the file is held, and the holders can be found by inode.
- the *mark*, an environment variable that tells such a holder from a process which merely inherited the descriptor.
- the *status file*: bubblewrap itself writes the pid of the confined process into it, and later its exit code.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from hvcore.errors import NodeError
from hvcore.host.cgroups.group import Group
from hvcore.host.confinement.bubblewrap import Wrapped, sandboxed
from hvcore.host.confinement.namespaces import HeldNamespaces
from hvcore.host.confinement.own_root import with_own_root
from hvcore.host.launching.gate import Gate, behind_gate
from hvcore.host.launching.rlimits import limited
from hvcore.host.launching.signals import telling, with_default_signals
from hvcore.host.processes.launched import Ended, how_ended, instance_mark, life_mark, read_status
from hvcore.host.processes.process import exit_code, identify, wait_readable
from hvcore.model.record import ProcessId
from hvcore.model.sandbox import Sandbox

__all__ = ["Child", "Command", "launch", "life_lock", "reap", "run_tool"]

_PACKAGES: Final = {"bwrap": "bubblewrap", **dict.fromkeys(("nsenter", "prlimit", "setpriv"), "util-linux")}
_TOOL_OUTPUT_BYTES: Final = 64 * 1024

_FEW: Final = 16


class _Children:
    """Children of this process that outlive their launch. They are reaped when the next one is launched or stopped.

    So a long-lived host application keeps no zombies and needs no SIGCHLD handler.
    """

    def __init__(self) -> None:
        self._all: dict[int, subprocess.Popen[bytes]] = {}
        self._many = _FEW

    def add(self, popen: subprocess.Popen[bytes]) -> None:
        """Take over a child that lives on."""
        self._all[popen.pid] = popen

    def collect(self) -> None:
        """Reap those that have ended: the kernel names one after the other, and none of hundreds that live is asked.

        All are asked where the host application is in the way of that: it leaves a child of its own unreaped, or waits
        for ours, which is seen when they have become twice as many as the last time.
        """
        while len(self._all) < self._many:
            ended = _one_that_has_ended()
            if ended is None:
                return
            if ended not in self._all or not self._reap(ended):
                break
        for pid in tuple(self._all):
            self._reap(pid)
        self._many = 2 * len(self._all) + _FEW

    def _reap(self, pid: int) -> bool:
        popen = self._all.get(pid)
        if popen is not None and popen.poll() is None:
            return False
        self._all.pop(pid, None)  # another thread may have been first
        return True


def _one_that_has_ended() -> int | None:
    """The pid of a child of this process that nobody has waited for yet; None when all live, 0 when there is none."""
    try:
        found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return 0
    return None if found is None else found.si_pid


_children: Final = _Children()


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """A program to run. ``fds`` are the only descriptors it gets besides stdin (null), stdout and stderr.

    ``sandbox`` None leaves it unconfined, with all rights of the caller. ``held`` are namespaces that it shall join,
    held until it has been waited for. ``group`` is the control group that it is in before it does anything; None leaves
    it in the caller's.
    """

    argv: tuple[str, ...]
    sandbox: Sandbox | None
    fds: tuple[int, ...] = ()
    held: HeldNamespaces | None = None
    group: Group | None = None


@contextmanager
def life_lock(path: Path) -> Iterator[int]:
    """Take the life lock for launching; our own hold ends with the block, that of what was launched does not."""
    # For reading only: what is launched inherits it, and is not to fill the run directory through it.
    fd = os.open(path, os.O_RDONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield fd
    finally:
        os.close(fd)


class Child:
    """A process just launched: the outermost one, bubblewrap or with confinement off the program itself."""

    def __init__(self, popen: subprocess.Popen[bytes], status: Path) -> None:
        self._popen = popen
        self._status = status
        self._untold = False
        self.pidfd = os.pidfd_open(popen.pid)

    def close(self) -> None:
        """Let it live on without us."""
        os.close(self.pidfd)
        if self._popen.poll() is None:
            _children.add(self._popen)

    def process(self) -> ProcessId | None:
        """The confined process itself, once bubblewrap has made it."""
        pid = read_status(self._status).pid
        return None if pid is None else identify(pid)

    def monitor(self) -> ProcessId | None:
        """The outermost process, which writes the exit code down."""
        return identify(self._popen.pid)

    def ended(self) -> Ended | None:
        """How it ended, or None while it lives. Does not wait."""
        if self._untold:
            return Ended()
        if self._popen.returncode is None:
            try:
                self._popen.returncode = exit_code(self.pidfd)
            except ChildProcessError:
                self._untold = True
                return Ended()
        code = self._popen.returncode
        return None if code is None else how_ended(code)

    def wait(self, deadline_s: float) -> Ended | None:
        """How it ended, waiting at most ``deadline_s`` seconds for that; None when it still lives."""
        wait_readable(self.pidfd, deadline_s)
        return self.ended()


def launch(command: Command, *, life_fd: int, status: Path, log: Path) -> Child:
    """Start the command in a session of its own, its output appended to ``log``. Does not wait for anything.

    Raises `NodeError` when a program that the launch itself needs is missing.
    """
    reap()
    with ExitStack() as opened:
        status_fd, log_fd = (_appending(path, opened) for path in (status, log))
        filter_fd = _filter_fd(command.sandbox, opened)
        marks = (life_mark(os.fstat(life_fd)), instance_mark(status.parent))
        whole, environment = _whole(command, marks, status_fd, life_fd, filter_fd)
        ours = tuple(fd for fd in (life_fd, status_fd, filter_fd) if fd is not None)

        def run(argv: tuple[str, ...], *gate_fd: int) -> subprocess.Popen[bytes]:
            return subprocess.Popen(
                _prepared(argv, confined=command.sandbox is not None),
                stdin=subprocess.DEVNULL,
                stdout=log_fd,
                stderr=log_fd,
                pass_fds=(*ours, *gate_fd, *command.fds),
                start_new_session=True,
                cwd="/",
                env={**_path(), **environment},
            )

        # Room for what bubblewrap will write: without it, it dies halfway and leaves a child that waits for ever.
        os.write(status_fd, b"\n")
        with _found():
            popen = run(whole.argv) if command.group is None else _run_in(command.group, whole, run)
        if command.sandbox is None:
            os.write(status_fd, json.dumps({"child-pid": popen.pid}).encode() + b"\n")
    return Child(popen, status)


def _whole(
    command: Command, marks: tuple[tuple[str, str], ...], status_fd: int, life_fd: int, filter_fd: int | None
) -> tuple[Wrapped, dict[str, str]]:
    """The command with its sandbox around it, and the variables that both of them get."""
    if command.sandbox is None:
        return Wrapped(before=(), options=(), after=command.argv), dict(marks)
    sandbox = replace(command.sandbox, environment=(*command.sandbox.environment, *marks))
    whole = sandboxed(sandbox, command.argv, status_fd, life_fd, filter_fd=filter_fd, held=command.held)
    return whole, dict(sandbox.environment)


def _prepared(argv: tuple[str, ...], *, confined: bool) -> tuple[str, ...]:
    """The command with what has to run before it; one that is not there as it is, so that its absence is told."""
    if shutil.which(argv[0]) is None:
        return argv
    return (*with_default_signals(), *limited(), *(with_own_root() if confined else ()), *argv)


def _path() -> dict[str, str]:
    return {"PATH": os.environ.get("PATH", os.defpath)}


@contextmanager
def _found() -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        program = str(error.filename)
        raise NodeError(f"{program}: not found on this node; install {_PACKAGES.get(program, program)}") from error
    except PermissionError as error:
        raise NodeError(f"{error.filename}: may not be executed; check its mode") from error


def _run_in(group: Group, whole: Wrapped, run: Callable[..., subprocess.Popen[bytes]]) -> subprocess.Popen[bytes]:
    """Run it so that it does nothing before it is in the group; with ``run``, which is given the gate's descriptor."""
    with Gate() as gate:
        argv, word = behind_gate(gate.fd, whole)
        popen = run(argv, gate.fd)
        try:
            group.enter(popen.pid)
        except BaseException:
            popen.kill()
            popen.wait()
            raise
        gate.open(word)
    return popen


def _appending(path: Path, opened: ExitStack) -> int:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    opened.callback(os.close, fd)
    return fd


def _filter_fd(sandbox: Sandbox | None, opened: ExitStack) -> int | None:
    """A file with the seccomp filter, at its beginning; bubblewrap closes it once it has been read."""
    if sandbox is None or sandbox.filter is None:
        return None
    fd = os.memfd_create("filter", os.MFD_CLOEXEC)
    opened.callback(os.close, fd)
    os.write(fd, sandbox.filter)
    os.lseek(fd, 0, os.SEEK_SET)
    return fd


def run_tool(
    argv: tuple[str, ...], *, life: Path, status: Path, deadline_s: float, group: Group | None = None
) -> tuple[Ended | None, str]:
    """Run a program of the node's own, unconfined: how it ended, None when not in time, and what it wrote.

    Of that the first 64 KiB are kept; a write beyond them fails, so that a flood costs nothing. It holds the file
    of the life lock and carries the mark: when the caller dies in the meantime, recovery ends it too.
    While it runs it is put into ``group``, so that the kernel's wait overlaps with its work; what it started before that
    is not in there. Raises `NodeError` when there is no such program.
    """
    life_fd = os.open(life, os.O_RDONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    output = os.memfd_create("output", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    told = os.memfd_create("told", os.MFD_CLOEXEC)
    try:
        os.ftruncate(output, _TOOL_OUTPUT_BYTES)
        fcntl.fcntl(output, fcntl.F_ADD_SEALS, fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK)
        before, theirs = telling(told) if shutil.which(argv[0]) else ((), ())
        popen = subprocess.Popen(
            (*before, *argv),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            pass_fds=(life_fd, *theirs),
            start_new_session=True,
            cwd="/",
            env={**_path(), "LC_ALL": "C.UTF-8", **dict((life_mark(os.fstat(life_fd)),))},
        )
        child = Child(popen, status)
        try:
            if group is not None:
                group.enter(popen.pid)
            ended = child.wait(deadline_s)
        finally:
            child.close()
        if ended is not None and (code := os.pread(told, 16, 0)):
            ended = how_ended(int(code))
        # All of them write at one offset, so it says how much that is.
        said = os.pread(output, os.lseek(output, 0, os.SEEK_CUR), 0)
    except FileNotFoundError as error:
        raise NodeError(f"{argv[0]}: not found on this node; install it") from error
    finally:
        for fd in (life_fd, output, told):
            os.close(fd)
    return ended, said.decode("utf-8", "backslashreplace").strip()


def reap() -> None:
    """Collect children that have ended since they were launched."""
    _children.collect()
